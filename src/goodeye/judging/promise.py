"""A promise on what passes: the threshold above which at most a share of pictures is bad, with a confidence.

Learn then Test (Angelopoulos et al. 2021, arXiv 2110.01052): every threshold t of a fixed grid is a hypothesis "of the
pictures with p(available) >= t more than max_bad are bad", tested on pictures that people voted on. The threshold
promised is the loosest whose hypothesis is rejected, and with the confidence none is rejected wrongly.

**The test of one threshold** is exact. Among the n votes that pass at t, the number of bad ones is Binomial(n, rate of
t), so n votes with k bad reject where P(Binomial(n, max_bad) <= k) <= 1 - confidence: the bound of Clopper and Pearson.
For 5 % at 95 % that is 0 bad of 59, 1 of 93, 2 of 124 and so on (`steps`).

**The search** is a fixed sequence from strict to loose, which stops at the first threshold that is not rejected. Each
test has the whole 1 - confidence: a wrong promise needs the first true hypothesis on the way to be rejected, and that
is one test. The strictest thresholds pass too few votes for any rejection, or so few that one unlucky vote would end
the sequence, so it starts at the first threshold that enough votes pass: at least a fifth of all, rounded up to the
next count at which one more bad vote is tolerated (`start`).

**Why that start is valid**: it looks at how many votes pass, never at what they say, and the number it compares with
follows from the number of votes alone. Let t be the strictest threshold with rate > max_bad, and n votes pass at it.
If n is enough, every test before t is of a false hypothesis, or not made, and t is the one whose rejection counts:
given n its votes are n independent draws, so it is rejected with probability 1 - confidence at most. If n is too small,
the sequence starts below t, at a threshold s: given the counts, its bad votes are the n of t (rate > max_bad) and those
between s and t, which are no better where looser thresholds are no better, so again one exact test errs too seldom.
Where the risk is not monotone (a judge that is fooled by its favourites), the start is one of several thresholds, by
counts that say a little about the labels; the largest error found by exact summation over two such thresholds was
3.6 % where 5 % were allowed, since the binomial's steps leave room. `promise_trials` measures both cases.

The guarantee is for pictures made and voted on in the same way, one independent picture a vote.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from goodeye.errors import BadInput

Array = np.ndarray[Any, Any]

# Finer where judges are surest. A fixed sequence pays nothing for a fine grid.
GRID: tuple[float, ...] = (*(n / 100 for n in range(100)), *(n / 1000 for n in range(991, 1000)))
START = 0.2  # the share of all votes that must pass where the sequence starts; ours, compared in docs/ads.md
HELD = 0.8  # how surely the number of votes that is asked for would hold the promise
FEWEST = 20  # passed votes from which a rate is read off, to say how many votes are needed
MOST = 5000  # passed votes beyond which nobody is asked for more
WORST = 0.5  # bad pictures of all passed: no promise is looked for beyond


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Of the votes, how many pass at each threshold of the grid, and how many of those are bad."""

    votes: int
    grid: tuple[float, ...]
    passed: tuple[int, ...]
    bad: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Promise:
    """At most `max_bad` of the pictures with p(available) >= threshold are bad, with the confidence.

    passed, bad: the votes at that threshold. bound: the share that their own exact bound allows, at most max_bad.
    """

    max_bad: float
    confidence: float
    threshold: float
    passed: int
    bad: int
    bound: float


def check_promise(max_bad: float, confidence: float) -> None:
    """Raises BadInput for a promise that makes no sense."""
    if not 0 < max_bad <= WORST:
        raise BadInput(f"max-bad is {max_bad:g}. Give the share of bad pictures allowed, above 0 and up to {WORST:g}.")
    if not 0.5 <= confidence < 1:
        raise BadInput(f"confidence is {confidence:g}. Give 0.5 or more and less than 1.")


