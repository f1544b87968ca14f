"""How the voting stands: who voted, how steadily, how far people agree with each other and with each judge."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from sqlalchemy import Connection, and_, exists, or_, select
from sqlalchemy.orm import aliased

from goodeye.judging.alpha import krippendorff_alpha
from goodeye.judging.bradley_terry import Ranking, rank
from goodeye.judging.metrics import Interval
from goodeye.ledger.asks import Ask, Item, Pair, Person
from goodeye.ledger.ledger import Ledger
from goodeye.ledger.rows import SCORED
from goodeye.ledger.sample import RANDOM, fair_sample
from goodeye.ledger.schema import Attempt, Brief, Comparison, Pick, Verdict, Vote, now
from goodeye.review.items import reading
from goodeye.review.promised import Promised, promised
from goodeye.review.votes import LABELS

DAYS = 14  # shown
WON = {"left": 1.0, "right": 0.0, "similar": 0.5}
SIMILAR = 0  # in the place of the attempt that was chosen
T = TypeVar("T", str, int)
Given = dict[tuple[int, str], list[float]]  # attempt and axis -> the scores that people gave it


@dataclass(frozen=True, kw_only=True)
class PersonStanding:
    """One person's part. `steady`: the share of repeated items answered as the first time, None without any; of
    scores, those of which none moved by more than one."""

    name: str
    votes: int
    comparisons: int
    days: tuple[int, ...]  # answers a day, the last DAYS of them, today last
    seconds: float | None  # median of an answer
    skipped: int
    flagged: int
    repeats: int
    steady: float | None
    with_judge: float | None  # the share of votes that name the first judge's label
    aside: bool
    why: str


@dataclass(frozen=True, kw_only=True)
class JudgeStanding:
    """How often what most people say of a picture is a judge's label: of all pictures on which they are not evenly
    split, and of the unbiased sample, each with a 95 % interval."""

    judge: str
    version: str
    pictures: int
    agreement: Interval
    sampled: int
    in_sample: Interval | None


@dataclass(frozen=True, kw_only=True)
class ScoreStanding:
    """A judge's scores of one axis against the mean that people gave each picture: how often they are at most one
    apart, with a 95 % interval, and by how much the judge's are higher on average."""

    judge: str
    version: str
    axis: str
    pictures: int
    near: Interval
    higher: float


@dataclass(frozen=True, kw_only=True)
class ScoreAgreement:
    """How far people agree on an axis that they score: Krippendorff's alpha of numbers, over pictures with two votes or
    more."""

    axis: str
    alpha: float
    pictures: int


@dataclass(frozen=True, kw_only=True)
class PairStanding:
    """How often a judge's word on a pair is what most people say of it: left, right or similar, of all pairs and of
    those that chance alone drew, each with a 95 % interval.

    axis: the judge's. asked: the people's, which is another where the judge has none of that name.
    """

    judge: str
    version: str
    axis: str
    asked: str
    pairs: int
    agreement: Interval
    sampled: int
    in_sample: Interval | None


@dataclass(frozen=True, kw_only=True)
class AxisRanking:
    """The runs by Bradley-Terry strength on one axis, best first: (run, strength, low, high, comparisons)."""

    axis: str
    rows: tuple[tuple[int, float, float, float, int], ...]

    @property
    def ends(self) -> tuple[float, float]:
        """From where to where it is drawn."""
        drawn = [value for row in self.rows for value in row[1:4] if not math.isnan(value)]
        return min(*drawn, -1.0), max(*drawn, 1.0)


@dataclass(frozen=True, kw_only=True)
class Standing:
    """All of it. alpha: Krippendorff's, over pictures with two votes or more (`agreed_on`); None without any."""

    people: tuple[PersonStanding, ...]
    votes: int
    alpha: float | None
    agreed_on: int
    judges: tuple[JudgeStanding, ...]
    scores: tuple[ScoreStanding, ...]
    scores_agree: tuple[ScoreAgreement, ...]
    pairs: tuple[PairStanding, ...]
    left_chosen: Interval | None  # of those decided here, the share in which the left of the screen was chosen
    decided: int
    rankings: tuple[AxisRanking, ...]
    promised: tuple[Promised, ...]


