"""How well verdicts agree with labels, with bootstrap intervals. Plain arrays in, plain numbers out."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

Array = np.ndarray[Any, Any]
RESAMPLES = 1000
AT_ONCE = 2_000_000  # numbers drawn at once, where groups are resampled


class Interval(NamedTuple):
    """A statistic of the whole sample, and the 95 % bootstrap interval around it (percentiles 2.5 and 97.5)."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} ({self.low:.3f} to {self.high:.3f})"

    def to_json(self) -> dict[str, float | None]:
        """mean, low and high to four places; None for what is not a number."""
        return {name: round(value, 4) if math.isfinite(value) else None for name, value in self._asdict().items()}


def bootstrap(values: Array, statistic: Callable[[Array], float], n: int = RESAMPLES, seed: int = 0) -> Interval:
    """values: [N, ...], one row an item; statistic: of such rows. Resamples rows with replacement, n times."""
    values = np.asarray(values)
    replicates = [statistic(values[rows]) for rows in _resamples(len(values), n, seed)]
    return _interval(statistic(values), replicates)


def paired_bootstrap(
    first: Array, second: Array, statistic: Callable[[Array], float], n: int = RESAMPLES, seed: int = 0
) -> Interval:
    """statistic(first) - statistic(second), where row i of both is the same item: both are resampled alike."""
    first, second = np.asarray(first), np.asarray(second)
    if len(first) != len(second):
        raise ValueError(f"a paired bootstrap needs the same items in both, not {len(first)} and {len(second)}")
    replicates = [statistic(first[rows]) - statistic(second[rows]) for rows in _resamples(len(first), n, seed)]
    return _interval(statistic(first) - statistic(second), replicates)


