"""What to ask whom next: nobody labels a picture twice by accident, and each gets the number of votes asked for.

The statements are made once, since making one takes several times as long as asking it; what varies is bound to names.
"""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache, partial
from typing import Any, Literal

from sqlalchemy import Connection, and_, exists, func, insert, or_, select, union_all, update
from sqlalchemy.orm import aliased

from goodeye.ledger.asks import Ask, Item, Pair
from goodeye.ledger.ledger import Ledger
from goodeye.ledger.opinions import ASIDE
from goodeye.ledger.sample import RANDOM, REPEAT, UNSURE
from goodeye.ledger.schema import Attempt, Brief, Comparison, Run, Shown, Vote, now
from goodeye.ledger.sql import named
from goodeye.review.items import NEVER, writing

Kind = Literal["label", "compare"]
AXES = {"search": ("accuracy", "aesthetic")}  # a job's axes, asked apart; others are asked which is better
OVERALL = ("overall",)
MOST_HELD = 8  # things on one person's desk at once
NEAREST_OF = 2  # pairs of two runs, of which the one with the nearest scores is asked
MOST_DRAWN = 4  # attempts, until so many of them have partners in another run
MOST_PARTNERS = 50  # of an attempt at one brief, among which chance decides
MOST_PASSED = 10_000  # attempts looked through for one with a partner, where those drawn at random have none
TURNED = {"left": "right", "right": "left", "similar": "similar"}
NEAREST = 60  # looked through first of all: one of them is nearly always open
WINDOW = 300  # looked through at first, so that thousands which a person has done are not looked at each time

IS_KEPT = Item.picked.concat("") == "kept"  # as a sum, so that no index of all that was kept is taken
TRIED, ITS_ITEM = aliased(Attempt), aliased(Item)
KEPT_OF_TRIED = ITS_ITEM.picked.concat("") == "kept"
WITH_BRIEFS = (  # what is asked about, of attempts and their briefs
    select(Item.attempt_id, Item.run_id, Item.job, Item.score, Item.picked)
    .add_columns(Attempt.brief_id, Attempt.slot, Attempt.image_sha, Brief.key)
    .join(Attempt, Attempt.id == Item.attempt_id)
    .join(Brief, Brief.id == Attempt.brief_id)
)
ASKABLE = WITH_BRIEFS.where(Item.flags == 0, Attempt.image_sha.is_not(None))  # with a picture that nobody flagged
PERSON, KIND, SINCE, VOTES = named("person"), named("kind"), named("since"), named("votes")  # as `_asking` says
RUN, RUNS = named("run"), named("runs", many=True)  # one of those that are asked about, and all of them
LEFT, RIGHT, AXIS = named("left"), named("right"), named("axis")


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
    return connection.execute(_new_ask(), row).scalar_one()


@cache
def _new_ask() -> Any:
    return insert(Ask).returning(Ask.id)


def axes_of(job: str) -> tuple[str, ...]:
    """On what pairs of a job are compared."""
    return AXES.get(job, OVERALL)


def _asking(person: str | None, rules: Rules, **more: Any) -> dict[str, Any]:
    """What the statements here take, by name."""
    return {"person": person, "votes": rules.votes, "since": now() - rules.lease, "runs": rules.runs, **more}


def _renew(connection: Connection, person: str, kind: Kind, rules: Rules) -> list[int]:
    """What is on the person's desk. Whatever lay there too long and has its votes by now is taken away, what someone
    flagged, and what is of other runs than those that are asked about."""
    given = _asking(person, rules, kind=kind)
    kept = []
    for ask in connection.execute(_on_desk(bool(rules.runs)), given).all():
        late = ask.handed < given["since"]
        done = late and ask.repeat_of is None and not _lacks_votes(connection, ask, rules)
        if done or not ask.askable:
            connection.execute(update(Ask).where(Ask.id == ask.id).values(outcome="lapsed"))
            continue
        if late:
            connection.execute(update(Ask).where(Ask.id == ask.id).values(handed=now()))
        kept.append(ask.id)
    return kept


@cache
def _on_desk(of_runs: bool) -> Any:
    """A person's open asks, and whether each may be asked."""
    askable = and_(~_is_flagged(), _of_runs()) if of_runs else ~_is_flagged()
    about = Ask.id, Ask.handed, Ask.repeat_of, Ask.attempt_id, Ask.pair_id, askable.label("askable")
    return select(*about).where(Ask.person == PERSON, Ask.outcome == "", Ask.kind == KIND).order_by(Ask.id)


