"""The product on its canvas: where it stands, what may be repainted, and the edges that guide the ControlNet.

After the sampling script of the ads paper's authors, without its faults: nothing vanishes for its colour, an empty
product is refused, thin and tiny ones work, and resizing leaves no fringes.
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from goodeye.errors import BadInput
from goodeye.images import open_image, resize_rgba, to_tensor

SMALLEST = 8  # pixels of the visible product's long side; below, nobody could say what it is (ours)
EATEN = 10 / 512  # the width of the product's edge that is repainted, as a share of the canvas (authors' script)


@dataclass(frozen=True, kw_only=True)
class Canvas:
    """A product placed on a square canvas of S pixels.

    product: [4, S, S] straight-alpha RGBA in [0, 1]; colour is zero where alpha is.
    mask:    [1, S, S], 1 where the product is kept while sampling: its visible part without the outermost edge.
    control: [3, S, S], 1 on the product's edges (canny), the ControlNet's picture.
    """

    product: Float[Tensor, "4 S S"]
    mask: Float[Tensor, "1 S S"]
    control: Float[Tensor, "3 S S"]


def place(
    rgba: Image.Image,
    size: int,
    scale: float,
    *,
    canny: tuple[int, int] = (100, 200),
    name: str = "the product",
) -> Canvas:
    """Centres a cut-out on a canvas of `size` pixels, its long side `scale` of it (ads paper: 0.70 to 0.78).

    Raises BadInput, with `name` in it, for a cut-out in which nothing, or next to nothing, is visible.
    """
    box = visible_box(rgba, name)
    product = rgba.crop(box)
    longest = max(product.size)
    width, height = (max(1, round(side * scale * size / longest)) for side in product.size)
    sheet = Image.new("RGBA", (size, size))
    sheet.paste(resize_rgba(product, (width, height)), ((size - width) // 2, (size - height) // 2))
    pixels = np.asarray(sheet)
    return Canvas(
        product=to_tensor(sheet) * (to_tensor(sheet)[3:] > 0),
        mask=torch.from_numpy(kept(pixels[..., 3]))[None].float(),
        control=torch.from_numpy(edges(pixels, canny)).float().expand(3, size, size).clone(),
    )


def standing(cutout: Path, side: int, scale: float) -> Float[Tensor, "4 S S"]:
    """A cut-out's file as it stands in pictures of `side` pixels, as `place` puts it. Raises BadInput as it does."""
    return place(open_image(cutout).convert("RGBA"), side, scale, name=str(cutout)).product


def visible_box(rgba: Image.Image, name: str) -> tuple[int, int, int, int]:
    """The box (left, top, right, bottom) of all pixels with alpha >= 0.5; BadInput where there is none to speak of."""
    solid = rgba.getchannel("A").point(lambda alpha: 255 if alpha >= 128 else 0)
    box = solid.getbbox()
    if box is None:
        faint = rgba.getchannel("A").getextrema()[1]
        how = "fully transparent" if faint == 0 else "almost transparent everywhere"
        raise BadInput(
            f"{name} is {how}, so there is no product to keep. "
            "Use a cut-out with visible pixels, or a photograph without alpha."
        )
    width, height = box[2] - box[0], box[3] - box[1]
    if max(width, height) < SMALLEST:
        raise BadInput(
            f"{name} shows only {width}x{height} pixels of product, too few to tell what it is. "
            f"Use a picture in which the product is at least {SMALLEST} pixels long."
        )
    return box


def kept(alpha: np.ndarray) -> np.ndarray:
    """[S, S] bool: the visible part (alpha >= 0.5 of 255) without an edge of about 10 pixels in 512.

    A product too thin for that keeps its core: the edge is made narrower until something is left.
    """
    solid = np.pad(alpha >= 128, 1).astype(np.uint8)
    inside = cv2.distanceTransform(solid, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    edge = EATEN * alpha.shape[0]
    return inside > min(edge, 0.5 * float(inside.max()))


def edges(rgba: np.ndarray, thresholds: tuple[int, int]) -> np.ndarray:
    """[S, S] bool: canny edges of a straight-alpha RGBA picture [S, S, 4] of 8 bits, composed on white.

    Alpha goes in as a fourth channel, and canny takes the channel with the strongest gradient at each pixel: a white
    product keeps its outline on white, and a product of one saturated channel does too.
    """
    alpha = rgba[..., 3:].astype(np.float32) / 255
    on_white = rgba[..., :3] * alpha + 255 * (1 - alpha)
    channels = np.concatenate([on_white.round().astype(np.uint8), rgba[..., 3:]], axis=-1)
    return cv2.Canny(np.ascontiguousarray(channels), *thresholds) > 0


def compose(product: Float[Tensor, "*N 4 S S"], background: float | Tensor) -> Float[Tensor, "*N 3 S S"]:
    """The product over a background: alpha * product + (1 - alpha) * background. Exact where alpha is 0 or 1."""
    alpha = product[..., 3:, :, :]
    return alpha * product[..., :3, :, :] + (1 - alpha) * background
