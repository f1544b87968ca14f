"""Products on the canvas: where they stand, what is repainted, and that none of them vanishes."""

import json

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from goodeye.ads.canvas import EATEN, compose, edges, kept, place
from goodeye.errors import BadInput
from goodeye.images import open_image, to_pil


def block(width: int, height: int, colour=(200, 30, 30), margin: int = 5) -> Image.Image:
    """A block of one colour with alpha 255 in the middle of a transparent sheet."""
    img = Image.new("RGBA", (width + 2 * margin, height + 2 * margin))
    ImageDraw.Draw(img).rectangle([margin, margin, margin + width - 1, margin + height - 1], fill=(*colour, 255))
    return img


def box(alpha: torch.Tensor) -> tuple[int, int, int, int]:
    rows, columns = (alpha > 0).any(1).nonzero(), (alpha > 0).any(0).nonzero()
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


@pytest.mark.parametrize(("size", "scale"), [(512, 0.74), (128, 0.5), (100, 0.33)])
@pytest.mark.parametrize(("width", "height"), [(40, 20), (20, 40), (300, 299)])
def test_the_long_side_is_scaled_and_the_product_centred(size, scale, width, height):
    canvas = place(block(width, height), size, scale)
    left, top, right, bottom = box(canvas.product[3])
    assert max(right - left, bottom - top) == round(scale * size)
    assert (right - left) / (bottom - top) == pytest.approx(width / height, rel=0.06)
    assert abs(left - (size - right)) <= 1 and abs(top - (size - bottom)) <= 1
    assert canvas.product.shape == (4, size, size)
    assert canvas.mask.shape == (1, size, size) and canvas.control.shape == (3, size, size)


def test_faint_pixels_do_not_widen_the_box():
    img = block(40, 20)
    img.putpixel((0, 0), (255, 255, 255, 127))
    left, top, right, bottom = box(place(img, 128, 0.5).product[3])
    assert (right - left, bottom - top) == (64, 32)


@pytest.mark.parametrize("size", [128, 512])
def test_repainting_eats_ten_pixels_of_512_into_the_edge(size):
    canvas = place(block(60, 60), size, 0.7)
    left, top, right, bottom = box(canvas.mask[0])
    outer = box(canvas.product[3])
    eaten = EATEN * size
    assert all(abs(abs(a - b) - eaten) <= 1 for a, b in zip((left, top, right, bottom), outer, strict=True))


def test_the_mask_of_a_thin_product_keeps_its_core():
    thin = place(block(200, 2), 128, 0.5)
    assert thin.mask.sum() > 0
    assert (thin.mask <= (thin.product[3:] >= 0.5)).all()


def test_a_line_one_pixel_wide_and_extreme_shapes_work():
    for width, height in ((1, 300), (300, 1), (4000, 2), (8, 1)):
        canvas = place(block(width, height), 128, 0.5)
        assert canvas.product[3].sum() > 0 and canvas.control.sum() > 0 and canvas.mask.sum() > 0


@pytest.mark.parametrize(
    ("img", "says"),
    [
        (Image.new("RGBA", (30, 30), (255, 0, 0, 0)), "is fully transparent, so there is no product to keep. Use"),
        (Image.new("RGBA", (30, 30), (255, 0, 0, 120)), "almost transparent everywhere"),
        (Image.new("RGBA", (1, 1), (255, 0, 0, 255)), "only 1x1 pixels"),
        (block(7, 7), "only 7x7 pixels"),
    ],
)
def test_what_shows_nothing_is_refused_in_one_plain_line(img, says):
    with pytest.raises(BadInput, match=r"^shoe\.png .*\.$") as error:
        place(img, 128, 0.5, name="shoe.png")
    assert says in str(error.value)


SATURATED = [(r, g, b) for r in (0, 255) for g in (0, 255) for b in (0, 255)]


@pytest.mark.parametrize("colour", [*SATURATED, (127, 127, 127), (250, 250, 250)])
def test_no_colour_vanishes(colour):
    """The authors' script loses products with a saturated channel; plain canny loses white on white."""
    canvas = place(block(40, 40, colour), 128, 0.5)
    assert canvas.control[0].sum() >= 4 * 60, "the whole outline is there"
    assert (canvas.control[0] == canvas.control[2]).all()
    assert canvas.mask.sum() > 50 * 50
    inside = canvas.product[:3, 40:88, 40:88]
    assert torch.equal((inside * 255).round()[:, 5, 5], torch.tensor(colour, dtype=torch.float))


def test_edges_inside_the_product_are_found():
    img = block(60, 60, (20, 20, 200))
    ImageDraw.Draw(img).ellipse([20, 20, 45, 45], fill=(240, 240, 40, 255))
    control = place(img, 128, 0.5).control[0]
    assert control[45:83, 45:83].sum() > 40


def test_edges_are_those_of_canny_on_white_for_a_dark_product():
    import cv2

    pixels = np.asarray(block(40, 40, (10, 10, 10)))
    white = Image.new("RGBA", (50, 50), "white")
    white.alpha_composite(Image.fromarray(pixels))
    expected = cv2.Canny(np.asarray(white.convert("RGB")), 100, 200) > 0
    assert (edges(pixels, (100, 200)) == expected).all()


def test_resizing_leaves_no_fringe():
    """A red product whose hidden pixels are green must show no green at its edge."""
    img = Image.new("RGBA", (101, 101), (0, 255, 0, 0))
    ImageDraw.Draw(img).ellipse([10, 10, 90, 90], fill=(255, 0, 0, 255))
    product = place(img, 64, 0.5).product
    seen = product[:3, product[3] > 0]
    assert seen[1].max() <= 1 / 255 and seen[0].min() >= 254 / 255
    assert (product[:3, product[3] == 0] == 0).all()


def test_compose_is_exact_where_alpha_is_whole():
    product = torch.rand(2, 4, 8, 8)
    product[:, 3] = (torch.rand(2, 8, 8) * 3).floor() / 2
    background = torch.rand(2, 3, 8, 8)
    out = compose(product, background)
    alpha = product[:, 3:].expand(-1, 3, -1, -1)
    assert torch.equal(out[alpha == 1], product[:, :3][alpha == 1])
    assert torch.equal(out[alpha == 0], background[alpha == 0])


def test_kept_is_inside_the_visible_part():
    alpha = np.zeros((64, 64), np.uint8)
    alpha[10:50, 10:50] = 200
    mask = kept(alpha)
    assert mask.any() and not mask[alpha < 128].any()


def test_all_real_cut_outs_stand_well(shared_data):
    products = shared_data / "products"
    names = [entry["file"] for entry in json.loads((products / "titles.json").read_text())]
    assert len(names) == 24
    for name in names:
        canvas = place(open_image(products / name), 128, 0.5, name=name)
        left, top, right, bottom = box(canvas.product[3] >= 0.5)
        assert max(right - left, bottom - top) in (63, 64, 65), name
        assert 0.3 < canvas.mask.sum() / (canvas.product[3] >= 0.5).sum() < 0.98, name
        assert canvas.control[0].sum() > 100, name
        assert to_pil(canvas.product).mode == "RGBA"
