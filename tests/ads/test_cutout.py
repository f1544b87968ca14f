"""Cutting products out of photographs: refinement is tested with known masks blurred into saliency maps."""

import json

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from goodeye.ads.cutout import (
    Cutting,
    cut_out,
    guided_filter,
    is_cut_out,
    largest_parts,
    with_holes_filled,
    without_halo,
)
from goodeye.errors import BadInput
from goodeye.images import open_image


class Knows:
    """Models whose saliency is a known mask, made small and soft as a saliency model's map is."""

    def __init__(self, mask: Image.Image | float) -> None:
        self.mask = mask

    def saliency(self, images: torch.Tensor) -> torch.Tensor:
        height, width = images.shape[-2:]
        if isinstance(self.mask, float):
            return torch.full((1, 1, height, width), self.mask)
        small = self.mask.resize((32, 32), Image.Resampling.BOX).filter(ImageFilter.GaussianBlur(1))
        grown = small.resize((width, height), Image.Resampling.BICUBIC)
        return torch.from_numpy(np.asarray(grown, dtype=np.float32) / 255)[None, None]


class Loads:
    @property
    def saliency(self):
        raise AssertionError("the saliency model was loaded for a cut-out")


@pytest.fixture
def scene() -> tuple[Image.Image, Image.Image]:
    """A photograph-like picture with a red ellipse on a noisy blue ground, and its true mask."""
    rng = np.random.default_rng(0)
    ground = Image.fromarray((rng.normal((60, 80, 150), 12, (300, 400, 3))).clip(0, 255).astype(np.uint8))
    mask = Image.new("L", (1600, 1200))
    ImageDraw.Draw(mask).ellipse([480, 280, 1160, 960], fill=255)
    mask = mask.resize((400, 300), Image.Resampling.BOX)
    product = Image.fromarray((rng.normal((200, 40, 40), 12, (300, 400, 3))).clip(0, 255).astype(np.uint8))
    return Image.composite(product, ground, mask), mask


def overlap(cut: Image.Image, mask: Image.Image) -> float:
    a, b = np.asarray(cut.getchannel("A")) >= 128, np.asarray(mask) >= 128
    return (a & b).sum() / (a | b).sum()


def test_the_border_is_found_and_not_only_the_map_enlarged(shared_data):
    product = open_image(shared_data / "products" / "teapot.webp")
    picture = ImageOps.fit(open_image(shared_data / "coco128" / "images" / "000000000009.jpg"), product.size)
    picture.paste(product, mask=product)
    mask = product.getchannel("A")
    coarse = mask.resize((32, 32), Image.Resampling.BOX).filter(ImageFilter.GaussianBlur(1)).resize(mask.size)
    cut = cut_out(picture, Knows(mask))
    assert cut.mode == "RGBA" and cut.size == picture.size
    assert overlap(cut, mask) > 0.98 > overlap(Image.merge("RGBA", (*picture.split(), coarse)), mask)


def test_a_large_photograph_is_cut_at_its_full_resolution(scene):
    picture, mask = (img.resize((2000, 1500), Image.Resampling.BICUBIC) for img in scene)
    cut = cut_out(picture, Knows(mask))
    assert cut.size == (2000, 1500)
    assert overlap(cut, mask) > 0.97
    soft = np.asarray(cut.getchannel("A"))
    assert ((soft > 10) & (soft < 245)).mean() < 0.03, "the edge is an edge, not a haze"


def test_a_very_large_photograph_is_made_smaller_first(scene):
    picture, mask = scene
    cut = cut_out(picture.resize((2000, 1500), Image.Resampling.BICUBIC), Knows(mask), cutting=Cutting(largest=400))
    assert cut.size == (400, 300) and overlap(cut, mask) > 0.97


def test_the_edge_keeps_the_products_colour(scene):
    picture, mask = scene
    pixels = np.asarray(picture)
    alpha = np.asarray(mask, dtype=np.float32) / 255
    soft = (alpha > 0.2) & (alpha < 0.8)
    before, after = pixels[soft].astype(float), without_halo(pixels, alpha)[soft].astype(float)
    assert after[:, 2].mean() < before[:, 2].mean() - 20, "less of the blue ground"
    assert after[:, 0].mean() > 180, "as red as the product"


def test_a_cut_out_stays_as_it_is_and_loads_no_model():
    img = Image.new("RGBA", (20, 20))
    img.putpixel((3, 3), (1, 2, 3, 255))
    assert cut_out(img, Loads()) is img