def _lacks_votes(connection: Connection, ask: Any, rules: Rules) -> bool:
    wanted = (
        select(Item.votes).where(Item.attempt_id == ask.attempt_id)
        if ask.attempt_id is not None
        else select(Pair.answers).where(Pair.id == ask.pair_id)
    )
    return (connection.scalar(wanted) or 0) < rules.votes


def _held(column: Any, target: Any) -> Any:
    """How many people have that on their desk now."""
    held = select(func.count()).select_from(Ask)
    return held.where(
        column == target, Ask.outcome == "", Ask.repeat_of.is_(None), Ask.handed > SINCE
    ).scalar_subquery()


def _draw_label(connection: Connection, person: str, rules: Rules, chance: random.Random) -> dict[str, Any] | None:
    some = bool(rules.runs)  # one run is asked after the other: an index has the order of each alone
    given = [_asking(person, rules, run=run) for run in rules.runs or (None,)]
    if chance.random() < rules.random_share:
        query = _label_by_chance(some, rules.votes)
        drawn = [row for mine in given for row in connection.execute(query, mine)]
        return {"attempt_id": min(drawn, key=lambda one: one.shuffle).attempt_id, "chosen": RANDOM} if drawn else None
    for windows in ((NEAREST, WINDOW), (None,)):
        for begun in reversed(range(rules.votes)):  # what others have begun is finished first
            found = [_most_doubtful(connection, some, windows, {**mine, "begun": begun}) for mine in given]
            best = max(filter(None, found), key=lambda one: (one.priority, one.attempt_id), default=None)
            if best is not None:
                return {"attempt_id": best.attempt_id, "chosen": UNSURE}
    return None


def _most_doubtful(
    connection: Connection, of_run: bool, windows: Sequence[int | None], given: Mapping[str, Any]
) -> Any:
    """The same, whichever window it is found in; None if it is in none of them."""
    for window in windows:
        if (row := connection.execute(_doubtful_label(of_run, window), given).first()) is not None:
            return row
    return None


@cache
def _label_by_chance(of_run: bool, votes: int) -> Any:
    """The first in the random order that the person may label, of those of each number of votes below `votes`: an index
    has the order of each, and so none that has its votes is stepped over."""
    mine = [Item.run_id == RUN] if of_run else []
    first = []
    for begun in range(votes):
        query = select(Item.attempt_id, Item.shuffle).where(*_to_label(), Item.votes == begun, Item.shuffle > NEVER)
        first.append(select(query.where(*mine).order_by(Item.shuffle).limit(1).subquery()))
    found = union_all(*first).subquery()
    return select(found).order_by(found.c.shuffle).limit(1)


@cache
def _doubtful_label(of_run: bool, window: int | None) -> Any:
    """The most doubtful of so many votes that the person may label; of the first so many alone, or of all."""
    order = (Item.priority.desc(), Item.attempt_id.desc())
    first = [Item.votes == named("begun"), Item.priority > NEVER, *([Item.run_id == RUN] if of_run else [])]
    if window is not None:
        first = [Item.attempt_id.in_(select(Item.attempt_id).where(*first).order_by(*order).limit(window))]
    return select(Item.attempt_id, Item.priority).where(*_to_label(), *first).order_by(*order).limit(1)


def _to_label() -> list[Any]:
    """That the person may be asked for the item's label, and too few are."""
    asked = exists().where(Ask.attempt_id == Item.attempt_id, Ask.person == PERSON, Ask.outcome != "lapsed")
    voted = exists().where(Vote.attempt_id == Item.attempt_id, Vote.person == PERSON)
    pictured = exists().where(Attempt.id == Item.attempt_id, Attempt.image_sha.is_not(None))
    row = exists().where(Shown.attempt_id == Item.attempt_id)  # a row of pictures is compared, not labelled
    few = Item.votes + _held(Ask.attempt_id, Item.attempt_id) < VOTES
    return [Item.flags == 0, ~asked, ~voted, pictured, ~row, few]


def _draw_repeat(
    connection: Connection, person: str, kind: Kind, rules: Rules, chance: random.Random
) -> dict[str, Any] | None:
    """Now and then something that this person has answered a while ago, and only once."""
    if chance.random() >= rules.repeat_share:
        return None
    given = _asking(person, rules, kind=kind, before=max(0, rules.repeat_after - 1))
    first = connection.execute(_answered_before(bool(rules.runs)), given).first()
    if first is None:
        return None
    return {
        "attempt_id": first.attempt_id,
        "pair_id": first.pair_id,
        "repeat_of": first.id,
        "chosen": REPEAT,
        "swapped": kind == "compare" and not first.swapped,
    }


