"""The facts reader: its shapes, its targets, saving and loading."""

import math

import pytest
import torch

from goodeye.showroom import facts as X
from goodeye.showroom import scenes as S


def test_what_it_reads(tmp_path):
    torch.manual_seed(0)
    reader = X.FactsReader(X.FactsConfig()).eval()
    pixels, mask = torch.rand(2, 3, 128, 128), torch.rand(2, 1, 128, 128)
    seen = reader(pixels, mask)
    shapes = {name: tuple(value.shape) for name, value in vars(seen).items()}
    assert shapes == {
        "horizon": (2, 48), "place": (2, 9), "wall": (2, 7), "light": (2, 4), "reference": (2, 5), "height": (2, 24),
        "extension": (2, 32, 32),
    }  # fmt: skip
    reader.save_pretrained(tmp_path)
    assert [file.suffix for file in tmp_path.iterdir() if file.name.startswith("model")] == [".safetensors"]
    loaded = X.FactsReader.from_pretrained(tmp_path)
    assert torch.equal(loaded(pixels, mask).place, seen.place)


def test_soft_bins_have_their_mean_at_the_value_and_none_for_the_unknown():
    bins = X.horizon_bins(48)
    value = torch.tensor([0.3, 0.5, 0.9, math.nan])
    goal = X.soft_bins(value, bins)
    assert torch.allclose(goal[:3].sum(1), torch.ones(3)) and (goal[3] == 0).all()
    assert torch.allclose((goal[:3] * bins).sum(1), value[:3], atol=0.005)


def test_height_bins_are_even_in_the_logarithm():
    bins = X.height_bins(24)
    assert torch.allclose(bins.diff(), bins.diff().mean().expand(23), atol=1e-5)
    assert float(bins[0].exp()) > X.HEIGHT[0] and float(bins[-1].exp()) < X.HEIGHT[1]


def test_the_truth_of_scenes():
    scenes = [S.sample(8, i) for i in range(60)]
    truth = X.truth(scenes)
    for i, scene in enumerate(scenes):
        assert X.PLACE_NAMES[truth.place[i]] == scene.place and float(truth.horizon[i]) == pytest.approx(scene.horizon)
        assert X.REFERENCE_NAMES[truth.reference[i]] == (scene.reference or "none")
        assert bool(truth.height[i].isnan()) == (scene.reference == "")
        hidden = scene.place in ("beach", "forest", "city") or scene.defect == "indistinctiveness"
        assert (int(truth.wall[i]) == X.UNKNOWN) == hidden
        assert hidden or X.WALL_NAMES[truth.wall[i]] == scene.wall


def test_its_world_does_not_tell_faults_by_facts():
    scenes = X.draw_scenes(8, 800)
    for defect in S.CLASSES:
        chosen = [s for s in scenes if s.defect == defect]
        horizons = torch.tensor([s.horizon for s in chosen])
        assert (horizons < 0.5).any() and (horizons > 0.7).any()
    assert sum(s.defect == "shape_hallucination" for s in scenes) > 250
    assert {s.reference for s in scenes if s.defect == "size_mismatch"} == {"", *S.REFERENCES}
