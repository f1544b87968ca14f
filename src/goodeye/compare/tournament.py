"""Runs against each other: each pair of answers asked once and kept on the ledger, then ranked by Bradley-Terry."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import select

from goodeye.compare.judges import PairJudge, Preferred, Question
from goodeye.compare.sides import Answer, Key, Side, dashed
from goodeye.errors import BadInput
from goodeye.judging.bradley_terry import rank
from goodeye.judging.wins import OUTCOMES, Outcome, Wins, count_wins
from goodeye.ledger.ledger import Ledger
from goodeye.ledger.opinions import ASIDE, store_comparison
from goodeye.ledger.rows import Choice
from goodeye.ledger.schema import Attempt, Brief, Comparison
from goodeye.ledger.sql import portions

PORTION = 16  # questions asked and then kept at once: no more is lost to a kill
PEOPLE = "people"
WON = {"win": 1.0, "similar": 0.5, "lose": 0.0}


@dataclass(frozen=True, kw_only=True)
class Match:
    """Two runs on one axis: outcomes for the first. pairs: answers to the same briefs, of which some were compared.

    flipped: the share of answered pairs in which the two orders disagreed; None for who is asked in one order.
    coverage: the share of pairs with an answer.
    """

    axis: str
    first: int
    second: int
    pairs: int
    wins: Wins
    flipped: float | None
    coverage: float

    def to_json(self) -> dict[str, Any]:
        """Plain lists and numbers."""
        named = {"axis": self.axis, "first": self.first, "second": self.second, "pairs": self.pairs}
        return {**named, **self.wins.to_json(), "flipped": self.flipped, "coverage": self.coverage}


class Place(NamedTuple):
    """A run's place on an axis: Bradley-Terry strength in log odds, with its 95 % bootstrap interval."""

    run: int
    strength: float
    low: float
    high: float
    comparisons: int

    def to_json(self) -> dict[str, Any]:
        """Plain numbers; an interval that does not exist is None."""
        return {name: None if value != value else value for name, value in self._asdict().items()}


