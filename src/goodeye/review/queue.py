"""What to ask whom next: nobody labels a picture twice by accident, and each gets the number of votes asked for."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import Connection, and_, exists, func, insert, or_, select, true, update
from sqlalchemy.orm import aliased

from goodeye.ledger.asks import Ask, Item, Pair
from goodeye.ledger.ledger import Ledger
from goodeye.ledger.opinions import ASIDE
from goodeye.ledger.sample import RANDOM, REPEAT, UNSURE
from goodeye.ledger.schema import Attempt, Brief, Comparison, Run, Shown, Vote, now
from goodeye.review.items import NEVER, writing

Kind = Literal["label", "compare"]
AXES = {"search": ("accuracy", "aesthetic")}  # a job's axes, asked apart; others are asked which is better
OVERALL = ("overall",)
MOST_HELD = 8  # things on one person's desk at once
NEAREST_OF = 8  # pairs drawn, of which the one with the nearest scores is asked
MOST_PARTNERS = 50  # of an attempt at one brief, among which chance decides
MOST_PASSED = 10_000  # attempts looked through for one with a partner, where those drawn at random have none
TURNED = {"left": "right", "right": "left", "similar": "similar"}
WINDOW = 300  # looked through at first, so that thousands which a person has done are not looked at each time

IS_KEPT = Item.picked.concat("") == "kept"  # as a sum, so that no index of all that was kept is taken
TRIED, ITS_ITEM = aliased(Attempt), aliased(Item)  # made once: that takes as long as asking
KEPT_OF_TRIED = ITS_ITEM.picked.concat("") == "kept"
ASKABLE = (  # attempts with a picture that nobody flagged, with their briefs
    select(Item, Attempt.brief_id, Attempt.slot, Attempt.image_sha, Brief.key)
    .join(Attempt, Attempt.id == Item.attempt_id)
    .join(Brief, Brief.id == Attempt.brief_id)
    .where(Item.flags == 0, Attempt.image_sha.is_not(None))
)


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How work is handed out."""

    votes: int = 3  # people for each picture and each pair
    repeat_share: float = 0.05  # shown to the same person again, with sides swapped, to see how steady they are
    random_share: float = 0.2  # of the rest: chosen by chance alone, so that what is measured there is unbiased
    repeat_after: int = 10  # answers between
    lease: timedelta = timedelta(minutes=20)  # so long is a picture kept for a person who went away
    runs: tuple[int, ...] = ()  # only attempts of these; empty: of all


def hand_out(ledger: Ledger, person: str, kind: Kind, count: int, rules: Rules, chance: random.Random) -> list[int]:
    """The ids of up to `count` open asks of this person, oldest first: those on their desk already, then new ones.

    Calling it again changes nothing, so a page may be reloaded. Fewer come back when there is nothing left to ask.
    """
    count = max(1, min(count, MOST_HELD))
    with writing(ledger) as connection:
        held = _renew(connection, person, kind, rules)
        while len(held) < count:
            draw = _draw_label if kind == "label" else _draw_pair
            values = _draw_repeat(connection, person, kind, rules, chance) or draw(connection, person, rules, chance)
            if values is None:
                break
            held.append(open_ask(connection, person, kind, **values))
        return held[:count]


def open_ask(connection: Connection, person: str, kind: str, **values: Any) -> int:
    """Puts one thing on a person's desk and returns the ask's id."""
    row = {
        "kind": kind,
        "person": person,
        "chosen": UNSURE,
        "swapped": False,
        "handed": now(),
        "outcome": "",
        "answer": "",
        "note": "",
        "seconds": 0.0,
        **values,
    }
    return connection.execute(insert(Ask).values(**row).returning(Ask.id)).scalar_one()


def axes_of(job: str) -> tuple[str, ...]:
    """On what pairs of a job are compared."""
    return AXES.get(job, OVERALL)


