"""Recurrent generation (ads paper, section 3.2): which legs an attempt runs, and from where a failed one begins again.

`goodeye.scheduler` keeps the batch full with them.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from goodeye.errors import BadInput
from goodeye.scheduler import Leg, Outcome, Try


@dataclass(frozen=True, kw_only=True)
class Restart:
    """A failed attempt is followed by one that goes back to a middle noise level instead of to the start (ours).

    strength: the part of the steps that is run again, between 0 and 1. times: at most so many in a row, then new noise.
    stopped: one that a check stopped is gone back from, too; its picture is only a prediction, which holds nothing
    finer than the noise it was made at, so at least to that noise.
    """

    strength: float
    times: int = 1
    stopped: bool = False

    def check(self) -> None:
        """Raises BadInput for numbers that make no sense."""
        if not 0 < self.strength < 1:
            raise BadInput(f"restart is {self.strength}. Give the part of the steps to run again, between 0 and 1.")
        if self.times < 1:
            raise BadInput(f"restart_times is {self.times}. Give 1 or more.")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Which legs an attempt runs. starts: of the schedule's steps, those at which the denoiser is asked (`Settings`).
    checks: after how many evaluations it is looked at, rising.

    Only attempts that begin from noise are checked: the thresholds were found on such. retried: all but the first
    attempt of a slot are another generator's, number 1.
    """

    starts: tuple[int, ...]
    checks: tuple[int, ...] = ()
    restart: Restart | None = None
    retried: bool = False

    @property
    def evaluations(self) -> int:
        """Of the denoiser, for a whole attempt."""
        return len(self.starts)

    def first(self, one: Try, before: Sequence[Outcome] = ()) -> Leg:
        """The leg with which an attempt begins, after those that were made at its slot before, in order."""
        start = self._start(before)
        return Leg(one, start, self.evaluations, self._by(one)) if start else self._next(one, 0)

    def onward(self, leg: Leg) -> Leg:
        """The leg after one that ended at a check."""
        return self._next(leg.attempt, leg.stop)

    def _next(self, one: Try, done: int) -> Leg:
        stop = min((check for check in self.checks if check > done), default=self.evaluations)
        return Leg(one, done, stop, self._by(one))

    def _by(self, one: Try) -> int:
        return int(self.retried and one.number > 1)

    def _start(self, before: Sequence[Outcome]) -> int:
        """Steps to leave out: 0 begins from noise."""
        if self.restart is None or not before:
            return 0
        last, in_a_row = before[-1], 0
        for one in reversed(before):
            if one.stopped or one.evals >= self.evaluations:
                break
            in_a_row += 1
        if in_a_row >= self.restart.times or (last.stopped and not self.restart.stopped):
            return 0
        steps = self.starts[-1] + 1
        level = steps - max(1, round(self.restart.strength * steps))
        start = bisect_right(self.starts, level) - 1
        return min(start, last.evals) if last.stopped else start
