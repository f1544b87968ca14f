"""The proof: its rows, its numbers in closed form, and a whole small one."""

import json
import re
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from goodeye.ads import measure
from goodeye.ads.canvas import place
from goodeye.ads.generate import generate
from goodeye.ads.measure import Gallery, Judges, Made
from goodeye.ads.prove import Pick, Prove, Row, best_of, interval, prove, recurrent, summary, with_adapter
from goodeye.ads.prove_report import table
from goodeye.ads.rollout import Placed
from goodeye.diffusion.batch import attempt_seed, eight_bit
from goodeye.errors import BadInput
from goodeye.judging.protocol import Verdict
from goodeye.modelset import Models, resolve
from goodeye.scheduler import Try


def made(brief: str, slot: int = 1, number: int = 1, available: float = 0.9, good: bool = True, **fields: Any) -> Made:
    given = {"judge": "available" if available >= 0.5 else "size_mismatch", "evals": 20, "seconds": 2.0}
    numbers = {"prompt_fidelity": 0.5, "clip_fidelity": 0.7}
    label = "available" if good else "space_mismatch"
    return Made(place=Try(brief, slot, number), available=available, held_out=label,
                **({"numbers": numbers} | given | fields))  # fmt: skip


# --- choosing


class Luck:
    """A gallery in which the attempts with these numbers pass."""

    def __init__(self, passes: dict[str, int]) -> None:
        self.passes, self.asked = passes, set()

    def make(self, places: Iterable[Try]) -> list[Made]:
        places = list(places)
        self.asked |= set(places)
        return [
            made(one.brief, one.slot, one.number, 0.9 if one.number == self.passes.get(one.brief) else one.number / 10)
            for one in places
        ]


FIRST = [Try(brief, 1, 1) for brief in "abcd"]


def test_recurrent_tries_until_it_passes_and_then_takes_the_best() -> None:
    luck = Luck({"a": 1, "b": 3})
    picks = recurrent(luck, FIRST, attempts=4)
    assert [len(pick.tried) for pick in picks] == [1, 3, 4, 4]
    assert [pick.chosen.place.number for pick in picks] == [1, 3, 4, 4]  # of those never passed: the highest
    assert len(luck.asked) == 12


def test_retries_may_be_anothers() -> None:
    first, again = Luck({"a": 1, "b": 3}), Luck({"a": 2, "c": 2, "d": 4})
    picks = recurrent(first, FIRST, attempts=3, retries=again)
    assert first.asked == set(FIRST) and all(one.number > 1 and one.brief != "a" for one in again.asked)
    assert [len(pick.tried) for pick in picks] == [1, 3, 2, 3]
    assert [pick.chosen.passed for pick in picks] == [True, False, True, False]


@pytest.mark.parametrize("budget", [4, 6, 7, 12])
def test_best_of_n_has_as_many_attempts_in_all(budget: int) -> None:
    picks = best_of(Luck({"c": 2}), FIRST, budget)
    counts = [len(pick.tried) for pick in picks]
    assert sum(counts) == budget and max(counts) - min(counts) <= 1
    assert all(pick.chosen.available == max(one.available for one in pick.tried) for pick in picks)


# --- the numbers


def row(name: str, judged: list[bool], good: list[bool], spread: list[float], tries: int = 1) -> Row:
    picks = []
    for number, (passed, truly) in enumerate(zip(judged, good, strict=True)):
        one = made(str(number), available=0.9 if passed else 0.1, good=truly)
        picks.append([Pick(chosen=one, tried=(one,) * tries)])
    return Row(name=name, picks=picks, spread=np.array(spread))


def test_rates_costs_and_differences_in_closed_form() -> None:
    base = row("base", [True, True, False, False], [True, False, False, False], [0.4, 0.6])
    other = row("rfft_cc", [True, True, True, True], [True, True, False, True], [0.3, 0.5], tries=3)
    found = summary([base, other])
    ours = found["rows"]["rfft_cc"]
    assert {name: value["mean"] for name, value in ours.items()} == {
        "available_judge": 1.0,
        "available_oracle": 0.75,
        "precision": 0.75,
        "diversity": 0.4,
        "prompt_fidelity": 0.5,
        "clip_fidelity": 0.7,
        "evals_per_available": 80.0,  # 4 briefs of 3 tries of 20, 3 of them good
        "seconds_per_available": 8.0,
    }
    assert found["rows"]["base"]["precision"]["mean"] == 0.5
    minus = found["minus_base"]["rfft_cc"]
    assert minus["available_oracle"]["mean"] == 0.5 and minus["diversity"] == {"mean": -0.1, "low": -0.1, "high": -0.1}
    share = found["share_of_base"]["rfft_cc"]
    assert share["diversity"]["mean"] == 0.8 and share["evals_per_available"]["mean"] == 1.0  # 80 against 80
    assert found["made"]["rfft_cc"] == {"slots": 4, "attempts": 12, "evals": 240}
    assert all(one["low"] <= one["mean"] <= one["high"] for one in ours.values())