def _renew(connection: Connection, person: str, kind: Kind, rules: Rules) -> list[int]:
    """What is on the person's desk. Whatever lay there too long and has its votes by now is taken away, what someone
    flagged, and what is of other runs than those that are asked about."""
    mine = select(Ask).where(Ask.person == person, Ask.outcome == "", Ask.kind == kind).order_by(Ask.id)
    kept = []
    asked_about = set(connection.scalars(mine.with_only_columns(Ask.id).where(_of_runs(rules), ~_is_flagged())))
    for ask in connection.execute(mine).all():
        late = ask.handed < now() - rules.lease
        done = late and ask.repeat_of is None and not _lacks_votes(connection, ask, rules)
        if done or ask.id not in asked_about:
            connection.execute(update(Ask).where(Ask.id == ask.id).values(outcome="lapsed"))
            continue
        if late:
            connection.execute(update(Ask).where(Ask.id == ask.id).values(handed=now()))
        kept.append(ask.id)
    return kept


def _lacks_votes(connection: Connection, ask: Any, rules: Rules) -> bool:
    wanted = (
        select(Item.votes).where(Item.attempt_id == ask.attempt_id)
        if ask.attempt_id is not None
        else select(Pair.answers).where(Pair.id == ask.pair_id)
    )
    return (connection.scalar(wanted) or 0) < rules.votes


def _held(column: Any, target: Any, since: datetime) -> Any:
    """How many people have that on their desk now."""
    held = select(func.count()).select_from(Ask)
    return held.where(
        column == target, Ask.outcome == "", Ask.repeat_of.is_(None), Ask.handed > since
    ).scalar_subquery()


def _draw_label(connection: Connection, person: str, rules: Rules, chance: random.Random) -> dict[str, Any] | None:
    since = now() - rules.lease
    asked = exists().where(Ask.attempt_id == Item.attempt_id, Ask.person == person, Ask.outcome != "lapsed")
    voted = exists().where(Vote.attempt_id == Item.attempt_id, Vote.person == person)
    pictured = exists().where(Attempt.id == Item.attempt_id, Attempt.image_sha.is_not(None))
    row = exists().where(Shown.attempt_id == Item.attempt_id)  # a row of pictures is compared, not labelled
    still_open = select(Item.attempt_id).where(
        Item.flags == 0,
        ~asked,
        ~voted,
        pictured,
        ~row,
        Item.votes + _held(Ask.attempt_id, Item.attempt_id, since) < rules.votes,
    )
    if chance.random() < rules.random_share:
        lacking = Item.votes + 0 < rules.votes  # as a sum, so that no index of votes is taken and sorted anew
        by_chance = (
            still_open.add_columns(Item.shuffle).where(lacking, Item.shuffle > NEVER).order_by(Item.shuffle).limit(1)
        )
        drawn = [row for mine in _runs(rules) for row in connection.execute(by_chance.where(*mine)).all()]
        return {"attempt_id": min(drawn, key=lambda one: one.shuffle).attempt_id, "chosen": RANDOM} if drawn else None
    order = (Item.priority.desc(), Item.attempt_id.desc())
    doubtful = still_open.add_columns(Item.priority).order_by(*order).limit(1)
    for window in (WINDOW, None):
        for begun in reversed(range(rules.votes)):  # what others have begun is finished first
            found: list[Any] = []
            for mine in _runs(rules):
                within: list[Any] = [Item.votes == begun, Item.priority > NEVER, *mine]
                if window is not None:
                    within = [
                        Item.attempt_id.in_(select(Item.attempt_id).where(*within).order_by(*order).limit(window))
                    ]
                found += connection.execute(doubtful.where(*within)).all()
            if found:
                best = max(found, key=lambda one: (one.priority, one.attempt_id))
                return {"attempt_id": best.attempt_id, "chosen": UNSURE}
    return None


def _runs(rules: Rules) -> list[list[Any]]:
    """Conditions for one run after the other, where only some are asked for: an index has the order of each alone."""
    return [[Item.run_id == run] for run in rules.runs] or [[]]


def _draw_repeat(
    connection: Connection, person: str, kind: Kind, rules: Rules, chance: random.Random
) -> dict[str, Any] | None:
    """Now and then something that this person has answered a while ago, and only once."""
    if chance.random() >= rules.repeat_share:
        return None
    again = aliased(Ask)
    mine = select(Ask.answered).where(Ask.person == person, Ask.outcome == "answered", Ask.kind == kind)
    recent = mine.order_by(Ask.answered.desc()).limit(1).offset(max(0, rules.repeat_after - 1)).scalar_subquery()
    query = (
        select(Ask.id, Ask.attempt_id, Ask.pair_id, Ask.swapped)
        .where(Ask.person == person, Ask.outcome == "answered", Ask.kind == kind, Ask.answered <= recent)
        .where(_of_runs(rules), ~_is_flagged(), Ask.repeat_of.is_(None), ~exists().where(again.repeat_of == Ask.id))
        .order_by(func.random())
        .limit(1)
    )
    first = connection.execute(query).first()
    if first is None:
        return None
    return {
        "attempt_id": first.attempt_id,
        "pair_id": first.pair_id,
        "repeat_of": first.id,
        "chosen": REPEAT,
        "swapped": kind == "compare" and not first.swapped,
    }


