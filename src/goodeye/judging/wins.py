"""Who wins: comparisons asked in both orders, win rates, and how much of the material they cover."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Int

from goodeye.judging.metrics import RESAMPLES, Interval, bootstrap, resampled_counts

Array = np.ndarray[Any, Any]
Choice = Literal["first", "second"]
Outcome = Literal["win", "similar", "lose"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
NONE = Interval(float("nan"), float("nan"), float("nan"))  # a rate that does not exist


def outcome(shown_first: Choice | None, shown_second: Choice | None) -> Outcome | None:
    """What two askings say of us: `shown_first` is the answer when we were shown first, `shown_second` when second.

    Only answers that agree count as a win or a loss; otherwise the two are similar. None where an answer is missing.
    """
    if shown_first is None or shown_second is None:
        return None
    ours = [shown_first == "first", shown_second == "second"]
    return "win" if all(ours) else "similar" if any(ours) else "lose"


def win_rate(outcomes: Sequence[Outcome]) -> float:
    """N_w / (N_w + N_l); NaN where all are similar."""
    won, lost = outcomes.count("win"), outcomes.count("lose")
    return won / (won + lost) if won + lost else float("nan")


def win_and_similar_rate(outcomes: Sequence[Outcome]) -> float:
    """(N_w + N_s) / (N_w + N_s + N_l); NaN where there are none."""
    return (len(outcomes) - outcomes.count("lose")) / len(outcomes) if outcomes else float("nan")


@dataclass(frozen=True)
class Wins:
    """Outcomes of one system against another on one axis. missing: comparisons without a usable answer.

    consistent: the share of answered comparisons in which both orders gave the same answer; its mean is NaN where there
    was no order. Not 1 - similar / N: a judge who gives equal marks in both orders is consistent.
    """

    counts: dict[Outcome, int]
    missing: int
    win: Interval
    win_and_similar: Interval
    consistent: Interval

    def to_json(self) -> dict[str, Any]:
        """Plain lists and numbers; a rate that does not exist is None."""
        rates = {"win": self.win, "win_and_similar": self.win_and_similar, "consistent": self.consistent}
        return {
            "counts": {str(name): count for name, count in self.counts.items()},
            "missing": self.missing,
            **{name: [_plain(value) for value in rate] for name, rate in rates.items()},
        }


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def count_wins(
    outcomes: Sequence[Outcome | None],
    seed: int = 0,
    briefs: Int[Array, " N"] | None = None,
    agreed: Sequence[bool | None] = (),
) -> Wins:
    """Counts, rates with bootstrap intervals, and what is missing.

    agreed: empty, or for each outcome whether both orders gave the same answer; None, where not both were asked, is not
    counted.
    briefs: [N] any numbers, the same for outcomes on one brief, which are resampled together; one has no interval.
    """
    there = np.array([one is not None for one in outcomes], dtype=bool)
    known: list[Outcome] = [one for one in outcomes if one is not None]
    counts: dict[Outcome, int] = {name: known.count(name) for name in OUTCOMES}
    if not known:
        return Wins(counts, len(outcomes), NONE, NONE, NONE)
    cell = np.array([OUTCOMES.index(one) for one in known])
    win, similar, lose = _resampled(cell, len(OUTCOMES), briefs, there, seed).T
    return Wins(
        counts,
        len(outcomes) - len(known),
        _interval(win_rate(known), win, win + lose),
        _interval(win_and_similar_rate(known), win + similar, win + similar + lose),
        _consistency(agreed, briefs, seed),
    )


def _resampled(cell: Array, cells: int, briefs: Array | None, there: Array, seed: int) -> Array:
    """The counts of the resamples, [n, cells]; none where all is of one brief. there: [N], of which there is a cell."""
    groups = None if briefs is None else briefs[there]
    alone = groups is not None and len(np.unique(groups)) == 1
    return resampled_counts(cell, cells, groups, n=0 if alone else RESAMPLES, seed=seed)


def _consistency(agreed: Sequence[bool | None], briefs: Array | None, seed: int) -> Interval:
    there = np.array([one is not None for one in agreed], dtype=bool)
    if not there.any():
        return NONE
    cell = np.array([int(one) for one in agreed if one is not None])
    counts = _resampled(cell, 2, briefs, there, seed)
    return _interval(float(cell.mean()), counts[:, 1], counts.sum(1))


def _interval(rate: float, parts: Array, wholes: Array) -> Interval:
    """The rate with the percentiles 2.5 and 97.5 of those of the resamples in which it exists."""
    rates = parts[wholes > 0] / wholes[wholes > 0]
    low, high = np.percentile(rates, [2.5, 97.5]) if len(rates) else (float("nan"),) * 2
    return Interval(rate, float(low), float(high))


@dataclass(frozen=True)
class OrderAccuracy:
    """How often a judge who is asked in both orders agrees with a golden choice, with bootstrap intervals over pairs.

    consistent: accuracy where both orders gave one answer; it covers only the share `coverage` of the answered.
    on_all: the mean accuracy of the two orders on all answered, so that a pair on which they disagree counts half.
    weighted: the same, each pair by its weight.
    """

    consistent: Interval
    coverage: Interval
    on_all: Interval
    weighted: Interval
    answered: int
    missing: int

    def to_json(self) -> dict[str, Any]:
        """Plain numbers; a share that does not exist is None."""
        return {name: one.to_json() if isinstance(one, Interval) else one for name, one in vars(self).items()}


def order_accuracy(
    golden: Sequence[Choice],
    plain: Sequence[Choice | None],
    swapped: Sequence[Choice | None],
    weights: Sequence[float] | None = None,
    seed: int = 0,
) -> OrderAccuracy:
    """golden: the right choice of each pair. plain, swapped: the choice of each, already in the pair's own order
    (an answer to the swapped picture is turned back); None where it is missing. weights: 1 each if not given."""
    given = [1.0] * len(golden) if weights is None else weights
    told = zip(golden, plain, swapped, given, strict=True)
    rows = np.array([(w, g == a, g == b) for g, a, b, w in told if a is not None and b is not None], dtype=float)

    def measured(statistic: Callable[[Array], float]) -> Interval:
        return bootstrap(rows, statistic, seed=seed) if len(rows) else Interval(*[float("nan")] * 3)

    return OrderAccuracy(
        consistent=measured(_consistent),
        coverage=measured(lambda rows: float((rows[:, 1] == rows[:, 2]).mean())),
        on_all=measured(lambda rows: float(rows[:, 1:].mean())),
        weighted=measured(_weighted),
        answered=len(rows),
        missing=len(golden) - len(rows),
    )


def _consistent(rows: Array) -> float:
    """rows: [N, 3] of weight, and 1 where right in each order."""
    same = rows[rows[:, 1] == rows[:, 2]]
    return float(same[:, 1].mean()) if len(same) else float("nan")


def _weighted(rows: Array) -> float:
    total = rows[:, 0].sum()
    return float((rows[:, 0] * rows[:, 1:].mean(1)).sum() / total) if total else float("nan")