def resampled_counts(
    cell: Int[Array, " N"], cells: int, groups: Int[Array, " N"] | None = None, n: int = RESAMPLES, seed: int = 0
) -> Float[Array, "n cells"]:
    """How often each cell comes up in each of n resamples, all at once. cell: [N] that of each item, from 0.

    groups: [N] any numbers, the same for items that tell of each other: groups are resampled whole. Items that are each
    a group of their own need no drawing one by one: what comes of all draws together is multinomial.
    """
    random = np.random.default_rng(seed)
    of = np.arange(len(cell)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1].ravel()
    count = int(of.max()) + 1
    if count == len(cell):
        return random.multinomial(count, np.bincount(cell, minlength=cells) / count, size=n).astype(float)
    both, times = np.unique(of * cells + cell, return_counts=True)
    group, place = np.divmod(both, cells)
    at_once = max(1, AT_ONCE // (count + len(both)))
    parts: list[Array] = [np.zeros((0, cells))]
    for start in range(0, n, at_once):
        rows = np.arange(min(at_once, n - start))[:, None]
        draws = random.integers(0, count, (len(rows), count))
        drawn = np.bincount((rows * count + draws).ravel(), minlength=len(rows) * count).reshape(len(rows), count)
        sums = np.bincount(
            (rows * cells + place).ravel(), (drawn[:, group] * times).ravel(), minlength=len(rows) * cells
        )
        parts.append(sums.reshape(len(rows), cells))
    return np.concatenate(parts)


def _resamples(count: int, n: int, seed: int) -> list[Array]:
    if not count:
        raise ValueError("there is nothing to resample")
    random = np.random.default_rng(seed)
    return [random.integers(0, count, count) for _ in range(n)]


def _interval(whole: float, replicates: Sequence[float]) -> Interval:
    numbers = np.asarray(replicates, dtype=float)
    numbers = numbers[~np.isnan(numbers)]  # a statistic may be no number of some resamples, or of all
    low, high = np.percentile(numbers, [2.5, 97.5]) if len(numbers) else (math.nan, math.nan)
    return Interval(float(whole), float(low), float(high))


def average_precision(relevant: Bool[Array, " N"], scores: Float[Array, " N"]) -> float:
    """Sum over the thresholds of (recall step) x precision, no interpolation; equal scores are one threshold.

    NaN where nothing is relevant, since then there is no recall.
    """
    relevant, scores = np.asarray(relevant, dtype=bool), np.asarray(scores, dtype=float)
    if not relevant.any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    found = np.cumsum(relevant[order])
    last = np.append(np.diff(scores[order]) != 0, True)  # the last item of each run of equal scores
    precision = (found / np.arange(1, len(found) + 1))[last]
    recall = found[last] / found[-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def spearman(a: Float[Array, " N"], b: Float[Array, " N"]) -> float:
    """Spearman's rank correlation; equal values share their mean rank. nan where either is the same everywhere."""
    ranks = [_ranks(values) for values in (a, b)]
    if any(np.ptp(side) == 0 for side in ranks):
        return float("nan")
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _ranks(values: Array) -> Array:
    """Ranks from 0; equal values share their mean rank."""
    _, where, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Array = (np.cumsum(counts) - (counts + 1) / 2)[where]
    return ranks


def precision_recall_f1(actual: Bool[Array, " N"], predicted: Bool[Array, " N"]) -> tuple[float, float, float]:
    """0 where a denominator is 0: nothing predicted, or nothing to find."""
    both = float(np.sum(actual & predicted))
    precision = both / max(1.0, float(np.sum(predicted)))
    recall = both / max(1.0, float(np.sum(actual)))
    return precision, recall, 2 * precision * recall / (precision + recall) if both else 0.0


def confusion_matrix(
    labels: Int[Array, " N"], predicted: Int[Array, " N"], classes: int
) -> Int[Array, "classes classes"]:
    """Counts: a row is a true class, a column a predicted one."""
    return np.bincount(np.asarray(labels) * classes + np.asarray(predicted), minlength=classes**2).reshape(
        classes, classes
    )


METRICS = ("precision", "recall", "f1", "ap")


def binary_metrics(probabilities: Array, labels: Array, threshold: float = 0.5) -> Float[Array, "4"]:
    """Precision, recall, F1, AP with class 0 (available) as positive, predicted where its probability >= threshold."""
    positive = labels == 0
    score = probabilities[:, 0]
    return np.array([*precision_recall_f1(positive, score >= threshold), average_precision(positive, score)])


def macro_metrics(probabilities: Array, labels: Array) -> Float[Array, "4"]:
    """The mean over the classes that occur of precision, recall, F1 (likeliest class) and AP (one against the rest)."""
    predicted = probabilities.argmax(1)
    rows = [
        [*precision_recall_f1(labels == c, predicted == c), average_precision(labels == c, probabilities[:, c])]
        for c in np.unique(labels)
    ]
    return np.mean(rows, axis=0)


@dataclass(frozen=True)
class Agreement:
    """How a classifier's probabilities agree with labels. Keys of `binary` and `macro`: METRICS."""

    names: tuple[str, ...]
    count: int
    accuracy: Interval
    binary: dict[str, Interval]  # class 0 against the rest
    macro: dict[str, Interval]
    confusion: Array  # rows: true class

    def to_json(self) -> dict[str, Any]:
        """Plain lists and numbers, intervals as {mean, low, high}."""
        kinds = {"binary": self.binary, "macro": self.macro}
        return {
            "classes": list(self.names),
            "count": self.count,
            "accuracy": self.accuracy.to_json(),
            **{kind: {name: value.to_json() for name, value in found.items()} for kind, found in kinds.items()},
            "confusion": self.confusion.tolist(),
        }


def agreement(
    probabilities: Float[Array, "N classes"],
    labels: Int[Array, " N"],
    names: Sequence[str],
    *,
    threshold: float = 0.5,
    n: int = RESAMPLES,
    seed: int = 0,
) -> Agreement:
    """Every metric with its bootstrap interval, and the confusion matrix. Raises ValueError for NaN or no items."""
    probabilities, labels = np.asarray(probabilities, dtype=float), np.asarray(labels)
    if probabilities.shape != (len(labels), len(names)) or not np.isfinite(probabilities).all():
        raise ValueError(f"probabilities must be finite and [{len(labels)}, {len(names)}]: {probabilities.shape}")

    def everything(rows: Array) -> Array:
        p, y = probabilities[rows], labels[rows]
        accurate = float(np.mean(p.argmax(1) == y))
        return np.concatenate([[accurate], binary_metrics(p, y, threshold), macro_metrics(p, y)])

    whole = everything(np.arange(len(labels)))
    replicates = np.stack([everything(rows) for rows in _resamples(len(labels), n, seed)])
    found = [_interval(float(whole[i]), replicates[:, i].tolist()) for i in range(len(whole))]
    return Agreement(
        names=tuple(names),
        count=len(labels),
        accuracy=found[0],
        binary=dict(zip(METRICS, found[1:5], strict=True)),
        macro=dict(zip(METRICS, found[5:9], strict=True)),
        confusion=confusion_matrix(labels, probabilities.argmax(1), len(names)),
    )
