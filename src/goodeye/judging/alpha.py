"""How far people agree beyond chance."""

from typing import Any

import numpy as np
from jaxtyping import Float

Array = np.ndarray[Any, Any]


def krippendorff_alpha(counts: Float[Array, "items labels"], values: Float[Array, " labels"] | None = None) -> float:
    """Krippendorff's alpha (Krippendorff 2011, "Computing Krippendorff's alpha-reliability"): for names without order,
    or for numbers, where two differ by the square of their distance.

    counts: how many people gave each item each label; items with fewer than two labels tell nothing. values: the number
    that each label stands for; None: names. 1 is full agreement, 0 what chance gives. NaN where no item has two, or
    where everybody always said the same.
    """
    counts = np.asarray(counts, dtype=float)
    counts = counts[counts.sum(1) >= 2]
    apart = 1 - np.eye(counts.shape[1]) if values is None else np.subtract.outer(values, values) ** 2
    people, labels = counts.sum(1), counts.sum(0)
    total = people.sum()
    by_chance = labels @ apart @ labels / (total - 1) if total else 0.0
    if not by_chance:
        return float("nan")
    seen = (np.einsum("ic,cd,id->i", counts, apart, counts) / (people - 1)).sum()
    return float(1 - seen / by_chance)
