"""From a photograph to a cut-out: the saliency model says where the product is, the picture itself says how far.

A saliency map is small and soft. GrabCut finds the border inside the picture, a guided filter gives it soft edges at
full resolution, and the colours of half-covered pixels are freed of the old background, so that no halo stays.
"""

import functools
import importlib.util
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from goodeye.errors import BadInput
from goodeye.images import shrunk, to_tensor, within

Remover = Literal["saliency", "rembg"]
Alpha = Float[np.ndarray, "H W"]
Pixels = UInt8[np.ndarray, "H W 3"]


@dataclass(frozen=True, kw_only=True)
class Cutting:
    """How a photograph is cut out (ours, found by eye on real photographs)."""

    largest: int = 4096  # long side of what is cut out; a larger photograph would take gigabytes
    stands_out: float = 0.5  # the saliency that something must reach for there to be a product at all
    mean_times: float = 2.0  # a pixel counts as product from this times the map's mean (Achanta et al. 2009) …
    lowest: float = 0.15  # … but no lower than this, and no higher than stands_out
    look: int = 224  # long side at which a saliency model without an input size of its own looks at the picture
    sure: float = 0.9  # saliency from which GrabCut may not take it away
    least: float = 0.005  # smallest share of the picture that can be a product
    most: float = 0.92  # largest; above, the saliency map has found everything, so nothing
    companion: float = 0.1  # a part is kept if it has this share of the largest part's area
    work: int = 360  # long side, in pixels, at which the border is sought
    radius: int = 2  # of the guided filter, in pixels at that size
    epsilon: float = 1e-3  # of the guided filter


class Saliency(Protocol):
    """Pictures [N, 3, H, W] in [0, 1] to maps [N, 1, H, W] in [0, 1], 1 where something stands out."""

    def __call__(self, images: torch.Tensor) -> torch.Tensor: ...


class HasSaliency(Protocol):
    """Any set of models with a saliency model in it."""

    @property
    def saliency(self) -> Saliency: ...


def cut_out(
    img: Image.Image,
    models: HasSaliency,
    *,
    name: str = "the picture",
    remover: Remover = "saliency",
    cutting: Cutting = Cutting(),
) -> Image.Image:
    """The product as RGBA. A cut-out stays as it is; from a photograph the background is removed.

    An alpha channel that hides nothing counts as none. The saliency model is loaded only for a photograph; a
    very large one gives a smaller cut-out (`Cutting.largest`). Raises BadInput, with `name` in it, when the picture is
    fully transparent or nothing in it stands out.
    """
    if is_cut_out(img):
        return img
    if fully_transparent(img):
        raise BadInput(
            f"{name} is fully transparent, so there is no product to keep. "
            "Use a cut-out with visible pixels, or a photograph without alpha."
        )
    rgb = shrunk(img.convert("RGB"), cutting.largest)
    if remover == "rembg":
        return _by_rembg(rgb)
    pixels = np.asarray(rgb)
    saliency = models.saliency
    alpha = refine(pixels, saliency_map(rgb, saliency, own_side(saliency) or cutting.look), cutting, name)
    return Image.fromarray(np.dstack([without_halo(pixels, alpha), (alpha * 255).round().astype(np.uint8)]), "RGBA")


def is_cut_out(img: Image.Image) -> bool:
    """Whether the alpha channel separates something visible (alpha >= 0.5) from something hidden (below)."""
    return _hides(img) and not fully_transparent(img)


def fully_transparent(img: Image.Image) -> bool:
    """Whether no pixel has alpha >= 0.5."""
    return img.mode == "RGBA" and int(np.asarray(img.getchannel("A")).max()) < 128


def _hides(img: Image.Image) -> bool:
    return img.mode == "RGBA" and int(np.asarray(img.getchannel("A")).min()) < 128


def own_side(saliency: Saliency) -> int | None:
    """The longer side of the pictures that a saliency model was made for, if it says so."""
    size = getattr(saliency, "size", None) or getattr(getattr(saliency, "pixels", None), "size", None)
    return max(size) if size else None


def saliency_map(rgb: Image.Image, saliency: Saliency, side: int) -> Alpha:
    """The saliency of a picture at a long side of at most `side` pixels."""
    width, height = within(rgb.size, side)
    with torch.no_grad():
        found = saliency(to_tensor(rgb.resize((width, height), Image.Resampling.BOX))[None])
    return found[0, 0].float().cpu().numpy()


def refine(pixels: Pixels, saliency: Float[np.ndarray, "h w"], cutting: Cutting, name: str) -> Alpha:
    """A full-resolution alpha in [0, 1] from a picture and its soft, small saliency map."""
    height, width = pixels.shape[:2]
    small = within((width, height), cutting.work)
    picture = cv2.resize(pixels, small, interpolation=cv2.INTER_AREA)
    map_ = np.clip(cv2.resize(saliency, small, interpolation=cv2.INTER_LINEAR), 0, 1)
    level = float(np.clip(cutting.mean_times * map_.mean(), cutting.lowest, cutting.stands_out))
    found = largest_parts((map_ >= level) & (map_.max() >= cutting.stands_out), cutting.companion)
    _refuse(found, cutting, name)
    border = with_holes_filled(largest_parts(_grabcut(picture, map_, found, cutting), cutting.companion), picture)
    alpha = guided_filter(picture, border.astype(np.float32), pixels, cutting.radius, cutting.epsilon)
    return np.clip((alpha - 0.2) / 0.6, 0, 1)


def _refuse(found: Bool[np.ndarray, "h w"], cutting: Cutting, name: str) -> None:
    share = float(found.mean())
    what = "nothing" if share < cutting.least else "no single thing" if share > cutting.most else None
    if what:
        raise BadInput(
            f"{name} has no transparent background, and {what} in it stands out to be cut out. "
            "Use a cut-out with a transparent background, or a photograph of the product on a plain one."
        )


