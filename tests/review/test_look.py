"""Filters, orders and pages of attempts, and that each of them runs on an index."""

from dataclasses import replace
from datetime import timedelta
from urllib.parse import parse_qsl

import pytest
from sqlalchemy import text, update

from goodeye.ledger.ledger import Ledger
from goodeye.ledger.schema import Attempt, Run, now
from goodeye.review import look
from goodeye.review.items import catch_up, reading
from goodeye.review.votes import set_aside
from review.conftest import fill

SCORES = [0.9, 0.1, 0.55, 0.3]


def found(ledger: Ledger, **asked: str) -> list[int]:
    return [row["attempt_id"] for row in look.page(ledger, look.read(asked)).rows]


def test_filters_and_orders(ledger: Ledger) -> None:
    fill(ledger, SCORES, runs=2)
    ledger.vote(1, "Ada", "size_mismatch")
    ledger.vote(2, "Ada", "size_mismatch")
    catch_up(ledger)
    assert found(ledger) == [8, 7, 6, 5, 4, 3, 2, 1]
    assert found(ledger, run="2", sort="best") == [5, 7, 8, 6]
    assert found(ledger, run="1", sort="worst") == [2, 4, 3, 1]
    assert found(ledger, label="available", sort="oldest") == [1, 3, 5, 7]
    assert found(ledger, vote="any", sort="disagreement") == [1, 2]
    assert found(ledger, against="1") == [1], "it is available to the judge"
    assert found(ledger, vote="none", run="1") == [4, 3]
    assert found(ledger, vote="size_mismatch", label="available") == [1]
    assert found(ledger, picked="rejected", low="0.2") == [8, 4]
    assert found(ledger, high="0.1", sort="oldest") == [2, 6]
    assert found(ledger, sort="unsure", run="1")[0] == 3
    assert found(ledger, job="ads", flagged="1") == found(ledger, job="search") == []