@dataclass(frozen=True, kw_only=True)
class Tournament:
    """Who won. by: the judge and its version, or people. asked: questions put now; kept: answers there already."""

    by: str
    version: str
    names: dict[int, str]  # run -> name
    rankings: dict[str, list[Place]]  # axis -> best first
    matches: list[Match]
    asked: int = 0
    kept: int = 0
    failures: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain lists and numbers."""
        return {
            "by": self.by,
            "version": self.version,
            "runs": [{"run": run, "name": name} for run, name in self.names.items()],
            "rankings": {axis: [place.to_json() for place in places] for axis, places in self.rankings.items()},
            "matches": [match.to_json() for match in self.matches],
            "asked": self.asked,
            "kept": self.kept,
            "failures": list(self.failures),
        }


class Said(NamedTuple):
    """One comparison on the ledger, with the runs of its two attempts."""

    left: int
    right: int
    left_run: int
    right_run: int
    axis: str
    choice: Choice
    swapped: bool
    person: str | None


def by_judge(
    ledger: Ledger,
    sides: Sequence[Side],
    judge: PairJudge,
    seed: int = 0,
    on_asked: Callable[[int], None] = lambda count: None,
) -> Tournament:
    """Has the judge compare every two runs on every brief that both have, and ranks them.

    What the ledger holds of this judge in this version is not asked again, so another run adds only its own pairs, and
    who was stopped goes on. A judge that an order may sway is asked both ways; where the two disagree, the answers are
    similar. on_asked: called with the number of questions that are settled. Raises BadInput where a run shares no brief
    with another, and as the judge does.
    """
    sides = matched(sides)
    where = (Comparison.judge == judge.name, Comparison.version == judge.version)
    current = {frozenset((left.attempt, right.attempt)) for left, right in pairs(sides)}  # not what was replaced
    orders = (False, True) if judge.ordered else (False,)
    there = {(one.left, one.right, one.axis, one.swapped and judge.ordered) for one in said(ledger, sides, *where)}
    asked = kept = 0
    for some in portions([(*pair, swapped) for pair in pairs(sides) for swapped in orders], PORTION):
        new = [
            (left, right, swapped)
            for left, right, swapped in some
            if not all((left.attempt, right.attempt, axis, swapped) in there for axis in judge.axes)
        ]
        shown = [Question(right, left) if swapped else Question(left, right) for left, right, swapped in new]
        answers = judge.prefer(shown)
        with ledger.transaction() as connection:
            for (left, right, swapped), found in zip(new, answers, strict=True):
                for axis, preferred in found.items():
                    if preferred is not None:
                        choice = _choice(preferred, swapped)
                        both = left.attempt, right.attempt
                        store_comparison(connection, *both, judge.name, axis, choice, swapped, version=judge.version)
        asked, kept = asked + len(new), kept + len(some) - len(new)
        on_asked(len(some))
    words = [one for one in said(ledger, sides, *where) if frozenset((one.left, one.right)) in current]
    outcomes = _of_both_orders(words, judge.ordered)
    return _tournament(
        sides,
        outcomes,
        judge.axes,
        ordered=judge.ordered,
        seed=seed,
        by=judge.name,
        version=judge.version,
        asked=asked,
        kept=kept,
        failures=tuple(getattr(judge, "failures", ())),
    )


def by_people(ledger: Ledger, sides: Sequence[Side], seed: int = 0) -> Tournament:
    """Ranks runs by what people chose in `goodeye review`, those set aside left out; each one's last word on a pair.

    What two runs deliver for one brief counts, in whichever slots; what one of them has replaced since does not.
    """
    sides = matched(sides)
    brief = _brief_of(sides)
    words = said(ledger, sides, Comparison.person.is_not(None), Comparison.person.not_in(ASIDE))
    words = [one for one in words if one.left in brief and brief[one.left] == brief.get(one.right)]
    found = list({(one.person, frozenset((one.left, one.right)), one.axis): one for one in words}.values())
    outcomes = [_Outcome(one, _outcome(one.choice), False) for one in found]
    axes = sorted({one.axis for one in found})
    return _tournament(sides, outcomes, axes, by=PEOPLE, version="", ordered=False, seed=seed, kept=len(found))


def matched(sides: Sequence[Side]) -> list[Side]:
    """The sides with one key for each brief: a folder's `red-shoe` is a run's `red_shoe`. Where one of the sides has
    both spellings, they are two briefs.

    Raises BadInput unless there are two different runs or more, each of which shares a brief with another one.
    """
    if len(sides) < 2:
        raise BadInput("One run alone cannot be compared. Name two or more.")
    if len({side.run for side in sides}) < len(sides):
        raise BadInput("A run is named twice. Name each run once.")
    there = [{key for key, _slot in side.answers} for side in sides]
    spellings = [Counter(map(dashed, keys)) for keys in there]
    twice = {name for found in spellings for name, count in found.items() if count > 1}
    key_of = {key: key if dashed(key) in twice else dashed(key) for keys in there for key in keys}
    found = [
        replace(side, answers={(key_of[key], slot): answer for (key, slot), answer in side.answers.items()})
        for side in sides
    ]
    for place, side in enumerate(found):
        others = [*found[:place], *found[place + 1 :]]
        if not any(common(side, other) for other in others):
            raise BadInput(
                f"{side.name} has no brief in common with what it is compared with: it answers {_some([side])}; the "
                f"others answer {_some(others)}. Compare runs of the same products or queries; a folder of pictures "
                "answers the briefs that its files are named after."
            )
    return found


def _some(sides: Sequence[Side]) -> str:
    """Their first briefs."""
    keys = list(dict.fromkeys(key for side in sides for key, _slot in side.answers))
    return ", ".join(keys[:3]) + (", …" if len(keys) > 3 else "")


def pairs(sides: Sequence[Side]) -> list[tuple[Answer, Answer]]:
    """Every two runs' answers to the same slot of the same brief, the one with the smaller id at the left."""
    found = []
    for one, other in combinations(sides, 2):
        for key in common(one, other):
            both = one.answers[key], other.answers[key]
            found.append((min(both, key=lambda side: side.attempt), max(both, key=lambda side: side.attempt)))
    return found


def common(one: Side, other: Side) -> list[Key]:
    """What both answer, in the first one's order."""
    return [key for key in one.answers if key in other.answers]


def said(ledger: Ledger, sides: Sequence[Side], *where: Any) -> list[Said]:
    """What is on the ledger of pairs of these runs, turned so that the attempt with the smaller id is left: an import
    may have given two attempts ids in the other order than where they were compared."""
    left, right = Attempt.__table__.alias(), Attempt.__table__.alias()
    left_brief, right_brief = Brief.__table__.alias(), Brief.__table__.alias()
    runs = [side.run for side in sides]
    query = (
        select(
            Comparison.left_attempt, Comparison.right_attempt, left_brief.c.run_id, right_brief.c.run_id,
            Comparison.axis, Comparison.choice, Comparison.swapped, Comparison.person,
        )
        .join(left, Comparison.left_attempt == left.c.id)
        .join(right, Comparison.right_attempt == right.c.id)
        .join(left_brief, left.c.brief_id == left_brief.c.id)
        .join(right_brief, right.c.brief_id == right_brief.c.id)
        .where(left_brief.c.run_id.in_(runs), right_brief.c.run_id.in_(runs))
        .where(left_brief.c.run_id != right_brief.c.run_id, *where)
        .order_by(Comparison.id)
    )  # fmt: skip
    with ledger.reading() as connection:
        return [_smaller_left(Said(*row)) for row in connection.execute(query)]


