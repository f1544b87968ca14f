"""Runs against each other: asked once, both ways, kept, and ranked by what is on the ledger."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from PIL import Image

from goodeye.compare.judges import Preferred, Question
from goodeye.compare.report import number, percent, summary, write_report
from goodeye.compare.sides import Side, read_side
from goodeye.compare.tournament import by_judge, by_people, matched, pairs
from goodeye.errors import BadInput
from goodeye.exchange.formats import Name, export, import_into
from goodeye.ledger.ledger import Ledger


@dataclass(eq=False)
class Reds:
    """Prefers more red; between answers as red as each other, whatever is shown first. Missing for what is black."""

    name: str = "reds"
    version: str = "1"
    axes: tuple[str, ...] = ("overall",)
    ordered: bool = True
    asked: list[tuple[int, int]] = field(default_factory=list)

    def prefer(self, questions: Sequence[Question]) -> list[dict[str, Preferred | None]]:
        said: list[dict[str, Preferred | None]] = []
        for one in questions:
            self.asked.append((one.first.attempt, one.second.attempt))
            red = [Image.open(side.pictures[0]).getpixel((0, 0))[0] for side in (one.first, one.second)]  # type: ignore[index]
            said.append({"overall": None if 0 in red else "first" if red[0] >= red[1] else "second"})
        return said


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "ledger") as opened:
        yield opened


def made(ledger: Ledger, reds: Sequence[int], keys: Sequence[str] = "abcdefgh") -> Side:
    """A run whose picture for each brief is as red as told."""
    run = ledger.start_run("ads", {}, seed=0)
    for key, red in zip(keys, reds, strict=False):
        brief = ledger.add_brief(run, key, {"title": key})
        ledger.record_attempt(brief, 0, 1, 0, Image.new("RGB", (4, 4), (red, len(ledger.runs()), 0)))
    return read_side(ledger, str(run))


def test_two_runs_are_asked_both_ways_and_disagreement_is_similar(ledger: Ledger) -> None:
    one, other = made(ledger, [200, 50, 90, 0]), made(ledger, [100, 60, 90, 10])
    judge = Reds()
    found = by_judge(ledger, [one, other], judge)
    (match,) = found.matches
    assert match.wins.counts == {"win": 1, "similar": 1, "lose": 1} and match.wins.missing == 1
    assert match.flipped == pytest.approx(1 / 3) and match.coverage == 3 / 4 and match.pairs == 4
    assert len(judge.asked) == 8 and {tuple(sorted(pair)) for pair in judge.asked} == {(1, 5), (2, 6), (3, 7), (4, 8)}
    assert found.asked == 8 and len(ledger.comparisons()) == 6  # what has no answer is not on record
    turned = by_judge(ledger, [other, one], Reds())
    assert turned.matches[0].wins.counts == {"win": 1, "similar": 1, "lose": 1}


def test_a_third_run_adds_only_its_own_pairs(ledger: Ledger) -> None:
    one, other = made(ledger, [200, 50, 90]), made(ledger, [100, 60, 91])
    by_judge(ledger, [one, other], Reds())
    third = made(ledger, [250, 251, 252])
    judge = Reds()
    found = by_judge(ledger, [one, other, third], judge)
    assert (found.asked, found.kept) == (12, 6) and len(judge.asked) == 12
    assert all(7 in pair or 8 in pair or 9 in pair for pair in judge.asked)
    again = Reds()
    assert by_judge(ledger, [third, one, other], again).asked == 0 and again.asked == []
    assert by_judge(ledger, [one, other, third], Reds(version="2")).asked == 18
    assert found.rankings["overall"][0].run == third.run


def test_a_judge_that_no_order_sways_is_asked_once(ledger: Ledger) -> None:
    judge = Reds(ordered=False)
    (match,) = by_judge(ledger, [made(ledger, [200, 50]), made(ledger, [100, 60])], judge).matches
    assert len(judge.asked) == 2 and match.flipped is None and match.wins.counts == {"win": 1, "similar": 0, "lose": 1}


def test_who_was_stopped_goes_on(ledger: Ledger) -> None:
    class Stopping(Reds):
        def prefer(self, questions: Sequence[Question]) -> list[dict[str, Preferred | None]]:
            if self.asked:
                raise KeyboardInterrupt
            return super().prefer(questions)

    keys = [f"brief {number}" for number in range(12)]
    sides = [made(ledger, [100 + number for number in range(12)], keys), made(ledger, [90] * 12, keys)]
    with pytest.raises(KeyboardInterrupt):
        by_judge(ledger, sides, Stopping())
    found = by_judge(ledger, sides, Reds())
    assert (found.asked, found.kept) == (8, 16) and found.matches[0].wins.counts["win"] == 12


def test_the_ranking_is_the_closed_form_of_two_runs(ledger: Ledger) -> None:
    """Without a prior it would be ln(6/2); the half similar against a mean rival brings both a little nearer."""
    found = by_judge(ledger, [made(ledger, [200] * 6 + [50] * 2), made(ledger, [100] * 8)], Reds())
    best, last = found.rankings["overall"]
    assert 0.8 * math.log(3) < best.strength - last.strength < math.log(3)
    assert best.low < best.strength < best.high and best.comparisons == 8


def test_what_many_say_of_one_brief_is_one_brief(ledger: Ledger) -> None:
    """Six briefs, of which one's people agree: as sure with a hundred people each as with one each."""
    one, other = made(ledger, [200] * 6, "abcdef"), made(ledger, [100] * 6, "abcdef")
    found = []
    for people in (range(1), range(1, 40)):
        for person in people:
            for place in range(6):
                ledger.compare(place + 1, place + 7, f"p{person}", "overall", "left" if place < 4 else "right")
        found.append(by_people(ledger, [one, other]).matches[0].wins)
    alone, crowd = found
    assert crowd.counts["win"] == 160 and crowd.win.mean == alone.win.mean == pytest.approx(2 / 3)
    assert crowd.win[1:] == pytest.approx(alone.win[1:], abs=0.02)  # percentiles of Binomial(6, 2/3) / 6 both
    solo = [read_side(ledger, str(side.run)) for side in (made(ledger, [9], "z"), made(ledger, [8], "z"))]
    (match,) = by_judge(ledger, solo, Reds()).matches
    assert math.isnan(match.wins.win_and_similar.low) and match.wins.win_and_similar.mean == 1


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("format", ["csv", "preferences"])
def test_what_was_imported_is_neither_doubled_nor_asked_again(
    ledger: Ledger, tmp_path: Path, format: Name, ordered: bool
) -> None:
    """An import makes attempts as it meets them, so of some pairs the other one has the smaller id."""
    reds = [200, 50, 90, 10], [100, 60, 80, 20]
    sides = [made(ledger, some) for some in reds]
    before = by_judge(ledger, sides, Reds(ordered=ordered))
    ledger.compare(2, 6, "ann", "overall", "left")
    ledger.compare(6, 2, "bo", "overall", "left")
    for attempt in (6, 8):  # votes come in first
        ledger.vote(attempt, "ann", "available")
    export(ledger, format, tmp_path / "out")
    with Ledger.open(tmp_path / "other") as other:
        import_into(other, format, tmp_path / "out")
        turned = sum(one.left_attempt > one.right_attempt for one in other.comparisons())
        assert 0 < turned < len(other.comparisons()), "the import has some in the other order"
        taken = [read_side(other, str(run.id)) for run in other.runs()]
        taken.sort(key=lambda side: side.answers["a", 0].pictures[0].name != sides[0].answers["a", 0].pictures[0].name)
        judge = Reds(ordered=ordered)
        after = by_judge(other, taken, judge)
        assert judge.asked == [] and (after.asked, after.kept) == (0, before.asked)
        (match,), (one,) = before.matches, after.matches
        assert one.wins.to_json() == match.wins.to_json()  # numbers that are none are null there, and equal
        assert (one.coverage, one.flipped) == (match.coverage, match.flipped)
        assert [place[1:] for place in after.rankings["overall"]] == [place[1:] for place in before.rankings["overall"]]
        (people,), (theirs,) = by_people(ledger, sides).matches, by_people(other, taken).matches
        assert theirs.wins.counts == people.wins.counts == {"win": 1, "similar": 0, "lose": 1}


