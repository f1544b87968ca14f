"""A ledger with something of everything, and what an export and an import must leave the same."""

import io
from collections import Counter
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import insert

from goodeye.ledger import schema
from goodeye.ledger.asks import Person
from goodeye.ledger.ledger import Ledger
from goodeye.ledger.opinions import store_comparison, store_vote
from goodeye.ledger.rows import VerdictRow
from ledger.recorder import picture

WHY = ("", "random", "unsure")  # a picture was put before people
LABELS = ("available", "size_mismatch", "shape_hallucination")


def when(second: int) -> datetime:
    return datetime(2026, 3, 4, 5, 6, second, 789, tzinfo=UTC)


def jpeg(seed: int) -> bytes:
    file = io.BytesIO()
    picture(seed, 24).save(file, format="JPEG")
    return file.getvalue()


def fill(ledger: Ledger) -> None:
    """Two runs of two briefs with two attempts each: votes of three people, comparisons by two and a judge."""
    attempts = []
    for run in range(2):
        run_id = ledger.start_run("ads", {"number": run}, seed=run)
        for key, title in (("cup", "a cup, with “ears”\nand more"), ("shoe ☕", "")):
            brief = ledger.add_brief(run_id, key, {"title": title, "prompt": "on a table"}, picture(90))
            for number in (1, 2):
                seed = len(attempts)
                said = VerdictRow(
                    judge="rf net", version="1 b", label=LABELS[seed % 3], scores={"available": seed / 8}, failures=[]
                )
                image = jpeg(seed) if number == 1 else picture(seed)
                attempts.append(ledger.record_attempt(brief, 0, number, seed, image, [said]))
    with ledger.transaction() as connection:
        for place, attempt in enumerate(attempts[:6]):
            said = LABELS[place % 3], {"beauty": 0.1 + place}, 1 / 3, when(place), WHY[place // 2]
            store_vote(connection, attempt, "Ann Ö.", *said)
            store_vote(connection, attempt, "bo@example.org", "available", {}, 0.0, when(30), WHY[place // 2])
        store_vote(connection, attempts[0], "Ann Ö.", "size_mismatch", {}, 2.0, when(50))  # thought again
        store_vote(connection, attempts[0], "eve", "available", {}, 2.0, when(51))
        pairs = ((attempts[0], attempts[4]), (attempts[5], attempts[1]))
        for place, (left, right) in enumerate(pairs):
            store_comparison(connection, left, right, "Ann Ö.", "overall", "left", bool(place), created=when(place))
            store_comparison(connection, left, right, "bo@example.org", "overall", "right", created=when(place))
            for swapped in (False, True):
                store_comparison(
                    connection, left, right, "clip", "overall", "left", swapped, version="3 f", created=when(9)
                )
        store_comparison(connection, *pairs[0], "Ann Ö.", "beauty", "similar", created=when(3))
        aside = {"name": "eve", "aside": True, "why": "", "decided_by": "x", "decided": schema.now()}
        connection.execute(insert(Person).values(**aside))


def attempts_of(ledger: Ledger) -> dict[int, Any]:
    return {row.id: row for run in ledger.runs() for row in ledger.attempts(run.id)}


def votes_of(ledger: Ledger, *columns: str) -> Counter[tuple[Any, ...]]:
    """Every vote that counts, by its picture and these columns."""
    attempts = attempts_of(ledger)
    return Counter(
        (attempts[vote.attempt_id].image_sha, *(repr(getattr(vote, name)) for name in columns))
        for vote in ledger.votes()
    )


def comparisons_of(ledger: Ledger, *columns: str) -> Counter[tuple[Any, ...]]:
    """Every comparison that counts, by its two pictures in their order and these columns."""
    attempts = attempts_of(ledger)
    return Counter(
        (attempts[one.left_attempt].image_sha, attempts[one.right_attempt].image_sha,
         *(repr(getattr(one, name)) for name in columns))
        for one in ledger.comparisons()
    )  # fmt: skip
