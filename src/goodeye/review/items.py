"""What is known of each attempt, drawn together into one row, so that a million can be filtered, sorted and handed out.

The other tables stay the truth: `refresh` makes an item from them anew, and `catch_up` does so for what other programs
recorded since the last look.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import median
from typing import Any

from sqlalchemy import Connection, func, insert, select, text, union_all, update

from goodeye.ledger.asks import Ask, Identity, Item, Mark, Pair
from goodeye.ledger.database import LOCK_WAIT, WRITING, DatabaseTrouble, plain_errors
from goodeye.ledger.ledger import Ledger
from goodeye.ledger.opinions import ASIDE
from goodeye.ledger.rows import HIGHEST
from goodeye.ledger.sample import scattered
from goodeye.ledger.schema import Attempt, Brief, Pick, Verdict, Vote
from goodeye.ledger.sql import columns, named

ALONE = text("SELECT pg_advisory_xact_lock(:key)")
REVIEW_LOCK = 0x60_0D_E20  # PostgreSQL advisory lock: who hands out or takes in does so alone, for milliseconds
PORTION = 500  # attempts brought up to date in one transaction, so that nobody waits long
LOOK_BACK = 200  # rows looked at again on PostgreSQL, where a row with a smaller id may appear later
MAIN_AXIS = "available"  # where a judge has no such axis, its first
NO_SCORE = -1.0
SCALES = {"edit": ("following", "preserving", "quality")}  # a job's axes, each scored in the place of a label
JUDGED_TO = {"edit": HIGHEST, "synth": 100}  # a job's highest score by its judges; 1 of the others
NOT_ASKED = ("synth",)  # jobs of which people are asked nothing: no label of ads fits a picture to learn from
NEVER = -1  # priority and place of an attempt of these: before all others, so that an index passes over them
SIDES: Mapping[Any, str] = {Pair.left_attempt: "left", Pair.right_attempt: "right"}
SOURCES: Mapping[str, tuple[Any, Any]] = {
    "attempts": (Attempt.id, Attempt.id),
    "verdicts": (Verdict.id, Verdict.attempt_id),
    "votes": (Vote.id, Vote.attempt_id),
    "picks": (Pick.id, Pick.attempt_id),
}


@contextmanager
def reading(ledger: Ledger) -> Iterator[Connection]:
    """A connection to read with. On PostgreSQL each statement is a transaction of its own, as what it sees is anyway:
    to begin and end one around them would ask the server twice more."""
    with plain_errors(ledger.where), ledger.engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            connection.execution_options(isolation_level="AUTOCOMMIT")
        yield connection


@contextmanager
def writing(ledger: Ledger) -> Iterator[Connection]:
    """A transaction beside which no other of the web app runs: SQLite's write lock, or PostgreSQL's advisory one.

    The threads of this process take turns before they ask for either: who finds SQLite's lock taken sleeps ever
    longer before looking again, while later ones pass it by. And who waits for a turn holds no connection, so that a
    crowd does not open one each.
    """
    with (
        plain_errors(ledger.where),
        _turn(ledger),
        ledger.engine.execution_options(**WRITING).connect() as connection,
        connection.begin(),
    ):
        if connection.dialect.name == "postgresql":
            connection.execute(ALONE, {"key": REVIEW_LOCK})
        yield connection


@contextmanager
def _turn(ledger: Ledger) -> Iterator[None]:
    if not ledger.turn.acquire(timeout=LOCK_WAIT):
        raise DatabaseTrouble(f"The ledger {ledger.where} is busy: too many are writing there. Try again.")
    try:
        yield
    finally:
        ledger.turn.release()


def key_of(ledger: Ledger) -> str:
    """The ledger's own key: what was asked of people there is to be answered there."""
    with reading(ledger) as connection:
        return connection.execute(select(Identity.key)).scalar_one()


def catch_up(ledger: Ledger, on_items: Callable[[int], None] = lambda count: None) -> int:
    """Brings the items up to date with what was recorded since; returns how many were looked at.

    on_items: called with the size of each portion, for a progress bar. Votes, verdicts and picks that someone deletes
    by hand are not noticed.
    """
    _begin(ledger)
    done = 0
    for source in SOURCES:
        while count := _take_in(ledger, source):
            done += count
            on_items(count)
    return done