def largest_parts(mask: Bool[np.ndarray, "h w"], companion: float) -> Bool[np.ndarray, "h w"]:
    """The largest connected part of a mask and every part with at least `companion` of its area."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    if count <= 1:
        return np.zeros_like(mask)
    areas = stats[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    return (areas >= max(1, companion * areas.max()))[labels]


def _grabcut(
    picture: Pixels, saliency: Float[np.ndarray, "h w"], found: Bool[np.ndarray, "h w"], cutting: Cutting
) -> Bool[np.ndarray, "h w"]:
    """GrabCut (Rother et al. 2004) started from the saliency map; the map's own mask where the two part."""
    mask = np.where(found, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    mask[found & (saliency >= cutting.sure)] = cv2.GC_FGD
    reach = max(3, cutting.work // 20) | 1
    near = cv2.dilate(found.astype(np.uint8), np.ones((reach, reach), np.uint8)) > 0
    mask[~near & (saliency < 1 - cutting.sure)] = cv2.GC_BGD
    kinds = set(np.unique(mask).tolist())
    if not kinds & {cv2.GC_BGD, cv2.GC_PR_BGD} or min(picture.shape[:2]) < 4:
        return found
    cv2.setRNGSeed(0)
    cv2.grabCut(
        picture[..., ::-1].copy(), mask, (0, 0, 1, 1), np.zeros((1, 65)), np.zeros((1, 65)), 3, cv2.GC_INIT_WITH_MASK
    )
    cut = (mask == cv2.GC_FGD) | (mask == cv2.GC_PR_FGD)
    overlap = (cut & found).sum() / max(1, (cut | found).sum())
    return cut if overlap >= 0.5 else found


def with_holes_filled(mask: Bool[np.ndarray, "h w"], picture: Pixels) -> Bool[np.ndarray, "h w"]:
    """Fills what the mask encloses, unless it has the colour of the background: a clock's face is no hole, a handle is.

    A hole is filled if its mean colour (CIE Lab) is farther from the background's mean than twice the background's
    spread, and 15 more: on a plain ground nearly always right, on a busy one nearly never done (ours).
    """
    lab = cv2.cvtColor(picture, cv2.COLOR_RGB2LAB).astype(np.float32)
    padded = np.pad(~mask, 1, constant_values=True).astype(np.uint8)
    count, labels = cv2.connectedComponents(padded, connectivity=4)
    outside = labels[0, 0]
    labels = labels[1:-1, 1:-1]
    ground = lab[labels == outside]
    if not len(ground):
        return mask
    centre = ground.mean(0)
    spread = float(np.linalg.norm(ground - centre, axis=1).mean())
    filled = mask.copy()
    for number in range(1, count):
        hole = (labels == number) & ~mask
        if number != outside and hole.any() and np.linalg.norm(lab[hole].mean(0) - centre) > 2 * spread + 15:
            filled |= hole
    return filled


def guided_filter(guide: Pixels, mask: Alpha, fine: Pixels, radius: int, epsilon: float) -> Alpha:
    """The mask with its edges laid along those of the picture (He et al. 2013, grey guide; 2015 for the upsampling).

    guide, mask: picture and mask at the working size. fine: the picture at full size. Returns [H, W] at full size.
    """
    box = (2 * radius + 1, 2 * radius + 1)
    grey = cv2.cvtColor(guide, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    mean_grey, mean_mask = cv2.blur(grey, box), cv2.blur(mask, box)
    covariance = cv2.blur(grey * mask, box) - mean_grey * mean_mask
    variance = cv2.blur(grey * grey, box) - mean_grey**2
    slope = covariance / (variance + epsilon)
    offset = mean_mask - slope * mean_grey
    size = (fine.shape[1], fine.shape[0])
    slope = cv2.resize(cv2.blur(slope, box), size, interpolation=cv2.INTER_LINEAR)
    offset = cv2.resize(cv2.blur(offset, box), size, interpolation=cv2.INTER_LINEAR)
    return slope * (cv2.cvtColor(fine, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255) + offset


def without_halo(pixels: Pixels, alpha: Alpha) -> Pixels:
    """The product's own colours at its soft edge: C = aF + (1-a)B solved for F (blur fusion, Forte 2021)."""
    picture = pixels.astype(np.float32)
    weight = alpha.astype(np.float32)[..., None]
    side = max(3, max(alpha.shape) // 60) | 1
    front = _mean(picture, weight, side)
    back = _mean(picture, 1 - weight, side)
    solved = front + weight * (picture - weight * front - (1 - weight) * back)
    own = np.where(weight >= 0.99, picture, solved)
    return np.clip(own, 0, 255).round().astype(np.uint8)


def _mean(picture: np.ndarray, weight: np.ndarray, side: int) -> np.ndarray:
    """The mean colour [H, W, 3] around each pixel, by weight [H, W, 1]."""
    total = cv2.blur(picture * weight, (side, side))
    return total / (cv2.blur(weight, (side, side))[..., None] + 1e-5)


def _by_rembg(rgb: Image.Image) -> Image.Image:
    if importlib.util.find_spec("rembg") is None:
        raise BadInput("rembg is not installed. Run `pip install goodeye[cutout]`, or let the saliency model cut out.")
    import rembg

    return rembg.remove(rgb, session=_rembg_session()).convert("RGBA")


@functools.cache
def _rembg_session() -> Any:
    """rembg's default model, loaded once; without a session it loads it again for each picture."""
    import rembg

    return rembg.new_session()