def test_people_count_once_each_and_not_when_set_aside(ledger: Ledger) -> None:
    from goodeye.review.votes import set_aside

    one, other = made(ledger, [200, 50]), made(ledger, [100, 60])
    for person, choice in (("ann", "right"), ("ann", "left"), ("bo", "left"), ("eve", "right")):
        ledger.compare(1, 3, person, "overall", choice)  # type: ignore[arg-type]
    ledger.vote(1, "eve", "available")
    set_aside(ledger, "eve", True, "asleep", decided_by="ann")
    ledger.compare(1, 3, "reds", "overall", "right", version="1")
    (match,) = by_people(ledger, [one, other]).matches
    assert match.wins.counts == {"win": 2, "similar": 0, "lose": 0} and match.coverage == 0.5
    assert by_people(ledger, [one, made(ledger, [1])]).matches == []


def test_what_was_said_of_a_picture_that_has_been_replaced_does_not_count(ledger: Ledger, tmp_path: Path) -> None:
    places = [tmp_path / "one", tmp_path / "other"]
    for red, place in zip((200, 100), places, strict=True):
        place.mkdir()
        for key in "abc":
            Image.new("RGB", (4, 4), (red, 0, 0)).save(place / f"{key}.png")
    by_judge(ledger, [read_side(ledger, place) for place in places], Reds())
    ledger.compare(1, 4, "ann", "overall", "left")
    ledger.compare(2, 5, "ann", "overall", "left")
    Image.new("RGB", (4, 4), (255, 0, 0)).save(places[1] / "a.png")
    sides = [read_side(ledger, place) for place in places]
    found = by_judge(ledger, sides, Reds())
    (match,), (best, _last) = found.matches, found.rankings["overall"]
    assert match.wins.counts == {"win": 2, "similar": 0, "lose": 1} and match.coverage == 1 and best.comparisons == 3
    (match,) = by_people(ledger, sides).matches
    assert match.wins.counts == {"win": 1, "similar": 0, "lose": 0} and match.coverage == 1 / 3