def _begin(ledger: Ledger) -> None:
    """On the first look an attempt's item takes in all that is known of it, so the other sources start at their end."""
    with reading(ledger) as connection:
        if connection.scalar(select(Mark.upto).limit(1)) is not None:
            return
    with writing(ledger) as connection:
        known = set(connection.scalars(select(Mark.source)))
        for source, (row, _attempt) in SOURCES.items():
            if source not in known:
                last = 0 if source == "attempts" else connection.scalar(select(func.max(row))) or 0
                connection.execute(insert(Mark).values(source=source, upto=last))


def _take_in(ledger: Ledger, source: str) -> int:
    row, attempt = SOURCES[source]
    with reading(ledger) as connection:
        upto = connection.scalar(select(Mark.upto).where(Mark.source == source)) or 0
        new = connection.execute(select(row, attempt).where(row > upto).order_by(row).limit(PORTION)).all()
        last = connection.dialect.name == "postgresql" and len(new) < PORTION
        late = _late(connection, row, attempt, upto) if last else set()
        if not new and not late:
            return 0
    with writing(ledger) as connection:
        refresh(connection, {*late, *(one[1] for one in new)})
        if new:
            ahead = update(Mark).where(Mark.source == source, Mark.upto < new[-1][0]).values(upto=new[-1][0])
            connection.execute(ahead)
    return len(new)


def _late(connection: Connection, row: Any, attempt: Any, upto: int) -> set[int]:
    """The attempts of the last rows taken in whose items lack something: a row may appear after one of a larger id."""
    ids = set(connection.scalars(select(attempt).where(row > upto - LOOK_BACK, row <= upto)))
    have = _have(connection, ids)
    return {one["attempt_id"] for one in _items(connection, sorted(ids)) if one != have.get(one["attempt_id"])}


def refresh(connection: Connection, attempts: Iterable[int]) -> None:
    """Makes the items of these attempts anew from the other tables. Only what has changed is written: an item lies in
    so many indexes that writing all of it takes longer than all else that a vote does."""
    ids = sorted(set(attempts))
    for start in range(0, len(ids), PORTION):
        some = ids[start : start + PORTION]
        have = _have(connection, some)
        new, changed = [], defaultdict(list)
        for row in _items(connection, some):
            before = have.get(row["attempt_id"])
            if before is None:
                new.append(row)
            elif other := {name: value for name, value in row.items() if value != before[name]}:
                changed[tuple(other)].append({"changed": row["attempt_id"], **other})
        for rows in changed.values():
            connection.execute(CHANGE, rows)
        if new:
            connection.execute(insert(Item), new)


def _have(connection: Connection, ids: Iterable[int]) -> dict[int, dict[str, Any]]:
    """The items as they stand."""
    return {one["attempt_id"]: dict(one) for one in connection.execute(ITEMS, {"ids": list(ids)}).mappings()}


def _items(connection: Connection, ids: Sequence[int]) -> list[dict[str, Any]]:
    attempts = connection.execute(ATTEMPTS, {"ids": ids})
    verdicts, votes, picks = (_grouped(connection, query, ids) for query in (VERDICTS, VOTES, PICKS))
    flags = {attempt: {row.person for row in rows} for attempt, rows in _grouped(connection, FLAGS, ids).items()}
    return [
        {
            "attempt_id": one.id,
            "run_id": one.run_id,
            "job": one.job,
            "flags": len(flags.get(one.id, ())),
            "picked": ("kept" if picks[one.id][-1].kept else "rejected") if picks[one.id] else "",
            "shuffle": scattered(one.id),
            **measured(
                [(row.label, row.scores) for row in verdicts[one.id]],
                list({row.person: row.label for row in votes[one.id]}.values()),
                JUDGED_TO.get(one.job, 1),
                list({row.person: row.axes for row in votes[one.id]}.values()) if one.job in SCALES else (),
            ),
            **({"priority": NEVER, "shuffle": NEVER} if one.job in NOT_ASKED else {}),
        }
        for one in attempts
    ]


def flags_at(side: Any) -> Any:
    """The attempts at that side of pairs which were flagged for it: who flags a pair says which side, or both."""
    query = select(side).join(Ask, Ask.pair_id == Pair.id)
    return query.where(Ask.outcome == "flagged", Ask.answer.in_(("", SIDES[side], "similar")))


