"""Taking in what people say: each answer once, whoever sends it how often, whole or not at all."""

import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from goodeye.errors import BadInput
from goodeye.ledger.asks import Ask, Pair, Person
from goodeye.ledger.ledger import Ledger
from goodeye.ledger.opinions import store_comparison, store_vote
from goodeye.ledger.rows import HIGHEST, SCORED
from goodeye.ledger.schema import Attempt, Brief, Comparison, Run, Shown, Vote, now
from goodeye.ledger.sql import columns, named, storable
from goodeye.review.items import SCALES, SIDES, flags_at, reading, refresh, writing
from goodeye.review.queue import has_said, open_ask, said_by_people

# The classes of the ads paper on keys 1 to 5, each with what a person reads. They are RFNet's first five.
LABELS = {
    "available": "Right as it is",
    "space_mismatch": "Stands nowhere",
    "size_mismatch": "Wrong size",
    "indistinctiveness": "Lost in the background",
    "shape_hallucination": "Grew parts",
}
CHOICES = ("left", "right", "similar")
OUTCOMES = ("answered", "skipped", "flagged")
STILL_OPEN = ("", "lapsed")  # a late answer counts, too
LONGEST_NOTE = 500
LONGEST = 3600.0  # seconds: whoever took longer was elsewhere


# Made once: making a statement takes several times as long as asking it.
ASK, PERSON, IDS = named("ask"), named("person"), named("ids", many=True)
ITS_ASK = (
    select(*columns(Ask), Run.job)
    .outerjoin(Attempt, Attempt.id == Ask.attempt_id)
    .outerjoin(Brief, Brief.id == Attempt.brief_id)
    .outerjoin(Run, Run.id == Brief.run_id)
    .where(Ask.id == ASK, Ask.person == PERSON)
)
CHANGE_ASK = update(Ask).where(Ask.id == ASK)
MY_VOTE = select(Vote.id).where(Vote.attempt_id == named("attempt"), Vote.person == PERSON)
ITS_PAIR = select(*columns(Pair)).where(Pair.id.in_(IDS))
CHANGE_PAIR = update(Pair).where(Pair.id == named("pair"))
MY_ASKS = select(Ask.id, Ask.kind, Ask.attempt_id, Ask.pair_id, Ask.swapped).where(
    Ask.id.in_(IDS), Ask.person == PERSON
)
IN_ROWS = select(Shown.attempt_id, Shown.image_sha).where(Shown.attempt_id.in_(IDS))
IN_ROWS = IN_ROWS.order_by(Shown.attempt_id, Shown.place)
WITH_BRIEFS = (
    select(*columns(Attempt), Brief.key, Brief.content, Brief.product_sha, Brief.run_id, Run.job)
    .join(Brief, Attempt.brief_id == Brief.id)
    .join(Run, Brief.run_id == Run.id)
    .where(Attempt.id.in_(IDS))
)
DONE = (
    select(func.count())
    .select_from(Ask)
    .where(Ask.person == PERSON, Ask.outcome == "answered", Ask.kind == named("kind"), Ask.answered >= named("since"))
)


class NotAsked(LookupError):
    """The person was never asked that."""


def answer(
    ledger: Ledger, person: str, ask_id: int, outcome: str, said: str = "", note: str = "", seconds: float = 0.0
) -> str:
    """Stores what came of an ask and returns what is on record for it: the first word counts, a second is not stored.

    outcome: answered, skipped or flagged. said: where answered, a label, which side of the screen was chosen (left,
    right, similar), or of an edit its scores in the order of its axes, as "5 4 3"; of a flagged pair the side that
    something is wrong with, similar or nothing for both. Raises NotAsked for another person's
    ask, and BadInput for an answer that is none.
    """
    with writing(ledger) as connection:
        ask = _ask(connection, person, ask_id)
        if ask.outcome not in STILL_OPEN:
            return ask.outcome
        if outcome not in OUTCOMES:
            raise BadInput(f"{outcome!r} is no outcome. Send one of {', '.join(OUTCOMES)}.")
        values: dict[str, Any] = {
            "outcome": outcome,
            "answered": now(),
            "note": storable(note)[:LONGEST_NOTE],
            "seconds": min(max(seconds, 0.0), LONGEST) if math.isfinite(seconds) else 0.0,
        }
        if outcome == "flagged" and ask.kind == "compare":
            values["answer"] = _unswapped(ask, said or "similar")
        if outcome == "answered":
            scale = SCALES.get(ask.job or "", ()) if ask.kind == "label" else ()  # on what its picture is scored
            values["answer"] = _scores(scale, said) if scale else _unswapped(ask, said)
            if ask.repeat_of is None:
                values |= _store(connection, ask, values, scale)
        connection.execute(CHANGE_ASK, {"ask": ask_id, **values})
        _recount(connection, ask, outcome == "flagged")
        return outcome


