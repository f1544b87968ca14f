"""What the votes so far promise, against counts worked out by hand: 59 good of 59 hold 5 % at 95 % (0.95^59 < 0.05)."""

from collections.abc import Callable, Sequence

from PIL import Image

from goodeye.judging.protocol import Verdict
from goodeye.ledger.ledger import Ledger
from goodeye.ledger.rows import VerdictRow
from goodeye.review.items import catch_up
from goodeye.review.promised import Promised
from goodeye.review.standing import standing
from goodeye.review.votes import set_aside
from review.conftest import Browser, fill


def voted(ledger: Ledger, good: int, bad: int) -> Promised:
    """Pictures that the judge gives 0.9, all good, and some that it gives 0.1, all bad."""
    attempts = fill(ledger, [0.9] * good + [0.1] * bad)
    for number, attempt in enumerate(attempts):
        ledger.vote(attempt, "Ada", "available" if number < good else "size_mismatch")
    catch_up(ledger)
    (found,) = standing(ledger).promised
    return found


def test_fifty_nine_good_ones_hold_it(ledger: Ledger) -> None:
    found = voted(ledger, 59, 3)
    assert found.promise and (found.promise.passed, found.promise.bad, found.still) == (59, 0, None)
    assert 0.1 < found.promise.threshold <= 0.9 and (found.judge, found.pictures, found.bad) == ("rfnet", 62, 3)


def test_how_many_more_by_the_rates_seen(ledger: Ledger) -> None:
    found = voted(ledger, 20, 20)
    assert found.promise is None and (found.still, found.at_least) == (2 * 59 - 40, False), "half of the votes pass"


def test_at_least_so_many_where_no_rate_can_be_read_off(ledger: Ledger) -> None:
    found = voted(ledger, 10, 0)
    assert (found.still, found.at_least) == (49, True)


def test_no_number_where_the_judge_does_not_know(ledger: Ledger) -> None:
    attempts = fill(ledger, [0.9] * 70)
    for number, attempt in enumerate(attempts):
        ledger.vote(attempt, "Ada", "available" if number % 3 else "bad")
    catch_up(ledger)
    (found,) = standing(ledger).promised
    assert (found.promise, found.still) == (None, None)


def test_most_voters_of_those_who_count_and_a_tie_is_bad(ledger: Ledger) -> None:
    attempts = fill(ledger, [0.9] * 4)
    words: Sequence[tuple[str, str]] = (("Ada", "1110"), ("Bo", "1000"), ("Cy", "1101"), ("Eve", "0011"))
    for person, said in words:
        for attempt, one in zip(attempts, said, strict=True):
            if person != "Cy" or one == "1":
                ledger.vote(attempt, person, "available" if one == "1" else "size_mismatch")
    catch_up(ledger)
    set_aside(ledger, "Eve", True, "asleep", decided_by="Ada")
    (found,) = standing(ledger).promised
    assert (found.pictures, found.bad) == (4, 2)  # of three, two, even, and even


def test_each_judge_and_set_stands_alone_and_unfinished_pictures_do_not_count(ledger: Ledger) -> None:
    for models in ("showroom", "/somewhere/mine.toml"):
        brief = ledger.add_brief(ledger.start_run("ads", {"models": models}, 0), "cup", {})
        for number, label in enumerate(("available", "stopped")):
            verdicts = [VerdictRow(judge="a", version="1", label=label, scores={"available": 0.9}, failures=[]),
                        VerdictRow(judge="clip", version="1", label="", scores={"clip": 0.3}, failures=[])]  # fmt: skip
            attempt = ledger.record_attempt(brief, number, 1, 0, Image.new("RGB", (8, 8), (number, 0, 0)), verdicts)
            ledger.vote(attempt, "Ada", "available")
    catch_up(ledger)
    assert [(one.models, one.pictures) for one in standing(ledger).promised] == [("mine", 1), ("showroom", 1)]


def test_the_page_shows_it(ledger: Ledger, browser: Callable[..., Browser]) -> None:
    assert "What the votes promise" not in browser("Ada").client.get("/standing").text
    voted(ledger, 20, 20)
    page = browser("Ada").client.get("/standing").text
    assert "about 78" in page and "not yet" in page


def test_pictures_whose_retries_another_set_made_have_a_promise_of_their_own(ledger: Ledger) -> None:
    """As `goodeye ads calibrate` tells them apart."""
    for retries in (None, "sets/aligned.toml"):
        run = ledger.start_run("ads", {"models": "showroom", "retry_models": retries}, 0)
        brief = ledger.add_brief(run, "cup", {})
        said = Verdict("rfnet", "1", "available", {"available": 0.9}, [])
        colour = (200, 0, 0) if retries else (0, 200, 0)
        attempt = ledger.record_attempt(brief, 1, 1, 0, Image.new("RGB", (4, 4), colour), [said])
        ledger.vote(attempt, "Ada", "available")
    catch_up(ledger)
    assert [one.models for one in standing(ledger).promised] == ["showroom", "showroom, retries by aligned"]