def _flags() -> Any:
    """Who of those who count flagged each attempt, alone or as a side of a pair."""
    asked = [(Ask.attempt_id, select(Ask.attempt_id).where(Ask.outcome == "flagged"))]
    asked += [(side, flags_at(side).with_only_columns(side.label("attempt_id"))) for side in SIDES]
    counts = Ask.person.not_in(ASIDE)
    return union_all(*(query.add_columns(Ask.person).where(side.in_(IDS), counts) for side, query in asked))


def _grouped(connection: Connection, query: Any, ids: Sequence[int]) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = defaultdict(list)
    for row in connection.execute(query, {"ids": ids}):
        found[row.attempt_id].append(row)
    return found


# Made once: making a statement takes several times as long as asking it.
IDS = named("ids", many=True)
ITEMS = select(*columns(Item)).where(Item.attempt_id.in_(IDS))
ATTEMPTS = select(Attempt.id, Brief.run_id, Brief.job).join(Brief, Attempt.brief_id == Brief.id)
ATTEMPTS = ATTEMPTS.where(Attempt.id.in_(IDS))
VERDICTS = select(Verdict.attempt_id, Verdict.label, Verdict.scores).where(Verdict.attempt_id.in_(IDS))
VERDICTS = VERDICTS.order_by(Verdict.id)
VOTES = select(Vote.attempt_id, Vote.person, Vote.label, Vote.axes).where(
    Vote.attempt_id.in_(IDS), Vote.person.not_in(ASIDE)
)
VOTES = VOTES.order_by(Vote.id)
PICKS = select(Pick.attempt_id, Pick.kept).where(Pick.attempt_id.in_(IDS)).order_by(Pick.id)
FLAGS = _flags()
CHANGE = update(Item).where(Item.attempt_id == named("changed"))


def measured(
    verdicts: Sequence[tuple[str, Mapping[str, float]]],
    votes: Sequence[str],
    highest: float = 1,
    scored: Sequence[Mapping[str, float]] = (),
) -> dict[str, Any]:
    """What verdicts (label and scores, the first judge's first) and votes (labels) say together.

    With p the main score of a judge as a part of the highest, in [0, 1], unsure is 1 - |2p - 1|. A picture's priority
    is unsure + how far the judges' p lie apart + the share of votes against the judge + the share of votes against most
    voters (ours). scored: what each vote gives on each axis, where people score: a score is against another where they
    lie more than one apart, against most voters where it lies so far from their median.
    """
    scores = [_main(given) for _label, given in verdicts]
    chances = [p / highest for p in scores if p is not None and 0 <= p <= highest]
    label = verdicts[0][0] if verdicts else ""
    score = scores[0] if scores and scores[0] is not None else NO_SCORE
    counts = Counter(votes)
    vote, most = min(counts.items(), key=lambda one: (-one[1], one[0])) if counts else ("", 0)
    against = sum(one != label for one in votes) / len(votes) if votes and label else 0.0
    split = 1 - most / len(votes) if votes else 0.0
    if scored:
        axes = {axis for one in scored for axis in one}
        middle = {axis: median(one[axis] for one in scored if axis in one) for axis in axes}
        against, split = _far(scored, verdicts[0][1] if verdicts else {}), _far(scored, middle)
    unsure = 1 - abs(2 * chances[0] - 1) if chances else 0.0
    spread = max(chances) - min(chances) if chances else 0.0
    return {
        "label": label,
        "score": score,
        "unsure": unsure,
        "disagreement": against,
        "priority": unsure + spread + against + split,
        "votes": len(votes),
        "vote": vote,
    }


def _far(scored: Sequence[Mapping[str, float]], than: Mapping[str, float]) -> float:
    """The share of scores that lie more than one from those on the same axis; 0 where there are none to compare."""
    apart = [abs(score - than[axis]) > 1 for one in scored for axis, score in one.items() if axis in than]
    return sum(apart) / len(apart) if apart else 0.0


def _main(scores: Mapping[str, float]) -> float | None:
    return scores.get(MAIN_AXIS, next(iter(scores.values()), None))