# Pairs


def _draw_pair(connection: Connection, person: str, rules: Rules, chance: random.Random) -> dict[str, Any] | None:
    """For the random share, a pair by chance alone. Else one that others have begun, first where they differ; else a
    new one of attempts at the same brief, best of two runs."""
    since = now() - rules.lease
    asked = exists().where(Ask.pair_id == Pair.id, Ask.person == person, Ask.outcome != "lapsed")
    order = (Pair.answers.desc(), Pair.split.desc(), Pair.id.desc())
    mine = [_in_runs(side, rules) for side in (Pair.left_attempt, Pair.right_attempt)] if rules.runs else []
    unfinished = select(Pair.id).where(Pair.answers < rules.votes, *mine).order_by(*order)
    compared = said_of(Pair.left_attempt, Pair.right_attempt, person, Pair.axis)  # by an import, or under an older ask
    sound = ~or_(_flagged(Pair.left_attempt), _flagged(Pair.right_attempt))
    lacking = [~asked, ~compared, sound, Pair.answers + _held(Ask.pair_id, Pair.id, since) < rules.votes]
    swapped = chance.random() < 0.5
    if chance.random() < rules.random_share:
        drawn = _pair_by_chance(connection, lacking, rules, chance)
        if drawn is not None:
            return {"pair_id": drawn, "swapped": swapped, "chosen": RANDOM}
    nearby = select(Pair.id).where(Pair.id.in_(unfinished.limit(WINDOW)), *lacking).order_by(*order).limit(1)
    found = connection.scalar(nearby) or _new_pair(connection, person, rules, chance)
    found = found or connection.scalar(unfinished.where(*lacking).limit(1))
    return None if found is None else {"pair_id": found, "swapped": swapped, "chosen": UNSURE}


def _pair_by_chance(connection: Connection, lacking: Sequence[Any], rules: Rules, chance: random.Random) -> int | None:
    """A pair that this person may be asked, drawn whatever its scores, and whether or not it was there before: without
    those that were chosen for their near scores chance would tell of the rest alone. What is drawn goes on record as
    such also where it has its people already. Of two runs rather than of one."""
    alone = None
    for _ in range(NEAREST_OF):
        if (drawn := _some_pair(connection, None, rules, chance)) is None:
            continue
        if drawn[0].run_id == drawn[1].run_id:
            alone = alone or drawn
        elif (found := _open_one(connection, drawn, lacking)) is not None:
            return found
    return _open_one(connection, alone, lacking) if alone else None


def _open_one(connection: Connection, drawn: tuple[Any, Any], lacking: Sequence[Any]) -> int | None:
    """Writes down that chance drew the pair, and returns the first of its axes that the person may be asked."""
    ids = _on_record(connection, *drawn)
    connection.execute(update(Pair).where(Pair.id.in_(ids)).values(chosen=RANDOM))
    return connection.scalar(select(Pair.id).where(Pair.id.in_(ids), *lacking).order_by(Pair.id).limit(1))


def _on_record(connection: Connection, one: Any, other: Any) -> list[int]:
    """The pair's ids, by axis; what is not there yet is put there."""
    left, right = sorted((one.attempt_id, other.attempt_id))
    same = select(Pair.axis, Pair.id).where(Pair.left_attempt == left, Pair.right_attempt == right)
    there = {one.axis: one.id for one in connection.execute(same)}
    for axis in axes_of(one.job):
        if axis not in there:
            values = {"left_attempt": left, "right_attempt": right, "axis": axis}
            values |= said_by_people(connection, left, right, axis)
            there[axis] = connection.execute(insert(Pair).values(**values).returning(Pair.id)).scalar_one()
    return [there[axis] for axis in axes_of(one.job)]


