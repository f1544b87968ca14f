"""How far people agree beyond chance."""

from typing import Any

import numpy as np
from jaxtyping import Float

Array = np.ndarray[Any, Any]


def krippendorff_alpha(counts: Float[Array, "items labels"]) -> float:
    """Krippendorff's alpha for names without order (Krippendorff 2011, "Computing Krippendorff's alpha-reliability").

    counts: how many people gave each item each label; items with fewer than two labels tell nothing. 1 is full
    agreement, 0 what chance gives. NaN where no item has two, or where everybody always said the same.
    """
    counts = np.asarray(counts, dtype=float)
    counts = counts[counts.sum(1) >= 2]
    people = counts.sum(1, keepdims=True)
    total = people.sum()
    if not total:
        return float("nan")
    agreeing = (counts * (counts - 1) / (people - 1)).sum()
    labels = counts.sum(0)
    by_chance = (labels * (labels - 1)).sum() / (total - 1)
    if by_chance == total:
        return float("nan")
    return float((agreeing - by_chance) / (total - by_chance))
