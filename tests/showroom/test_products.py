"""The products: their boxes, their sizes in life, their names."""

import numpy as np
import pytest
import torch

from goodeye.showroom.parts import Layers, paint, table
from goodeye.showroom.products import COLOURS, DRAW, OWN_PARTS, REAL, VARIANTS, Product, fitted, sample_product

EVERY = [Product(kind=kind, colour="teal", variant=variant) for kind in DRAW for variant in VARIANTS]
UNUSUAL = [Product(kind=kind, colour="teal", own=1 + 3 * n) for n, kind in enumerate(DRAW)]


def test_there_are_enough_of_them():
    assert len(DRAW) >= 12 and len(COLOURS) >= 8 and set(DRAW) == set(REAL)


@pytest.mark.parametrize("scale", [0.46, 0.56])
def test_each_fills_its_box_in_the_middle_of_the_canvas(scale):
    bodies = [fitted(product, scale) for product in EVERY + UNUSUAL]
    solid = paint(Layers.blank(len(bodies), 128), table([rows for rows, _, _ in bodies]), 0.66).cover > 0.5
    for product, (_, hw, hh), mask in zip(EVERY + UNUSUAL, bodies, solid, strict=True):
        ys, xs = mask.any(1).nonzero()[:, 0] / 128, mask.any(0).nonzero()[:, 0] / 128
        found = [float(e) for e in (xs[0], ys[0], xs[-1] + 1 / 128, ys[-1] + 1 / 128)]
        assert found == pytest.approx([0.5 - hw, 0.5 - hh, 0.5 + hw, 0.5 + hh], abs=0.016), product.title
        assert 2 * max(hw, hh) == pytest.approx(scale)


def test_a_part_of_its_own_shows_and_is_not_spoken_of():
    for product in UNUSUAL:
        assert product.own <= OWN_PARTS and str(product.own) not in product.title
        plain = Product(kind=product.kind, colour=product.colour)
        drawn = [paint(Layers.blank(1, 128), table([fitted(one, 0.5)[0]])).cover > 0.5 for one in (product, plain)]
        assert int((drawn[0] != drawn[1]).sum()) > 100, product


def test_a_colour_is_what_most_of_a_product_shows():
    for name, colour in COLOURS.items():
        rows, _, _ = fitted(Product(kind="ball", colour=name), 0.5)
        made = paint(Layers.blank(1, 64), table([rows]))
        mean = made.rgb[0][:, made.cover[0] > 0.5].mean(1)
        nearest = min(COLOURS, key=lambda n: float((mean - torch.tensor(COLOURS[n])).square().sum()))
        assert nearest == name or (mean - torch.tensor(colour)).abs().max() < 0.25


def test_titles_and_lengths():
    chair = Product(kind="chair", colour="red", size="miniature")
    assert (chair.title, chair.centimetres) == ("miniature red chair", 9.0)
    lipstick = Product(kind="lipstick", colour="pink", size="giant")
    assert (lipstick.title, lipstick.centimetres) == ("giant pink lipstick", 64.0)


def test_chance_gives_all_kinds_and_sizes():
    rng = np.random.default_rng(3)
    drawn = [sample_product(rng) for _ in range(800)]
    assert {p.kind for p in drawn} == set(DRAW) and {p.colour for p in drawn} == set(COLOURS)
    assert {p.size for p in drawn} == {"", "miniature", "giant"}
    assert all(REAL[p.kind] > 26 for p in drawn if p.size == "miniature")
