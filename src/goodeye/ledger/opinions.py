"""What people and judges said of attempts: the one writer of votes and comparisons, within whoever's transaction."""

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any, get_args

from sqlalchemy import Connection, or_, select

from goodeye.ledger import schema
from goodeye.ledger.asks import Person
from goodeye.ledger.rows import Choice, ComparisonRow, VoteRow
from goodeye.ledger.schema import Attempt, Brief, Comparison, Vote
from goodeye.ledger.sql import columns, insert_row, named, of_run, storable

THERE = select(Attempt.id).where(Attempt.id.in_(named("ids", many=True)))
ASIDE = select(Person.name).where(Person.aside)  # whose votes and comparisons do not count


def store_vote(
    connection: Connection,
    attempt_id: int,
    person: str,
    label: str,
    axes: Mapping[str, float] | None = None,
    seconds: float = 0.0,
    created: datetime | None = None,
    chosen: str = "",
) -> int:
    """Records a vote and returns its id (see `Ledger.vote`). chosen: why the person was asked, if someone knows."""
    if not all(math.isfinite(score) for score in (axes or {}).values()):
        raise ValueError(f"{person} scored {axes}: not numbers to record")
    if connection.scalar(THERE, {"ids": [attempt_id]}) is None:
        raise ValueError(f"there is no attempt {attempt_id} to vote on")
    values = {
        "attempt_id": attempt_id,
        "person": storable(person),
        "label": storable(label),
        "axes": dict(axes or {}),
        "seconds": seconds,
        "created": created or schema.now(),
        "chosen": chosen,
    }
    return insert_row(connection, Vote, values)


def store_comparison(
    connection: Connection,
    left_attempt: int,
    right_attempt: int,
    by: str,
    axis: str,
    choice: Choice,
    swapped: bool = False,
    *,
    version: str | None = None,
    created: datetime | None = None,
) -> int:
    """Records a comparison and returns its id (see `Ledger.compare`)."""
    if choice not in get_args(Choice) or left_attempt == right_attempt:
        raise ValueError(f"{by} chose {choice} of attempts {left_attempt} and {right_attempt}: not a comparison")
    both = [left_attempt, right_attempt]
    if len(connection.scalars(THERE, {"ids": both}).all()) != 2:
        raise ValueError(f"attempts {left_attempt} and {right_attempt} are not both on record")
    names = {"left_attempt": left_attempt, "right_attempt": right_attempt, "axis": axis, "swapped": swapped}
    names |= {"judge": None, "version": None} if version is None else {"judge": storable(by), "version": version}
    known = select(Comparison.id).where(*(getattr(Comparison, name) == value for name, value in names.items()))
    person = storable(by) if version is None else None
    values = {**names, "person": person, "choice": choice, "created": created or schema.now()}
    return insert_row(connection, Comparison, values, known)


def votes_in(connection: Connection, run_id: int | None) -> list[VoteRow]:
    """The votes that count, of one run or of all, oldest first."""
    query = select(*columns(Vote)).where(Vote.person.not_in(ASIDE)).order_by(Vote.id)
    if run_id is not None:
        query = query.join(Attempt, Vote.attempt_id == Attempt.id).join(Brief, Attempt.brief_id == Brief.id)
        query = query.where(Brief.run_id == run_id)
    return [VoteRow(**row) for row in connection.execute(query).mappings()]


def comparisons_in(connection: Connection, *where: Any) -> list[ComparisonRow]:
    """The comparisons that count and fit, oldest first."""
    counts = or_(Comparison.person.is_(None), Comparison.person.not_in(ASIDE))
    query = select(*columns(Comparison)).where(counts, *where).order_by(Comparison.id)
    return [ComparisonRow(**row) for row in connection.execute(query).mappings()]


def beside(run_id: int) -> Any:
    """That an attempt of the run stands on either side."""
    mine = of_run(run_id)
    return Comparison.left_attempt.in_(mine) | Comparison.right_attempt.in_(mine)