def test_each_brief_weighs_the_same_however_many_pictures_it_has() -> None:
    several = [Pick(chosen=one, tried=(one,)) for one in (made("a", slot, good=slot == 1) for slot in range(1, 5))]
    single = [Pick(chosen=made("b"), tried=(made("b"),))]
    found = summary([Row(name="base", picks=[several, single], spread=np.array([1.0]))])["rows"]["base"]
    assert found["available_oracle"]["mean"] == (0.25 + 1) / 2
    assert found["evals_per_available"]["mean"] == 20 * 2 / 1.25


def test_the_interval_is_that_of_a_share() -> None:
    """Against the normal approximation: 100 briefs of which 40 are good, 1.96 standard errors are 0.096."""
    found = interval([True] * 40 + [False] * 60)
    assert found["mean"] == 0.4
    assert found["low"] == pytest.approx(0.304, abs=0.02) and found["high"] == pytest.approx(0.496, abs=0.02)
    assert interval([]) is None


def test_a_cost_that_cannot_be_told_is_no_number() -> None:
    found = summary([row("base", [False, False], [False, False], [0.1, 0.1])])
    nothing = {"mean": None, "low": None, "high": None}
    assert found["rows"]["base"]["evals_per_available"] == nothing == found["rows"]["base"]["precision"]
    json.dumps(found, allow_nan=False)


def test_without_a_held_out_judge_it_says_nothing_of_it() -> None:
    one = replace(made("a"), held_out="")
    found = summary([Row(name="base", picks=[[Pick(chosen=one, tried=(one,))]] * 2, spread=np.ones(1))])["rows"]["base"]
    assert "available_oracle" not in found and found["evals_per_available"]["mean"] == 20


# --- a whole one, with random networks


class Beach:
    """A held-out judge: what asks for the beach is available; its prompt fidelity is the picture's red."""

    name, version = "beach", "1"

    def inspect(self, images: torch.Tensor, contexts: Any) -> list[Verdict]:
        found = []
        for image, context in zip(images, contexts, strict=True):
            label = "available" if "beach" in context.prompt else "indistinctiveness"
            scores = {"available": float("beach" in context.prompt), "prompt_fidelity": float(image[0].mean())}
            found.append(Verdict("beach", "1", label, scores))
        return found


def briefs(count: int = 3) -> list[Placed]:
    found = []
    for number in range(count):
        img = Image.new("RGBA", (40, 40))
        ImageDraw.Draw(img).ellipse([5, 5, 35, 35], fill=(200, 40 * number, 40))
        found.append(Placed(key=f"{number}", canvas=place(img, 32, 0.5), title="red shoe",
                            prompt=f"a red shoe {('on the beach', 'in the kitchen')[number % 2]}"))  # fmt: skip
    return found


CONFIG = Prove(seed=3, attempts=2, pictures=2, spread_briefs=2, batch=5, suffix=" on the beach")


@pytest.fixture
def models(tiny_set: Path) -> Models:
    return Models(resolve(tiny_set))


@pytest.fixture
def same(tiny_set: Path, tmp_path: Path) -> Path:
    """An adapter that changes nothing: the model set's own ControlNet."""
    shutil.copytree(tiny_set.parent / "controlnet", tmp_path / "same" / "controlnet")
    return tmp_path / "same"


@pytest.fixture
def other(models: Models, tmp_path: Path) -> Path:
    """An adapter that changes much."""
    changed = with_adapter(models, Path(models.model_set.roles["controlnet"])).controlnet
    for parameter in changed.parameters():
        parameter.data *= 3
    changed.save_pretrained(tmp_path / "other")
    return tmp_path / "other"


def untimed(numbers: dict[str, Any]) -> dict[str, Any]:
    """Without what the clock says."""
    if not isinstance(numbers, dict):
        return numbers
    return {name: untimed(value) for name, value in numbers.items() if "seconds" not in name}