def said_by_people(connection: Connection, left: int, right: int, axis: str) -> dict[str, Any]:
    """How many people who count have compared the two on an axis, here or elsewhere, and the share of them who say
    another thing than most. A person's last word counts."""
    names = Comparison.person, Comparison.left_attempt, Comparison.choice
    query = select(*names).where(_between(left, right), Comparison.axis == axis, Comparison.person.not_in(ASIDE))
    rows = connection.execute(query.order_by(Comparison.id)).all()
    words = {one.person: one.choice if one.left_attempt == left else TURNED[one.choice] for one in rows}
    most = max(Counter(words.values()).values(), default=0)
    return {"answers": len(words), "split": 1 - most / len(words) if words else 0.0}


def said_of(left: Any, right: Any, person: str, axis: Any = None) -> Any:
    """That the person has compared the two, whichever was left; on that axis, or on any."""
    mine = exists().where(_between(left, right), Comparison.person == person)
    return mine if axis is None else mine.where(Comparison.axis == axis)


def _between(left: Any, right: Any) -> Any:
    either = and_(Comparison.left_attempt == left, Comparison.right_attempt == right)
    return or_(either, and_(Comparison.left_attempt == right, Comparison.right_attempt == left))


def _in_runs(side: Any, rules: Rules) -> Any:
    return exists().where(Item.attempt_id == side, Item.run_id.in_(rules.runs))


def _flagged(attempt: Any) -> Any:
    """That someone who counts flagged the attempt."""
    return exists().where(Item.attempt_id == attempt, Item.flags + 0 > 0)  # a sum: not by the index of all flagged ones


def _is_flagged() -> Any:
    """That an ask is about something that was flagged."""
    sides = or_(_flagged(Pair.left_attempt), _flagged(Pair.right_attempt))
    return or_(_flagged(Ask.attempt_id), exists().where(Pair.id == Ask.pair_id, sides))


def _of_runs(rules: Rules) -> Any:
    """That an ask is about attempts of the runs that are asked about."""
    if not rules.runs:
        return true()
    sides = [_in_runs(side, rules) for side in (Pair.left_attempt, Pair.right_attempt)]
    return or_(_in_runs(Ask.attempt_id, rules), exists().where(Pair.id == Ask.pair_id, *sides))


def _new_pair(connection: Connection, person: str, rules: Rules, chance: random.Random) -> int | None:
    drawn = [pair for pair in (_some_pair(connection, person, rules, chance) for _ in range(NEAREST_OF)) if pair]
    if not drawn and (found := _left_over(connection, person, rules, chance)):
        drawn = [found]
    if not drawn:
        return None
    drawn = [pair for pair in drawn if pair[0].run_id != pair[1].run_id] or drawn
    return _on_record(connection, *min(drawn, key=lambda pair: abs(pair[0].score - pair[1].score)))[0]


def _some_pair(
    connection: Connection, person: str | None, rules: Rules, chance: random.Random
) -> tuple[Any, Any] | None:
    """A pair at the brief of an attempt drawn at random, of one that was kept there if any was: one that is not there
    yet and that the person has not compared; for None any."""
    start = chance.getrandbits(63)
    mine = [Item.run_id == chance.choice(rules.runs)] if rules.runs else []
    anyone = select(Item.attempt_id).where(Item.flags == 0, Item.shuffle > NEVER, *mine).order_by(Item.shuffle).limit(1)
    drawn = connection.scalar(anyone.where(Item.shuffle >= start)) or connection.scalar(anyone)
    first = connection.execute(ASKABLE.where(Item.attempt_id == drawn)).first()
    if first is None:
        return None
    at_brief = ASKABLE.where(Attempt.brief_id == first.brief_id, IS_KEPT)
    kept = connection.execute(at_brief.order_by(Item.shuffle).limit(MOST_PARTNERS)).all()
    return _pair_of(connection, person, chance.choice(kept or [first]), True, rules, chance)


