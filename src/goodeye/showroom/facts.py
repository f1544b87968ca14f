"""The facts reader: a small network that reads from a picture's pixels where it was taken and what stands in it.

It is the oracle's eye (`goodeye.showroom.oracle`) and serves nothing else: it learns from a world of its own (seed 31),
from none of the house's models, and nothing is ever trained with it. It reads facts, not labels: in its world the
horizon and the reference thing are drawn without regard to the product, so it cannot guess a fact from a fault.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedConfig, PreTrainedModel
from transformers import initialization as init

from goodeye.showroom import scenes as S
from goodeye.showroom.places import LIGHTS, PLACES, WALLS

SIZE = 128  # pixels a side of what the reader looks at
GRID = 32  # cells a side of the map of extensions
NOWHERE = "nowhere"  # a background in which no place can be recognised
PLACE_NAMES = (*PLACES, NOWHERE)
WALL_NAMES = tuple(WALLS)
LIGHT_NAMES = tuple(LIGHTS)
REFERENCE_NAMES = ("none", *S.REFERENCES)
HORIZON = (0.26, 0.98)  # of the canvas, from the top
HEIGHT = (0.08, 0.60)  # of reference things, canvas widths; its bins are equal in the logarithm
UNKNOWN = -100  # a fact that a picture does not show: it teaches nothing


class FactsConfig(PreTrainedConfig):
    """Sizes of the facts reader (ours)."""

    model_type = "goodeye_facts"

    widths: tuple[int, ...] = (16, 32, 64, 96)  # of the stages at 64, 32, 16 and 8 cells a side
    blocks: tuple[int, ...] = (1, 2, 2, 2)
    horizon_bins: int = 48
    height_bins: int = 24


@dataclass(frozen=True)
class Facts:
    """What was read, as logits: horizon [N,48], place [N,9], wall [N,7], light [N,4], reference [N,5], its height
    [N,24], and the extension [N,32,32]: for each cell, whether something grows from the product there."""

    horizon: Tensor
    place: Tensor
    wall: Tensor
    light: Tensor
    reference: Tensor
    height: Tensor
    extension: Tensor


class Block(nn.Module):
    """A residual block of two 3x3 convolutions (He et al. 2016), its first one strided where it shrinks the map."""

    def __init__(self, before: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, width, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(width)
        same = stride == 1 and before == width
        self.skip = nn.Identity() if same else nn.Conv2d(before, width, stride, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.first_norm(self.first(x)))
        return F.relu(self.second_norm(self.second(y)) + self.skip(x))


class FactsReader(PreTrainedModel):
    """Picture and product mask -> facts. Saves and loads as any transformers model does."""

    config_class = FactsConfig
    main_input_name = "pixels"

    def __init__(self, config: FactsConfig) -> None:
        super().__init__(config)
        w = config.widths
        self.stem = nn.Sequential(nn.Conv2d(4, w[0], 5, 2, 2, bias=False), nn.BatchNorm2d(w[0]), nn.ReLU())
        stages = []
        for level, (width, count) in enumerate(zip(w, config.blocks, strict=True)):
            before = w[max(0, level - 1)]
            first = Block(before, width, 1 if level == 0 else 2)
            stages.append(nn.Sequential(first, *(Block(width, width) for _ in range(count - 1))))
        self.stages = nn.ModuleList(stages)
        self.row_norm = nn.BatchNorm1d(2 * (w[2] + w[3]))
        self.rows = nn.Sequential(
            nn.Conv1d(2 * (w[2] + w[3]), 64, 3, padding=1), nn.ReLU(), nn.Conv1d(64, 16, 3, padding=1)
        )
        self.horizon = nn.Linear(16 * 16, config.horizon_bins)
        outputs = (len(PLACE_NAMES), len(WALL_NAMES), len(LIGHT_NAMES), len(REFERENCE_NAMES), config.height_bins)
        self.pooled_norm = nn.BatchNorm1d(2 * sum(w))
        self.hidden = nn.Linear(2 * sum(w), 128)
        self.facts = nn.Linear(128, sum(outputs))
        self.outputs = outputs
        self.lateral = nn.ModuleList(nn.Conv2d(width, 32, 1) for width in w[1:])
        self.extension = nn.Sequential(nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 1, 1))
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Linear)):  # He et al. 2015; the library's 0.02 learns slowly
            init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, pixels: Float[Tensor, "N 3 128 128"], mask: Float[Tensor, "N 1 128 128"]) -> Facts:
        """pixels: RGB in [0,1]; mask: the product's alpha on the same canvas."""
        x = self.stem(torch.cat([pixels, mask], 1) * 2 - 1)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        wide = F.interpolate(maps[3], scale_factor=2.0)
        both = torch.cat([maps[2], wide], 1)
        rows = self.rows(self.row_norm(torch.cat([both.mean(3), both.amax(3)], 1)))
        pooled = torch.cat([pool(m) for m in maps for pool in (_mean, _peak)], 1)  # colours early, things late
        hidden = F.relu(self.hidden(self.pooled_norm(pooled)))
        place, wall, light, reference, height = self.facts(hidden).split(self.outputs, 1)
        return Facts(self.horizon(rows.flatten(1)), place, wall, light, reference, height, self._grown(maps))

    def _grown(self, maps: Sequence[Tensor]) -> Tensor:
        """The map of extensions [N,32,32], from coarse to fine."""
        parts = [lateral(m) for lateral, m in zip(self.lateral, maps[1:], strict=True)]
        coarse = F.interpolate(parts[2], scale_factor=2.0) + parts[1]
        return self.extension(F.relu(F.interpolate(coarse, scale_factor=2.0) + parts[0]))[:, 0]


