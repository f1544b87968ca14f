"""Draws any layout by the renderer, with faults of known kinds if asked: a generator of layouts whose truth is known.

So all of synth can be tried without a trained generator, and what its scores reject can be held against what is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from goodeye.diffusion.batch import attempt_seed
from goodeye.errors import BadInput
from goodeye.showroom import layouts as L
from goodeye.showroom.places import LIGHTS, PLACES
from goodeye.showroom.products import COLOURS, VARIANTS
from goodeye.synth.layout import Box, Layout, Thing
from goodeye.synth.masks import Mask, Masker

Fault = Literal["category", "colour", "missing", "moved"]
FAULTS: tuple[Fault, ...] = ("category", "colour", "missing", "moved")


@dataclass(frozen=True, kw_only=True)
class Painted:
    """The facts of one picture. items: by the thing's place in the layout; a missing one is not there. faults: what is
    wrong with which thing."""

    arrangement: L.Arrangement
    places: tuple[int, ...]
    faults: dict[int, Fault]


def painted(layout: Layout, seed: int, faults: float = 0.0) -> Painted:
    """What the renderer is to draw of a layout. Place, light and what the layout leaves open are drawn by the seed.

    faults: the share of things with which something is wrong, each kind as often. Raises BadInput for a category that
    the showroom has not.
    """
    random = np.random.default_rng((seed, 8))
    place = str(random.choice(list(PLACES)))
    horizon = float(random.uniform(0.32, 0.45))
    made: dict[int, L.Item] = {}
    wrong: dict[int, Fault] = {}
    for at, thing in enumerate(layout.things):
        item = _item(thing, horizon, random)
        if random.random() < faults:
            wrong[at] = FAULTS[int(random.integers(len(FAULTS)))]
            item = _spoiled(item, wrong[at], random)
        if wrong.get(at) != "missing":
            made[at] = item
    number = {thing.key: at for at, thing in enumerate(layout.things)}
    for one in layout.relations:  # what stands on something is drawn in front of it
        subject, other = number[one.subject], number[one.object]
        if one.relation == "on" and subject in made and other in made:
            made[subject] = replace(made[subject], depth=made[other].depth + 0.001)
    arrangement = L.Arrangement(
        items=tuple(made.values()), relations=(), place=place,
        wall=str(random.choice(list(PLACES[place].walls))), light=str(random.choice(list(LIGHTS))), horizon=horizon,
        seed=int(random.integers(2**31)),
    )  # fmt: skip
    return Painted(arrangement=arrangement, places=tuple(made), faults=wrong)


def _item(thing: Thing, horizon: float, random: np.random.Generator) -> L.Item:
    if thing.category not in L.CATEGORIES:
        raise BadInput(f"the showroom has no {thing.category} to draw. It has {', '.join(L.CATEGORIES)}.")
    known = [word for word in thing.attributes if word in COLOURS]
    colour, variant = known[0] if known else str(random.choice(list(COLOURS))), float(random.choice(VARIANTS))
    return _placed(thing.category, colour, variant, thing.box, horizon)


def _placed(category: str, colour: str, variant: float, box: Box, horizon: float) -> L.Item:
    """A thing of the box's area that stands on the middle of its lower edge."""
    x, y, width, height = box
    one = L.Item(category=category, colour=colour, variant=variant, x=0.5, foot=1.0, scale=1.0, depth=0.5)
    scale = math.sqrt(width * height / math.prod(one.sides()))
    foot = y + height
    return replace(one, x=x + width / 2, foot=foot, scale=scale, depth=L.near(foot, horizon))


def _spoiled(item: L.Item, fault: Fault, random: np.random.Generator) -> L.Item:
    if fault == "category":
        other = str(random.choice([name for name in L.CATEGORIES if name != item.category]))
        return _placed(other, item.colour, item.variant, item.whole(), 0.4)
    if fault == "colour":
        return replace(item, colour=str(random.choice([name for name in COLOURS if name != item.colour])))
    if fault == "moved":  # by more than its own width, into the frame
        width, _ = item.sides()
        reach = [x for x in (item.x - 1.6 * width, item.x + 1.6 * width) if width / 2 < x < 1 - width / 2]
        x = reach[int(random.integers(len(reach)))] if reach else 1 - item.x
        return replace(item, x=float(x))
    return item


@dataclass(frozen=True, kw_only=True)
class Painter:
    """The renderer as a `Draw` of synth. faults: see `painted`."""

    faults: float = 0.0
    size: int = 128

    def __post_init__(self) -> None:
        if not 0 <= self.faults <= 1:
            raise BadInput(f"the share of faults is {self.faults:g}. Give 0 to 1.")

    def __call__(self, layouts: Sequence[Layout], seeds: Sequence[int]) -> Tensor:
        """[N, 3, H, W] in [0, 1]."""
        return (self.render(layouts, seeds).image * 255).round() / 255

    def render(self, layouts: Sequence[Layout], seeds: Sequence[int]) -> L.Drawn:
        """The pictures with their masks."""
        found = [painted(one, seed, self.faults) for one, seed in zip(layouts, seeds, strict=True)]
        return L.render([one.arrangement for one in found], self.size)

    def masker(self, seed: int) -> Masker:
        """The exact masks of pictures that this painter drew with the run's seed."""

        def masks(images: Sequence[Any], layouts: Sequence[Layout], keys: Sequence[str]) -> list[list[Mask | None]]:
            tries = [int(key.rpartition("-")[2]) for key in keys]
            seeds = [attempt_seed(seed, one.key, number, 1) for one, number in zip(layouts, tries, strict=True)]
            drawn, found = self.render(layouts, seeds), list[list[Mask | None]]()
            for n, (one, each) in enumerate(zip(layouts, seeds, strict=True)):
                row: list[Mask | None] = [None] * len(one.things)
                for at, place in enumerate(painted(one, each, self.faults).places):
                    row[place] = drawn.masks[n].get(at)
                found.append(row)
            return found

        return masks


def truly_there(layout: Layout, seed: int, faults: float) -> Tensor:
    """Which things of a painted picture are as wanted: [n] of bool. The truth that scores are held against."""
    wrong = painted(layout, seed, faults).faults
    return torch.tensor([at not in wrong for at in range(len(layout.things))])
