"""Edits measured by their truth: what was asked for scores 5, nothing done 0, and each fault costs its own axis."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from goodeye.errors import BadInput
from goodeye.showroom import edit_truth
from goodeye.showroom import scenes as S
from goodeye.showroom.edit_truth import EditTruth, bench, details_kept, quality_of_pictures, spoilt
from goodeye.showroom.edits import KINDS, edits
from goodeye.showroom.oracle import Oracle

FOLLOWING, PRESERVING, QUALITY = range(3)


@pytest.fixture(scope="module")
def quality():
    return quality_of_pictures(96, 43, 128)


@pytest.fixture(scope="module")
def truth(quality):
    """One of each kind, without faults."""
    return EditTruth(list(edits(2_000_005, len(KINDS), faulty=0.0)), Oracle.from_pretrained(), quality)


def test_what_was_asked_for_is_followed_and_nothing_done_is_not(truth):
    which = truth.legible()
    assert len(which) >= 6
    ideal = truth.scores(torch.stack([truth.made[at].ideal for at in which]), which)
    same = truth.scores(torch.stack([truth.made[at].original for at in which]), which)
    assert ideal[:, FOLLOWING] == pytest.approx(5.0) and (ideal[:, PRESERVING] > 4.9).all()
    assert same[:, FOLLOWING] == pytest.approx(0.0) and (same[:, PRESERVING] > 4.0).all()


def test_half_an_edit_lies_between(truth):
    for at in (list(KINDS).index("colour"), list(KINDS).index("blur")):
        one = truth.made[at]
        half = truth.scores(one.original.lerp(one.ideal, 0.5)[None], [at])[0]
        assert 1.0 < half[FOLLOWING] < 4.0


def test_each_thing_lost_unasked_costs_preserving(truth):
    at = list(KINDS).index("remove")
    one = truth.made[at]
    after, place = one.facts.after, "beach" if one.facts.after.place != "beach" else "kitchen"
    lost = {
        "details": replace(after, seed=after.seed + 1),
        "colour": replace(after, product=replace(after.product, colour="purple")),
        "place": replace(after, place=place, wall=edit_truth.PLACES[place].walls[0]),
    }
    made = S.render([after, *lost.values()]).image
    scores = dict(zip(["kept", *lost], truth.scores(made, [at] * 4)[:, PRESERVING], strict=True))
    assert scores["kept"] > 4.9 and all(scores[name] < 4.9 for name in lost)
    assert scores["place"] < scores["details"]


def test_a_thing_on_the_wrong_side_is_misread(truth):
    at = list(KINDS).index("add")
    after = truth.made[at].facts.after
    other = S.render([replace(after, reference_side=-after.reference_side)]).image
    assert truth.scores(other, [at])[0, FOLLOWING] < 1.5


def test_details_do_not_mind_light_but_mind_another_background(truth):
    one = truth.made[list(KINDS).index("wall")]
    assert details_kept(one.ideal, one) == pytest.approx(1.0, abs=1e-6)
    darker = details_kept(one.ideal - 0.1, one)
    noisy = details_kept(
        one.ideal + 0.1 * torch.randn(one.ideal.shape, generator=torch.Generator().manual_seed(0)), one
    )
    assert darker == pytest.approx(1.0, abs=1e-3) and noisy < 0.9


def test_quality_falls_with_the_strength_of_artefacts(quality):
    pictures, strengths = spoilt(44, 64, 128)
    found = quality(pictures)
    assert found.min() >= 0 and found.max() <= 5
    assert np.corrcoef(found, strengths)[0, 1] < -0.4
    assert found[strengths == 0].mean() > found[strengths > 0.6].mean() + 1


def test_a_bench_has_as_many_edits_as_asked_for_all_of_them_legible(quality, monkeypatch):
    monkeypatch.setattr(edit_truth, "quality_of_pictures", lambda: quality)
    made = bench(7, 3)
    assert [one.key[:5] for one in made.asked] == ["0000-", "0001-", "0002-"]
    assert {one.key[5:] for one in made.asked} <= set(KINDS)
    assert made.asked[0].instruction.split()[0] in ("make", "paint", "turn") and made.asked[0].mask.any()
    assert made.score(torch.stack([one.original for one in made.asked]), range(3)).shape == (3, 3)


def test_no_edits_are_no_bench():
    for count in (0, -3):
        with pytest.raises(BadInput, match=f"n is {count}"):
            bench(0, count)
