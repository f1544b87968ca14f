"""How the voting stands, against figures worked out by hand."""

import math

import pytest
from PIL import Image

from goodeye.ledger.ledger import Ledger
from goodeye.ledger.rows import VerdictRow
from goodeye.review.items import catch_up
from goodeye.review.standing import standing, wilson
from goodeye.review.votes import answer, set_aside
from review.conftest import edits, fill
from review.test_queue import compare_all, draw


def vote_as(ledger: Ledger, attempts: list[int], person: str, labels: str) -> None:
    for attempt, label in zip(attempts, labels, strict=True):
        ledger.vote(attempt, person, "available" if label == "1" else "size_mismatch")


def test_alpha_and_agreement_with_the_judge(ledger: Ledger) -> None:
    """Two people as in Krippendorff 2011, section B: alpha 0.095. The judge says available to the first five. They
    agree on six pictures, on four of these with the judge; of the other four neither is what most say."""
    attempts = fill(ledger, [0.9] * 5 + [0.1] * 5)
    vote_as(ledger, attempts, "Meg", "0100000010")
    vote_as(ledger, attempts, "Owen", "1110010000")
    catch_up(ledger)
    found = standing(ledger)
    assert found.alpha == pytest.approx(0.095, abs=5e-4) and (found.votes, found.agreed_on) == (20, 10)
    (judge,) = found.judges
    assert (judge.judge, judge.pictures) == ("rfnet", 6) and judge.agreement == wilson(4, 6)
    assert {one.name: one.with_judge for one in found.people} == {"Meg": 0.5, "Owen": 0.7}
    assert [sum(one.days) for one in found.people] == [10, 10] and found.people[0].days[-1] == 10


def test_votes_set_aside_count_only_in_their_own_row(ledger: Ledger) -> None:
    attempts = fill(ledger, [0.9] * 4)
    for person, labels in (("Ada", "1110"), ("Bo", "1110"), ("Eve", "0001")):
        vote_as(ledger, attempts, person, labels)
    catch_up(ledger)
    set_aside(ledger, "Eve", True, "the same every time", decided_by="Ada")
    found = standing(ledger)
    assert found.votes == 8 and found.alpha == 1 and found.judges[0].pictures == 4
    (eve,) = [one for one in found.people if one.name == "Eve"]
    assert eve.aside and eve.votes == 4 and eve.why == "the same every time"


def test_comparisons_from_elsewhere_rank_runs_and_say_nothing_of_a_screen(ledger: Ledger) -> None:
    """As an import or `Ledger.compare` leaves them: four of five found the first run better, whatever the one of them
    said at first; a judge is no person."""
    first, second = fill(ledger, [0.9], runs=2)
    ledger.compare(first, second, "hpir voter 1", "beauty", "right")
    for voter in range(1, 5):
        ledger.compare(first, second, f"hpir voter {voter}", "beauty", "left")
    ledger.compare(second, first, "hpir voter 5", "beauty", "left")
    ledger.compare(first, second, "judge", "beauty", "right", version="1")
    found = standing(ledger)
    (ranking,) = found.rankings
    assert [row[0] for row in ranking.rows] == [1, 2] and [row[4] for row in ranking.rows] == [5, 5]
    assert (found.decided, found.left_chosen) == (0, None)
    assert [(one.name, one.comparisons, one.days[-1]) for one in found.people] == [
        (f"hpir voter {voter}", 1, 1) for voter in range(1, 6)
    ]
    for voter in range(1, 5):
        set_aside(ledger, f"hpir voter {voter}", True, "", decided_by="Ada")
    found = standing(ledger)
    assert [row[0] for row in found.rankings[0].rows] == [2, 1]
    assert [one.comparisons for one in found.people] == [1] * 5


def test_steadiness_time_skips_and_flags(ledger: Ledger) -> None:
    from dataclasses import replace

    from review.conftest import PLAIN

    fill(ledger, [0.5] * 8)
    for number in range(8):
        (ask,) = draw(ledger, "Ada")
        outcome = "skipped" if number == 6 else "flagged" if number == 7 else "answered"
        answer(ledger, "Ada", ask.id, outcome, "available", seconds=number + 1)
    again = replace(PLAIN, repeat_share=1.0, repeat_after=1)
    for said in ("available", "size_mismatch", "available", "available"):
        (ask,) = draw(ledger, "Ada", rules=again)
        answer(ledger, "Ada", ask.id, "answered", said)
    (ada,) = standing(ledger).people
    assert (ada.votes, ada.skipped, ada.flagged, ada.repeats, ada.steady) == (6, 1, 1, 4, 0.75)
    assert ada.seconds == 3.5


