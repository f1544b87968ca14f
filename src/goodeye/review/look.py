"""Looking at attempts: filtered, sorted, page by page by key, on indexes; one attempt, one run, all runs."""

import math
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from sqlalchemy import Connection, Select, case, func, or_, select, tuple_

from goodeye.ledger.asks import Ask, Item, Pair, Person
from goodeye.ledger.ledger import Ledger
from goodeye.ledger.rows import SCORED
from goodeye.ledger.schema import Attempt, Brief, Comparison, Image, Pick, Run, Verdict, Vote, now
from goodeye.ledger.sql import storable
from goodeye.review.items import JUDGED_TO, flags_at, reading
from goodeye.review.votes import LABELS, pictures_of

PAGE = 60
SILENCE = timedelta(hours=1)  # after which a run that calls itself running is taken for stopped
SORTS = {  # name in the address -> (column, high first, name for people)
    "newest": (Item.attempt_id, True, "newest first"),
    "oldest": (Item.attempt_id, False, "oldest first"),
    "best": (Item.score, True, "highest score first"),
    "worst": (Item.score, False, "lowest score first"),
    "unsure": (Item.unsure, True, "judge least sure first"),
    "disagreement": (Item.disagreement, True, "people against judge first"),
}
AGAINST = 0.5  # the share of votes against the judge from which people disagree with it
PICKED = ("kept", "rejected", "none")
NEITHER, ANY = "none", "any"
JUDGES_ONLY = ("unsuitable", "stopped")  # classes that people are not asked for: RFNet's last, and an early stop
PEOPLE, CAME = "people", ("better", "worse", "similar")  # who compared, and what came of it


class NotThere(LookupError):
    """What was asked for is not in the ledger."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What to look at. Empty: everything."""

    job: str = ""
    run: int = 0
    label: str = ""
    vote: str = ""  # a label, "any" or "none"
    picked: str = ""
    low: float | None = None  # of the score
    high: float | None = None
    flagged: bool = False
    against: bool = False  # half the votes or more name another label than the judge
    sort: str = "newest"
    after: str = ""  # the key of the last attempt of the page before

    def link(self, **changes: Any) -> str:
        """The address of the same with changes."""
        asked = replace(self, **changes)
        fields = {name: getattr(asked, name) for name in self.__dataclass_fields__}
        given = {name: value for name, value in fields.items() if value not in ("", 0, None, False)}
        given |= {name: fields[name] for name in ("low", "high") if fields[name] is not None}  # 0 is a score, too
        if asked.sort == "newest":
            given.pop("sort")
        return "/look?" + urlencode({name: "1" if value is True else value for name, value in given.items()})


@dataclass(frozen=True, kw_only=True)
class Found:
    """One page of attempts; `next` is the address of the next page, "" after the last."""

    rows: list[dict[str, Any]]
    next: str


def read(given: Mapping[str, str]) -> Asked:
    """What an address asks for; whatever makes no sense in it is left out."""
    run, sort, picked = given.get("run", ""), given.get("sort", ""), given.get("picked", "")
    return Asked(
        job=storable(given.get("job", "")[:40]),
        run=int(run) if re.fullmatch(r"[1-9][0-9]{0,17}", run) else 0,
        label=storable(given.get("label", "")[:40]),
        vote=storable(given.get("vote", "")[:40]),
        picked=picked if picked in PICKED else "",
        low=number_in(given.get("low", "")),
        high=number_in(given.get("high", "")),
        flagged=given.get("flagged", "") == "1",
        against=given.get("against", "") == "1",
        sort=sort if sort in SORTS else "newest",
        after=given.get("after", "")[:60],
    )


def number_in(words: str) -> float | None:
    """The finite number that is written there; None for anything else."""
    try:
        value = float(words[:30])
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def page(ledger: Ledger, asked: Asked) -> Found:
    """At most PAGE attempts. The next page begins after the last one's key, so it costs no more than the first."""
    column = SORTS[asked.sort][0]
    with reading(ledger) as connection:
        rows = connection.execute(query_of(asked)).mappings().all()
        pictures = pictures_of(connection, [row["attempt_id"] for row in rows[:PAGE]])
    shown = [{**row, **pictures[row["attempt_id"]]} for row in rows[:PAGE]]
    last = f"{rows[PAGE - 1][column.key]!r}~{rows[PAGE - 1]['attempt_id']}" if len(rows) > PAGE else ""
    return Found(rows=shown, next=asked.link(after=last) if last else "")