@cache
def _answered_before(of_runs: bool) -> Any:
    again = aliased(Ask)
    answered = Ask.person == PERSON, Ask.outcome == "answered", Ask.kind == KIND
    last = select(Ask.answered).where(*answered).order_by(Ask.answered.desc())
    recent = last.limit(1).offset(named("before")).scalar_subquery()
    return (
        select(Ask.id, Ask.attempt_id, Ask.pair_id, Ask.swapped)
        .where(*answered, Ask.answered <= recent, *([_of_runs()] if of_runs else []))
        .where(~_is_flagged(), Ask.repeat_of.is_(None), ~exists().where(again.repeat_of == Ask.id))
        .order_by(func.random())
        .limit(1)
    )


# Pairs


def _draw_pair(connection: Connection, person: str, rules: Rules, chance: random.Random) -> dict[str, Any] | None:
    """For the random share, a pair by chance alone. Else one that others have begun, first where they differ; else a
    new one of attempts at the same brief, best of two runs."""
    given = _asking(person, rules)
    swapped = chance.random() < 0.5
    if chance.random() < rules.random_share:
        drawn = _pair_by_chance(connection, given, rules, chance)
        if drawn is not None:
            return {"pair_id": drawn, "swapped": swapped, "chosen": RANDOM}
    some = bool(rules.runs)
    found = connection.scalar(_begun_pair(some, WINDOW), given) or _new_pair(connection, person, rules, chance)
    found = found or connection.scalar(_begun_pair(some, None), given)
    return None if found is None else {"pair_id": found, "swapped": swapped, "chosen": UNSURE}


@cache
def _begun_pair(of_runs: bool, window: int | None) -> Any:
    """The unfinished pair that has most answers, and of these most differing ones, that the person may be asked; of
    the first so many alone, or of all."""
    order = (Pair.answers.desc(), Pair.split.desc(), Pair.id.desc())
    mine = [_in_runs(side) for side in (Pair.left_attempt, Pair.right_attempt)] if of_runs else []
    unfinished = select(Pair.id).where(Pair.answers < VOTES, *mine).order_by(*order)
    if window is None:
        return unfinished.where(*_to_compare()).limit(1)
    return select(Pair.id).where(Pair.id.in_(unfinished.limit(window)), *_to_compare()).order_by(*order).limit(1)


def _to_compare() -> list[Any]:
    """That the person may be asked about the pair, and too few are."""
    asked = exists().where(Ask.pair_id == Pair.id, Ask.person == PERSON, Ask.outcome != "lapsed")
    compared = said_of(Pair.left_attempt, Pair.right_attempt, Pair.axis)  # by an import, or under an older ask
    sound = ~or_(_flagged(Pair.left_attempt), _flagged(Pair.right_attempt))
    return [~asked, ~compared, sound, Pair.answers + _held(Ask.pair_id, Pair.id) < VOTES]


def _pair_by_chance(connection: Connection, given: dict[str, Any], rules: Rules, chance: random.Random) -> int | None:
    """A pair that this person may be asked, drawn whatever its scores, and whether or not it was there before: without
    those that were chosen for their near scores chance would tell of the rest alone. What is drawn goes on record as
    such also where it has its people already. Of two runs rather than of one."""
    alone = None
    for _ in range(MOST_DRAWN):
        if (drawn := _some_pair(connection, None, rules, chance)) is None:
            continue
        if drawn[0].run_id == drawn[1].run_id:
            alone = alone or drawn
        elif (found := _open_one(connection, drawn, given)) is not None:
            return found
    return _open_one(connection, alone, given) if alone else None


def _open_one(connection: Connection, drawn: tuple[Any, Any], given: dict[str, Any]) -> int | None:
    """Writes down that chance drew the pair, and returns the first of its axes that the person may be asked."""
    ids = _on_record(connection, *drawn)
    connection.execute(update(Pair).where(Pair.id.in_(ids)).values(chosen=RANDOM))
    return connection.scalar(_first_to_compare(), {**given, "ids": ids})


@cache
def _first_to_compare() -> Any:
    ids = named("ids", many=True)
    return select(Pair.id).where(Pair.id.in_(ids), *_to_compare()).order_by(Pair.id).limit(1)


def _on_record(connection: Connection, one: Any, other: Any) -> list[int]:
    """The pair's ids, by axis; what is not there yet is put there."""
    left, right = sorted((one.attempt_id, other.attempt_id))
    there = {one.axis: one.id for one in connection.execute(_of_both(), {"left": left, "right": right})}
    for axis in axes_of(one.job):
        if axis not in there:
            values = {"left_attempt": left, "right_attempt": right, "axis": axis}
            values |= said_by_people(connection, left, right, axis)
            there[axis] = connection.execute(_new_row_of_pairs(), values).scalar_one()
    return [there[axis] for axis in axes_of(one.job)]