def test_position_and_ranking(ledger: Ledger) -> None:
    """Who always takes the left of the screen shows a position of 100 %, which says nothing of the runs."""
    fill(ledger, [0.6, 0.7, 0.8, 0.9], runs=2)
    done = compare_all(ledger, "Ada", 16)
    found = standing(ledger)
    assert found.decided == len(done) == found.people[0].comparisons
    assert found.left_chosen is not None and found.left_chosen.mean == 1
    (ranking,) = found.rankings
    assert ranking.axis == "overall" and {row[0] for row in ranking.rows} == {1, 2}
    assert all(math.isnan(low) and math.isnan(high) for _run, _strength, low, high, _count in ranking.rows), "one brief"


def test_the_random_sample_takes_in_what_lies_before_it(ledger: Ledger) -> None:
    from dataclasses import replace

    from goodeye.ledger.sample import scattered
    from review.conftest import PLAIN

    attempts = fill(ledger, [0.5] * 6)
    early, *rest = sorted(attempts, key=scattered)
    ledger.vote(early, "Bo", "available")
    ledger.vote(rest[-1], "Bo", "available")
    catch_up(ledger)
    (ask,) = draw(ledger, "Bo", rules=replace(PLAIN, random_share=1.0))
    answer(ledger, "Bo", ask.id, "answered", "available")
    (judge,) = standing(ledger).judges
    assert ask.attempt_id == rest[0] and (judge.pictures, judge.sampled) == (3, 2)


def test_a_picture_counts_once_however_many_voted_on_it(ledger: Ledger) -> None:
    """Ten people against the judge on one picture are one picture against it."""
    first, second, split = fill(ledger, [0.9, 0.9, 0.9])
    for person in range(10):
        ledger.vote(first, f"p{person}", "size_mismatch")
        ledger.vote(split, f"p{person}", "available" if person % 2 else "size_mismatch")
    ledger.vote(second, "p1", "available")
    catch_up(ledger)
    (judge,) = standing(ledger).judges
    assert judge.pictures == 2 and judge.agreement == wilson(1, 2)


def test_scores_of_edits_against_the_judges(ledger: Ledger) -> None:
    """Of three edits people's means are 2, 4 and 5; the judge's 3, 2.5 and 5 are 1, -1.5 and 0 higher."""
    brief = ledger.add_brief(ledger.start_run("edit", {}, 0), "room", {"title": "make it night"})
    for number, (score, people) in enumerate(((3.0, (1, 3)), (2.5, (4, 4)), (5.0, (5, 5)))):
        said = VerdictRow(judge="vlm", version="1", label="", scores={"following": score, "quality": 1.0}, failures=[])
        attempt = ledger.record_attempt(brief, 1, number, 0, Image.new("RGB", (8, 8), (number, 0, 0)), [said])
        ledger.vote(attempt, "Ada", "scored", {"following": 0})  # she thought again
        for person, given in zip(("Ada", "Bo"), people, strict=True):
            ledger.vote(attempt, person, "scored", {"following": given})
        ledger.vote(attempt, "Eve", "scored", {"following": 0})
    catch_up(ledger)
    set_aside(ledger, "Eve", True, "", decided_by="Ada")
    (found,) = standing(ledger).scores
    assert (found.judge, found.axis, found.pictures) == ("vlm", "following", 3)
    assert found.near == wilson(2, 3) and found.higher == pytest.approx(-0.5 / 3)


def test_comparisons_of_judges_against_peoples(ledger: Ledger) -> None:
    """Four pairs: most people and the judge agree on the first, not on the second, whose orders differ; of the third
    people are split; on the fourth both say similar. A judge with people's axis is held to that one alone."""
    first = fill(ledger, [0.9] * 8)
    pairs = list(zip(first[:4], first[4:], strict=True))
    people = ["left left right", "left", "left right", "similar"]
    for (left, right), words in zip(pairs, people, strict=True):
        for number, word in enumerate(words.split()):
            turned = {"left": "right", "right": "left", "similar": "similar"}[word]
            ledger.compare(right, left, f"p{number}", "aesthetic", turned)  # type: ignore[arg-type]
    judges = (("left", "left"), ("left", "right"), ("left", "left"), ("similar", "similar"))
    for (left, right), words in zip(pairs, judges, strict=True):
        for swapped, word in enumerate(words):
            ledger.compare(left, right, "vlm", "aesthetics", word, bool(swapped), version="2")  # type: ignore[arg-type]
            ledger.compare(left, right, "vlm", "accuracy", "right", bool(swapped), version="2")
        ledger.compare(left, right, "clip", "similarity", "left", version="1")
    clip, vlm = standing(ledger).pairs
    assert (vlm.judge, vlm.axis, vlm.asked, vlm.pairs) == ("vlm", "aesthetics", "aesthetic", 3)
    assert vlm.agreement == wilson(2, 3)
    assert (clip.judge, clip.axis, clip.asked) == ("clip", "similarity", "aesthetic")
    assert clip.agreement == wilson(2, 3)


