"""Which pictures become training data: thresholds, best of n, near-duplicates, quotas; every rejection with its reason.

Thresholds and best-of-n are the synth paper's (section 3.4); quotas and the limit on near-duplicates are ours.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from goodeye.errors import BadInput

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True)
class Picking:
    """Scores are 0 to 100. None asks for nothing."""

    thing: float = 60.0  # a thing below it loses its label; a picture without any is rejected (paper)
    image: float | None = None  # of CLIS-I
    layout: float | None = None  # of CLIS-L; the paper takes 50 for data of multimodal models
    best: int = 1  # kept of each combination of objects (the key `group` of a candidate)
    quota: int | None = None  # things of each category, at most
    duplicates: float | None = 0.97  # cosine from which a picture is too like one that is kept
    most: int | None = None  # pictures in all

    def __post_init__(self) -> None:
        for name in ("best", "quota", "most"):
            if (asked := getattr(self, name)) is not None and asked < 1:
                raise BadInput(f"{name} is {asked}. Keep 1 or more.")
        for name in ("thing", "image", "layout", "duplicates"):
            if (asked := getattr(self, name)) is not None and not math.isfinite(asked):
                raise BadInput(f"{name} is {asked}. Give a number.")


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A scored picture. group: those of one combination compete. things: category and score (None: unknown)."""

    key: str
    group: str
    score: float | None
    things: tuple[tuple[str, float | None], ...]
    layout: float | None = None
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Choice:
    """things: which of the candidate's keep their labels, by place. why: of a rejected one, in words."""

    key: str
    kept: bool
    things: tuple[int, ...]
    why: str = ""
    notes: tuple[str, ...] = field(default=())


def pick(
    candidates: Sequence[Candidate], picking: Picking | None = None, embeddings: Float[Array, "N D"] | None = None
) -> list[Choice]:
    """One choice a candidate, in their order. embeddings: of length 1, for the limit on near-duplicates.

    The best go first, so it is they that are kept of near-duplicates and that fill the quotas. No category gets more
    labelled things than its quota. Raises BadInput where two candidates have one key.
    """
    picking = picking or Picking()
    if len({one.key for one in candidates}) < len(candidates):
        raise BadInput("two pictures to pick from have one name. Give each its own.")
    choices: dict[str, Choice] = {}
    standing = dict[str, tuple[int, ...]]()
    for one in candidates:
        kept, why = _threshold(one, picking)
        if why:
            choices[one.key] = Choice(one.key, False, (), why, one.reasons)
        else:
            standing[one.key] = kept
    number = {one.key: at for at, one in enumerate(candidates)}
    order = sorted((one for one in candidates if one.key in standing), key=lambda one: (-_of(one), number[one.key]))
    groups: dict[str, list[str]] = defaultdict(list)
    filled: Counter[str] = Counter()
    rows: list[int] = []
    for one in order:
        kept = standing[one.key]
        labels = Counter(one.things[at][0] for at in kept)
        why = (
            _not_best(one, groups[one.group], picking)
            or _duplicate(number[one.key], rows, embeddings, picking, candidates)
            or _full(labels, filled, picking)
            or ("enough pictures are kept" if picking.most is not None and len(rows) >= picking.most else "")
        )
        choices[one.key] = Choice(one.key, not why, kept if not why else (), why, one.reasons)
        if not why:
            groups[one.group].append(one.key)
            rows.append(number[one.key])
            filled += labels
    return [choices[one.key] for one in candidates]


def _of(one: Candidate) -> float:
    return -1.0 if one.score is None else one.score


def _threshold(one: Candidate, picking: Picking) -> tuple[tuple[int, ...], str]:
    """Which things stay, and why the picture falls."""
    if one.score is None or any(score is None for _, score in one.things):
        return (), "its score is unknown"
    if picking.layout is not None and (one.layout is None or one.layout < picking.layout):
        return (), f"layout {_shown(one.layout)}, below {picking.layout:g}"
    if picking.image is not None and one.score < picking.image:
        return (), f"picture {_shown(one.score)}, below {picking.image:g}"
    kept = tuple(at for at, (_, score) in enumerate(one.things) if score is not None and score >= picking.thing)
    return kept, "" if kept else f"every thing is below {picking.thing:g}"


def _not_best(one: Candidate, kept: Sequence[str], picking: Picking) -> str:
    return f"{kept[0]} of the same combination is better" if len(kept) >= picking.best else ""


def _duplicate(
    row: int,
    rows: Sequence[int],
    embeddings: Float[Array, "N D"] | None,
    picking: Picking,
    candidates: Sequence[Candidate],
) -> str:
    if embeddings is None or picking.duplicates is None or not rows:
        return ""
    cosines = embeddings[list(rows)] @ embeddings[row]
    nearest = int(cosines.argmax())
    like = float(cosines[nearest])
    return f"nearly the same as {candidates[rows[nearest]].key} ({like:.3f})" if like >= picking.duplicates else ""


def _full(labels: Mapping[str, int], filled: Mapping[str, int], picking: Picking) -> str:
    if picking.quota is None:
        return ""
    full = [name for name, count in labels.items() if filled[name] + count > picking.quota]
    return f"the quota of {', '.join(full)} ({picking.quota}) is full" if full else ""


def _shown(score: float | None) -> str:
    return "unknown" if score is None else f"{score:.0f}"


def summary(choices: Sequence[Choice], unit: str = "pictures") -> str:
    """How many were kept, and the commonest reasons against the others."""
    kept = sum(one.kept for one in choices)
    kinds = Counter(_kind(one.why) for one in choices if not one.kept)
    words = "; ".join(f"{count} {kind}" for kind, count in kinds.most_common(6))
    return f"{kept} of {len(choices)} {unit} kept" + (f" ({words})." if words else ".")


def _kind(why: str) -> str:
    for mark, kind in (
        ("same combination", "another of the combination is better"),
        ("nearly the same", "near-duplicates"),
        ("quota", "quota full"),
        ("layout ", "layout too unlike real ones"),
        ("picture ", "picture too low"),
        ("unknown", "of unknown score"),
    ):
        if mark in why:
            return kind
    return why
