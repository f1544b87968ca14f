"""An answer is stored once, by whom was asked, and votes set aside are kept and not counted."""

import threading

import pytest
from sqlalchemy import func, select

from goodeye.errors import BadInput
from goodeye.ledger.asks import Item
from goodeye.ledger.check import check
from goodeye.ledger.ledger import Ledger
from goodeye.ledger.schema import Vote
from goodeye.review.items import HIGHEST, SCALES, reading
from goodeye.review.votes import LABELS, NotAsked, answer, set_aside, shown
from review.conftest import edits, fill
from review.test_queue import draw, label_all, rows


def test_the_labels_are_the_judges_first_five() -> None:
    from goodeye.judging.rfnet import CLASSES

    assert tuple(LABELS) == CLASSES[:5]


def test_an_edit_is_scored_on_the_edit_papers_three_axes() -> None:
    from goodeye.edit.rewards import AXES, HIGH

    assert SCALES == {"edit": AXES} and HIGHEST == HIGH


def test_a_vote_says_who_what_and_how_long(ledger: Ledger) -> None:
    (attempt,) = fill(ledger, [0.5])
    (ask,) = draw(ledger, "Ada")
    assert answer(ledger, "Ada", ask.id, "answered", "size_mismatch", seconds=2.5) == "answered"
    (vote,) = ledger.votes()
    assert (vote.attempt_id, vote.person, vote.label, vote.seconds) == (attempt, "Ada", "size_mismatch", 2.5)
    assert check(ledger).clean


def test_an_answer_sent_by_many_at_once_is_stored_once(ledger: Ledger) -> None:
    fill(ledger, [0.5])
    (ask,) = draw(ledger, "Ada")
    senders = [
        threading.Thread(target=answer, args=(ledger, "Ada", ask.id, "answered", label)) for label in list(LABELS) * 2
    ]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert len(ledger.votes()) == 1


def test_the_first_word_counts(ledger: Ledger) -> None:
    fill(ledger, [0.5])
    (ask,) = draw(ledger, "Ada")
    answer(ledger, "Ada", ask.id, "answered", "available")
    assert answer(ledger, "Ada", ask.id, "skipped") == "answered"
    assert [vote.label for vote in ledger.votes()] == ["available"]


def test_another_persons_ask_is_nobodys_business(ledger: Ledger) -> None:
    fill(ledger, [0.5])
    (ask,) = draw(ledger, "Ada")
    with pytest.raises(NotAsked):
        answer(ledger, "Bo", ask.id, "answered", "available")
    assert ledger.votes() == [] and shown(ledger, "Bo", [ask.id]) == []


@pytest.mark.parametrize(("outcome", "said"), [("answered", "left"), ("answered", ""), ("deleted", "available")])
def test_what_is_no_answer_is_refused(ledger: Ledger, outcome: str, said: str) -> None:
    fill(ledger, [0.5])
    (ask,) = draw(ledger, "Ada")
    with pytest.raises(BadInput, match="Send one of"):
        answer(ledger, "Ada", ask.id, outcome, said)
    assert rows(ledger)[0].outcome == ""


@pytest.mark.parametrize(("sent", "kept"), [(1e9, 3600), (-5, 0), (float("nan"), 0)])
def test_times_that_cannot_be_are_bounded(ledger: Ledger, sent: float, kept: float) -> None:
    fill(ledger, [0.5])
    (ask,) = draw(ledger, "Ada")
    answer(ledger, "Ada", ask.id, "answered", "available", seconds=sent)
    assert ledger.votes()[0].seconds == kept


def test_a_person_set_aside_counts_nowhere_and_loses_nothing(ledger: Ledger) -> None:
    (attempt,) = fill(ledger, [0.5])
    label_all(ledger, "Ada")
    label_all(ledger, "Bo", said="size_mismatch")
    assert draw(ledger, "Cy") == []
    set_aside(ledger, "Bo", True, "did not look", decided_by="Ada")
    assert [vote.person for vote in ledger.votes()] == ["Ada"]
    with reading(ledger) as connection:
        assert connection.scalar(select(func.count()).select_from(Vote)) == 2
        assert connection.scalar(select(Item.votes)) == 1
    assert draw(ledger, "Cy")[0].attempt_id == attempt, "the picture lacks a vote again"
    set_aside(ledger, "Bo", False, "", decided_by="Ada")
    assert [vote.person for vote in ledger.votes()] == ["Ada", "Bo"]


def test_nobody_can_be_set_aside_who_never_voted(ledger: Ledger) -> None:
    with pytest.raises(BadInput, match="Nobody called"):
        set_aside(ledger, "Eve", True, "", decided_by="Ada")


def test_an_edit_gets_three_scores_in_the_place_of_a_label(ledger: Ledger) -> None:
    (attempt,) = edits(ledger, 1)
    (ask,) = draw(ledger, "Ada")
    (told,) = shown(ledger, "Ada", [ask.id])
    assert told["scale"] == ("following", "preserving", "quality") and told["title"] == "make it night"
    for nonsense in ("available", "5 4", "5 4 6", "5 4 3 2", "5 4 x", "5 4 3.5", "-1 4 3", ""):
        with pytest.raises(BadInput, match="each from 0 to 5"):
            answer(ledger, "Ada", ask.id, "answered", nonsense)
    assert answer(ledger, "Ada", ask.id, "answered", "5 4 0", seconds=3) == "answered"
    (vote,) = ledger.votes()
    assert (vote.attempt_id, vote.person, vote.label, vote.seconds) == (attempt, "Ada", "scored", 3)
    assert vote.axes == {"following": 5, "preserving": 4, "quality": 0}
    assert check(ledger).clean and shown(ledger, "Ada", [ask.id])[0]["product"] is not None


def test_pictures_of_other_jobs_get_labels_as_before(ledger: Ledger) -> None:
    fill(ledger, [0.5])
    (ask,) = draw(ledger, "Ada")
    assert shown(ledger, "Ada", [ask.id])[0]["scale"] == ()
    with pytest.raises(BadInput, match="Send one of available"):
        answer(ledger, "Ada", ask.id, "answered", "5 4 3")