@cache
def _of_both() -> Any:
    return select(Pair.axis, Pair.id).where(Pair.left_attempt == LEFT, Pair.right_attempt == RIGHT)


@cache
def _new_row_of_pairs() -> Any:
    return insert(Pair).returning(Pair.id)


def said_by_people(connection: Connection, left: int, right: int, axis: str) -> dict[str, Any]:
    """How many people who count have compared the two on an axis, here or elsewhere, and the share of them who say
    another thing than most. A person's last word counts."""
    rows = connection.execute(_said(), {"left": left, "right": right, "axis": axis}).all()
    words = {one.person: one.choice if one.left_attempt == left else TURNED[one.choice] for one in rows}
    most = max(Counter(words.values()).values(), default=0)
    return {"answers": len(words), "split": 1 - most / len(words) if words else 0.0}


@cache
def _said() -> Any:
    names = Comparison.person, Comparison.left_attempt, Comparison.choice
    mine = select(*names).where(_between(LEFT, RIGHT), Comparison.axis == AXIS, Comparison.person.not_in(ASIDE))
    return mine.order_by(Comparison.id)


def has_said(connection: Connection, person: str, left: int, right: int, axis: str) -> bool:
    """Whether the person has compared the two on that axis, whichever was left."""
    given = {"person": person, "left": left, "right": right, "axis": axis}
    return bool(connection.scalar(_has_said(), given))


@cache
def _has_said() -> Any:
    return select(said_of(LEFT, RIGHT, AXIS))


def said_of(left: Any, right: Any, axis: Any = None) -> Any:
    """That the person has compared the two, whichever was left; on that axis, or on any."""
    mine = exists().where(_between(left, right), Comparison.person == PERSON)
    return mine if axis is None else mine.where(Comparison.axis == axis)


def _between(left: Any, right: Any) -> Any:
    either = and_(Comparison.left_attempt == left, Comparison.right_attempt == right)
    return or_(either, and_(Comparison.left_attempt == right, Comparison.right_attempt == left))


def _in_runs(side: Any) -> Any:
    return exists().where(Item.attempt_id == side, Item.run_id.in_(RUNS))


def _flagged(attempt: Any) -> Any:
    """That someone who counts flagged the attempt."""
    return exists().where(Item.attempt_id == attempt, Item.flags + 0 > 0)  # a sum: not by the index of all flagged ones


def _is_flagged() -> Any:
    """That an ask is about something that was flagged."""
    sides = or_(_flagged(Pair.left_attempt), _flagged(Pair.right_attempt))
    return or_(_flagged(Ask.attempt_id), exists().where(Pair.id == Ask.pair_id, sides))


def _of_runs() -> Any:
    """That an ask is about attempts of the runs that are asked about."""
    sides = [_in_runs(side) for side in (Pair.left_attempt, Pair.right_attempt)]
    return or_(_in_runs(Ask.attempt_id), exists().where(Pair.id == Ask.pair_id, *sides))


def _new_pair(connection: Connection, person: str, rules: Rules, chance: random.Random) -> int | None:
    within: list[tuple[Any, Any]] = []
    across: list[tuple[Any, Any]] = []
    for _ in range(MOST_DRAWN):
        if (pair := _some_pair(connection, person, rules, chance)) is not None:
            (within if pair[0].run_id == pair[1].run_id else across).append(pair)
        if len(across) == NEAREST_OF:
            break
    drawn = across or within
    if not drawn and (found := _left_over(connection, person, rules, chance)):
        drawn = [found]
    if not drawn:
        return None
    return _on_record(connection, *min(drawn, key=lambda pair: _apart(*pair)))[0]


def _some_pair(
    connection: Connection, person: str | None, rules: Rules, chance: random.Random
) -> tuple[Any, Any] | None:
    """A pair at the brief of an attempt drawn at random, of one that was kept there if any was: one that is not there
    yet and that the person has not compared; for None any."""
    start = chance.getrandbits(63)
    run = {"run": chance.choice(rules.runs)} if rules.runs else {}
    anyone = _from_place(bool(rules.runs))
    first = connection.execute(anyone, {"start": start, **run}).first()
    first = first or connection.execute(anyone, {"start": 0, **run}).first()
    if first is None or first.image_sha is None:
        return None
    kept = connection.execute(_kept_at_brief(), {"brief": first.brief_id}).all()
    return _pair_of(connection, person, chance.choice(kept or [first]), True, rules, chance)


