"""What a judge is: it scores images on named axes, and says how those axes are to be read."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

Images = Float[Tensor, "N 3 H W"]  # RGB in [0, 1]
Scores = dict[str, Tensor]  # axis name -> [N]
Need = Literal["text", "product", "original", "layout"]  # what a judge may need of a context besides the picture

TOLERANCE = 1e-3  # how far rounding may carry a score out of its axis's range, as a part of that range


@dataclass(frozen=True)
class Axis:
    """One named quantity that a judge gives. `low` and `high` bound it (infinite if it has no bound)."""

    name: str
    low: float
    high: float
    higher_is_better: bool = True


@dataclass(frozen=True, eq=False)
class Context:
    """What belongs to one image: what it was meant to show.

    product: [4, H, W] straight-alpha RGBA in [0, 1], the cut-out where it stands on the canvas, of the image's size.
    """

    product: Float[Tensor, "4 H W"] | None = None
    title: str = ""
    prompt: str = ""


@dataclass(frozen=True)
class Verdict:
    """What one judge said of one image.

    label: its class, "" for a judge that has none. scores: by axis; one that could not be read is left out. failures:
    what is wrong, in words; empty when nothing is.
    """

    judge: str
    version: str
    label: str
    scores: dict[str, float]
    failures: list[str] = field(default_factory=list)


@runtime_checkable
class Judge(Protocol):
    """Scores images in batches, on whatever device they lie, with gradient where `differentiable`.

    One that cannot do without some of a context also has `needs`, a set of `Need`: see `needs_of`.
    """

    @property
    def name(self) -> str:
        """A short word for files and tables: letters, digits, underscores."""

    @property
    def version(self) -> str:
        """Changes whenever the same image could get another score."""

    @property
    def axes(self) -> tuple[Axis, ...]:
        """What `score` returns, the main axis first."""

    @property
    def differentiable(self) -> bool:
        """True if a score's gradient reaches the images."""

    @property
    def licence(self) -> str:
        """The licence of the weights (an SPDX identifier where there is one)."""

    def score(self, images: Images, contexts: Sequence[Context]) -> Scores:
        """images: [N, 3, H, W] in [0, 1]; one context an image. Returns each axis's scores, [N]."""


@runtime_checkable
class Inspector(Protocol):
    """What says of each image in words what it is, as RFNetJudge does.

    A judge that may fail on a single image (a large model, a server) is one, and leaves out of `Verdict.scores` what it
    could not read; `score` would have to fail for the whole batch.
    """

    def inspect(self, images: Images, contexts: Sequence[Context]) -> list[Verdict]:
        """One verdict an image."""


def needs_of(judge: object) -> frozenset[Need]:
    """What the judge needs of every context besides the image; nothing where it does not say."""
    return frozenset(getattr(judge, "needs", ()))


class BadScores(ValueError):
    """A judge gave something that is not a score. It must never reach a table as a number."""


def check_scores(judge: Judge, scores: Mapping[str, Tensor], count: int | None = None) -> Scores:
    """Returns the scores in the order of the judge's axes, having made sure that they are scores.

    count: how many images were judged; without it, the axes need only agree.
    Raises BadScores for a missing or unknown axis, another shape than [count], NaN, or a value out of the axis's range.
    """
    names = [axis.name for axis in judge.axes]
    if missing := [name for name in names if name not in scores]:
        raise BadScores(f"{judge.name} gave no score for {', '.join(missing)}")
    if unknown := [name for name in scores if name not in names]:
        raise BadScores(f"{judge.name} gave scores for {', '.join(unknown)}, which are not among its axes")
    expected = scores[names[0]].shape[:1] if count is None else torch.Size([count])
    for axis in judge.axes:
        _check_axis(judge.name, axis, scores[axis.name], expected)
    return {name: scores[name] for name in names}


def _check_axis(judge: str, axis: Axis, values: Tensor, expected: torch.Size) -> None:
    if values.shape != expected:
        raise BadScores(f"{judge}.{axis.name} has shape {list(values.shape)} where {list(expected)} was expected")
    if not values.numel():
        return
    found = values.detach()
    if bool(found.isnan().any()):
        raise BadScores(f"{judge}.{axis.name} is NaN for image {int(found.isnan().nonzero()[0])} of the batch")
    slack = TOLERANCE * (axis.high - axis.low) if math.isfinite(axis.high - axis.low) else 0.0
    low, high = float(found.min()), float(found.max())
    if low < axis.low - slack or high > axis.high + slack:
        raise BadScores(f"{judge}.{axis.name} lies in [{low:g}, {high:g}], out of [{axis.low:g}, {axis.high:g}]")


def check_contexts(judge: str, images: Images, contexts: Sequence[Context]) -> None:
    """Raises ValueError unless the images are [N, 3, H, W] and there is one context an image."""
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"{judge} takes images [N, 3, H, W], not {list(images.shape)}")
    if len(contexts) != len(images):
        raise ValueError(f"{judge} got {len(images)} images and {len(contexts)} contexts; give one context an image")


def fingerprint(*parts: nn.Module | str) -> str:
    """12 hex digits of a sha256 over strings and over the names, types, shapes and values of weights."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            digest.update(part.encode())
            continue
        for name, value in sorted(part.state_dict().items()):
            digest.update(f"{name} {value.dtype} {list(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:12]
