"""What the votes so far promise of pictures that pass, and how many it still takes (see `goodeye ads calibrate`)."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np
from sqlalchemy import Connection, select

from goodeye.judging.promise import FEWEST, MOST, Counts, Promise, counts_of, needed, promise, steps
from goodeye.ledger.asks import Item
from goodeye.ledger.sample import chosen_in_doubt
from goodeye.ledger.schema import Attempt, Brief, Run, Verdict

MAX_BAD, CONFIDENCE = 0.05, 0.95  # what `goodeye ads calibrate` promises unless told otherwise
AVAILABLE, STOPPED = "available", "stopped"


@dataclass(frozen=True, kw_only=True)
class Promised:
    """Of one judge's scores of pictures by one model set: the promise, or about how many more pictures need a vote.

    still: None where more votes would not help as things stand; at_least: so many even if none of them is bad.
    """

    judge: str
    version: str
    models: str
    pictures: int
    bad: int
    promise: Promise | None
    still: int | None = None
    at_least: bool = False


def promised(connection: Connection, votes: Sequence[Any]) -> list[Promised]:
    """votes: the last of each person who counts on a picture. What most say of a picture counts; a tie is bad.

    Pictures that were chosen for a judge's doubt do not count. Scores are those on record, of finished pictures; a
    judge that has not seen a picture says nothing of it here.
    """
    said: dict[int, list[bool]] = defaultdict(list)
    doubtful = chosen_in_doubt(connection)
    for vote in votes:
        if vote.attempt_id not in doubtful:
            said[vote.attempt_id].append(vote.label != AVAILABLE)
    query = (
        select(Verdict.attempt_id, Verdict.judge, Verdict.version, Verdict.label, Verdict.scores, Brief.run_id)
        .join(Attempt, Verdict.attempt_id == Attempt.id)
        .join(Brief, Attempt.brief_id == Brief.id)
        .where(Brief.job == "ads", Verdict.attempt_id.in_(select(Item.attempt_id).where(Item.votes > 0)))
    )
    rows = [row for row in connection.execute(query) if row.attempt_id in said]
    unfinished = {row.attempt_id for row in rows if row.label == STOPPED}
    models = {row.id: _set_name(row.command) for row in connection.execute(select(Run.id, Run.command))}
    found: dict[tuple[str, str, str], dict[int, float]] = defaultdict(dict)
    for row in rows:
        p = row.scores.get(AVAILABLE)
        if p is not None and 0 <= p <= 1 and row.attempt_id not in unfinished:
            found[row.judge, row.version, models[row.run_id]][row.attempt_id] = p
    return [
        _promised(*maker, [(p, 2 * sum(said[one]) >= len(said[one])) for one, p in scores.items()])
        for maker, scores in sorted(found.items())
    ]


def _set_name(command: dict[str, Any]) -> str:
    """Of what made the pictures; where another set made the retries, of both: their promise is one of its own."""
    both = (command.get("models", ""), command.get("retry_models"))
    return ", retries by ".join(PurePath(str(one)).stem for one in both if one is not None)


def _promised(judge: str, version: str, models: str, voted: Sequence[tuple[float, bool]]) -> Promised:
    scores, bad = zip(*voted, strict=True)
    counts = counts_of(np.array(scores), np.array(bad))
    made = promise(counts, MAX_BAD, CONFIDENCE)
    still, at_least = (None, False) if made else missing(counts)
    return Promised(
        judge=judge,
        version=version,
        models=models,
        pictures=counts.votes,
        bad=sum(bad),
        promise=made,
        still=still,
        at_least=at_least,
    )


def missing(counts: Counts) -> tuple[int | None, bool]:
    """About how many more votes hold the promise at the rates seen, else the fewest that could; None: no number."""
    if told := needed(counts, MAX_BAD, CONFIDENCE):
        return max(1, told.votes - counts.votes), False
    first = max(FEWEST, int(steps(MOST, MAX_BAD, CONFIDENCE)[0]))
    return (first - counts.votes, True) if counts.votes < first else (None, False)
