"""What a picture's pixels say by fixed rules: how far a product stands out, and beauty. Nothing here is trained."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

LUMA = (0.299, 0.587, 0.114)


def luma(rgb: Tensor) -> Tensor:
    """Brightness [N,H,W] of rgb [N,3,H,W] (Rec. 601)."""
    return LUMA[0] * rgb[:, 0] + LUMA[1] * rgb[:, 1] + LUMA[2] * rgb[:, 2]


def grow(mask: Tensor, pixels: int) -> Tensor:
    """A mask [N,H,W] in {0,1} grown by `pixels` on every side."""
    for dim in (1, 2):
        pad = (0, 0, pixels, pixels) if dim == 1 else (pixels, pixels)
        mask = _greatest(F.pad(mask, pad), 2 * pixels + 1, dim)
    return mask


def _greatest(x: Tensor, width: int, dim: int) -> Tensor:
    """The greatest value in each window of `width` along `dim`, which shortens by width - 1; in log2(width) steps."""
    reach = 1  # x holds the greatest of so many neighbours
    while reach < width:
        step = min(reach, width - reach)
        left = x.shape[dim] - step
        x = torch.maximum(x.narrow(dim, 0, left), x.narrow(dim, step, left))
        reach += step
    return x


RING = (0.01, 0.045)  # where the ring around a product begins and ends, canvas widths outside of it


def ring_distance(
    image: Tensor, product: Tensor, alpha: Tensor, ring: tuple[float, float] = RING
) -> tuple[Tensor, Tensor]:
    """How unlike the surroundings are the product's edge, pixel by pixel.

    image, product: rgb [N,3,H,W]; alpha [N,1,H,W]. Returns the distance [N,H,W] between each pixel and the product's
    mean colour nearby (Euclidean in rgb, 0 to 1.73), and the ring [N,H,W] on which it counts.
    """
    size = image.shape[-1]
    solid = (alpha[:, 0] > 0.5).float()
    near, wide = max(1, round(ring[0] * size)), max(2, round(ring[1] * size))
    around = grow(solid, wide) - grow(solid, near)
    reach = 2 * wide + 1
    inside = torch.cat([product * solid[:, None], solid[:, None]], 1)
    local = box(inside, reach)
    colour = local[:, :3] / local[:, 3:].clamp(min=1e-4)
    return (image - colour).square().sum(1).clamp(min=1e-12).sqrt(), around


def contrast(image: Tensor, product: Tensor, alpha: Tensor, ring: tuple[float, float] = RING) -> Tensor:
    """How well the product stands out, [N]: the ring's distances, the mean over their lower half (a product that
    vanishes along half of its outline is hard to see, however bright the rest)."""
    distance, around = ring_distance(image, product, alpha, ring)
    out = []
    for d, r in zip(distance, around, strict=True):
        values = d[r > 0].sort().values
        out.append(values[: max(1, len(values) // 2)].mean() if len(values) else d.new_zeros(()))
    return torch.stack(out)


def box(x: Tensor, radius: int) -> Tensor:
    """Mean over windows of 2·radius+1 pixels, edges repeated; its cost does not grow with the radius. x [N,C,H,W]."""
    width = 2 * radius + 1
    for dim in (2, 3):
        pad = (0, 0, radius + 1, radius) if dim == 2 else (radius + 1, radius, 0, 0)
        sums = F.pad(x, pad, mode="replicate").cumsum(dim)
        size = x.shape[dim]
        x = (sums.narrow(dim, width, size) - sums.narrow(dim, 0, size)) / width
    return x


def blur(x: Tensor, radius: int) -> Tensor:
    """Two box means of 2·radius+1 pixels, edges repeated. x [N,C,H,W]."""
    return box(box(x, radius), radius)


def beauty_parts(image: Tensor, mask: Tensor, clutter: Tensor) -> dict[str, Tensor]:
    """The five named parts of beauty, each [N] in [0,1] (ours).

    image [N,3,H,W]; mask [N,H,W] of what the picture is about; clutter [N] = how many things stand about.

    - harmony: how near the hues of the picture (weighted by their chroma) come to one hue or to a complementary pair:
      the larger of the resultant lengths of hue angles counted once and twice.
    - exposure: mean brightness near 0.55 (a fall of 0.4 costs all) times the share of pixels that are not clipped.
    - composition: how near the subject's centre is to the middle or to a crossing of thirds.
    - clutter: 1 with up to two other things, 0 with eight or more.
    - sharpness: size of the Laplacian in the sharpest tenth of the picture, full at a mean of 0.25.
    """
    n, _, h, w = image.shape
    light = luma(image)
    a, b = image[:, 0] - image[:, 1], (image[:, 0] + image[:, 1]) / 2 - image[:, 2]
    hue, chroma = torch.atan2(b, a), (a * a + b * b).sqrt()
    total = chroma.sum((1, 2)).clamp(min=1e-3)

    def resultant(times: int) -> Tensor:
        x, y = (chroma * torch.cos(times * hue)).sum((1, 2)), (chroma * torch.sin(times * hue)).sum((1, 2))
        return (x * x + y * y).sqrt() / total

    harmony = torch.maximum(resultant(1), resultant(2)).clamp(0, 1)
    clipped = ((light > 0.985) | (light < 0.015)).float().mean((1, 2))
    exposure = (1 - ((light.mean((1, 2)) - 0.55).abs() / 0.4)).clamp(0, 1) * (1 - clipped)
    xs = (torch.arange(w, device=image.device) + 0.5) / w
    ys = (torch.arange(h, device=image.device) + 0.5) / h
    weight = mask.float() + 1e-6
    cx = (weight * xs[None, None]).sum((1, 2)) / weight.sum((1, 2))
    cy = (weight * ys[None, :, None]).sum((1, 2)) / weight.sum((1, 2))
    spots = [(0.5, 0.55), *((u, v) for u in (1 / 3, 2 / 3) for v in (1 / 3, 2 / 3))]
    miss = torch.stack([((cx - u) ** 2 + (cy - v) ** 2).sqrt() for u, v in spots]).amin(0)
    composition = (1 - miss / 0.3).clamp(0, 1)
    kernel = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]], device=image.device)[None, None]
    edges = F.conv2d(light[:, None], kernel).abs().flatten(1)
    top = edges.topk(max(1, edges.shape[1] // 10), dim=1).values
    return {
        "harmony": harmony,
        "exposure": exposure,
        "composition": composition,
        "clutter": (1 - (clutter.float() - 2) / 6).clamp(0, 1),
        "sharpness": (top.mean(1) / 0.25).clamp(0, 1),
    }


WEIGHTS = {"harmony": 0.3, "exposure": 0.25, "composition": 0.15, "clutter": 0.15, "sharpness": 0.15}


def beauty(parts: dict[str, Tensor]) -> Tensor:
    """The weighted mean of the five parts, [N] in [0,1] (weights: `WEIGHTS`, ours)."""
    return torch.stack([parts[k] * w for k, w in WEIGHTS.items()]).sum(0)