def standing(ledger: Ledger) -> Standing:
    """Reads every vote and answer; votes set aside count only in their voter's own row."""
    with reading(ledger) as connection:
        aside = {one.name: one for one in connection.execute(select(Person))}
        out = {name for name, one in aside.items() if one.aside}
        query = select(Vote.id, Vote.attempt_id, Vote.person, Vote.label, Vote.created).order_by(Vote.id)
        votes = list({(vote.attempt_id, vote.person): vote for vote in connection.execute(query)}.values())  # the last
        counted = [vote for vote in votes if vote.person not in out]
        judged = connection.execute(select(Item.attempt_id, Item.label).where(Item.votes > 0))
        labels = {one.attempt_id: one.label for one in judged}
        compared = _compared(connection)
        people = _people(connection, votes, compared, labels, aside)
        compared = [one for one in compared if one.person not in out]
        given = _given(connection, counted)
        judges, scores, pairs = _judges(connection, counted), _scores(connection, given), _pairs(connection, compared)
        promises = promised(connection, counted)
    items = _counts([vote for vote in counted if vote.label != SCORED])
    alpha = krippendorff_alpha(items)
    left = [(one.choice == "left") != one.swapped for one in compared if one.here and one.choice != "similar"]
    return Standing(
        people=tuple(people),
        votes=len(counted),
        alpha=None if math.isnan(alpha) else alpha,
        agreed_on=int((items.sum(1) >= 2).sum()),
        judges=tuple(judges),
        scores=tuple(scores),
        scores_agree=tuple(_agreement(given)),
        pairs=tuple(pairs),
        left_chosen=wilson(sum(left), len(left)) if left else None,
        decided=len(left),
        rankings=tuple(_rankings(compared)),
        promised=tuple(promises),
    )


def wilson(successes: int, trials: int) -> Interval:
    """A share with its 95 % score interval (Wilson 1927)."""
    z = 1.959964
    share, slack = successes / trials, z * z / trials
    middle = (share + slack / 2) / (1 + slack)
    half = z / (1 + slack) * math.sqrt(share * (1 - share) / trials + slack / (4 * trials))
    return Interval(share, max(0.0, middle - half), min(1.0, middle + half))


def _counts(votes: Sequence[Any]) -> np.ndarray[Any, Any]:
    """How many people gave each picture each label: [pictures, labels]."""
    pictures = {number: row for row, number in enumerate(dict.fromkeys(vote.attempt_id for vote in votes))}
    names = {name: column for column, name in enumerate(dict.fromkeys([*LABELS, *(vote.label for vote in votes)]))}
    counts = np.zeros((len(pictures), len(names)))
    rows, columns = [pictures[vote.attempt_id] for vote in votes], [names[vote.label] for vote in votes]
    np.add.at(counts, (rows, columns), 1)
    return counts


# People