def query_of(asked: Asked) -> Select[Any]:
    """The items of a page and one more, in order."""
    column, down, _words = SORTS[asked.sort]
    query = _filtered(select(Item), asked)
    ends = [Item.attempt_id] if column is Item.attempt_id else [column, Item.attempt_id]
    if (key := _key(asked.after, column)) is not None:
        mine, there = tuple_(*ends), key[-len(ends) :]
        query = query.where(mine < there if down else mine > there)
    return query.order_by(*(end.desc() if down else end for end in ends)).limit(PAGE + 1)


def _key(after: str, column: Any) -> tuple[float, int] | None:
    """The key in an address as numbers; None where there is none that makes sense."""
    value, _, attempt = after.partition("~")
    number = number_in(value)
    if number is None or not re.fullmatch(r"[0-9]{1,18}", attempt):
        return None
    return (int(number) if column is Item.attempt_id else number), int(attempt)


def _filtered(query: Select[Any], asked: Asked) -> Select[Any]:
    exact = {Item.job: asked.job, Item.run_id: asked.run, Item.label: asked.label}
    query = query.where(*(column == value for column, value in exact.items() if value))
    if asked.picked:
        query = query.where(Item.picked == ("" if asked.picked == NEITHER else asked.picked))
    if asked.vote == NEITHER:
        query = query.where(Item.votes == 0)
    elif asked.vote == ANY:
        query = query.where(Item.votes > 0)
    elif asked.vote:
        query = query.where(Item.vote == asked.vote)
    if asked.low is not None:
        query = query.where(Item.score >= asked.low)
    if asked.high is not None:
        query = query.where(Item.score <= asked.high)
    if asked.flagged:
        query = query.where(Item.flags > 0)
    if asked.against:
        query = query.where(Item.disagreement >= AGAINST)
    if asked.against or asked.sort == "disagreement":
        query = query.where(Item.votes > 0)
    return query


def known(ledger: Ledger) -> dict[str, Any]:
    """What there is to choose from in the filters: the latest runs, jobs and labels."""
    with reading(ledger) as connection:
        latest = connection.execute(select(Run.id, Run.job, Run.started).order_by(Run.id.desc()).limit(200)).all()
        jobs = sorted(connection.scalars(select(Run.job).distinct()))
    said = {"labels": [*LABELS, *JUDGES_ONLY], "votes": [*LABELS, SCORED]}
    return {"runs": latest, "jobs": jobs, **said, "sorts": {name: SORTS[name][2] for name in SORTS}}


def attempt(ledger: Ledger, number: int) -> dict[str, Any]:
    """All that is known of one attempt: verdicts, votes and comparisons, picks, flags; the boxes that its detail holds,
    the picture's size to draw them on, and its judges' highest score. Raises NotThere."""
    with reading(ledger) as connection:
        pictures = pictures_of(connection, [number])
        if number not in pictures:
            raise NotThere(f"There is no attempt {number}.")
        aside = set(connection.scalars(select(Person.name).where(Person.aside)))
        verdicts = connection.execute(select(Verdict).where(Verdict.attempt_id == number).order_by(Verdict.id))
        votes = connection.execute(select(Vote).where(Vote.attempt_id == number).order_by(Vote.id))
        picks = connection.execute(select(Pick.kept, Pick.why).where(Pick.attempt_id == number))
        either = or_(Comparison.left_attempt == number, Comparison.right_attempt == number)
        compared = connection.execute(select(Comparison).where(either).order_by(Comparison.id))
        one = pictures[number]
        size = connection.execute(select(Image.width, Image.height).where(Image.sha256 == one["image"])).first()
        return {
            **one,
            "size": size,
            "boxes": _boxes(one["detail"].get("boxes")) if size else [],
            "detail": {name: value for name, value in one["detail"].items() if name != "boxes"},
            "highest": JUDGED_TO.get(one["job"], 1),
            "verdicts": verdicts.mappings().all(),
            "votes": [{**row, "aside": row["person"] in aside} for row in votes.mappings()],
            "compared": _compared(number, compared.mappings(), aside),
            "flags": [{**row, "aside": row["person"] in aside} for row in _flags(connection, number)],
            "picks": picks.mappings().all(),
        }


def _flags(connection: Connection, number: int) -> list[Mapping[str, Any]]:
    """Who flagged the attempt, with what note, and beside which other one."""
    said = Ask.person, Ask.note
    alone = select(*said).where(Ask.attempt_id == number, Ask.outcome == "flagged").order_by(Ask.id)
    found: list[Mapping[str, Any]] = [{**row, "beside": None} for row in connection.execute(alone).mappings()]
    for side, other in ((Pair.left_attempt, Pair.right_attempt), (Pair.right_attempt, Pair.left_attempt)):
        query = flags_at(side).where(side == number).with_only_columns(*said, other.label("beside"))
        found += [dict(row) for row in connection.execute(query.order_by(Ask.id)).mappings()]
    return found


