"""What the ledger takes and gives back, as plain data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

SCORED = "scored"  # the label of a vote that is scores on axes and names no class
HIGHEST = 5  # of such a score; the least is 0
Choice = Literal["left", "right", "similar"]  # the better one of two attempts


class VerdictLike(Protocol):
    """A judge's verdict: goodeye.judging's own, or anything with these names."""

    @property
    def judge(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def scores(self) -> Mapping[str, float]: ...
    @property
    def failures(self) -> Sequence[str]: ...


@dataclass(frozen=True, kw_only=True)
class VerdictRow:
    """A recorded verdict."""

    judge: str
    version: str
    label: str
    scores: dict[str, float]
    failures: list[str]


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """A run: `status` is running, done or stopped; `command` is what was asked for."""

    id: int
    job: str
    command: dict[str, Any]
    seed: int
    version: str
    status: str
    started: datetime
    ended: datetime | None


@dataclass(frozen=True, kw_only=True)
class BriefRow:
    """A brief of a run, by its key."""

    id: int
    key: str
    content: dict[str, Any]
    product_sha: str | None


@dataclass(frozen=True, kw_only=True)
class AttemptRow:
    """An attempt with all its verdicts, oldest first.

    image_sha: of its picture; "" where it came to none, and `detail` says why. shown: of a row's pictures, in order.
    """

    id: int
    brief_id: int
    brief_key: str
    slot: int
    number: int
    seed: int
    image_sha: str
    evals: int
    seconds: float
    created: datetime
    verdicts: list[VerdictRow]
    detail: dict[str, Any]
    shown: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PickRow:
    """An attempt kept for its slot or rejected, and why."""

    brief_id: int
    slot: int
    attempt_id: int
    kept: bool
    why: str


@dataclass(frozen=True, kw_only=True)
class VoteRow:
    """What a person said of an attempt. chosen: why they were asked (random, unsure), "" where that is not known."""

    id: int
    attempt_id: int
    person: str
    label: str
    axes: dict[str, Any]
    seconds: float
    created: datetime
    chosen: str


@dataclass(frozen=True, kw_only=True)
class ComparisonRow:
    """Which of two attempts a person, or a judge in one version, found better on one axis.

    swapped: the left attempt was shown at the right, or second.
    """

    id: int
    left_attempt: int
    right_attempt: int
    axis: str
    choice: Choice
    swapped: bool
    created: datetime
    person: str | None
    judge: str | None
    version: str | None

    @property
    def by(self) -> str:
        """The name of who said it."""
        return self.person or self.judge or ""