def count(
    scores: Float[Array, "*runs N"], bad: Bool[Array, "*runs N"], grid: Sequence[float] = GRID
) -> tuple[Int[Array, "*runs T"], Int[Array, "*runs T"]]:
    """How many votes have a score of at least each threshold, and how many of those are bad.

    scores: p(available); the grid rises. Several calibrations at once have leading dimensions.
    """
    scores, bad = np.asarray(scores, dtype=float), np.asarray(bad, dtype=bool)
    if not np.isfinite(scores).all():
        raise ValueError("a score that is no number")
    runs = scores.reshape(-1, scores.shape[-1])
    cells = np.searchsorted(np.asarray(grid), runs, side="right") + np.arange(len(runs))[:, None] * (len(grid) + 1)
    both = [
        np.bincount(cells.ravel(), weights=weights, minlength=len(runs) * (len(grid) + 1))
        for weights in (None, bad.ravel().astype(float))
    ]
    found = [one.reshape(len(runs), -1)[:, :0:-1].cumsum(1)[:, ::-1].round().astype(int) for one in both]
    return found[0].reshape(*scores.shape[:-1], -1), found[1].reshape(*scores.shape[:-1], -1)


def counts_of(scores: Float[Array, " N"], bad: Bool[Array, " N"], grid: Sequence[float] = GRID) -> Counts:
    """The counts of one set of votes."""
    passed, wrong = count(scores, bad, grid)
    return Counts(votes=len(scores), grid=tuple(grid), passed=tuple(passed.tolist()), bad=tuple(wrong.tolist()))


def steps(votes: int, max_bad: float, confidence: float) -> Int[Array, " J"]:
    """The fewest passed votes among which 0, 1, 2, … may be bad, up to `votes`.

    The first is ceil(log(1 - confidence) / log(1 - max_bad)), as (1 - max_bad)^n is how often n votes show no bad one.
    """
    found: list[int] = []
    tail, miss = 1.0, 1 - confidence  # tail: P(Binomial(n, max_bad) <= len(found))
    for n in range(1, votes + 1):
        tail -= max_bad * binomial(len(found), n - 1, max_bad)
        while tail <= miss:
            found.append(n)
            tail += binomial(len(found), n, max_bad)
    return np.array(found, dtype=int)


def start(votes: int, at: Int[Array, " J"], share: float = START) -> int:
    """How many votes must pass at the threshold where the sequence starts; more than there are, if none can be tested.

    at: the `steps` of the promise.
    """
    place = int(np.searchsorted(at, share * votes))
    return int(at[place]) if place < len(at) else votes + 1


def loosest(
    passed: Int[Array, "*runs T"],
    bad: Int[Array, "*runs T"],
    max_bad: float,
    confidence: float,
    *,
    share: float = START,
) -> Int[Array, "*runs"]:
    """The place in the grid of the loosest threshold that the promise holds for, -1 where there is none.

    passed, bad: by threshold, as `count` gives them; the grid's first threshold passes all votes. Thresholds below the
    lowest score are not tested: the votes say nothing of what lies there.
    """
    passed, bad = np.asarray(passed), np.asarray(bad)
    votes = int(passed.max(initial=0))
    at = steps(votes, max_bad, confidence)
    rejected = bad <= np.searchsorted(at, passed, side="right") - 1
    lowest = (passed == passed[..., :1]).sum(-1, keepdims=True) - 1
    tested = (passed >= start(votes, at, share)) & (np.arange(passed.shape[-1]) >= lowest)
    strict_first = (rejected | ~tested)[..., ::-1]
    held = np.logical_and.accumulate(strict_first, axis=-1)[..., ::-1] & tested
    return np.where(held.any(-1), held.argmax(-1), -1)


def promise(counts: Counts, max_bad: float, confidence: float) -> Promise | None:
    """The promise that these votes hold, with the loosest threshold; None where they hold none."""
    place = int(loosest(np.array(counts.passed), np.array(counts.bad), max_bad, confidence))
    if place < 0:
        return None
    passed, bad = counts.passed[place], counts.bad[place]
    return Promise(
        max_bad=max_bad,
        confidence=confidence,
        threshold=counts.grid[place],
        passed=passed,
        bad=bad,
        bound=bound(bad, passed, confidence),
    )