def _boxes(given: Any) -> list[dict[str, Any]]:
    """Those that are {"name": …, "bbox": [x, y, width, height]} in pixels: whoever records may write anything."""
    found = [box for box in given if isinstance(box, dict)] if isinstance(given, list) else []
    return [box for box in found if "name" in box and _is_box(box.get("bbox"))]


def _is_box(sides: Any) -> bool:
    return isinstance(sides, list) and len(sides) == 4 and all(isinstance(one, int | float) for one in sides)


def _compared(number: int, rows: Iterable[Mapping[Any, Any]], aside: Collection[str]) -> list[dict[str, Any]]:
    """On each axis and against each other attempt, who found this one better, worse or similar: people together, each
    judge apart. Whoever is set aside is left out."""
    found: dict[tuple[str, int, str], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row["person"] in aside:
            continue
        left = row["left_attempt"] == number
        came = "similar" if row["choice"] == "similar" else "better" if (row["choice"] == "left") == left else "worse"
        by = PEOPLE if row["person"] else f"{row['judge']} {row['version'] or ''}".strip()
        other = row["right_attempt" if left else "left_attempt"]
        found[row["axis"], other, by][came].append(row["person"] or by)
    return [
        {"axis": axis, "other": other, "by": by, "came": {name: said[name] for name in CAME if said[name]}}
        for (axis, other, by), said in sorted(found.items())
    ]


def runs(ledger: Ledger, most: int = 200) -> list[dict[str, Any]]:
    """The latest runs with what came of them."""
    with reading(ledger) as connection:
        latest = connection.execute(select(Run).order_by(Run.id.desc()).limit(most)).mappings().all()
        came = _came(connection, [row["id"] for row in latest])
        return [{**row, "status": _status(connection, row), **came[row["id"]]} for row in latest]


def run(ledger: Ledger, number: int) -> dict[str, Any]:
    """One run's report: counts by label and vote, how many briefs, what it was asked for. Raises NotThere."""
    with reading(ledger) as connection:
        row = connection.execute(select(Run).where(Run.id == number)).mappings().first()
        if row is None:
            raise NotThere(f"There is no run {number}.")
        mine = Item.run_id == number
        count = func.count()
        labels = connection.execute(
            select(Item.label, count).where(mine).group_by(Item.label).order_by(count.desc())
        ).all()
        votes = connection.execute(
            select(Item.vote, count).where(mine, Item.votes > 0).group_by(Item.vote).order_by(count.desc())
        ).all()
        best = select(Item.attempt_id).where(mine).order_by(Item.score.desc(), Item.attempt_id.desc()).limit(12)
        worst = select(Item.attempt_id).where(mine).order_by(Item.score, Item.attempt_id).limit(12)
        ends = {name: list(connection.scalars(query)) for name, query in (("best", best), ("worst", worst))}
        pictures = pictures_of(connection, sum(ends.values(), []))
        return {
            **row,
            "status": _status(connection, row),
            **_came(connection, [number])[number],
            "briefs": connection.scalar(select(func.count()).select_from(Brief).where(Brief.run_id == number)),
            "labels": [tuple(one) for one in labels],
            "people": [tuple(one) for one in votes],
            "ends": {name: [pictures[one] for one in found] for name, found in ends.items()},
        }


def _status(connection: Connection, run: Mapping[Any, Any]) -> str:
    """As on record; but "stopped" for a run that calls itself running and of which nothing was heard for an hour: what
    a kill or a lost machine leaves."""
    if run["status"] != "running":
        return str(run["status"])
    newest = select(func.max(Item.attempt_id)).where(Item.run_id == run["id"]).scalar_subquery()
    heard = connection.scalar(select(Attempt.created).where(Attempt.id == newest))
    return "running" if max(heard or run["started"], run["started"]) > now() - SILENCE else "stopped"


def _came(connection: Connection, runs: list[int]) -> dict[int, dict[str, int]]:
    """How many attempts each run has, how many were kept, and how many have a vote."""
    kept, voted = case((Item.picked == "kept", 1), else_=0), case((Item.votes > 0, 1), else_=0)
    counts = select(Item.run_id, func.count(), func.sum(kept), func.sum(voted)).where(Item.run_id.in_(runs))
    found = {run: each for run, *each in connection.execute(counts.group_by(Item.run_id))}
    return {run: dict(zip(("attempts", "kept", "voted"), found.get(run, (0, 0, 0)), strict=True)) for run in runs}
