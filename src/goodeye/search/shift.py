"""Query shift: beauty, and what to keep away, inside the search itself.

A linear aesthetic head scores a unit embedding x by b + w . x (`goodeye.judging.aesthetic`). So
cos(q, x) + lambda (b + w . x) - mu cos(n, x) = (q + lambda w - mu n) . x + const: to rank a whole index by relevance
and beauty together takes one query, moved, on the index as it is. No second stage (ours).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from goodeye.search.vectors import Vector, Vectors


def shift(query: Vector, head: Vector | None = None, lam: float = 0.0, away: Vectors | None = None) -> Vector:
    """query + lam * head - the sum of `away`. query, head: [D]; away: [M, D], each already times its weight.

    The result is not of length 1, and must not be made so: only the order of its inner products counts.
    Raises ValueError where the sizes differ or a number is not finite.
    """
    moved: Vector = np.array(query, dtype=np.float32)
    if head is not None:
        moved = moved + np.float32(lam) * _like(head, moved)
    for one in away if away is not None else ():
        moved = moved - _like(one, moved)
    if moved.ndim != 1 or not np.isfinite(moved).all():
        raise ValueError("a query is a row of finite numbers")
    return moved


def _like(vector: Vector, query: Vector) -> Vector:
    if np.shape(vector) != query.shape:
        raise ValueError(f"the query has {list(query.shape)} numbers and what moves it {list(np.shape(vector))}")
    return np.asarray(vector, dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Scale:
    """How far similarities and beauty spread over an index, from a sample of it: what makes their weights comparable.

    sample: [S, D], rows of the index. head: w, [D], or None.
    """

    sample: Vectors
    head: Vector | None = None

    def similarities(self, query: Vector) -> Vector:
        """The sample's own, [S]: what this query gives to pictures at large."""
        return self.sample @ query

    @cached_property
    def beauty(self) -> float:
        """The standard deviation of w . x over the sample; 0 without a head."""
        return float((self.sample @ self.head).std()) if self.head is not None else 0.0

    def lam(self, taste: float, query: Vector) -> float:
        """lambda = taste * sd(q . x) / sd(w . x): z-scores, so that at taste 1 one standard deviation of beauty
        weighs as much as one of similarity, whatever the head's unit and the query (ours). 0 where beauty is the
        same everywhere."""
        return taste * float(self.similarities(query).std()) / self.beauty if self.beauty else 0.0
