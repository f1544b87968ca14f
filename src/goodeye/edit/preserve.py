"""Pixels outside the edited region: how much of what was not to change did change (L1, PSNR, SSIM).

Reward training tends to lose it while the judge's scores rise, so it is measured beside them, wherever a mask is known.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from goodeye.edit.triplets import opaque
from goodeye.errors import BadInput
from goodeye.images import to_tensor

WINDOW, SIGMA = 11, 1.5  # of SSIM (Wang et al. 2004)
C1, C2 = 0.01**2, 0.03**2


@dataclass(frozen=True)
class Preserved:
    """l1: mean absolute difference of values in [0, 1]; mse: mean squared; ssim: 1 where nothing changed, NaN where no
    window's middle lies outside the mask.

    All over the pixels outside the mask. share: of the picture that they are.
    """

    l1: float
    mse: float
    ssim: float
    share: float

    @property
    def psnr(self) -> float:
        """In decibels; infinite where nothing changed."""
        return psnr(self.mse)


def psnr(mse: float) -> float:
    """10 log10(1 / mse)."""
    return -10 * math.log10(mse) if mse > 0 else math.inf


def preserved(original: Float[Tensor, "3 H W"], edited: Float[Tensor, "3 H W"], mask: Bool[Tensor, "H W"]) -> Preserved:
    """original, edited: in [0, 1]. mask: true where the edit may change something.

    What the edit did within the mask does not count at all: for SSIM, whose windows reach over its edge, the original
    stands there in both. Raises ValueError for other shapes and where nothing is outside.
    """
    if original.shape != edited.shape or original.shape[1:] != mask.shape or len(original) != 3:
        raise ValueError(f"shapes differ: {list(original.shape)}, {list(edited.shape)}, {list(mask.shape)}")
    if min(mask.shape) < WINDOW or bool(mask.all()):
        raise ValueError("there is nothing outside the edited region, or the picture is smaller than 11 pixels")
    outside = ~mask
    apart = (original - torch.where(mask, original, edited)).double()[:, outside]
    rim = WINDOW // 2
    inner = outside[rim:-rim, rim:-rim]
    alike = ssim_map(original, torch.where(mask, original, edited))[:, inner]
    return Preserved(
        l1=float(apart.abs().mean()),
        mse=float(apart.square().mean()),
        ssim=float(alike.mean()) if inner.any() else math.nan,
        share=float(outside.double().mean()),
    )


def ssim_map(a: Float[Tensor, "C H W"], b: Float[Tensor, "C H W"]) -> Float[Tensor, "C h w"]:
    """Structural similarity of each channel where the whole window fits: h = H - 10, w = W - 10 (Wang et al. 2004, eq.
    13), with a Gaussian window of 11 pixels and standard deviation 1.5, for values in [0, 1]."""
    at = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    line = torch.exp(-at.square() / (2 * SIGMA**2))
    line = line / line.sum()

    def mean(x: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(x[:, None], line.view(1, 1, 1, -1)), line.view(1, 1, -1, 1))[:, 0]

    a, b = a.double().cpu(), b.double().cpu()
    mean_a, mean_b = mean(a), mean(b)
    var_a, var_b, both = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2, mean(a * b) - mean_a * mean_b
    top = (2 * mean_a * mean_b + C1) * (2 * both + C2)
    return top / ((mean_a**2 + mean_b**2 + C1) * (var_a + var_b + C2))


def preserved_of(original: Image.Image, edited: Image.Image, mask: Image.Image) -> Preserved:
    """Of pictures; the edited one and the mask (white: may change) are brought to the original's size.

    Raises BadInput where nothing is outside the mask.
    """
    size = original.size
    edited = edited if edited.size == size else edited.resize(size, Image.Resampling.LANCZOS)
    grey = mask.convert("L") if mask.size == size else mask.convert("L").resize(size, Image.Resampling.NEAREST)
    try:
        return preserved(to_tensor(opaque(original)), to_tensor(opaque(edited)), to_tensor(grey)[0] >= 0.5)
    except ValueError as error:
        raise BadInput(f"pixels outside the mask cannot be compared: {error}. Give another mask.") from error


def pooled(found: Sequence[Preserved]) -> dict[str, float | None]:
    """Means over pictures; PSNR of the mean squared error, None where nothing changed anywhere; SSIM of the pictures
    that have one, None where none has."""
    count, alike = len(found), [one.ssim for one in found if not math.isnan(one.ssim)]
    decibels = psnr(sum(one.mse for one in found) / count)
    return {
        "l1": sum(one.l1 for one in found) / count,
        "psnr": decibels if math.isfinite(decibels) else None,
        "ssim": sum(alike) / len(alike) if alike else None,
    }