def _mean(x: Tensor) -> Tensor:
    return x.mean((2, 3))


def _peak(x: Tensor) -> Tensor:
    return x.amax((2, 3))


def horizon_bins(count: int) -> Tensor:
    """The heights [count] for which the horizon's logits stand, in canvas widths from the top."""
    low, high = HORIZON
    return low + (torch.arange(count) + 0.5) * (high - low) / count


def height_bins(count: int) -> Tensor:
    """The natural logarithms [count] of the reference heights for which its logits stand."""
    low, high = math.log(HEIGHT[0]), math.log(HEIGHT[1])
    return low + (torch.arange(count) + 0.5) * (high - low) / count


def soft_bins(value: Tensor, bins: Tensor, spread: float = 1.0) -> Tensor:
    """Targets [N,B] around values [N]: a bell over the bins, `spread` of them wide; NaN gives zeros (unknown)."""
    step = bins[1] - bins[0]
    bell = torch.exp(-0.5 * ((bins[None] - value[:, None]) / (spread * step)).square())
    total = bell.sum(1, keepdim=True).clamp(min=1e-6)
    return torch.nan_to_num(bell / total)


@dataclass(frozen=True)
class Truth:
    """The facts of N pictures. Numbers of names; UNKNOWN or NaN where a picture does not show a fact."""

    horizon: Float[Tensor, " N"]
    place: Int[Tensor, " N"]
    wall: Int[Tensor, " N"]
    light: Int[Tensor, " N"]
    reference: Int[Tensor, " N"]
    height: Float[Tensor, " N"]


def truth(scenes: Sequence[S.Scene]) -> Truth:
    """The facts of scenes. The wall counts where a place has a choice of them and is not washed over."""

    def numbers(names: Sequence[int]) -> Tensor:
        return torch.tensor(names, dtype=torch.long)

    faint = [s.defect == "indistinctiveness" for s in scenes]
    walls = [
        UNKNOWN if f or len(PLACES[s.place].walls) == 1 else WALL_NAMES.index(s.wall)
        for s, f in zip(scenes, faint, strict=True)
    ]
    return Truth(
        horizon=torch.tensor([s.horizon for s in scenes]),
        place=numbers([PLACE_NAMES.index(s.place) for s in scenes]),
        wall=numbers(walls),
        light=numbers([UNKNOWN if f else LIGHT_NAMES.index(s.light) for s, f in zip(scenes, faint, strict=True)]),
        reference=numbers([REFERENCE_NAMES.index(s.reference or "none") for s in scenes]),
        height=torch.tensor([s.reference_height or math.nan for s in scenes]),
    )


def draw_scenes(seed: int, count: int) -> list[S.Scene]:
    """Scenes to learn facts from: extensions often, and in half of them horizon and reference thing as chance wills."""
    common = (*S.CLASSES, "shape_hallucination", "shape_hallucination")
    out = []
    for i in range(count):
        scene, rng = S.sample(seed, i, common), np.random.default_rng((seed, i, 7))
        if rng.random() < 0.5:
            scene = replace(scene, horizon=float(rng.uniform(0.3, 0.94)))
        if rng.random() < 0.6:
            name = str(rng.choice(["", *S.REFERENCES], p=[0.2, 0.2, 0.2, 0.2, 0.2]))
            height = float(np.exp(rng.uniform(np.log(0.11), np.log(0.5)))) if name else 0.0
            scene = replace(scene, reference=name, reference_height=height)
        out.append(scene)
    return out