@pytest.mark.parametrize("sort", list(look.SORTS))
def test_pages_follow_each_other_without_gap_or_repeat(
    ledger: Ledger, sort: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = fill(ledger, [0.5, 0.1, 0.5, 0.9, 0.1, 1 / 3, 0.5])  # equal scores must not be lost between pages
    for attempt in attempts:
        ledger.vote(attempt, "Ada", "available")
    catch_up(ledger)
    whole = found(ledger, sort=sort)
    monkeypatch.setattr(look, "PAGE", 2)
    pages, asked = [], look.read({"sort": sort})
    while True:
        page = look.page(ledger, asked)
        pages += [row["attempt_id"] for row in page.rows]
        if not page.next:
            break
        from urllib.parse import parse_qsl

        asked = look.read(dict(parse_qsl(page.next.partition("?")[2])))
    assert pages == whole and len(whole) == 7


@pytest.mark.parametrize(
    "asked",
    [{}, {"sort": "best"}, {"sort": "unsure"}, {"sort": "disagreement"}, {"run": "1", "sort": "best"},
     {"label": "available", "sort": "worst"}, {"vote": "available", "sort": "best"}, {"job": "ads", "sort": "best"},
     {"picked": "kept", "sort": "best"}, {"low": "0.5", "sort": "best"}, {"sort": "best", "after": "0.5~3"},
     {"after": "3~3"}, {"against": "1", "sort": "disagreement"}, {"run": "1"}, {"label": "available", "vote": "none"},
     {"job": "ads", "after": "3~3"}, {"picked": "kept", "sort": "oldest"}],
)  # fmt: skip
def test_each_order_comes_from_an_index(folder: Ledger, asked: dict[str, str]) -> None:
    """No page sorts what it looks through: the first 60 are read off in order."""
    query = look.query_of(look.read(asked))
    with reading(folder) as connection:
        sql = str(query.compile(connection, compile_kwargs={"literal_binds": True}))
        plan = " ".join(row[-1] for row in connection.execute(text(f"EXPLAIN QUERY PLAN {sql}")))
    assert "TEMP B-TREE" not in plan, plan
    assert "USING" in plan or not set(asked) - {"after"}, plan


@pytest.mark.parametrize(
    "given",
    [{"run": "1; DROP"}, {"sort": "id"}, {"after": "x~y"}, {"low": "nan"}, {"after": "1e999~1"}, {"picked": "'"}],
)
def test_nonsense_in_an_address_is_left_out(ledger: Ledger, given: dict[str, str]) -> None:
    attempts = fill(ledger, [0.2, 0.3])
    assert sorted(found(ledger, **given)) == attempts


def test_a_page_keeps_the_bounds_of_the_page_before(ledger: Ledger) -> None:
    """0 is a bound like any other."""
    asked = look.read({"low": "0", "high": "0.0", "picked": "kept"})
    link = asked.link(after="3~3")
    assert look.read(dict(parse_qsl(link.partition("?")[2]))) == replace(asked, after="3~3")


def test_one_attempt_and_one_run(ledger: Ledger) -> None:
    fill(ledger, SCORES)
    ledger.vote(1, "Ada", "size_mismatch")
    catch_up(ledger)
    one = look.attempt(ledger, 1)
    assert one["title"] == "cup" and one["votes"][0]["person"] == "Ada" and one["picks"][0]["kept"]
    run = look.run(ledger, 1)
    assert (run["attempts"], run["kept"], run["voted"], run["briefs"]) == (4, 2, 1, 1)
    assert dict(run["labels"]) == {"available": 2, "size_mismatch": 2} and run["people"] == [("size_mismatch", 1)]
    assert [end["attempt"] for end in run["ends"]["best"]] == [1, 3, 4, 2]
    assert look.runs(ledger)[0]["kept"] == 2
    for nothing in (look.attempt, look.run):
        with pytest.raises(look.NotThere):
            nothing(ledger, 99)


def test_what_people_and_judges_compared_stands_with_both_attempts(ledger: Ledger) -> None:
    first, second = fill(ledger, [0.5], runs=2)
    for person, choice in (("Ada", "left"), ("Bo", "left"), ("Cy", "right"), ("Eve", "right")):
        ledger.compare(first, second, person, "beauty", choice)
    ledger.compare(second, first, "Dora", "beauty", "similar")
    ledger.compare(second, first, "clip", "overall", "left", version="1")
    set_aside(ledger, "Eve", True, "", decided_by="Ada")
    beside = {"axis": "beauty", "by": "people"}, {"axis": "overall", "by": "clip 1"}
    assert look.attempt(ledger, first)["compared"] == [
        {**beside[0], "other": second, "came": {"better": ["Ada", "Bo"], "worse": ["Cy"], "similar": ["Dora"]}},
        {**beside[1], "other": second, "came": {"worse": ["clip 1"]}},
    ]
    assert look.attempt(ledger, second)["compared"] == [
        {**beside[0], "other": first, "came": {"better": ["Cy"], "worse": ["Ada", "Bo"], "similar": ["Dora"]}},
        {**beside[1], "other": first, "came": {"better": ["clip 1"]}},
    ]


def test_a_run_of_which_nothing_was_heard_for_an_hour_is_shown_as_stopped(ledger: Ledger) -> None:
    silent, _heard = fill(ledger, [0.5], runs=2)
    started = ledger.start_run("ads", {}, seed=0)
    with ledger.transaction() as connection:
        connection.execute(update(Run).where(Run.id != started).values(started=now() - timedelta(days=2)))
        late = {"created": now() - timedelta(minutes=61)}
        connection.execute(update(Attempt).where(Attempt.id == silent).values(**late))
    assert {row["id"]: row["status"] for row in look.runs(ledger)} == {1: "stopped", 2: "running", 3: "running"}
    assert (look.run(ledger, 1)["status"], ledger.run(1).status) == ("stopped", "running")  # the record stays
    ledger.finish_run(1, "failed")
    assert look.run(ledger, 1)["status"] == "failed"
