"""The showroom's part of a proof: fresh briefs, and its own numbers in closed form."""

import torch

from goodeye.ads.measure import Made
from goodeye.ads.prove import Pick
from goodeye.scheduler import Try
from goodeye.showroom.briefs import fresh_briefs
from goodeye.showroom.oracle import centimetres, wanted
from goodeye.showroom.prove import SUFFIX, summary, table
from goodeye.showroom.words import vocabulary


def test_fresh_briefs_are_drawn_by_the_seed_and_name_product_place_and_light() -> None:
    briefs = fresh_briefs(5, 3)
    assert [one.key for one in briefs] == ["0000", "0001", "0002"]
    again = fresh_briefs(5, 2)
    assert all(torch.equal(one.canvas.product, two.canvas.product) for one, two in zip(briefs, again, strict=False))
    assert [one.prompt for one in fresh_briefs(6, 3)] != [one.prompt for one in briefs]
    for one in briefs:
        asked = wanted(one.prompt)
        assert centimetres(one.title) and asked.place and asked.light and "beside" not in one.prompt
        assert 0.02 < float(one.canvas.product[3].mean()) < 0.5


def test_the_suffix_is_in_words_that_the_generator_knows() -> None:
    assert set(SUFFIX.replace(",", "").split()) <= set(vocabulary())


def made(brief: int, number: int, judge: str, oracle: str) -> Made:
    return Made(place=Try(str(brief), 1, number), available=0.9 if judge == "available" else 0.2, judge=judge,
                held_out=oracle, evals=20, seconds=1.0, numbers={"prompt_fidelity": 0.25})  # fmt: skip


def test_its_numbers_in_closed_form() -> None:
    good, bad = "available", "size_mismatch"
    attempts = [
        [made(0, 1, good, good)],
        [made(1, 1, bad, good), made(1, 2, good, bad)],
        [made(2, 1, bad, "space_mismatch"), made(2, 2, bad, bad)],
    ]
    picks = [Pick(chosen=tried[-1], tried=tuple(tried)) for tried in attempts]
    found = summary(picks)
    rows = found["rows"]
    assert (found["briefs"], found["attempts"]) == (3, 5)
    assert rows["base"]["available_judge"]["mean"] == 0.3333 and rows["base"]["available_oracle"]["mean"] == 0.6667
    assert rows["recurrent"]["returned"]["mean"] == 0.6667 and rows["recurrent"]["available_oracle"]["mean"] == 0.5
    assert rows["recurrent"]["attempts_per_returned"] == 2.5 and rows["base"]["prompt_fidelity"]["mean"] == 0.25
    assert found["agreement"]["available_or_not"]["mean"] == 0.6 and found["agreement"]["same_label"]["mean"] == 0.4
    assert found["oracle_first_attempts"]["available"] == 2
    assert "3 fresh briefs" in table({"seed": 1, **found})