def _ask(connection: Connection, person: str, ask_id: int) -> Any:
    found = connection.execute(ITS_ASK, {"ask": ask_id, "person": person}).first()
    if found is None:
        raise NotAsked(f"{person} was not asked number {ask_id}")
    return found


def _scores(scale: Sequence[str], said: str) -> str:
    """The scores as they are kept: a whole number from 0 to 5 for each axis."""
    words = said.split()
    if len(words) != len(scale) or not all(re.fullmatch(f"[0-{HIGHEST}]", word) for word in words):
        raise BadInput(f"{said!r} is no answer here. Send {', '.join(scale)}, each from 0 to {HIGHEST}.")
    return " ".join(words)


def _unswapped(ask: Any, said: str) -> str:
    """The answer as it goes on record: a label, or which attempt of the pair, wherever on the screen it was."""
    known: Sequence[str] = tuple(LABELS) if ask.kind == "label" else CHOICES
    if said not in known:
        raise BadInput(f"{said!r} is no answer here. Send one of {', '.join(known)}.")
    if ask.kind == "compare" and ask.swapped and said != "similar":
        return "right" if said == "left" else "left"
    return said


def _store(connection: Connection, ask: Any, values: Mapping[str, Any], scale: Sequence[str]) -> dict[str, int]:
    """The vote or comparison itself. What the person has said of it elsewhere, or under an older ask, stands."""
    if ask.kind == "label":
        if connection.scalar(MY_VOTE, {"attempt": ask.attempt_id, "person": ask.person}) is not None:
            return {}
        more = {"seconds": values["seconds"], "created": values["answered"], "chosen": ask.chosen}
        axes = dict(zip(scale, map(float, values["answer"].split()), strict=True)) if scale else None
        label = SCORED if scale else values["answer"]
        return {"vote_id": store_vote(connection, ask.attempt_id, ask.person, label, axes, **more)}
    pair = connection.execute(ITS_PAIR, {"ids": [ask.pair_id]}).one()
    if has_said(connection, ask.person, pair.left_attempt, pair.right_attempt, pair.axis):
        return {}
    sides, said = (pair.left_attempt, pair.right_attempt), (pair.axis, values["answer"], ask.swapped)
    stored = store_comparison(connection, *sides, ask.person, *said, created=values["answered"])
    return {"comparison_id": stored}


def _recount(connection: Connection, ask: Any, flagged: bool) -> None:
    if ask.attempt_id is not None:
        refresh(connection, [ask.attempt_id])
        return
    pair = connection.execute(ITS_PAIR, {"ids": [ask.pair_id]}).one()
    _recount_pair(connection, pair)
    if flagged:
        refresh(connection, [pair.left_attempt, pair.right_attempt])


def _recount_pair(connection: Connection, pair: Any) -> None:
    said = said_by_people(connection, pair.left_attempt, pair.right_attempt, pair.axis)
    connection.execute(CHANGE_PAIR, {"pair": pair.id, **said})


def undo(ledger: Ledger, person: str, ask_id: int) -> int:
    """Takes an answer back and asks the same again; returns the new ask's id. Undoing twice gives the same one.

    The old ask stays on record as undone, with its answer, so that a late copy of it is not stored. Raises NotAsked.
    """
    with writing(ledger) as connection:
        ask = _ask(connection, person, ask_id)
        if ask.outcome in STILL_OPEN:
            return ask_id
        if ask.outcome == "undone":
            same = Ask.attempt_id == ask.attempt_id if ask.attempt_id is not None else Ask.pair_id == ask.pair_id
            later = select(Ask.id).where(same, Ask.person == person, Ask.id > ask_id).order_by(Ask.id)
            return connection.execute(later).scalars().first() or ask_id
        gone = {"outcome": "undone", "vote_id": None, "comparison_id": None}
        connection.execute(update(Ask).where(Ask.id == ask_id).values(**gone))
        connection.execute(delete(Vote).where(Vote.id == ask.vote_id))  # its answer stays in the ask
        connection.execute(delete(Comparison).where(Comparison.id == ask.comparison_id))
        _recount(connection, ask, ask.outcome == "flagged")
        same_again = ("attempt_id", "pair_id", "repeat_of", "chosen", "swapped")
        return open_ask(connection, person, ask.kind, **{name: getattr(ask, name) for name in same_again})