@pytest.mark.parametrize("alpha", [255, 254, 128])
def test_an_alpha_that_hides_nothing_counts_as_a_photograph(scene, alpha):
    picture, mask = scene
    opaque = picture.convert("RGBA")
    opaque.putalpha(alpha)
    assert not is_cut_out(opaque)
    assert overlap(cut_out(opaque, Knows(mask)), mask) > 0.97


def test_fully_transparent_is_said():
    with pytest.raises(
        BadInput, match=r"^shoe\.png is fully transparent, so there is no product to keep\. Use a cut-out"
    ):
        cut_out(Image.new("RGBA", (9, 9)), Loads(), name="shoe.png")


@pytest.mark.parametrize(("everywhere", "what"), [(0.0, "nothing"), (0.4, "nothing"), (0.9, "no single thing")])
def test_where_nothing_stands_out_it_says_so(scene, everywhere, what):
    with pytest.raises(BadInput, match=rf"^wall\.jpg has no transparent background, and {what} in it stands out"):
        cut_out(scene[0], Knows(everywhere), name="wall.jpg")


def test_specks_are_dropped_and_companions_kept():
    mask = np.zeros((50, 50), bool)
    mask[5:25, 5:25] = mask[30:40, 30:40] = mask[45, 45] = True
    kept = largest_parts(mask, 0.1)
    assert kept[10, 10] and kept[35, 35] and not kept[45, 45]
    assert not largest_parts(np.zeros((5, 5), bool), 0.1).any()


def test_a_clock_face_is_no_hole_and_a_handle_is_one():
    picture = np.full((60, 60, 3), (120, 180, 240), np.uint8)
    mask = np.zeros((60, 60), bool)
    mask[10:50, 10:50] = True
    picture[mask] = (200, 30, 30)
    face, handle = np.s_[15:25, 15:45], np.s_[32:42, 15:45]
    mask[face] = mask[handle] = False
    picture[face], picture[handle] = (250, 250, 250), (120, 180, 240)
    filled = with_holes_filled(mask, picture)
    assert filled[face].all() and not filled[handle].any()
    assert not filled[:10].any() and (filled | ~mask).all()
    everything = np.ones((60, 60), bool)
    assert with_holes_filled(everything, picture).all()


def test_the_guided_filter_is_that_of_the_paper():
    """Against the formulas of He et al. 2013 (eq. 5, 6, 8) written as sums over each window."""
    rng = np.random.default_rng(1)
    grey = rng.integers(0, 256, (12, 14), dtype=np.uint8)
    guide, mask = np.dstack([grey] * 3), (rng.random((12, 14)) > 0.5).astype(np.float32)
    radius, epsilon = 1, 0.01
    found = guided_filter(guide, mask, guide, radius, epsilon)
    level = cv2.cvtColor(guide, cv2.COLOR_RGB2GRAY) / 255.0
    slope, offset = np.zeros_like(level), np.zeros_like(level)
    for y in range(1, 11):
        for x in range(1, 13):
            window = np.s_[y - 1 : y + 2, x - 1 : x + 2]
            i, p = level[window], mask[window]
            slope[y, x] = ((i * p).mean() - i.mean() * p.mean()) / (i.var() + epsilon)
            offset[y, x] = p.mean() - slope[y, x] * i.mean()
    for y, x in ((5, 6), (3, 9), (8, 4)):
        window = np.s_[y - 1 : y + 2, x - 1 : x + 2]
        assert found[y, x] == pytest.approx(slope[window].mean() * level[y, x] + offset[window].mean(), abs=1e-4)


def test_tiny_and_thin_photographs_do_not_break():
    for size in ((1, 1), (1, 200), (3, 3), (200, 2)):
        half = Image.new("L", size)
        half.paste(255, (0, 0, (size[0] + 1) // 2, size[1]))
        try:
            cut = cut_out(Image.new("RGB", size, "red"), Knows(half))
        except BadInput:
            continue
        assert cut.size == size


def test_rembg_that_is_not_installed_is_said(scene, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BadInput, match="rembg is not installed"):
        cut_out(scene[0], Loads(), remover="rembg")


def test_real_cut_outs_pasted_on_real_photographs_are_found_again(shared_data):
    products = shared_data / "products"
    grounds = sorted((shared_data / "coco128" / "images").glob("*.jpg"))
    scores = []
    for entry, ground in zip(json.loads((products / "titles.json").read_text()), grounds, strict=False):
        product = open_image(products / entry["file"])
        picture = ImageOps.fit(open_image(ground), (256, 256))
        picture.paste(product, mask=product)
        mask = product.getchannel("A")
        scores.append(overlap(cut_out(picture, Knows(mask)), mask))
    assert np.median(scores) > 0.9 and min(scores) > 0.6
