"""What is known of an attempt follows what is recorded, whoever records it."""

import threading
from typing import Any

import pytest
from PIL import Image
from sqlalchemy import event, insert, select

from goodeye.ledger.asks import Item
from goodeye.ledger.ledger import Ledger
from goodeye.ledger.rows import VerdictRow
from goodeye.ledger.schema import Vote, now
from goodeye.review import look
from goodeye.review.items import catch_up, measured, reading, refresh, writing
from review.conftest import drawn, fill


def item(ledger: Ledger, attempt: int):  # type: ignore[no-untyped-def]
    with reading(ledger) as connection:
        return connection.execute(select(Item).where(Item.attempt_id == attempt)).one()


def test_an_item_says_what_verdicts_votes_and_picks_say(ledger: Ledger) -> None:
    (first, second) = fill(ledger, [0.6, 0.1])
    ledger.vote(first, "Ada", "available")
    ledger.vote(first, "Ada", "size_mismatch")  # she thought again
    ledger.vote(first, "Bo", "size_mismatch")
    catch_up(ledger)
    one, other = item(ledger, first), item(ledger, second)
    assert (one.label, one.score, one.picked, one.job) == ("available", 0.6, "kept", "ads")
    assert (one.votes, one.vote, one.disagreement) == (2, "size_mismatch", 1)
    assert (other.picked, other.votes, other.vote) == ("rejected", 0, "")
    assert one.unsure == pytest.approx(0.8) and other.unsure == pytest.approx(0.2)


def test_a_second_judge_and_new_attempts_are_taken_in(ledger: Ledger) -> None:
    (first,) = fill(ledger, [0.9])
    brief = ledger.briefs(1)[0].id
    more = [VerdictRow(judge="second", version="1", label="", scores={"available": 0.4}, failures=[])]
    ledger.record_attempt(brief, 0, 1, 0, Image.new("RGB", (8, 8)), more)
    before = item(ledger, first).priority
    assert catch_up(ledger) == 1 and catch_up(ledger) == 0
    assert item(ledger, first).priority == pytest.approx(before + 0.5)  # how far the judges are apart
    fill(ledger, [0.5])
    assert item(ledger, first + 1).score == 0.5


def test_a_pick_that_replaces_another_is_seen_at_once(ledger: Ledger) -> None:
    """As at the end of a run that keeps the best of what had been rejected."""
    (attempt,) = fill(ledger, [0.1])
    assert item(ledger, attempt).picked == "rejected"
    ledger.pick(ledger.briefs(1)[0].id, 0, attempt, True, "the best of four")
    catch_up(ledger)
    assert item(ledger, attempt).picked == "kept" and look.runs(ledger)[0]["kept"] == 1


def test_only_what_changed_of_an_item_is_written(folder: Ledger) -> None:
    first, second = fill(folder, [0.6, 0.1])
    with writing(folder) as connection:
        raw: Any = connection.connection.driver_connection
        before = raw.total_changes
        refresh(connection, [first, second])
        assert raw.total_changes == before, "nothing was new"
        written: list[str] = []
        raw.set_trace_callback(written.append)
        said = {"person": "Ada", "label": "available", "axes": {}, "seconds": 1.0, "created": now()}
        connection.execute(insert(Vote).values(attempt_id=first, **said))
        refresh(connection, [first, second])
        raw.set_trace_callback(None)
    (update,) = [one for one in written if "items" in one and not one.lstrip().startswith("SELECT")]
    assert "votes" in update and not [name for name in ("score", "label", "shuffle", "run_id") if name + "=" in update]
    assert item(folder, first).votes == 1 and item(folder, second).votes == 0


def test_threads_that_write_take_turns(folder: Ledger) -> None:
    """Whoever finds SQLite's lock taken sleeps, ever longer, and is passed by: so none of them may find it taken. Who
    waits for a turn holds no connection: a crowd would open one each."""
    began, done, holding = threading.Event(), [], []

    @event.listens_for(folder.engine, "checkout")
    def never_wait(connection: Any, *_more: Any) -> None:
        connection.execute("PRAGMA busy_timeout = 0")
        holding.append(threading.current_thread())

    def write() -> None:
        began.set()
        with writing(folder) as connection:
            done.append(connection.scalar(select(Item.attempt_id).limit(1)))

    fill(folder, [0.5])
    with writing(folder):
        other = threading.Thread(target=write)
        other.start()
        assert began.wait(60)
        other.join(0.2)  # long enough for it to be refused
        assert other.is_alive() and not done and other not in holding
    other.join(60)
    assert done == [1]


def test_priority_adds_what_speaks_for_asking() -> None:
    verdicts = [("available", {"available": 0.7}), ("available", {"available": 0.9})]
    found = measured(verdicts, ["available", "size_mismatch", "size_mismatch", "indistinctiveness"])
    assert found["priority"] == pytest.approx(0.6 + 0.2 + 3 / 4 + 2 / 4)
    assert (found["vote"], found["votes"]) == ("size_mismatch", 4)


def test_without_verdict_or_votes_there_is_nothing_to_say() -> None:
    assert measured([], [])["priority"] == 0 and measured([], [])["score"] == -1
    assert measured([("", {"similarity": 7.5})], [])["unsure"] == 0


def test_an_edits_scores_go_from_0_to_5(ledger: Ledger) -> None:
    """2 of 5 is p = 0.4: unsure 1 - |0.8 - 1| = 0.8; another judge's 5 of 5 lies 0.6 away."""
    brief = ledger.add_brief(ledger.start_run("edit", {}, 0), "room", {"title": "make it night"})
    said = [
        VerdictRow(judge=judge, version="1", label="", scores={"following": score}, failures=[])
        for judge, score in (("one", 2.0), ("two", 5.0))
    ]
    attempt = ledger.record_attempt(brief, 1, 1, 0, Image.new("RGB", (8, 8)), said)
    catch_up(ledger)
    found = item(ledger, attempt)
    assert (found.unsure, found.priority, found.score) == (pytest.approx(0.8), pytest.approx(1.4), 2.0)


def test_people_who_score_an_edit_disagree_with_its_judge_and_with_each_other(ledger: Ledger) -> None:
    """The judge says 4 and 4. Of four scores 1 lies more than one from that; of the two on `following`, whose median is
    2.5, both do from each other's middle."""
    brief = ledger.add_brief(ledger.start_run("edit", {}, 0), "room", {"title": "make it night"})
    said = VerdictRow(judge="one", version="1", label="", scores={"following": 4.0, "quality": 4.0}, failures=[])
    attempt = ledger.record_attempt(brief, 1, 1, 0, Image.new("RGB", (8, 8)), [said])
    ledger.vote(attempt, "Ada", "scored", {"following": 1, "quality": 3})
    ledger.vote(attempt, "Bo", "scored", {"following": 4, "quality": 4})
    catch_up(ledger)
    found = item(ledger, attempt)
    assert found.disagreement == 0.25 and found.vote == "scored" and found.votes == 2
    assert found.priority == pytest.approx(0.4 + 0.25 + 0.5)  # unsure 1 - |2 * .8 - 1|, against the judge, split


def test_clis_goes_from_0_to_100_and_is_never_asked_about(ledger: Ledger) -> None:
    """50 of 100 is p = 0.5: unsure 1, which for another job would come first."""
    found = item(ledger, drawn(ledger, 1)[0])
    assert (found.score, found.unsure, found.label, found.picked) == (50, 1, "", "kept")
    assert found.priority < 0 and found.shuffle < 0
