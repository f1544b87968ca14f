"""Triplets as batches: both pictures cut and turned alike, as a function of the seed and the batch's number."""

import random
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image, ImageOps

from goodeye.edit.config import Given
from goodeye.edit.rewards import Rewards, feedback_text
from goodeye.edit.triplets import Triplet
from goodeye.errors import BadInput
from goodeye.images import to_tensor
from goodeye.training.loop import shuffled

if TYPE_CHECKING:
    from goodeye.edit.latents import Latents

_SIDES = re.compile(r"\b(left|right)(most|wards?|-?hand)?\b", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """The index-th batch of triplets. zoom: pictures are made up to so much larger than `size` before they are cut.

    In the place of a triplet whose pictures cannot be opened stands the next one; `unread` names it and says why. With
    latents no picture is opened, cut or mirrored.
    """

    triplets: Sequence[Triplet]
    size: int
    batch: int
    seed: int = 0
    flip: bool = True
    zoom: float = 1.0
    unread: dict[str, str] = field(default_factory=dict)
    latents: "Latents | None" = None

    def __call__(self, index: int) -> dict[str, Any]:
        """original, edited: [B, 3, S, S] in [0, 1]; instruction; rewards: [B, 3] and feedback: texts, if known.

        With latents, in the place of the pictures: clean and joined, [B, C, h, w].
        """
        return self.rows(self._order(index), random.Random(f"{self.seed}/{index}/cut"))

    @cached_property
    def _order(self) -> Callable[[int], list[int]]:
        return shuffled(len(self.triplets), self.batch, self.seed)

    def rows(self, places: Iterable[int], rng: random.Random) -> dict[str, Any]:
        """The triplets at these places as a batch. Raises BadInput where no triplet at all can be opened."""
        if self.latents is not None:
            some = [self.triplets[place] for place in places]
            clean, joined = self.latents.pair([one.key for one in some])
            return {"clean": clean, "joined": joined, **_words(some)}
        some, originals, edits = [], [], []
        for place in places:
            triplet, pictures = self._opened(place)
            first, second = alike(*pictures, self.size, self._turn(triplet, rng))
            some.append(triplet)
            originals.append(to_tensor(first))
            edits.append(to_tensor(second))
        return {"original": torch.stack(originals), "edited": torch.stack(edits), **_words(some)}

    def _opened(self, place: int) -> tuple[Triplet, tuple[Image.Image, Image.Image]]:
        for further in range(len(self.triplets)):
            triplet = self.triplets[(place + further) % len(self.triplets)]
            try:
                return triplet, (triplet.original.open(), triplet.edited.open())
            except BadInput as error:
                self.unread[triplet.key] = f"{triplet.key}: {error}"
        raise BadInput(f"no triplet can be opened. {next(iter(self.unread.values()))}")

    def _turn(self, triplet: Triplet, rng: random.Random) -> "Cut":
        cut = Cut(rng.uniform(1, self.zoom), rng.random(), rng.random(), rng.random() < 0.5)
        return cut if self.flip and may_flip(triplet.instruction) else replace(cut, flip=False)


def _words(some: Sequence[Triplet]) -> dict[str, Any]:
    """Instructions and, where all have them, rewards."""
    known = [one.rewards for one in some if one.rewards is not None]
    found: dict[str, Any] = {"instruction": [one.instruction for one in some]}
    if len(known) == len(some):
        found["rewards"] = torch.tensor([[score or 0.0 for score in said.scores] for said in known])
        found["feedback"] = [feedback_text(said.failures) for said in known]
    return found


@dataclass(frozen=True)
class Cut:
    """zoom: of the shorter side over the size wanted; across, down: where the cut lies, 0 to 1."""

    zoom: float = 1.0
    across: float = 0.5
    down: float = 0.5
    flip: bool = False


def may_flip(instruction: str) -> bool:
    """Whether the pair may be mirrored: not where the instruction says left or right."""
    return _SIDES.search(instruction) is None


def alike(original: Image.Image, edited: Image.Image, size: int, cut: Cut) -> tuple[Image.Image, Image.Image]:
    """Both pictures made smaller or larger, cut to [size, size] and mirrored in the same way; the edited one is brought
    to the original's size first."""
    scale = size * cut.zoom / min(original.size)
    width, height = (max(size, round(side * scale)) for side in original.size)
    left, top = round(cut.across * (width - size)), round(cut.down * (height - size))

    def call(img: Image.Image) -> Image.Image:
        whole = img if img.size == (width, height) else img.resize((width, height), Image.Resampling.LANCZOS)
        part = whole.crop((left, top, left + size, top + size))
        return ImageOps.mirror(part) if cut.flip else part

    return call(original), call(edited)


def with_rewards(triplets: Sequence[Triplet], given: Given, best: float, seed: int) -> list[Triplet]:
    """The triplets whose three scores are known, with what they are trained on.

    best: the share kept, by the mean score. given: "averaged" puts the mean in the place of each of the three scores,
    "shuffled" gives each triplet another's rewards: controls. Raises BadInput where none has rewards.
    """
    known = [one for one in triplets if one.rewards is not None and one.rewards.complete]
    if not known:
        raise BadInput("no triplet has three rewards. Annotate them by `goodeye edit annotate`, or train stage 1.")
    ranked = sorted(range(len(known)), key=lambda at: -_mean(known[at]))
    kept = [known[at] for at in sorted(ranked[: max(1, round(best * len(known)))])]
    if given == "averaged":
        means = [_mean(one) for one in kept]
        return [_said(one, Rewards((mean, mean, mean), _failures(one))) for one, mean in zip(kept, means, strict=True)]
    if given == "shuffled":
        order = list(range(len(kept)))
        random.Random(f"{seed}/shuffled").shuffle(order)
        return [_said(one, kept[other].rewards) for one, other in zip(kept, order, strict=True)]
    return kept


def _said(triplet: Triplet, rewards: Rewards | None) -> Triplet:
    return replace(triplet, rewards=rewards)


def _mean(triplet: Triplet) -> float:
    scores = triplet.rewards.scores if triplet.rewards else ()
    return sum(score or 0.0 for score in scores) / 3


def _failures(triplet: Triplet) -> tuple[str, str, str]:
    return triplet.rewards.failures if triplet.rewards else ("", "", "")