def test_a_proof_from_end_to_end(
    models: Models, same: Path, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = {name: value.clone() for name, value in models.controlnet.state_dict().items()}
    out = tmp_path / "proof"
    options = {"models": models, "held_out": Beach(), "config": CONFIG, "out": out,
               "adapters": {"rfft_cc": same, "mine": other}}  # fmt: skip
    proof = prove(briefs(), **options)
    rows = proof.numbers["rows"]
    assert list(rows) == ["base", "prompt", "recurrent", "best_of_n", "rfft_cc", "rfft_cc_recurrent", "rescued", "mine"]
    wanted = {"available_judge", "available_oracle", "diversity", "prompt_fidelity", "evals_per_available"}
    for name, found in rows.items():
        assert wanted | {"expansion", "seconds_per_available"} <= set(found), name
        assert all(set(value) == {"mean", "low", "high"} for value in found.values())

    # two of three briefs are available, whatever the generator; an attempt is two evaluations
    assert rows["mine"]["available_oracle"]["mean"] == 0.6667 and rows["mine"]["evals_per_available"]["mean"] == 3.0

    # the same weights give the same row, other weights another; the models themselves stay as they were
    assert untimed(rows["rfft_cc"]) == untimed(rows["base"]) != untimed(rows["mine"])
    assert untimed(rows["rfft_cc_recurrent"]) == untimed(rows["rescued"]) == untimed(rows["recurrent"])
    gone = proof.numbers["minus_base"]["rfft_cc"]["prompt_fidelity"]
    assert gone == {"mean": 0, "low": 0, "high": 0}
    assert all(torch.equal(value, start[name]) for name, value in models.controlnet.state_dict().items())
    assert proof.numbers["made"]["best_of_n"]["evals"] == proof.numbers["made"]["recurrent"]["evals"]
    assert proof.numbers["made"]["base"] == {"slots": 5, "attempts": 5, "evals": 10}
    assert set(proof.numbers["left_out"]) == {"refl", "rfft_none", "rfft_kl", "dpo"}

    # files, and what a person sees
    assert json.loads((out / "results.json").read_text()) == proof.numbers
    page, text = proof.report.read_text(), table(proof.numbers)
    assert page.count("data:image/webp") == 8 * 2 and "http" not in page and "<script" not in page
    assert re.search(r"<td>\d\.\d+<small>\S+ to \S+</small></td>", page)  # a number, its interval below
    assert all(name in text and name in page for name in rows) and "left out: refl" in text

    # the same call again makes nothing; after a kill it makes what is lacking, and comes to the same
    def never(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("all is there")

    with monkeypatch.context() as patched:
        patched.setattr(measure, "generate_on_cores", never)
        assert untimed(prove(briefs(), **options).numbers) == untimed(proof.numbers)
    records = next(path for path in (out / "attempts").rglob("attempts.jsonl"))
    lines = records.read_text().splitlines(keepends=True)
    records.write_text("".join(lines[:2]) + lines[2][:40])
    again = prove(briefs(), **options).numbers["rows"]
    for name in rows:  # up to rounding: they were made in other batches
        for key in ("available_judge", "available_oracle", "diversity", "prompt_fidelity"):
            assert again[name][key]["mean"] == pytest.approx(rows[name][key]["mean"], abs=0.01)


def test_an_attempt_is_what_the_generator_makes_of_its_place(models: Models, tmp_path: Path) -> None:
    given = briefs(2)
    gallery = Gallery(models=models, briefs={one.key: one for one in given}, judges=Judges(judge=models.rfnet),
                      seed=7, folder=tmp_path, suffix=" on the beach", kept=frozenset({"1"}))  # fmt: skip
    place_ = Try("1", 2, 3)
    found = gallery.make([Try("0", 1, 1), place_])[1]
    expected = eight_bit(
        generate(models, [given[1].canvas], ["a red shoe in the kitchen on the beach"], [attempt_seed(7, *place_)],
                 settings=models.model_set.settings)
    )  # fmt: skip
    assert torch.allclose(gallery.picture(place_), expected[0], atol=1.5 / 255)
    verdict = models.rfnet.inspect(expected, [given[1].context])[0]
    assert found.available == pytest.approx(verdict.scores["available"], abs=0.01) and found.held_out == ""
    assert found.evals == 2 and not (tmp_path / "pictures" / "0-1-1.png").exists()


def test_what_cannot_be_proved_is_said_first(models: Models, same: Path, tmp_path: Path) -> None:
    options = {"models": models, "out": tmp_path / "proof", "config": CONFIG}
    with pytest.raises(BadInput, match="neither a controlnet nor a lora"):
        prove(briefs(), adapters={"refl": tmp_path}, **options)
    with pytest.raises(BadInput, match="cannot be called base"):
        prove(briefs(), adapters={"base": same}, **options)
    with pytest.raises(BadInput, match="two briefs or more"):
        prove(briefs(1), **options)
    with pytest.raises(BadInput, match="pictures is 1"):
        prove(briefs(), models=models, config=replace(CONFIG, pictures=1), out=tmp_path / "proof")
    assert not (tmp_path / "proof").exists()
