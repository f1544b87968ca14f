"""Votes and comparisons: who said what of which attempt, and whose words count."""

import pytest
from sqlalchemy import insert

from goodeye.ledger import schema
from goodeye.ledger.asks import Person
from goodeye.ledger.check import check
from goodeye.ledger.ledger import Ledger
from ledger.recorder import picture
from ledger.test_ledger import new_brief


def test_a_comparison_says_which_attempt_is_better_wherever_it_was_shown(ledger: Ledger) -> None:
    """Two runs on one brief: each run's comparisons are those in which its attempt stands on either side."""
    runs, attempts = [], []
    for number in range(3):
        run, brief = new_brief(ledger)
        runs.append(run)
        attempts.append(ledger.record_attempt(brief, 0, 0, number, picture(number)))
    ledger.compare(attempts[0], attempts[1], "ann", "beauty", "right", swapped=True)
    ledger.compare(attempts[2], attempts[0], "clip", "accuracy", "similar", version="3f")
    first, second = ledger.comparisons(runs[0])
    assert (first.left_attempt, first.right_attempt, first.choice) == (attempts[0], attempts[1], "right")
    assert (first.by, first.axis, first.swapped) == ("ann", "beauty", True) and first.created <= second.created
    assert (second.by, second.version, second.choice, second.swapped) == ("clip", "3f", "similar", False)
    assert ledger.comparisons() == [first, second]
    assert (ledger.comparisons(runs[1]), ledger.comparisons(runs[2])) == ([first], [second])
    assert check(ledger).clean and check(ledger).rows["comparisons"] == 2


def test_comparisons_of_people_set_aside_are_kept_and_do_not_count(ledger: Ledger) -> None:
    _run, brief = new_brief(ledger)
    one, other = (ledger.record_attempt(brief, 0, number, number, picture(number)) for number in (0, 1))
    for person in ("ann", "bob"):
        ledger.compare(one, other, person, "beauty", "left")
    gone = {"name": "bob", "aside": True, "why": "always left", "decided_by": "ann", "decided": schema.now()}
    with ledger.engine.begin() as connection:
        connection.execute(insert(Person).values(**gone))
    assert [found.by for found in ledger.comparisons()] == ["ann"] and check(ledger).rows["comparisons"] == 2


def test_a_comparison_that_is_none_is_refused(ledger: Ledger) -> None:
    _run, brief = new_brief(ledger)
    one, other = (ledger.record_attempt(brief, 0, number, number, picture(number)) for number in (0, 1))
    with pytest.raises(ValueError, match="ann chose first"):
        ledger.compare(one, other, "ann", "beauty", "first")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not a comparison"):
        ledger.compare(one, one, "ann", "beauty", "similar")
    with pytest.raises(ValueError, match="not both on record"):
        ledger.compare(one, 99, "ann", "beauty", "left")
    assert ledger.comparisons() == []


def test_a_judge_says_one_thing_of_a_pair_in_an_order_and_a_person_as_often_as_they_like(ledger: Ledger) -> None:
    run, brief = new_brief(ledger)
    one, other = (ledger.record_attempt(brief, 0, number, 1, picture(number)) for number in range(2))
    first = ledger.compare(one, other, "clip", "overall", "left", version="3f")
    assert ledger.compare(one, other, "clip", "overall", "right", version="3f") == first
    ledger.compare(one, other, "clip", "overall", "right", swapped=True, version="3f")
    ledger.compare(one, other, "clip", "overall", "right", version="4")
    ledger.compare(one, other, "clip", "overall", "left")  # a person of that name
    ledger.compare(one, other, "clip", "overall", "right")
    said = [(row.person, row.judge, row.version, row.choice, row.swapped) for row in ledger.comparisons(run)]
    assert said == [
        (None, "clip", "3f", "left", False),
        (None, "clip", "3f", "right", True),
        (None, "clip", "4", "right", False),
        ("clip", None, None, "left", False),
        ("clip", None, None, "right", False),
    ]