@cache
def _from_place(of_run: bool) -> Any:
    """The first attempt from a place of the random order on, which is not below 0: that of what is not asked about."""
    mine = [Item.run_id == RUN] if of_run else []
    first = select(Item.attempt_id).where(Item.flags == 0, Item.shuffle >= named("start"), *mine)
    first = first.order_by(Item.shuffle).limit(1)
    return WITH_BRIEFS.where(Item.attempt_id == first.scalar_subquery())


@cache
def _kept_at_brief() -> Any:
    kept = ASKABLE.where(Attempt.brief_id == named("brief"), IS_KEPT)
    return kept.order_by(Item.shuffle).limit(MOST_PARTNERS)


def _pair_of(
    connection: Connection, person: str | None, first: Any, delivers: bool, rules: Rules, chance: random.Random
) -> tuple[Any, Any] | None:
    """An attempt and its partner: in another run, where its own delivers it, else of the same run; of one brief."""
    alike = {"key": first.key, "job": first.job, "runs": rules.runs}
    same = connection.scalars(_same_briefs(bool(rules.runs)), alike) if delivers else ()
    others = [one for one in same if one != first.brief_id]
    for one in [*chance.sample(others, len(others)), first.brief_id]:
        if partners := _partners(connection, person, first, one):
            return first, chance.choice(partners) if person is None else min(partners, key=partial(_apart, first))
    return None


def _apart(one: Any, other: Any) -> float:
    return float(abs(one.score - other.score))


@cache
def _same_briefs(of_runs: bool) -> Any:
    runs: Any = RUNS if of_runs else select(Run.id)
    return select(Brief.id).where(Brief.run_id.in_(runs), Brief.key == named("key"), Brief.job == named("job"))


def _partners(connection: Connection, person: str | None, first: Any, brief_id: int) -> Sequence[Any]:
    """Up to 50 attempts at a brief to set beside this one, of other pixels. For a person those that are not yet
    paired with it, nor compared with it by them. Of two runs
    those that each delivers are compared, of the same slot if there are such; within one, kept ones come first. A row
    of several pictures may begin with the same one as another row."""
    across = brief_id != first.brief_id
    given = {"first": first.attempt_id, "image": first.image_sha, "brief": brief_id, "person": person}
    found = connection.execute(_beside(person is not None, across), given).all()
    return [one for one in found if (one.slot == first.slot if across else one.picked == "kept")] or found


@cache
def _beside(for_someone: bool, across: bool) -> Any:
    first, brief = named("first"), named("brief")
    both = first, Item.attempt_id
    differs = or_(Attempt.image_sha != named("image"), exists().where(Shown.attempt_id == Attempt.id))
    query = ASKABLE.where(Attempt.brief_id == brief, Item.attempt_id != first, differs)
    if for_someone:
        query = query.where(~_paired(*both), ~said_of(*both))
    if across:
        query = query.where(_delivered(Item, brief))
    return query.order_by(Item.shuffle).limit(MOST_PARTNERS)


def _left_over(connection: Connection, person: str, rules: Rules, chance: random.Random) -> tuple[Any, Any] | None:
    """A pair where those drawn at random had none: of the next attempt in the random order that has a partner."""
    some = bool(rules.runs)
    for start in (chance.getrandbits(63), 0):
        found = connection.execute(_first_with_partner(some), _asking(person, rules, start=start)).first()
        if found is not None:
            return _pair_of(connection, person, found, found.delivers, rules, chance)
    return None


@cache
def _first_with_partner(of_runs: bool) -> Any:
    mine = [Item.run_id.in_(RUNS)] if of_runs else []
    walk = select(Item.attempt_id, Item.shuffle).where(Item.flags == 0, Item.shuffle >= named("start"), *mine)
    part = walk.order_by(Item.shuffle).limit(MOST_PASSED).subquery()
    having = select(part.c.attempt_id).where(_has_partner(part.c.attempt_id, of_runs)).limit(1)
    delivers = _delivered(Item, Attempt.brief_id).label("delivers")
    return ASKABLE.add_columns(delivers).where(Item.attempt_id == having.scalar_subquery())


def _has_partner(attempt: Any, of_runs: bool) -> Any:
    """That `_pair_of` has a pair of the attempt."""
    mine, home, item = aliased(Attempt), aliased(Brief), aliased(Item)
    theirs, there, other = aliased(Attempt), aliased(Brief), aliased(Item)
    runs: Any = RUNS if of_runs else select(Run.id)
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
        .where(other.flags == 0, differs, ~_paired(mine.id, theirs.id), ~said_of(mine.id, theirs.id))
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
