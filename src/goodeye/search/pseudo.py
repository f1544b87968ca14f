"""Pseudo-queries: what people might ask for, to learn from; from an index's captions, a large model, or a file."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import Field

from goodeye.errors import BadInput
from goodeye.judging.large import Answer, Asked, BadAnswer, LargeModel
from goodeye.progress import progress
from goodeye.search.index import Index
from goodeye.search.source import one_line

AT_ONCE = 20  # queries that a large model is asked for together
EXAMPLES = 5  # captions that it is shown
PROMPT = (
    "Write {count} different queries that people would type into an image search, each of 2 to 12 words, in English. "
    "Say what the pictures show, not how beautiful they are. {examples}"
)


class Queries(Answer):
    queries: list[str] = Field(min_length=1, max_length=2 * AT_ONCE)


def from_captions(captions: Sequence[str], count: int, seed: int = 0, most: int | None = None) -> list[str]:
    """Up to `count` different beginnings of captions, cut at a comma or full stop: people ask shorter than captions
    tell (ours). Each caption gives one at most, of at most `most` parts; the order is random by seed."""
    random = np.random.default_rng(seed)
    found: dict[str, None] = {}
    for number in random.permutation(len(captions)):
        parts = [part.strip() for part in re.split(r"[,.;]", captions[number]) if part.strip()]
        if parts:
            found.setdefault(", ".join(parts[: int(random.integers(1, min(len(parts), most or len(parts)) + 1))]))
        if len(found) == count:
            break
    return list(found)


def from_model(model: LargeModel, captions: Sequence[str], count: int, seed: int = 0) -> list[str]:
    """`count` different queries by a large model that is shown some of the captions, if there are any.

    Fewer where the model says the same again and again. Raises BadInput where it gives no usable answer at all, and
    where the server fails; answers are cached, so the same call goes on where it was stopped.
    """
    random = np.random.default_rng(seed)
    found: dict[str, None] = {}
    why = ""
    with progress("asking for queries", count, "queries") as advance:
        for turn in range(3 * -(-count // AT_ONCE)):
            chosen = random.permutation(len(captions))[:EXAMPLES]
            shown = "; ".join(captions[number] for number in chosen)
            examples = f"The collection holds, for example: {shown}." if shown else f"This is request {turn + 1}."
            try:
                said = model.ask(Asked(PROMPT.format(count=AT_ONCE, examples=examples)), Queries).queries
            except BadAnswer as error:
                why = str(error)
                continue
            before = len(found)
            found |= dict.fromkeys(filter(None, map(one_line, said)))
            advance(min(count, len(found)) - min(count, before))
            if len(found) >= count:
                break
    if not found:
        raise BadInput(f"no query came of it: {why}. Use another model, or give queries in a file.")
    return list(found)[:count]


def read_queries(path: str | Path) -> list[str]:
    """A text file with one query a line. Raises BadInput for a file without any."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read as queries. Give a text file with one a line.") from error
    queries = list(dict.fromkeys(filter(None, map(one_line, lines))))
    if not queries:
        raise BadInput(f"{path} holds no queries. Write one a line.")
    return queries


def captions_of(index: Index) -> dict[int, str]:
    """Row and caption of every picture that has one and was not removed."""
    gone = set(index.removed.tolist())
    told = ((row, index.row(row)[1]) for row in range(index.card.rows) if row not in gone)
    return {row: caption for row, caption in told if caption}
