"""Labelled pictures for RFNet: what went through the generator and what stands near the guideline's lines."""

import numpy as np
import pytest
import torch

from goodeye.modelset import Models, showroom
from goodeye.showroom.guideline import borderline
from goodeye.showroom.inspected import borderline_world, canvas_of, joined, remade
from goodeye.showroom.places import PLACES
from goodeye.showroom.scenes import render, sample


@pytest.fixture(scope="module")
def models():
    return Models(showroom())


@pytest.fixture(scope="module")
def near(models, tmp_path_factory):
    return borderline_world(models, tmp_path_factory.mktemp("near"), 3, 24, batch=8, say=lambda line: None)


def test_borderline_pictures_keep_their_products_pixels(near):
    alpha = near.products[:, 3:]
    there = (alpha == 255).expand(-1, 3, -1, -1)
    off = (near.images.int() - near.products[:, :3].int()).abs()[there]
    assert off.max() <= 1 and not torch.equal(near.images[0], near.images[1])


def test_about_two_thirds_are_degraded_and_the_rest_as_rendered(near):
    clean = (torch.cat([made.image for made in [render(borderline(3, 24))]]) * 255).round().byte()
    same = (near.images == clean).flatten(1).all(1)
    assert 2 <= same.sum() <= 14
    assert near.facts["place"].max() <= len(PLACES)


def test_killed_it_goes_on_with_the_same_pictures(models, tmp_path):
    whole = borderline_world(models, tmp_path / "a", 3, 6, batch=2, say=lambda line: None)
    (tmp_path / "b").mkdir()
    for name in ("000000.npy", "000004.npy"):  # the one between was never finished
        (tmp_path / "b" / name).write_bytes((tmp_path / "a" / name).read_bytes())
    told = []
    again = borderline_world(models, tmp_path / "b", 3, 6, batch=2, say=told.append)
    assert torch.equal(again.images, whole.images) and torch.equal(again.labels, whole.labels)
    assert told == ["borderline pictures for RFNet: 4/6"]


def test_joined_keeps_both_and_their_facts(near):
    both = joined(near, near.__class__(**vars(near)))
    assert len(both) == 48 and both.titles == [*near.titles, *near.titles]
    batch = both.batch([0, 24])
    assert torch.equal(batch["extension"][0], batch["extension"][1]) and batch["labels"][0] == batch["labels"][1]


def test_a_little_of_the_schedule_changes_little_and_the_product_not_at_all(models):
    made = render([sample(9, i, ["available"]) for i in range(2)])
    products = (made.product * 255).round().byte().numpy()
    canvases = [canvas_of(product) for product in products]
    off = [
        (remade(models, made.image, canvases, made.captions, [1, 2], strength) - made.image).square().mean().item()
        for strength in (0.0, 0.2, 0.8)
    ]
    assert off[0] < off[1] < off[2] and off[1] < 0.01
    again = remade(models, made.image, canvases, made.captions, [1, 2], 0.2)
    solid = torch.from_numpy(products[:, 3:] == 255).expand(-1, 3, -1, -1)
    pasted = torch.from_numpy(products[:, :3].astype(np.float32) / 255)
    assert torch.allclose(again[solid], pasted[solid], atol=1e-6)
