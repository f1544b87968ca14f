"""Latents kept on disk: those of the pictures, made once, gone on with, and made anew for other triplets."""

import json

import pytest
import torch
from PIL import Image
from tiny_editor import save_triplets

from goodeye.edit import latents
from goodeye.edit.latents import encoded
from goodeye.edit.triplets import read_triplets
from goodeye.errors import BadInput
from goodeye.images import to_tensor
from goodeye.modelset import Models, resolve


@pytest.fixture(scope="module")
def models(tiny_set):
    return Models(resolve(tiny_set))


@pytest.fixture
def triplets(tmp_path):
    root = save_triplets(tmp_path / "data", {name: [10 * at] for at, name in enumerate("abcde")}, size=32)
    return list(read_triplets(root))


def test_they_are_the_pictures_own(models, triplets, tmp_path):
    found = encoded(triplets, models, 32, tmp_path / "kept")
    clean, joined = found.pair(["c", "a"])
    one = triplets[2]
    for mine, picture, scale in ((clean, one.edited, models.vae.config.scaling_factor), (joined, one.original, 1.0)):
        wanted = models.vae.encode(2 * to_tensor(picture.open())[None] - 1).latent_dist.mode()[0] * scale
        assert torch.allclose(mine[0], wanted, atol=4e-3 * float(wanted.abs().max()))


def test_a_stopped_call_goes_on_and_others_begin_anew(models, triplets, tmp_path, monkeypatch):
    monkeypatch.setattr(latents, "AT_ONCE", 2)
    real, calls = latents._both, []

    def failing(some, *rest):
        calls.append([one.key for one in some])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(some, *rest)

    monkeypatch.setattr(latents, "_both", failing)
    with pytest.raises(KeyboardInterrupt):
        encoded(triplets, models, 32, tmp_path / "kept")
    again = encoded(triplets, models, 32, tmp_path / "kept")
    assert calls == [["a", "b"], ["c", "d"], ["c", "d"], ["e"]]
    whole = encoded(triplets, models, 32, tmp_path / "other")
    assert (again.rows == whole.rows).all() and len(calls) == 7
    encoded(triplets, models, 32, tmp_path / "other")
    assert len(calls) == 7  # all of it was there
    encoded(triplets[:4], models, 32, tmp_path / "other")
    assert len(calls) == 9


def test_other_pictures_under_the_same_keys_are_encoded_anew(models, triplets, tmp_path):
    before = encoded(triplets, models, 32, tmp_path / "kept").rows.copy()
    Image.new("RGB", (32, 32), (0, 200, 0)).save(tmp_path / "data" / "c" / "20_1.png")
    after = encoded(triplets, models, 32, tmp_path / "kept").rows
    assert (after == encoded(triplets, models, 32, tmp_path / "other").rows).all()
    assert [(one == two).all() for one, two in zip(after, before, strict=True)] == [True, True, False, True, True]


def test_what_cannot_be_opened_is_named_and_where_nothing_can_it_is_told(models, triplets, tmp_path):
    (tmp_path / "data" / "b" / "10_1.png").write_bytes(b"no picture")
    found = encoded(triplets, models, 32, tmp_path / "kept")
    assert list(found.at) == list("acde") and "b: " in found.gone["b"]
    assert "b" in json.loads((tmp_path / "kept" / "latents.json").read_text())["gone"]
    with pytest.raises(BadInput, match="no triplet can be opened"):
        encoded([triplets[1]], models, 32, tmp_path / "none")


def test_a_folder_that_cannot_be_made_is_told(models, triplets, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="file cannot be made: File exists. Name another folder with --cache"):
        encoded(triplets, models, 32, tmp_path / "file")