def set_aside(ledger: Ledger, name: str, aside: bool, why: str, decided_by: str) -> None:
    """Sets a person's votes aside, or counts them again. Nothing is deleted; their pictures are asked of others."""
    name = storable(name)
    values = {"aside": aside, "why": storable(why)[:LONGEST_NOTE], "decided_by": decided_by, "decided": now()}
    with writing(ledger) as connection:
        if connection.scalar(select(Person.name).where(Person.name == name)) is None:
            said = (select(one.id).where(one.person == name).limit(1) for one in (Vote, Ask, Comparison))
            if all(connection.scalar(query) is None for query in said):
                raise BadInput(f"Nobody called {name!r} has voted.")
            connection.execute(insert(Person).values(name=name, **values))
        else:
            connection.execute(update(Person).where(Person.name == name).values(**values))
        flagged = Ask.person == name, Ask.outcome == "flagged"
        touched: list[Any] = [select(Vote.attempt_id).where(Vote.person == name)]
        touched += [select(Ask.attempt_id).where(*flagged, Ask.attempt_id.is_not(None))]
        touched += [flags_at(side).where(Ask.person == name) for side in SIDES]
        refresh(connection, {one for query in touched for one in connection.scalars(query)})
        for spoken in connection.execute(select(Comparison).where(Comparison.person == name)).all():
            both = sorted((spoken.left_attempt, spoken.right_attempt))
            pair = select(Pair).where(Pair.left_attempt == both[0], Pair.right_attempt == both[1])
            for one in connection.execute(pair.where(Pair.axis == spoken.axis)).all():
                _recount_pair(connection, one)


def desk_of(ledger: Ledger, person: str, kind: str, asks: Sequence[int]) -> dict[str, Any]:
    """What the page needs of a desk: these asks as `shown`, and how many the person has answered today."""
    with reading(ledger) as connection:
        return {"asks": _shown(connection, person, asks), "today": _done_today(connection, person, kind)}


def shown(ledger: Ledger, person: str, asks: Sequence[int]) -> list[dict[str, Any]]:
    """What the page needs to put these asks before the person, in their order: pictures by hash, title, prompt.

    scale: the axes to score on, empty where a label or a choice is asked for.
    """
    with reading(ledger) as connection:
        return _shown(connection, person, asks)


def _shown(connection: Connection, person: str, asks: Sequence[int]) -> list[dict[str, Any]]:
    asked = {one.id: one for one in connection.execute(MY_ASKS, {"ids": list(asks), "person": person})}
    pairs = [one.pair_id for one in asked.values() if one.pair_id is not None]
    by_pair = {one.id: one for one in connection.execute(ITS_PAIR, {"ids": pairs})} if pairs else {}
    wanted = [one.attempt_id for one in asked.values() if one.attempt_id is not None]
    wanted += [side for pair in by_pair.values() for side in (pair.left_attempt, pair.right_attempt)]
    pictures = pictures_of(connection, wanted)
    found = []
    for ask in (asked[number] for number in asks if number in asked):
        if ask.kind == "label":
            sides, axis = [pictures[ask.attempt_id]], ""
            scale = SCALES.get(sides[0]["job"], ())
        else:
            pair = by_pair[ask.pair_id]
            sides, axis, scale = [pictures[pair.left_attempt], pictures[pair.right_attempt]], pair.axis, ()
        about = {name: sides[0][name] for name in ("title", "prompt", "product")}
        rows = [side["row"] for side in sides][:: -1 if ask.swapped else 1]
        images = [sha for row in rows for sha in row]
        found.append({"id": ask.id, "axis": axis, "scale": scale, "images": images, "rows": rows, **about})
    return found


def pictures_of(connection: Connection, attempts: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Each attempt's image, row of images and product by hash, and the title, prompt, brief and run of it."""
    rows: dict[int, list[str]] = defaultdict(list)
    for one in connection.execute(IN_ROWS, {"ids": list(attempts)}):
        rows[one.attempt_id].append(one.image_sha)
    return {
        one.id: {
            "attempt": one.id,
            "image": one.image_sha,
            "row": rows.get(one.id) or [one.image_sha],
            "detail": one.detail,
            "product": one.product_sha,
            "title": storable(str(one.content.get("title") or one.key)),
            "prompt": storable(str(one.content.get("prompt") or "")),
            "key": one.key,
            "run": one.run_id,
            "job": one.job,
            "slot": one.slot,
            "number": one.number,
            "seed": one.seed,
        }
        for one in connection.execute(WITH_BRIEFS, {"ids": list(attempts)})
    }


def _done_today(connection: Connection, person: str, kind: str) -> int:
    """How many this person has answered since midnight (UTC)."""
    midnight = now().replace(hour=0, minute=0, second=0, microsecond=0)
    return connection.scalar(DONE, {"person": person, "kind": kind, "since": midnight}) or 0