def _people(
    connection: Connection,
    votes: Sequence[Any],
    compared: Sequence[Any],
    labels: dict[int, str],
    aside: dict[str, Any],
) -> list[PersonStanding]:
    answers = connection.execute(
        select(Ask.person, Ask.kind, Ask.outcome, Ask.answered, Ask.seconds, Ask.repeat_of).where(
            Ask.outcome.in_(("answered", "skipped", "flagged"))
        )
    ).all()
    outcomes = Counter((one.person, one.outcome) for one in answers)
    pairs = Counter(one.person for one in compared)
    days, seconds = _days([*votes, *compared]), _seconds(answers)
    repeats, steady = _repeats(connection)
    given: dict[str, list[Any]] = defaultdict(list)
    for vote in votes:
        given[vote.person].append(vote)
    there = {*given, *pairs, *(one.person for one in answers)}
    names = sorted(there, key=lambda name: (-len(given[name]), -pairs[name], name))
    return [
        PersonStanding(
            name=name,
            votes=len(given[name]),
            comparisons=pairs[name],
            days=days[name],
            seconds=float(np.median(seconds[name])) if seconds[name] else None,
            skipped=outcomes[name, "skipped"],
            flagged=outcomes[name, "flagged"],
            repeats=repeats[name],
            steady=steady[name] / repeats[name] if repeats[name] else None,
            with_judge=_share(
                [vote.label == labels[vote.attempt_id] for vote in given[name] if labels.get(vote.attempt_id)]
            ),
            aside=name in aside and aside[name].aside,
            why=aside[name].why if name in aside else "",
        )
        for name in names
    ]


def _share(same: Sequence[bool]) -> float | None:
    return sum(same) / len(same) if same else None


def _days(said: Sequence[Any]) -> dict[str, tuple[int, ...]]:
    today = now().date()
    counts: dict[str, list[int]] = defaultdict(lambda: [0] * DAYS)
    for one in said:
        ago = (today - one.created.date()).days
        if 0 <= ago < DAYS:
            counts[one.person][DAYS - 1 - ago] += 1
    found: dict[str, tuple[int, ...]] = defaultdict(lambda: (0,) * DAYS)
    found.update({person: tuple(row) for person, row in counts.items()})
    return found


