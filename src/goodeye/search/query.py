"""Asking an index: relevance and taste in one search, a cutoff that adapts to the query, one pick of each group."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from goodeye.errors import BadInput
from goodeye.search.index import Index, Ints
from goodeye.search.shift import Scale, shift
from goodeye.search.vectors import Vector, Vectors

MOST = 10_000  # pictures of one answer
LARGEST = 1000  # of a weight
DEEP = 4096  # rows that are looked at for those that are relevant, if an answer lacks some


@dataclass(frozen=True, kw_only=True)
class Weights:
    """What counts in a search besides relevance.

    taste: beauty's weight; at 1 a standard deviation of it weighs as much as one of similarity. May be 0 or negative.
    avoid: the weight of what shall be kept away, in the same measure.
    cutoff: how much of the best picture's lead over the middle of the index a picture must have; 0 keeps all.
    """

    taste: float = 0.0
    avoid: float = 0.5
    cutoff: float = 0.6


@dataclass(frozen=True)
class Hit:
    """A picture found. score: what it was ranked by; beauty: the head's own score, None without a head.

    alike: how many pictures of the index are near-duplicates of it, itself among them.
    """

    name: str
    caption: str
    score: float
    similarity: float
    beauty: float | None
    alike: int


@dataclass(frozen=True)
class Found:
    """lam: the lambda of the query shift. cut: how many of those looked at were not relevant enough, and the similarity
    below which they were."""

    hits: list[Hit]
    lam: float
    cut: int
    threshold: float | None


def find(
    index: Index,
    query: Vector,
    k: int = 20,
    weights: Weights | None = None,
    *,
    head: Vector | None = None,
    bias: float = 0.0,
    away: Vectors | None = None,
    groups: bool = True,
) -> Found:
    """The k best pictures by cos(q, x) + lambda (b + w . x) - mu cos(n, x), as one shifted query.

    query: [D] of length 1; head, bias: w [D] and b; away: [M, D], texts to keep away from. groups: show one picture of
    each near-duplicate group, the best by score. Fewer than k where no more are relevant enough.
    Raises BadInput for an empty index and a k that makes no sense.
    """
    weights = weights or Weights()
    _require(index, k, weights)
    if weights.taste and head is None:
        raise BadInput(f"{index.folder} has no taste. Fit one by `goodeye search fit-taste`, or name a head.")
    scale = Scale(index.sample, head)
    lam = scale.lam(weights.taste, query) if head is not None else 0.0
    moved = shift(query, head if lam else None, lam, _away(scale, query, away, weights.avoid))
    plain = moved if np.array_equal(moved, query) else query
    middle = float(np.median(scale.similarities(query)))
    fetch, most = min(4 * k, len(index)), min(max(16 * k, DEEP), len(index))
    while True:
        first, nearest, threshold = _fetch(index, moved, plain, fetch, middle, weights.cutoff)
        kept = _relevant(index, first, query, threshold)
        cut = len(first) - len(kept)
        picks = _one_each(index, kept) if groups else kept
        if len(picks) >= k:
            break
        close = _relevant(index, nearest, query, threshold)
        if len(close) < len(nearest) or fetch >= most:  # all that is relevant is known, whatever taste puts before it
            kept = np.union1d(kept, close)
            kept = kept[np.argsort(-(index.vectors[kept] @ moved), kind="stable")]
            picks = _one_each(index, kept) if groups else kept
            break
        fetch = min(4 * fetch, most)
    hits = [_hit(index, int(row), query, moved, head, bias) for row in picks[:k]]
    return Found(hits, lam, cut, threshold)


def _require(index: Index, k: int, weights: Weights) -> None:
    if not len(index):
        raise BadInput(f"{index.folder} holds no pictures. Add some by `goodeye search index`.")
    if not 1 <= k <= MOST:
        raise BadInput(f"{k} pictures cannot be asked for. Ask for 1 to {MOST}.")
    if not all(abs(one) <= LARGEST for one in (weights.taste, weights.avoid, weights.cutoff)):  # nor where one is NaN
        raise BadInput(f"a weight is not a number from -{LARGEST} to {LARGEST}. Correct taste, avoid or cutoff.")


def _away(scale: Scale, query: Vector, away: Vectors | None, weight: float) -> Vectors | None:
    """What is kept away, each text's similarities as widely spread as the query's, times the weight."""
    if away is None or not len(away):
        return None
    spread = float(scale.similarities(query).std())
    return np.stack(
        [one * np.float32(weight * spread / max(float(scale.similarities(one).std()), 1e-9)) for one in away]
    )


def _fetch(
    index: Index, moved: Vector, plain: Vector, count: int, middle: float, cutoff: float
) -> tuple[Ints, Ints, float | None]:
    """The first `count` rows by the moved query, the first by the query as it was, and the similarity from which a
    picture is relevant.

    That is middle + cutoff (best - middle): `best` of the query as it was, `middle` the median over a sample of the
    index. It adapts to the query: a flat one does not, since what is a high similarity for one text is low for another.
    """
    both = [moved] if plain is moved or cutoff <= 0 else [moved, plain]
    scores, rows = index.search(np.stack(both), count)
    first, nearest = (line[line >= 0] for line in (rows[0], rows[-1]))
    best = float(scores[-1, 0])
    return first, nearest, middle + cutoff * (best - middle) if cutoff > 0 and best > middle else None


def _relevant(index: Index, rows: Ints, query: Vector, threshold: float | None) -> Ints:
    return rows if threshold is None else rows[index.vectors[rows] @ query >= threshold]


def _one_each(index: Index, rows: Ints) -> Ints:
    """The first row of each near-duplicate group, in the order given."""
    _, first = np.unique(index.groups[rows], return_index=True)
    return rows[np.sort(first)]


def _hit(index: Index, row: int, query: Vector, moved: Vector, head: Vector | None, bias: float) -> Hit:
    vector = index.vectors[row]
    name, caption = index.row(row)
    return Hit(
        name=name,
        caption=caption,
        score=float(moved @ vector),
        similarity=float(query @ vector),
        beauty=float(head @ vector) + bias if head is not None else None,
        alike=int(index.group_sizes[index.groups[row]]),
    )


@dataclass(frozen=True)
class Answer:
    """An answer as the command gives it. asked: the words as they were; read: the words that were embedded. rephrased:
    the method that wrote these, if one did. failure: why a large model's rewriting could not be used, so that the query
    stands as it was; said: what it answered then."""

    index: Path
    asked: str
    read: str
    rephrased: str
    weights: Weights
    avoided: tuple[str, ...]
    found: Found
    notes: list[str] = field(default_factory=list)
    failure: str = ""
    said: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain lists and numbers."""
        return {
            "index": str(self.index),
            "query": self.asked,
            "read": self.read,
            "rephrased": self.rephrased,
            "failure": self.failure,
            "said": self.said,
            **vars(self.weights),
            "not": list(self.avoided),
            "lambda": self.found.lam,
            "threshold": self.found.threshold,
            "cut": self.found.cut,
            "images": [vars(hit) for hit in self.found.hits],
            "notes": self.notes,
        }