def _pair_of(
    connection: Connection, person: str | None, first: Any, delivers: bool, rules: Rules, chance: random.Random
) -> tuple[Any, Any] | None:
    """An attempt and its partner: in another run, where its own delivers it, else of the same run; of one brief."""
    runs: Any = rules.runs or select(Run.id)
    same = select(Brief.id).where(Brief.run_id.in_(runs), Brief.key == first.key, Brief.job == first.job)
    others = [one for one in connection.scalars(same) if one != first.brief_id] if delivers else []
    for one in [*chance.sample(others, len(others)), first.brief_id]:
        if partners := _partners(connection, person, first, one):
            return first, chance.choice(partners)
    return None


def _partners(connection: Connection, person: str | None, first: Any, brief_id: int) -> Sequence[Any]:
    """Up to 50 attempts at a brief to set beside this one, of other pixels. For a person those that are not yet
    paired with it, nor compared with it by them. Of two runs
    those that each delivers are compared, of the same slot if there are such; within one, kept ones come first. A row
    of several pictures may begin with the same one as another row."""
    across, both = brief_id != first.brief_id, (first.attempt_id, Item.attempt_id)
    query = (
        ASKABLE.where(Attempt.brief_id == brief_id, Item.attempt_id != first.attempt_id)
        .where(or_(Attempt.image_sha != first.image_sha, exists().where(Shown.attempt_id == Attempt.id)))
        .where(*([] if person is None else [~_paired(*both), ~said_of(*both, person)]))
        .where(*([_delivered(Item, brief_id)] if across else []))
        .order_by(Item.shuffle)
        .limit(MOST_PARTNERS)
    )
    found = connection.execute(query).all()
    return [one for one in found if (one.slot == first.slot if across else one.picked == "kept")] or found


def _left_over(connection: Connection, person: str, rules: Rules, chance: random.Random) -> tuple[Any, Any] | None:
    """A pair where those drawn at random had none: of the next attempt in the random order that has a partner."""
    start = chance.getrandbits(63)
    mine = [Item.run_id.in_(rules.runs)] if rules.runs else []
    walk = select(Item.attempt_id, Item.shuffle).where(Item.flags == 0, Item.shuffle > NEVER, *mine)
    walk = walk.order_by(Item.shuffle).limit(MOST_PASSED)
    for part in (walk.where(Item.shuffle >= start).subquery(), walk.subquery()):
        having = select(part.c.attempt_id).where(_has_partner(part.c.attempt_id, person, rules))
        if found := connection.scalar(having.limit(1)):
            this = ASKABLE.where(Item.attempt_id == found)
            first = connection.execute(this).one()
            delivers = connection.scalar(this.where(_delivered(Item, first.brief_id))) is not None
            return _pair_of(connection, person, first, delivers, rules, chance)
    return None


def _has_partner(attempt: Any, person: str, rules: Rules) -> Any:
    """That `_pair_of` has a pair of the attempt."""
    mine, home, item = aliased(Attempt), aliased(Brief), aliased(Item)
    theirs, there, other = aliased(Attempt), aliased(Brief), aliased(Item)
    runs: Any = rules.runs or select(Run.id)
    differs = or_(theirs.image_sha != mine.image_sha, exists().where(Shown.attempt_id == theirs.id))
    delivered = and_(_delivered(item, home.id), _delivered(other, there.id))
    query = (
        select(other.attempt_id)
        .select_from(mine)
        .join(item, item.attempt_id == mine.id)
        .join(home, home.id == mine.brief_id)
        .join(there, and_(there.run_id.in_(runs), there.key == home.key, there.job == home.job))
        .join(theirs, theirs.brief_id == there.id)
        .join(other, other.attempt_id == theirs.id)
        .where(mine.id == attempt, theirs.id != mine.id, mine.image_sha.is_not(None), theirs.image_sha.is_not(None))
        .where(other.flags == 0, differs, ~_paired(mine.id, theirs.id), ~said_of(mine.id, theirs.id, person))
        .where(or_(there.id == home.id, delivered))
    )
    return query.exists()


def _delivered(item: Any, brief_id: Any) -> Any:
    """That an attempt at the brief was kept, or none was."""
    kept = exists().where(TRIED.brief_id == brief_id, ITS_ITEM.attempt_id == TRIED.id, KEPT_OF_TRIED)
    return or_(item.picked == "kept", ~kept)


def _paired(one: Any, other: Any) -> Any:
    either = and_(Pair.left_attempt == one, Pair.right_attempt == other)
    return exists().where(or_(either, and_(Pair.left_attempt == other, Pair.right_attempt == one)))