def _seconds(answers: Sequence[Any]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = defaultdict(list)
    for one in answers:
        if one.outcome == "answered" and one.seconds > 0:
            found[one.person].append(one.seconds)
    return found


def _repeats(connection: Connection) -> tuple[Counter[str], Counter[str]]:
    """How many repeated items each person answered, and how many of them as the first time."""
    first = aliased(Ask)
    query = (
        select(Ask.person, Ask.answer, first.answer.label("before"))
        .join(first, Ask.repeat_of == first.id)
        .where(Ask.outcome == "answered", first.outcome == "answered")
    )
    rows = connection.execute(query).all()
    return Counter(one.person for one in rows), Counter(one.person for one in rows if _same(one.answer, one.before))


def _same(answer: str, before: str) -> bool:
    """Equal; scores may differ by one."""
    scores = [[int(word) for word in said.split() if word.isdecimal()] for said in (answer, before)]
    if scores[0] and len(scores[0]) == len(scores[1]):
        return all(abs(one - other) <= 1 for one, other in zip(*scores, strict=True))
    return answer == before


# Judges


def _judges(connection: Connection, votes: Sequence[Any]) -> list[JudgeStanding]:
    voted = select(Item.attempt_id).where(Item.votes > 0)
    sample = fair_sample(connection)
    said: dict[int, list[tuple[tuple[str, str], str]]] = defaultdict(list)
    query = select(Verdict.attempt_id, Verdict.judge, Verdict.version, Verdict.label)
    for row in connection.execute(query.where(Verdict.attempt_id.in_(voted), Verdict.label.in_(tuple(LABELS)))):
        said[row.attempt_id].append(((row.judge, row.version), row.label))
    same: dict[tuple[str, str], list[bool]] = defaultdict(list)
    sampled: dict[tuple[str, str], list[bool]] = defaultdict(list)
    labels: dict[int, list[str]] = defaultdict(list)
    for vote in votes:
        labels[vote.attempt_id].append(vote.label)
    for attempt, by_people in labels.items():
        most = most_say(by_people)
        for judge, label in said[attempt] if most is not None else ():
            same[judge].append(label == most)
            if attempt in sample:
                sampled[judge].append(label == most)
    return [
        JudgeStanding(
            judge=judge[0],
            version=judge[1],
            pictures=len(same[judge]),
            agreement=wilson(sum(same[judge]), len(same[judge])),
            sampled=len(sampled[judge]),
            in_sample=wilson(sum(sampled[judge]), len(sampled[judge])) if sampled[judge] else None,
        )
        for judge in sorted(same)
    ]


def most_say(words: Sequence[T]) -> T | None:
    """What most say; None where they are evenly split. A picture counts once, however many spoke of it."""
    (most, count), *others = Counter(words).most_common(2)
    return None if others and others[0][1] == count else most


def _given(connection: Connection, votes: Sequence[Any]) -> Given:
    """What people gave each picture on each axis, where they score."""
    of_votes = connection.execute(select(Vote.id, Vote.axes).where(Vote.label == SCORED))
    axes = {one.id: one.axes for one in of_votes}
    given: Given = defaultdict(list)
    for vote in votes:
        for axis, score in axes.get(vote.id, {}).items():
            given[vote.attempt_id, axis].append(score)
    return given


def _agreement(given: Given) -> list[ScoreAgreement]:
    found = []
    for axis in sorted({axis for _, axis in given}):
        rows = [scores for (_, of), scores in given.items() if of == axis and len(scores) > 1]
        values = sorted({score for row in rows for score in row})
        counts = np.array([[row.count(value) for value in values] for row in rows])
        alpha = krippendorff_alpha(counts, np.array(values)) if rows else math.nan
        if not math.isnan(alpha):
            found.append(ScoreAgreement(axis=axis, alpha=alpha, pictures=len(rows)))
    return found


def _scores(connection: Connection, given: Given) -> list[ScoreStanding]:
    scored = select(Vote.attempt_id).where(Vote.label == SCORED)
    verdicts = select(Verdict.attempt_id, Verdict.judge, Verdict.version, Verdict.scores)
    ahead: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for row in connection.execute(verdicts.where(Verdict.attempt_id.in_(scored))):
        for axis, score in row.scores.items():
            if people := given.get((row.attempt_id, axis)):
                ahead[row.judge, row.version, axis].append(score - sum(people) / len(people))
    return [
        ScoreStanding(
            judge=judge,
            version=version,
            axis=axis,
            pictures=len(apart),
            near=wilson(sum(abs(one) <= 1 for one in apart), len(apart)),
            higher=sum(apart) / len(apart),
        )
        for (judge, version, axis), apart in sorted(ahead.items())
    ]


# Comparisons


def _pairs(connection: Connection, compared: Sequence[Any]) -> list[PairStanding]:
    """Of a judge that was asked in both orders, disagreement is similar, as in `goodeye compare`."""
    people: dict[tuple[frozenset[int], str], list[int]] = defaultdict(list)
    for one in compared:
        people[_sides(one), one.axis].append(_better(one))
    asked: dict[frozenset[int], dict[str, int]] = defaultdict(dict)  # pair -> axis -> what most people say
    for (pair, axis), words in people.items():
        if (most := most_say(words)) is not None:
            asked[pair][axis] = most
    by_judge: dict[tuple[frozenset[int], str, str], dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
    names = (Comparison.left_attempt, Comparison.right_attempt, Comparison.axis, Comparison.choice)
    query = select(*names, Comparison.judge, Comparison.version).where(Comparison.judge.is_not(None))
    for one in connection.execute(query) if asked else ():
        if (pair := _sides(one)) in asked:
            by_judge[pair, one.judge, one.version or ""][one.axis].add(_better(one))
    drawn = select(Pair.left_attempt, Pair.right_attempt).where(Pair.chosen == RANDOM)
    sample = {_sides(one) for one in connection.execute(drawn)} if by_judge else set()
    same: dict[tuple[str, str, str, str], list[bool]] = defaultdict(list)
    sampled: dict[tuple[str, str, str, str], list[bool]] = defaultdict(list)
    for (pair, judge, version), said in by_judge.items():
        for of_people, most in asked[pair].items():
            alike = [axis for axis in said if axis.rstrip("s") == of_people.rstrip("s")]  # aesthetic, aesthetics
            for axis in alike or said:
                word = next(iter(said[axis])) if len(said[axis]) == 1 else SIMILAR
                same[judge, version, axis, of_people].append(word == most)
                if pair in sample:
                    sampled[judge, version, axis, of_people].append(word == most)
    return [
        PairStanding(
            judge=key[0],
            version=key[1],
            axis=key[2],
            asked=key[3],
            pairs=len(same[key]),
            agreement=wilson(sum(same[key]), len(same[key])),
            sampled=len(sampled[key]),
            in_sample=wilson(sum(sampled[key]), len(sampled[key])) if sampled[key] else None,
        )
        for key in sorted(same)
    ]


def _sides(said: Any) -> frozenset[int]:
    return frozenset((said.left_attempt, said.right_attempt))


def _better(said: Any) -> int:
    """The attempt that was chosen, SIMILAR if none was."""
    return {"left": said.left_attempt, "right": said.right_attempt}.get(said.choice, SIMILAR)


def _compared(connection: Connection) -> list[Any]:
    """The last word of each person on each pair and axis, with the runs of its two sides, and whether it was said
    `here`: of one that was taken in from elsewhere nobody knows on which side of a screen what was."""
    left, right, left_brief, right_brief = aliased(Attempt), aliased(Attempt), aliased(Brief), aliased(Brief)
    query = (
        select(
            Comparison.axis,
            Comparison.choice,
            Comparison.swapped,
            Comparison.person,
            Comparison.created,
            Comparison.left_attempt,
            Comparison.right_attempt,
            Ask.id.is_not(None).label("here"),
            left_brief.run_id.label("left_run"),
            right_brief.run_id.label("right_run"),
            left_brief.key.label("brief"),
            or_(_passed_over(left), _passed_over(right)).label("passed_over"),
        )
        .outerjoin(Ask, Ask.comparison_id == Comparison.id)
        .join(left, Comparison.left_attempt == left.id)
        .join(right, Comparison.right_attempt == right.id)
        .join(left_brief, left.brief_id == left_brief.id)
        .join(right_brief, right.brief_id == right_brief.id)
        .where(Comparison.person.is_not(None))
        .order_by(Comparison.id)
    )
    last = {(one.person, _sides(one), one.axis): one for one in connection.execute(query)}
    return list(last.values())


def _passed_over(attempt: Any) -> Any:
    """That another attempt was kept for its slot, so that its run does not deliver it."""
    kept = exists().where(Pick.brief_id == attempt.brief_id, Pick.slot == attempt.slot, Pick.kept)
    return and_(kept, ~exists().where(Pick.attempt_id == attempt.id, Pick.kept))


def _rankings(compared: Sequence[Any]) -> list[AxisRanking]:
    found = []
    for axis in sorted({one.axis for one in compared}):
        mine = [one for one in compared if one.axis == axis and not one.passed_over]
        between = [one for one in mine if one.left_run != one.right_run]
        runs = sorted({run for one in between for run in (one.left_run, one.right_run)})
        if not runs:
            continue
        place = {run: number for number, run in enumerate(runs)}
        first, second = (np.array([place[getattr(one, side)] for one in between]) for side in ("left_run", "right_run"))
        briefs = np.unique([one.brief for one in between], return_inverse=True)[1]
        ranking = rank(first, second, np.array([WON[one.choice] for one in between]), len(runs), briefs=briefs)
        found.append(AxisRanking(axis=axis, rows=tuple(_ranked(runs, ranking))))
    return found


def _ranked(runs: Sequence[int], ranking: Ranking) -> list[tuple[int, float, float, float, int]]:
    return [
        (
            runs[number],
            float(ranking.strength[number]),
            float(ranking.low[number]),
            float(ranking.high[number]),
            int(ranking.comparisons[number]),
        )
        for number in np.argsort(-ranking.strength)
    ]