def _smaller_left(one: Said) -> Said:
    turned: dict[Choice, Choice] = {"left": "right", "right": "left", "similar": "similar"}
    if one.left < one.right:
        return one
    return Said(
        one.right, one.left, one.right_run, one.left_run, one.axis, turned[one.choice], not one.swapped, one.person
    )


def _choice(preferred: Preferred, swapped: bool) -> Choice:
    if preferred == "similar":
        return "similar"
    return "left" if (preferred == "first") != swapped else "right"


class _Outcome(NamedTuple):
    said: Said
    outcome: Outcome  # for the left attempt
    flipped: bool


def _outcome(choice: Choice) -> Outcome:
    return {"left": OUTCOMES[0], "similar": OUTCOMES[1], "right": OUTCOMES[2]}[choice]


def _of_both_orders(found: Sequence[Said], ordered: bool) -> list[_Outcome]:
    """One outcome for each pair and axis; a pair of which one order is missing has none."""
    orders: dict[tuple[int, int, str], dict[bool, Said]] = defaultdict(dict)
    for one in found:
        orders[one.left, one.right, one.axis][one.swapped and ordered] = one
    joined = []
    for both in orders.values():
        if len(both) == (2 if ordered else 1):
            choices = {one.choice for one in both.values()}
            agreed: Choice = choices.pop() if len(choices) == 1 else "similar"
            joined.append(_Outcome(next(iter(both.values())), _outcome(agreed), bool(choices)))
    return joined


def _tournament(
    sides: Sequence[Side], outcomes: Sequence[_Outcome], axes: Sequence[str], *, ordered: bool, seed: int, **more: Any
) -> Tournament:
    by_axis: dict[str, list[_Outcome]] = defaultdict(list)
    by_match: dict[tuple[str, frozenset[int]], list[_Outcome]] = defaultdict(list)
    for one in outcomes:
        by_axis[one.said.axis].append(one)
        by_match[one.said.axis, frozenset((one.said.left_run, one.said.right_run))].append(one)
    matches = [
        _match(one, other, axis, by_match[axis, frozenset((one.run, other.run))], ordered, seed)
        for axis in axes
        for one, other in combinations(sides, 2)
    ]
    return Tournament(
        names={side.run: side.name for side in sides},
        rankings={axis: _places(sides, by_axis[axis], seed) for axis in axes},
        matches=[match for match in matches if match.pairs],
        **more,
    )


def _match(one: Side, other: Side, axis: str, mine: Sequence[_Outcome], ordered: bool, seed: int) -> Match:
    turned: dict[Outcome, Outcome] = {"win": "lose", "similar": "similar", "lose": "win"}
    keys = common(one, other)
    wanted = {frozenset((one.answers[key].attempt, other.answers[key].attempt)) for key in keys}
    results = [found.outcome if found.said.left_run == one.run else turned[found.outcome] for found in mine]
    covered = len(wanted & {frozenset((found.said.left, found.said.right)) for found in mine})
    missing = len(keys) - covered
    return Match(
        axis=axis,
        first=one.run,
        second=other.run,
        pairs=len(keys),
        wins=count_wins(
            [*results, *[None] * missing],
            seed,
            np.append(_briefs(mine, [one, other]), [-1] * missing),
            agreed=[*(not found.flipped for found in mine), *[None] * missing] if ordered else (),
        ),
        flipped=sum(found.flipped for found in mine) / len(mine) if ordered and mine else None,
        coverage=covered / len(keys) if keys else 0.0,
    )


def _brief_of(sides: Sequence[Side]) -> dict[int, str]:
    """The brief that each attempt answers."""
    return {answer.attempt: key for side in sides for (key, _slot), answer in side.answers.items()}


def _briefs(outcomes: Sequence[_Outcome], sides: Sequence[Side]) -> np.ndarray[Any, Any]:
    """A number for each outcome's brief: what is said of one brief, by whomever, is not independent."""
    brief = _brief_of(sides)
    keys = [brief[one.said.left] for one in outcomes]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return np.array([numbers[key] for key in keys], dtype=int)


def _places(sides: Sequence[Side], outcomes: Sequence[_Outcome], seed: int) -> list[Place]:
    number = {side.run: place for place, side in enumerate(sides)}
    first, second = (
        np.array([number[getattr(one.said, side)] for one in outcomes], dtype=int) for side in ("left_run", "right_run")
    )
    won = np.array([WON[one.outcome] for one in outcomes])
    ranking = rank(first, second, won, len(sides), briefs=_briefs(outcomes, sides), seed=seed)
    return [
        Place(
            run=sides[place].run,
            strength=float(ranking.strength[place]),
            low=float(ranking.low[place]),
            high=float(ranking.high[place]),
            comparisons=int(ranking.comparisons[place]),
        )
        for place in np.argsort(-ranking.strength, kind="stable")
    ]
