"""What a careful person would write under a scene, and scenes on both sides of the lines.

A scene of `goodeye.showroom.scenes` is plainly good or plainly bad. Generated pictures are not: a cup is half as large
again as it should be, a shelf ends just under the product. So RFNet also learns from scenes whose facts are drawn
without regard to any fault, and which a written guideline calls good or bad by those facts, as labelling teams work.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from goodeye.showroom import scenes as S
from goodeye.showroom.places import PLACES
from goodeye.showroom.products import fitted

# The guideline. A place must carry the product, and:
SIZE_RATIO = 1.6  # a thing of known size is at most so many times too large or too small
CONTRAST = 0.2  # the product stands out by at least this (looks.contrast)
GROWN = 0.04  # what grows from the product has at most this share of its area

CELLS = 24  # a side of the maps of what grows and of what stands beside
REFERENCES = ("none", *S.REFERENCES)


@dataclass(frozen=True)
class Facts:
    """The true facts of N scenes: what the guideline looks at, and what else is worth knowing of a picture.

    sunk: how far the horizon lies under the product's base, canvas widths (negative: above it). ratio: logarithm of the
    thing's height over its true one, height: in canvas widths; NaN without a thing. length: logarithm of the product's
    longer side in life, centimetres. reference: index into REFERENCES.
    place: index into PLACES, or their number where no place is left. grown: area of an extension over the product's.
    extension, thing: share of each cell that they cover, times 255.
    """

    sunk: Tensor  # [N]
    ratio: Tensor  # [N]
    height: Tensor  # [N]
    length: Tensor  # [N]
    contrast: Tensor  # [N]
    grown: Tensor  # [N]
    reference: Tensor  # [N], integers
    place: Tensor  # [N], integers
    extension: Tensor  # [N,1,CELLS,CELLS] uint8
    thing: Tensor  # [N,1,CELLS,CELLS] uint8

    def tensors(self) -> dict[str, Tensor]:
        """By name."""
        return dict(vars(self))


def labels(facts: Facts) -> Tensor:
    """The guideline: for each scene the index into `scenes.CLASSES` [N]. Where several faults hold, the one that hides
    the others: a product that cannot be seen, then a place that does not carry it, then what grows from it."""
    found = torch.zeros(len(facts.sunk), dtype=torch.long)
    for name, holds in (
        ("size_mismatch", facts.ratio.abs() > math.log(SIZE_RATIO)),
        ("shape_hallucination", facts.grown > GROWN),
        ("space_mismatch", (facts.sunk > 0) | (facts.place == len(PLACES))),
        ("indistinctiveness", facts.contrast < CONTRAST),
    ):
        found[holds] = S.CLASSES.index(name)
    return found


def facts_of(made: S.Render, lost: Tensor | None = None) -> Facts:
    """The facts of rendered scenes; `lost` [N]: whose place was taken away afterwards."""
    scenes = made.scenes
    base = [0.5 + fitted(s.product, s.scale)[2] for s in scenes]
    true = [S.REFERENCES[s.reference] * s.scale / s.product.centimetres if s.reference else math.nan for s in scenes]
    height = torch.tensor([s.reference_height if s.reference else math.nan for s in scenes])
    extension, thing = (made.obj == S.EXTENSION).float(), (made.obj == S.REFERENCE).float()
    place = torch.tensor([list(PLACES).index(s.place) for s in scenes])
    return Facts(
        sunk=torch.tensor([s.horizon - b for s, b in zip(scenes, base, strict=True)]),
        ratio=(height / torch.tensor(true)).log(),
        height=height,
        length=torch.tensor([s.product.centimetres for s in scenes]).log(),
        contrast=made.contrast,
        grown=extension.sum((1, 2)) / (made.obj == S.PRODUCT).float().sum((1, 2)).clamp(min=1),
        reference=torch.tensor([REFERENCES.index(s.reference or "none") for s in scenes]),
        place=place if lost is None else place.masked_fill(lost, len(PLACES)),
        extension=_cells(extension),
        thing=_cells(thing),
    )


def _cells(mask: Tensor) -> Tensor:
    return (F.adaptive_avg_pool2d(mask[:, None], CELLS) * 255).round().byte()


def borderline(seed: int, count: int, own: float = 0.0) -> list[S.Scene]:
    """Scenes whose horizon and thing beside the product are often drawn without regard to any fault, so that they lie
    near the guideline's lines as often as far from them. own: see `scenes.sample`."""
    out = []
    for i in range(count):
        rng = np.random.default_rng((seed, i, 11))
        scene = S.sample(seed, i, S.CLASSES[:1] if rng.random() < 0.5 else S.CLASSES[1:], own=own)
        base = 0.5 + fitted(scene.product, scene.scale)[2]
        if rng.random() < 0.4:
            scene = replace(scene, horizon=float(np.clip(base + rng.uniform(-0.25, 0.2), 0.3, 0.94)))
        if rng.random() < 0.45:
            scene = _other_size(scene, rng)
        if scene.defect in ("available", "space_mismatch", "size_mismatch"):  # shadows are drawn by whether it floats
            scene = replace(scene, defect="space_mismatch" if scene.horizon > base else "available")
        out.append(scene)
    return out


def _other_size(scene: S.Scene, rng: np.random.Generator) -> S.Scene:
    """A thing beside the product, up to three times too small or too large."""
    options = []
    for name, centimetres in S.REFERENCES.items():
        true = centimetres * scene.scale / scene.product.centimetres
        low, high = max(0.1, true / 3), min(0.5, true * 3)
        if low < 0.8 * high:
            options.append((name, low, high))
    if not options:
        return scene
    name, low, high = options[rng.integers(len(options))]
    return replace(scene, reference=name, reference_height=float(np.exp(rng.uniform(np.log(low), np.log(high)))))