def test_people_are_counted_on_what_two_runs_deliver_in_whichever_slot(ledger: Ledger) -> None:
    """Of two runs with a rejected and a kept attempt in each of two slots, what was said of kept ones counts, each
    person's last word, whichever side was left."""
    attempts = []
    for _run in range(2):
        run = ledger.start_run("ads", {}, 0)
        brief = ledger.add_brief(run, "cup", {})
        for slot in (0, 1):
            for kept in (False, True):
                image = Image.new("RGB", (4, 4), (run, slot, kept))
                attempts.append(ledger.record_attempt(brief, slot, 1 + kept, 0, image))
                ledger.pick(brief, slot, attempts[-1], kept, "as told")
    rejected, one, _, _, _, _, _, other = attempts
    ledger.compare(rejected, other, "bo", "overall", "right")
    ledger.compare(one, other, "ann", "overall", "right")
    ledger.compare(other, one, "ann", "overall", "right")
    found = by_people(ledger, [read_side(ledger, "1"), read_side(ledger, "2")])
    assert found.matches[0].wins.counts == {"win": 1, "similar": 0, "lose": 0} and found.kept == 1


def test_what_cannot_be_compared_is_refused(ledger: Ledger) -> None:
    one, other = made(ledger, [1]), made(ledger, [1], ["z"])
    third = made(ledger, [1])
    for sides, message in (
        ([one], "two or more"),
        ([one, one], "twice"),
        ([one, other], "^1 has no brief in common.* it answers a; the others answer z"),
        ([one, third, other], "^2 has no brief in common.* it answers z; the others answer a"),
    ):
        with pytest.raises(BadInput, match=message):
            by_judge(ledger, sides, Reds())
        with pytest.raises(BadInput, match=message):
            by_people(ledger, sides)
    assert ledger.comparisons() == [], "nothing is asked before"


def test_the_report_is_one_file_and_its_numbers_those_of_the_json(ledger: Ledger, tmp_path: Path) -> None:
    sides = [made(ledger, [200, 50, 90], ["<b>a", "b", "c"]), made(ledger, [100, 60, 90], ["<b>a", "b", "c"])]
    found = [by_judge(ledger, sides, Reds()), by_people(ledger, sides)]
    page = write_report(tmp_path / "out", sides, found).read_text()
    assert page.count("data:image/webp") == 6 and "<b>a" not in page and "http" not in page
    (data, people) = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (
        data["matches"][0]["counts"] == {"win": 1, "similar": 1, "lose": 1}
        and data["rankings"]["overall"][0]["comparisons"] == 3
        and people["matches"] == []
    )
    assert "win 1, similar 1, lose 1" in summary(found[0]) and "100 % of 3 pairs" in summary(found[0])
    assert (percent(float("nan")), number(float("nan")), percent(None)) == ("–", "–", "–")


def test_a_brief_spelt_otherwise_is_the_same_unless_a_run_has_both(ledger: Ledger, tmp_path: Path) -> None:
    """A run's keys keep what a folder's turn into dashes; people's votes count by the same rule, as of one brief."""
    both = made(ledger, [1, 2, 3], ["Red_shoe", "cafe\u0301", "a  cup"])
    (tmp_path / "theirs").mkdir()
    for name in ("red shoe", "Café", "A-CUP"):
        Image.new("RGB", (4, 4), (9, 9, 9)).save(tmp_path / "theirs" / f"{name}.png")
    folder = read_side(ledger, tmp_path / "theirs")
    found = by_judge(ledger, [both, folder], Reds())
    assert found.matches[0].wins.counts["lose"] == found.matches[0].pairs == 3
    ledger.compare(both.answers["Red_shoe", 0].attempt, folder.answers["red-shoe", 0].attempt, "ann", "overall", "left")
    ledger.compare(folder.answers["red-shoe", 0].attempt, both.answers["Red_shoe", 0].attempt, "bo", "overall", "right")
    (match,) = by_people(ledger, [both, folder]).matches
    assert match.wins.counts["win"] == 2 and math.isnan(match.wins.win.low), "one brief has no interval"
    more = made(ledger, [1, 2], ["red_shoe", "red-shoe"])
    (match,) = by_judge(ledger, [more, folder], Reds()).matches
    assert match.pairs == 1
    assert [(one.title, other.title) for one, other in pairs(matched([more, folder]))] == [("red shoe", "red-shoe")]


def test_pairs_are_of_the_same_brief_and_slot(ledger: Ledger) -> None:
    one, other = made(ledger, [1, 2, 3], "abc"), made(ledger, [1, 2, 3], "cbx")
    assert [(left.title, right.title) for left, right in pairs([one, other])] == [("b", "b"), ("c", "c")]
