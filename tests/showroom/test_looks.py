"""Contrast, and the parts of beauty: each goes the right way when a picture gets worse in its respect."""

import pytest
import torch
from torch.nn import functional as F

from goodeye.showroom import looks
from goodeye.showroom import scenes as S


@pytest.fixture(scope="module")
def pictures(made):
    return made.image[:8], made.obj[:8] == S.PRODUCT, torch.full((8,), 2.0)


def parts_of(image, mask, clutter):
    return looks.beauty_parts(image, mask, clutter)


def test_blur_lowers_sharpness_and_nothing_else_much(pictures):
    image, mask, clutter = pictures
    before, after = parts_of(image, mask, clutter), parts_of(looks.blur(image, 2), mask, clutter)
    assert (after["sharpness"] < 0.6 * before["sharpness"]).all()
    assert (after["exposure"] - before["exposure"]).abs().max() < 0.1
    assert torch.equal(after["composition"], before["composition"])


@pytest.mark.parametrize("wrong", [lambda x: (x + 0.45).clamp(0, 1), lambda x: x * 0.2])
def test_too_much_and_too_little_light_lower_exposure(pictures, wrong):
    image, mask, clutter = pictures
    usual = looks.luma(image).mean((1, 2)) > 0.4
    before, after = parts_of(image, mask, clutter)["exposure"], parts_of(wrong(image), mask, clutter)["exposure"]
    assert usual.any() and (after < before - 0.1)[usual].all()


def test_clutter_counts_against_a_picture_from_three_things_on(pictures):
    image, mask, _ = pictures
    scores = [parts_of(image[:1], mask[:1], torch.tensor([n]))["clutter"].item() for n in (0.0, 2.0, 5.0, 8.0, 12.0)]
    assert scores == pytest.approx([1, 1, 0.5, 0, 0])


def test_a_subject_at_the_edge_lowers_composition(pictures):
    image, _, clutter = pictures
    x, y = torch.meshgrid(torch.arange(128), torch.arange(128), indexing="xy")

    def score(across, down):
        mask = ((x - across * 128) ** 2 + (y - down * 128) ** 2 < 64)[None].expand(8, -1, -1)
        return parts_of(image, mask, clutter)["composition"]

    assert (score(0.5, 0.55) > 0.95).all() and (score(2 / 3, 1 / 3) > 0.95).all()
    assert (score(0.9, 0.5) < score(0.8, 0.5) - 0.1).all() and (score(0.95, 0.95) == 0).all()


def test_two_opposite_hues_are_in_harmony_and_a_rainbow_is_not():
    hue = torch.linspace(0, 2 * torch.pi, 65)[:64].repeat(64, 1)
    zero = torch.zeros_like(hue)

    def coloured(angle):  # red - green = cos, yellow - blue = sin
        red, green = 0.5 + torch.cos(angle) / 6, 0.5 - torch.cos(angle) / 6
        return torch.stack([red, green, (red + green) / 2 - torch.sin(angle) / 3])[None]

    mask, clutter = zero[None] > 1, torch.zeros(1)
    pair = torch.where(hue > torch.pi, torch.full_like(hue, 1.0 + torch.pi), torch.full_like(hue, 1.0))
    one, two, all_ = (parts_of(coloured(a), mask, clutter)["harmony"].item() for a in (zero + 1, pair, hue))
    assert one == pytest.approx(1, abs=1e-3) and two == pytest.approx(1, abs=1e-3) and all_ < 0.1


def test_beauty_is_the_weighted_mean_of_its_parts(made):
    by_hand = sum(made.beauty_parts[name] * weight for name, weight in looks.WEIGHTS.items())
    assert sum(looks.WEIGHTS.values()) == pytest.approx(1) and torch.allclose(made.beauty, by_hand)
    assert (made.beauty > 0).all() and (made.beauty < 1).all()


def disc(size=64):
    at = torch.arange(size) - size / 2 + 0.5
    return ((at[:, None] ** 2 + at[None] ** 2).sqrt() < size / 4).float()[None, None]


def test_contrast_is_the_distance_to_the_product_s_colour():
    alpha = disc()
    product = torch.tensor([0.8, 0.2, 0.4])[None, :, None, None].expand(1, 3, 64, 64)
    assert float(looks.contrast(product, product, alpha)) < 1e-5
    other = product + torch.tensor([-0.3, 0.4, 0.0])[None, :, None, None]
    assert float(looks.contrast(other, product, alpha)) == pytest.approx(0.5, abs=1e-4)


def test_a_product_lost_along_half_of_its_outline_has_no_contrast():
    alpha = disc()
    product = torch.full((1, 3, 64, 64), 0.7)
    around = product.clone()
    around[..., :36] = 0.0
    assert float(looks.contrast(around, product, alpha)) < 0.15 < float(looks.contrast(around * 0, product, alpha))


@pytest.mark.parametrize("pixels", [1, 2, 5, 9])
def test_growing_a_mask_is_taking_the_greatest_of_the_neighbours(pixels):
    mask = (torch.rand(3, 40, 50, generator=torch.Generator().manual_seed(pixels)) > 0.97).float()
    expected = F.max_pool2d(mask[:, None], 2 * pixels + 1, 1, pixels)[:, 0]
    assert torch.equal(looks.grow(mask, pixels), expected)


def test_a_box_is_a_mean_with_repeated_edges():
    x = torch.rand(2, 3, 30, 40, generator=torch.Generator().manual_seed(0))
    expected = F.avg_pool2d(F.pad(x, (4, 4, 4, 4), mode="replicate"), 9, 1)
    assert torch.allclose(looks.box(x, 4), expected, atol=1e-5)