# What to say where there is none


@dataclass(frozen=True, kw_only=True)
class Needed:
    """How many votes in all would hold the promise, if at `threshold` as many pass and are bad as did."""

    votes: int
    threshold: float
    passed: int
    bad: int


def needed(counts: Counts, max_bad: float, confidence: float) -> Needed | None:
    """The fewest votes with which the promise would be held four times in five, by the rates seen; None: no number.

    Of each threshold that at least 20 votes pass, the rates are taken as they were seen: with k of n votes bad, n'
    passed votes hold the promise where P(Binomial(n', k / n) <= bad ones tolerated of n') >= 0.8, and n' passed votes
    take n' * votes / n in all.
    """
    at = steps(MOST, max_bad, confidence)
    best: Needed | None = None
    for threshold, passed, bad in zip(counts.grid, counts.passed, counts.bad, strict=True):
        if passed < FEWEST or bad / passed >= max_bad:
            continue
        place = _step_held(at, bad / passed)
        if place == len(at):
            continue
        votes = math.ceil(int(at[place]) * counts.votes / passed)
        if best is None or votes < best.votes:
            best = Needed(votes=votes, threshold=threshold, passed=passed, bad=bad)
    return best


def _step_held(at: Int[Array, " J"], rate: float) -> int:
    """The first of the steps at which a rate below max_bad holds the promise four times in five."""
    return bisect_left(range(len(at)), HELD, key=lambda k: tail(k, int(at[k]), rate))


def nearest(counts: Counts, max_bad: float, confidence: float) -> float | None:
    """The smallest whole per cent above max_bad that these votes hold a promise for, at the same confidence."""
    shares = (percent / 100 for percent in range(math.floor(100 * max_bad) + 1, round(100 * WORST) + 1))
    return next((share for share in shares if promise(counts, share, confidence)), None)


def refusal(counts: Counts, max_bad: float, confidence: float) -> str:
    """Why there is no promise, how many votes it would take, and the nearest that these votes hold: one line."""
    first = math.ceil(math.log(1 - confidence) / math.log(1 - max_bad))
    wanted = f"at most {_percent(max_bad)} bad at {_percent(confidence)} confidence"
    words = [f"{counts.votes} votes do not hold the promise of {wanted}."]
    if found := needed(counts, max_bad, confidence):
        words.append(
            f"At the threshold {found.threshold:g}, {found.passed} of them pass and {found.bad} of those are bad; "
            f"at these rates it takes about {max(found.votes, counts.votes + 1):,} votes."
        )
    elif counts.votes < max(first, FEWEST):
        words.append(f"It takes at least {first} passed votes, none of them bad.")
    else:
        words.append("At no threshold are clearly fewer bad: a better judge or generator may help, more votes won't.")
    near = nearest(counts, max_bad, confidence)
    words.append(f"The nearest that they hold is --max-bad {near:g}." if near else "They hold no other promise.")
    return " ".join(words)


def _percent(share: float) -> str:
    return f"{100 * share:.4g} %"


# The binomial


def binomial(k: int, n: int, rate: float) -> float:
    """P(Binomial(n, rate) = k), for a rate within 0 and 1."""
    if not 0 <= k <= n:
        return 0.0
    if rate in (0.0, 1.0):
        return float(k == n * rate)
    choose = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return math.exp(choose + k * math.log(rate) + (n - k) * math.log1p(-rate))


def tail(k: int, n: int, rate: float) -> float:
    """P(Binomial(n, rate) <= k)."""
    return min(1.0, math.fsum(binomial(i, n, rate) for i in range(min(k, n) + 1)))


def bound(bad: int, passed: int, confidence: float) -> float:
    """The largest rate of which `bad` of `passed` are not too few: the upper bound of Clopper and Pearson (1934)."""
    low, high = bad / passed if passed else 0.0, 1.0
    if bad >= passed:
        return 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if tail(bad, passed, middle) > 1 - confidence else (low, middle)
    return high
