"""How often promises are broken, and how much they cost: simulated calibrations with known truth.

    for trial in trials(votes=400): print(trial)

A truth is a finite population of pictures with scores and risks, so that the true share of bad ones above a threshold
is counted, not estimated. docs/ads.md shows the table.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from goodeye.judging.promise import GRID, count, loosest, steps

Array = np.ndarray[Any, Any]
Rule = Callable[[Array, Array, float, float], Int[Array, " runs"]]  # what `loosest` is

SIZE = 20_000  # pictures of a population


@dataclass(frozen=True, eq=False)
class Truth:
    """Pictures with their scores and the probability that each is bad. scores, risk: [M]."""

    name: str
    scores: Float[Array, " M"]
    risk: Float[Array, " M"]

    def curve(self, grid: Sequence[float] = GRID) -> tuple[Float[Array, " T"], Float[Array, " T"]]:
        """At each threshold: the share of passed pictures that is bad, and the share of all good ones that passes."""
        passing = self.scores[:, None] >= np.asarray(grid)
        passed, bad = passing.sum(0), (self.risk[:, None] * passing).sum(0)
        return bad / np.maximum(passed, 1), (passed - bad) / (1 - self.risk).sum()


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What came of many calibrations of one truth.

    broken: the part of them whose threshold lets more bad pictures pass than promised. promised: the part that promised
    anything. found, best: the mean share of good pictures that passes (0 without a promise), and that of the best
    threshold of the grid; 0 where no threshold is good enough.
    """

    truth: str
    votes: int
    runs: int
    broken: float
    promised: float
    found: float
    best: float

    @property
    def of_best(self) -> float:
        """The yield as a part of the best possible one, NaN where none is possible."""
        return self.found / self.best if self.best else float("nan")


def judge_like(separation: float, good: float, name: str) -> Truth:
    """A calibrated judge whose log odds are normal: twice `separation` standard deviations between good and bad.

    good: the generator's share of good pictures. Accuracy with equal classes is Phi(separation).
    """
    normal = NormalDist()
    parts = []
    for side, size in ((1, round(good * SIZE)), (-1, SIZE - round(good * SIZE))):
        middle = [normal.inv_cdf((n + 0.5) / size) for n in range(size)]
        odds = 2 * separation * (np.array(middle) + side * separation) + np.log(good / (1 - good))
        parts.append((1 / (1 + np.exp(-odds)), np.full(size, float(side < 0))))
    return Truth(name, *(np.concatenate(both) for both in zip(*parts, strict=True)))


def piecewise(name: str, *pieces: tuple[float, float]) -> Truth:
    """Scores spread evenly over [0, 1]; each piece is a score and the risk from there up to the next piece."""
    scores = (np.arange(SIZE) + 0.5) / SIZE
    starts, risks = zip(*pieces, strict=True)
    return Truth(name, scores, np.array(risks)[np.searchsorted(starts, scores, side="right") - 1])


def realistic() -> list[Truth]:
    """Judges good enough that a few hundred votes suffice for 5 %."""
    return [
        judge_like(1.5, 0.6, "judge 93 % right, 60 % good"),
        judge_like(1.25, 0.8, "judge 89 % right, 80 % good"),
        judge_like(1.05, 0.85, "judge 85 % right, 85 % good"),
        judge_like(2.0, 0.5, "judge 98 % right, 50 % good"),
    ]


def weak() -> list[Truth]:
    """Judges that leave little room below 5 %, so that a few hundred votes cannot tell it apart."""
    return [
        judge_like(1.25, 0.6, "judge 89 % right, 60 % good"),
        judge_like(1.05, 0.56, "judge 85 % right, 56 % good"),
    ]


def hard(max_bad: float) -> list[Truth]:
    """Truths made to break a promise: at the boundary (just above max_bad), and not monotone."""
    over = max_bad * 1.0001
    return [
        piecewise("at the boundary everywhere", (0, over)),
        piecewise("at the boundary above 0.5", (0, 0.5), (0.5, over)),
        piecewise("favourites bad", (0, 0.5), (0.4, 0.9 * max_bad), (0.8, 0.01), (0.9, 3 * max_bad)),
        piecewise("bad, good, bad", (0, 0.5), (0.5, 2 * max_bad), (0.65, 0), (0.75, over)),
        piecewise("never good enough", (0, 0.9), (0.5, 3 * max_bad)),
    ]


def trials(
    truths: Sequence[Truth] | None = None,
    *,
    votes: int = 400,
    runs: int = 1000,
    seed: int = 0,
    max_bad: float = 0.05,
    confidence: float = 0.95,
    rule: Rule = loosest,
) -> list[Trial]:
    """Draws `runs` sets of votes from each truth, calibrates each, and compares with the truth.

    truths: default all of this module. rule: how the threshold is found; default that of `goodeye ads calibrate`.
    """
    chosen = [*realistic(), *weak(), *hard(max_bad)] if truths is None else truths
    return [_trial(truth, votes, runs, seed + n, max_bad, confidence, rule) for n, truth in enumerate(chosen)]


def _trial(truth: Truth, votes: int, runs: int, seed: int, max_bad: float, confidence: float, rule: Rule) -> Trial:
    random = np.random.default_rng(seed)
    drawn = random.integers(0, len(truth.scores), (runs, votes))
    passed, bad = count(truth.scores[drawn], random.random((runs, votes)) < truth.risk[drawn])
    places = rule(passed, bad, max_bad, confidence)
    rate, good = truth.curve()
    promised = places >= 0
    return Trial(
        truth=truth.name,
        votes=votes,
        runs=runs,
        broken=float((promised & (rate[places] > max_bad)).mean()),
        promised=float(promised.mean()),
        found=float(np.where(promised, good[places], 0.0).mean()),
        best=float(np.where(rate <= max_bad, good, 0.0).max()),
    )


# What the rule is compared with


def bonferroni(passed: Array, bad: Array, max_bad: float, confidence: float) -> Int[Array, " runs"]:
    """Every threshold tested by itself, at 1 - confidence over their number."""
    at = steps(int(passed.max()), max_bad, 1 - (1 - confidence) / passed.shape[-1])
    rejected = bad <= np.searchsorted(at, passed, side="right") - 1
    return np.where(rejected.any(-1), rejected.argmax(-1), -1)


def first_testable(passed: Array, bad: Array, max_bad: float, confidence: float) -> Int[Array, " runs"]:
    """The fixed sequence from the first threshold that any rejection is possible at."""
    return loosest(passed, bad, max_bad, confidence, share=0.0)


def from_strictest(passed: Array, bad: Array, max_bad: float, confidence: float) -> Int[Array, " runs"]:
    """The fixed sequence from the grid's strictest threshold, however few votes pass there."""
    at = steps(int(passed.max()), max_bad, confidence)
    rejected = bad <= np.searchsorted(at, passed, side="right") - 1
    held = np.logical_and.accumulate(rejected[..., ::-1], axis=-1)[..., ::-1]
    return np.where(held.any(-1), held.argmax(-1), -1)
