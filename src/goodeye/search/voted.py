"""What people chose between two answers, as pairs that the model learns from: a grid of one row and two columns.

HPIR ("Aligning Vision Models with Human Aesthetics in Retrieval", section 4) reads a model's choice between two rows of
pictures off their mean similarities. So a row that people preferred is to have the higher mean (ours); nothing is said
of its pictures one by one, for people said nothing of them. A single picture is a row of one. Accuracy and beauty give
pairs alike, as the columns and the rows of the ordered grid do; where people disagree, each one's word is a pair.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from goodeye.errors import BadInput
from goodeye.ledger.ledger import Ledger
from goodeye.ledger.training import Preference, Preferences, preferences
from goodeye.search.embed import embed_texts, token_count, token_limit
from goodeye.search.index import Index, own_name, with_own
from goodeye.search.ranked import Grids

if TYPE_CHECKING:
    from goodeye.judging.clip import Clip


def read_preferences(ledger: str | Path, images: str | Path | None = None, runs: Collection[int] = ()) -> Preferences:
    """What people chose on a ledger, by folder or URL (`goodeye.ledger.training.preferences`).

    images: the folder of the pictures, of a ledger in a database. runs: only of these. Raises BadInput where there is
    no ledger, and where nobody chose anything.
    """
    with Ledger.open(ledger, images, create=False) as opened:
        return preferences(opened, runs)


def voted_pairs(index: Index, clip: "Clip", preferred: Sequence[Preference]) -> Grids:
    """Each choice as a query with two rows of pictures, the better one first, N = 2.

    Left out are choices on pictures that the index does not have, and on queries that the model cannot read whole.
    Similarities of the start model are taken from the index's own embeddings. Raises BadInput where none is left.
    """
    known = with_own(index.names())
    kept = list[tuple[str, list[list[int]]]]()
    for one in preferred:
        both = [_rows(side, known) for side in (one.better, one.worse)]
        if all(both) and token_count(one.query, clip) <= token_limit(clip):
            kept.append((one.query, both))
    if not kept:
        name = preferred[0].better[0][-1] if preferred else "no picture"
        raise BadInput(
            f"none of the {len(preferred)} choices of people is on pictures of {index.folder} (the first: {name}). "
            "Index the ledger's own pictures: goodeye search index LEDGER/images."
        )
    longest = max(len(side) for _, sides in kept for side in sides)
    rows = np.full((len(kept), 2, longest), -1, dtype=np.int64)
    reference = np.zeros((len(kept), 2), dtype=np.float32)
    texts = list(dict.fromkeys(query for query, _ in kept))
    vectors = dict(zip(texts, embed_texts(texts, clip), strict=True))
    for at, (query, sides) in enumerate(kept):
        for which, side in enumerate(sides):
            rows[at, which, : len(side)] = side
            reference[at, which] = (index.vectors[side] @ vectors[query]).mean()
    queries = [query for query, _ in kept]
    return Grids(queries, queries, rows.reshape(len(kept), -1), torch.from_numpy(reference))


def _rows(side: Sequence[Sequence[str]], known: Mapping[str, int]) -> list[int]:
    """The rows of all of a side's pictures; none where one is lacking."""
    found = [
        next((known[one] for name in names for one in (name, own_name(name)) if one in known), -1) for names in side
    ]
    return [] if -1 in found else found
