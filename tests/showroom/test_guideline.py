"""The guideline: each line from both sides, and its agreement with scenes that are plainly good or plainly bad."""

import math
from dataclasses import replace

import pytest
import torch

from goodeye.showroom import guideline as G
from goodeye.showroom import scenes as S
from goodeye.showroom.places import PLACES
from goodeye.showroom.products import fitted


def facts(**changes):
    """One picture without a fault: an apple of the right size beside a product on a beach."""
    cells = torch.zeros(1, 1, G.CELLS, G.CELLS, dtype=torch.uint8)
    good = {"sunk": -0.1, "ratio": 0.0, "height": 0.2, "length": 2.0, "contrast": 0.5, "grown": 0.0}
    numbers = {name: torch.tensor([value]) for name, value in (good | changes).items() if name not in ("place",)}
    place = torch.tensor([changes.get("place", list(PLACES).index("beach"))])
    return G.Facts(**numbers, reference=torch.tensor([2]), place=place, extension=cells, thing=cells)


@pytest.mark.parametrize(
    ("changes", "label"),
    [
        ({}, "available"),
        ({"ratio": math.log(1.59)}, "available"),
        ({"ratio": math.log(1.61)}, "size_mismatch"),
        ({"ratio": -math.log(1.61)}, "size_mismatch"),
        ({"ratio": math.nan, "height": math.nan}, "available"),
        ({"sunk": -0.001}, "available"),
        ({"sunk": 0.001}, "space_mismatch"),
        ({"place": len(PLACES)}, "space_mismatch"),
        ({"contrast": 0.201}, "available"),
        ({"contrast": 0.199}, "indistinctiveness"),
        ({"grown": 0.039}, "available"),
        ({"grown": 0.041}, "shape_hallucination"),
        ({"grown": 0.3, "sunk": 0.1}, "space_mismatch"),
        ({"grown": 0.3, "ratio": 2.0}, "shape_hallucination"),
        ({"contrast": 0.1, "sunk": 0.1, "grown": 0.3, "ratio": 2.0}, "indistinctiveness"),
    ],
)
def test_each_line_has_two_sides_and_the_fault_that_hides_the_others_is_named(changes, label):
    assert S.CLASSES[int(G.labels(facts(**changes)))] == label


def test_it_calls_scenes_that_are_plainly_good_or_bad_by_their_names():
    scenes = [S.sample(3, i) for i in range(96)]
    found = torch.cat([G.labels(G.facts_of(made)) for made in S.render_many(scenes)])
    right = found == torch.tensor([scene.label for scene in scenes])
    assert right.float().mean() > 0.95


def test_facts_are_those_of_the_scene():
    scene = next(s for s in (S.sample(4, i, ["shape_hallucination"]) for i in range(50)) if s.reference)
    scene = replace(scene, reference_height=2 * S.REFERENCES[scene.reference] * scene.scale / scene.product.centimetres)
    told = G.facts_of(S.render([scene]), torch.tensor([True]))
    assert told.ratio.item() == pytest.approx(math.log(2), abs=1e-5)
    assert told.length.exp().item() == pytest.approx(scene.product.centimetres)
    assert told.sunk.item() == pytest.approx(scene.horizon - 0.5 - fitted(scene.product, scene.scale)[2])
    assert told.place.item() == len(PLACES) and told.grown.item() > 0.04
    side = told.thing[0, 0].float().sum(0)
    middle = (side * torch.arange(G.CELLS)).sum() / side.sum()
    assert (middle > G.CELLS / 2) == (scene.reference_side > 0)


def test_borderline_scenes_lie_on_both_sides_of_the_lines_and_are_the_same_each_time():
    scenes = G.borderline(5, 400)
    assert scenes[:20] == G.borderline(5, 20)
    ratios = torch.tensor(
        [
            s.reference_height * s.product.centimetres / (S.REFERENCES[s.reference] * s.scale)
            for s in scenes
            if s.reference
        ]
    )
    near = (ratios.log().abs() > math.log(1.2)) & (ratios.log().abs() < math.log(2.2))
    assert near.float().mean() > 0.2  # between them, plain scenes have none
    sunk = torch.tensor([s.horizon - 0.5 - fitted(s.product, s.scale)[2] for s in scenes])
    assert ((sunk.abs() < 0.07).float().mean()) > 0.1
    floats = torch.tensor([s.defect == "space_mismatch" for s in scenes])
    plain = torch.tensor([s.defect in ("space_mismatch", "available") for s in scenes])
    assert torch.equal(floats[plain], sunk[plain] > 0)