def test_judges_are_held_to_pairs_that_chance_drew_apart(ledger: Ledger) -> None:
    """Of two pairs chance drew one; on that one the judge says what people say, on the other it does not."""
    from dataclasses import replace

    from review.conftest import PLAIN

    fill(ledger, [0.6], runs=2)
    (ask,) = draw(ledger, "Ada", "compare", rules=replace(PLAIN, random_share=1.0))
    answer(ledger, "Ada", ask.id, "answered", "similar")
    first, second = fill(ledger, [0.6, 0.7], runs=1)
    ledger.compare(first, second, "Ada", "overall", "left")
    for left, right, word in ((1, 2, "similar"), (first, second, "right")):
        ledger.compare(left, right, "vlm", "overall", word, version="1")  # type: ignore[arg-type]
    (vlm,) = standing(ledger).pairs
    assert (vlm.pairs, vlm.sampled) == (2, 1)
    assert vlm.agreement == wilson(1, 2) and vlm.in_sample == wilson(1, 1)


def test_runs_are_ranked_by_what_they_deliver(ledger: Ledger) -> None:
    """As many chose the second run's picture over a try that the first run rejected for another as over the kept one
    of the first: only the kept one stands for it."""
    attempts = []
    for run in range(2):
        brief = ledger.add_brief(ledger.start_run("ads", {}, 0), "cup", {})
        for number in (1, 2):
            attempts.append(ledger.record_attempt(brief, 0, number, 0, Image.new("RGB", (8, 8), (run, number, 0))))
            ledger.pick(brief, 0, attempts[-1], number == 2, "as told")
    rejected, kept, _other, theirs = attempts
    for person in range(5):
        ledger.compare(rejected, theirs, f"p{person}", "overall", "right")
    ledger.compare(kept, theirs, "p1", "overall", "left")
    (ranking,) = standing(ledger).rankings
    assert [row[0] for row in ranking.rows] == [1, 2] and [row[4] for row in ranking.rows] == [1, 1]


def test_an_empty_ledger_has_nothing_to_tell(ledger: Ledger) -> None:
    found = standing(ledger)
    assert found.people == found.judges == found.rankings == () and found.alpha is None


def test_wilson_as_published() -> None:
    """Newcombe 1998, table I: 81 of 263 gives 0.2553 to 0.3662."""
    assert wilson(81, 263)[1:] == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson(0, 20)[1] == 0 and wilson(0, 20)[2] == pytest.approx(0.1611, abs=1e-4)


def test_scores_of_edits_say_nothing_of_agreement_on_labels(ledger: Ledger) -> None:
    """As test_alpha: 0.095; edits that all call "scored" would raise it."""
    attempts = fill(ledger, [0.9] * 5 + [0.1] * 5)
    vote_as(ledger, attempts, "Meg", "0100000010")
    vote_as(ledger, attempts, "Owen", "1110010000")
    for edit in edits(ledger, 5):
        for person in ("Meg", "Owen"):
            ledger.vote(edit, person, "scored", {"following": 3})
    catch_up(ledger)
    found = standing(ledger)
    assert found.alpha == pytest.approx(0.095, abs=5e-4) and (found.votes, found.agreed_on) == (30, 10)


def test_how_far_people_agree_on_scores(ledger: Ledger) -> None:
    """Krippendorff 2011, section C, as numbers: 0.849 on one axis; on the other everybody always says 3."""
    people = {"A": "123321412...", "B": "1233224125.3", "C": ".3332342251.", "D": "12332441251."}
    for unit, edit in enumerate(edits(ledger, 12)):
        for person, said in people.items():
            if said[unit] != ".":
                ledger.vote(edit, person, "scored", {"following": float(said[unit]), "quality": 3.0})
    catch_up(ledger)
    (found,) = standing(ledger).scores_agree
    assert (found.axis, found.pictures) == ("following", 11) and found.alpha == pytest.approx(0.849, abs=5e-4)


def test_scores_given_again_may_differ_by_one(ledger: Ledger) -> None:
    from dataclasses import replace

    from review.conftest import PLAIN

    edits(ledger, 4)
    for _edit in range(4):
        (ask,) = draw(ledger, "Ada")
        answer(ledger, "Ada", ask.id, "answered", "3 3 3")
    again = replace(PLAIN, repeat_share=1.0, repeat_after=1)
    for said in ("3 3 3", "4 2 3", "5 3 3", "3 3 1"):
        (ask,) = draw(ledger, "Ada", rules=again)
        answer(ledger, "Ada", ask.id, "answered", said)
    (ada,) = standing(ledger).people
    assert (ada.votes, ada.repeats, ada.steady) == (4, 4, 0.5)
