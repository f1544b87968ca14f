"""Handing out: nobody twice, each picture its votes, the doubtful first, a share by chance, and repeats."""

import random
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from PIL import Image
from sqlalchemy import event, func, select, update

from goodeye.ledger.asks import Ask, Item, Pair
from goodeye.ledger.ledger import Ledger
from goodeye.ledger.schema import Comparison, now
from goodeye.review import look
from goodeye.review.items import catch_up, reading, writing
from goodeye.review.queue import Kind, Rules, _from_place, hand_out, said_by_people
from goodeye.review.votes import answer, desk_of, set_aside, undo
from goodeye.review.votes import shown as shown_to
from review.conftest import PLAIN, drawn, fill


def draw(ledger: Ledger, person: str, kind: str = "label", count: int = 1, rules: Rules = PLAIN, seed: int = 0) -> list:  # type: ignore[type-arg]
    ids = hand_out(ledger, person, kind, count, rules, random.Random(seed))  # type: ignore[arg-type]
    return [rows(ledger, Ask.id == number)[0] for number in ids]


def rows(ledger: Ledger, *where: object) -> list:  # type: ignore[type-arg]
    with reading(ledger) as connection:
        return list(connection.execute(select(Ask).where(*where).order_by(Ask.id)))  # type: ignore[arg-type]


def label_all(ledger: Ledger, person: str, rules: Rules = PLAIN, said: str = "available") -> list[int]:
    done = []
    while asks := draw(ledger, person, rules=rules, seed=len(done)):
        answer(ledger, person, asks[0].id, "answered", said, seconds=1)
        done.append(asks[0].attempt_id)
        assert len(done) < 500
    return done


def test_the_doubtful_come_first(ledger: Ledger) -> None:
    sure, doubtful, half = fill(ledger, [0.99, 0.5, 0.7])
    assert label_all(ledger, "Ada") == [doubtful, half, sure]


def test_each_picture_gets_its_votes_and_nobody_labels_twice(ledger: Ledger) -> None:
    attempts = fill(ledger, [number / 12 for number in range(12)])
    for person in ("Ada", "Bo", "Cy"):
        label_all(ledger, person)
    votes = ledger.votes()
    assert Counter(vote.attempt_id for vote in votes) == dict.fromkeys(attempts, 2)
    assert max(Counter((vote.attempt_id, vote.person) for vote in votes).values()) == 1


def test_what_one_has_on_the_desk_is_not_over_asked(ledger: Ledger) -> None:
    fill(ledger, [0.5, 0.6])
    first = draw(ledger, "Ada", count=2), draw(ledger, "Bo", count=2)
    assert [len(asks) for asks in first] == [2, 2]
    assert draw(ledger, "Cy", count=2) == []


def test_a_reload_gives_the_same_desk(ledger: Ledger) -> None:
    fill(ledger, [0.5, 0.6, 0.7])
    assert draw(ledger, "Ada", count=2) == draw(ledger, "Ada", count=2)
    assert len(draw(ledger, "Ada", count=3)) == 3


def test_what_others_began_is_finished_first(ledger: Ledger) -> None:
    sure, _doubtful = fill(ledger, [0.99, 0.5])
    ledger.vote(sure, "Ada", "available")
    from goodeye.review.items import catch_up

    catch_up(ledger)
    assert draw(ledger, "Bo")[0].attempt_id == sure


def test_a_person_who_went_away_does_not_hold_pictures_for_ever(ledger: Ledger) -> None:
    fill(ledger, [0.5])
    rules = replace(PLAIN, votes=1)
    (ask,) = draw(ledger, "Ada", rules=rules)
    assert draw(ledger, "Bo", rules=rules) == []
    with writing(ledger) as connection:
        connection.execute(update(Ask).values(handed=now() - timedelta(hours=1)))
    (taken,) = draw(ledger, "Bo", rules=rules)
    answer(ledger, "Bo", taken.id, "answered", "available")
    assert draw(ledger, "Ada", rules=rules) == []
    assert rows(ledger, Ask.id == ask.id)[0].outcome == "lapsed"
    assert answer(ledger, "Ada", ask.id, "answered", "available") == "answered", "a late answer counts"


def test_flagged_and_skipped_pictures_do_not_come_back(ledger: Ledger) -> None:
    fill(ledger, [0.5, 0.6])
    one, two = draw(ledger, "Ada", count=2)
    answer(ledger, "Ada", one.id, "flagged", note="upside down")
    answer(ledger, "Ada", two.id, "skipped")
    assert draw(ledger, "Ada") == []
    assert [ask.attempt_id for ask in draw(ledger, "Bo", count=2)] == [two.attempt_id]
    assert ledger.votes() == []


def test_what_is_flagged_leaves_every_desk_and_every_pair(ledger: Ledger) -> None:
    first, second, *_others = fill(ledger, [0.6, 0.7], runs=1)
    (lying,) = draw(ledger, "Bo", "compare")
    bos = draw(ledger, "Bo", count=2)
    (ask,) = draw(ledger, "Ada")
    assert ask.attempt_id in (first, second)
    answer(ledger, "Ada", ask.id, "flagged")
    assert draw(ledger, "Bo", "compare") == draw(ledger, "Cy", "compare") == []
    assert [one.attempt_id for one in draw(ledger, "Bo", count=2)] == [first + second - ask.attempt_id]
    gone = {one.id for one in bos if one.attempt_id == ask.attempt_id} | {lying.id}
    assert {one.outcome for one in rows(ledger, Ask.id.in_(gone))} == {"lapsed"}
    undo(ledger, "Ada", ask.id)
    assert draw(ledger, "Cy", "compare")[0].pair_id == lying.pair_id


@pytest.mark.parametrize("side", ["left", "right", "similar", ""])
def test_who_flags_a_pair_says_which_side(ledger: Ledger, side: str) -> None:
    both = fill(ledger, [0.6], runs=2)
    (ask,) = draw(ledger, "Ada", "compare")
    answer(ledger, "Ada", ask.id, "flagged", side, note="torn")
    place = {"left": 0, "right": 1}.get(side)
    expected = set(both) if place is None else {both[::-1][place] if ask.swapped else both[place]}
    shown = look.page(ledger, look.read({"flagged": "1"})).rows
    assert {row["attempt_id"] for row in shown} == expected
    (flag,) = look.attempt(ledger, min(expected))["flags"]
    assert (flag["person"], flag["note"]) == ("Ada", "torn") and flag["beside"] in both
    assert draw(ledger, "Bo", "compare") == []
    assert {one.attempt_id for one in draw(ledger, "Bo", count=2)} == set(both) - expected


def test_flags_of_a_person_set_aside_take_nothing_away(ledger: Ledger) -> None:
    fill(ledger, [0.6], runs=2)
    alone, pair = draw(ledger, "Eve")[0], draw(ledger, "Eve", "compare")[0]
    answer(ledger, "Eve", alone.id, "flagged")
    answer(ledger, "Eve", pair.id, "flagged")
    assert draw(ledger, "Bo", count=2) == []
    set_aside(ledger, "Eve", True, "a vandal", decided_by="Ada")
    assert len(draw(ledger, "Bo", count=2)) == 2 and draw(ledger, "Bo", "compare")[0].pair_id == pair.pair_id
    set_aside(ledger, "Eve", False, "", decided_by="Ada")
    assert draw(ledger, "Bo", count=2) == draw(ledger, "Bo", "compare") == []


def test_the_random_share_follows_the_fixed_order(ledger: Ledger) -> None:
    from goodeye.ledger.sample import scattered

    attempts = fill(ledger, [number / 20 for number in range(20)])
    rules = replace(PLAIN, random_share=1.0)
    assert label_all(ledger, "Ada", rules) == sorted(attempts, key=scattered)
    assert {ask.chosen for ask in rows(ledger)} == {"random"}


def test_shares_are_as_asked(ledger: Ledger) -> None:
    fill(ledger, [number / 200 for number in range(200)])
    rules = Rules(votes=1, random_share=0.2, repeat_share=0.1)
    chance, asks = random.Random(3), []
    while ids := hand_out(ledger, "Ada", "label", 8, rules, chance):
        for number in ids:
            answer(ledger, "Ada", number, "answered", "available")
        asks += ids
        if len(asks) > 150:
            break
    counts = Counter(ask.chosen for ask in rows(ledger, Ask.id.in_(asks)))
    assert 4 <= counts["repeat"] <= 30 and 15 <= counts["random"] <= 50


def test_repeats_are_kept_apart_from_votes(ledger: Ledger) -> None:
    attempts = fill(ledger, [0.5] * 4)
    for _attempt in attempts:
        (ask,) = draw(ledger, "Ada")
        answer(ledger, "Ada", ask.id, "answered", "available")
    again = replace(PLAIN, repeat_share=1.0, repeat_after=2)
    repeated = []
    while asks := draw(ledger, "Ada", rules=again):
        answer(ledger, "Ada", asks[0].id, "answered", "size_mismatch")
        repeated.append(asks[0])
    assert len({ask.repeat_of for ask in repeated}) == len(repeated) >= 3
    assert len(ledger.votes()) == 4 and {vote.label for vote in ledger.votes()} == {"available"}


def test_only_the_runs_asked_for(ledger: Ledger) -> None:
    fill(ledger, [0.5, 0.6], runs=2)
    assert set(label_all(ledger, "Ada", replace(PLAIN, runs=(2,)))) == {3, 4}


# Pairs


def compare_all(ledger: Ledger, person: str, most: int, rules: Rules = PLAIN) -> list:  # type: ignore[type-arg]
    done = []
    while len(done) < most and (asks := draw(ledger, person, "compare", rules=rules, seed=len(done))):
        answer(ledger, person, asks[0].id, "answered", "left")
        done.append(asks[0])
    return done


def test_pairs_are_of_one_brief_in_two_runs_and_no_pair_comes_twice(ledger: Ledger) -> None:
    fill(ledger, [0.6, 0.7], runs=2)
    done = compare_all(ledger, "Ada", 50)
    with reading(ledger) as connection:
        pairs = connection.execute(select(Pair)).all()
    assert {(one.left_attempt, one.right_attempt) for one in pairs} >= {(1, 3), (1, 4), (2, 3), (2, 4)}
    assert len(pairs) == len(done) == len({(one.left_attempt, one.right_attempt) for one in pairs})


def test_a_pair_reaches_its_answers(ledger: Ledger) -> None:
    fill(ledger, [0.6], runs=2)
    assert [len(compare_all(ledger, person, 5)) for person in ("Ada", "Bo", "Cy")] == [1, 1, 0]


def test_who_compared_a_pair_elsewhere_counts_and_is_not_asked_again(ledger: Ledger) -> None:
    """As an import leaves it, before the pair is drawn and after; which of the two was left does not matter."""
    first, second = fill(ledger, [0.6], runs=2)
    ledger.compare(second, first, "Ada", "overall", "left")
    assert draw(ledger, "Ada", "compare") == []
    (ask,) = draw(ledger, "Bo", "compare")
    answer(ledger, "Bo", ask.id, "answered", "left")
    assert draw(ledger, "Ada", "compare") == [] and draw(ledger, "Cy", "compare") == [], "it has its two people"
    undo(ledger, "Bo", ask.id)
    ledger.compare(first, second, "Bo", "overall", "right")
    answer(ledger, "Bo", draw(ledger, "Bo", "compare")[0].id, "answered", "left")
    assert [(one.person, one.choice) for one in ledger.comparisons()] == [("Ada", "left"), ("Bo", "right")]


def test_a_pair_answered_late_and_anew_by_one_person_still_wants_another(ledger: Ledger) -> None:
    fill(ledger, [0.6], runs=2)
    (old,) = draw(ledger, "Ada", "compare")
    assert draw(ledger, "Ada", "compare", rules=replace(PLAIN, runs=(1,))) == []  # started anew with --run 1 …
    (again,) = draw(ledger, "Ada", "compare")  # … and without it
    assert again.pair_id == old.pair_id and again.id != old.id
    for ask in (old, again):
        assert answer(ledger, "Ada", ask.id, "answered", "similar") == "answered"
    assert len(ledger.comparisons()) == 1
    (other,) = draw(ledger, "Bo", "compare")
    assert other.pair_id == old.pair_id


def test_sides_are_shuffled_recorded_and_undone_in_the_answer(ledger: Ledger) -> None:
    fill(ledger, [0.6, 0.7, 0.8, 0.9], runs=3)
    done = compare_all(ledger, "Ada", 30)
    assert 3 <= sum(ask.swapped for ask in done) <= len(done) - 3
    with reading(ledger) as connection:
        stored = connection.execute(select(Comparison)).all()
    assert len(stored) == len(done)
    assert all(one.choice == ("right" if one.swapped else "left") for one in stored), "always the left of the screen"


def test_a_repeated_pair_is_shown_the_other_way_round(ledger: Ledger) -> None:
    fill(ledger, [0.6, 0.7], runs=2)
    first = compare_all(ledger, "Ada", 3)
    (again,) = draw(ledger, "Ada", "compare", rules=replace(PLAIN, repeat_share=1.0, repeat_after=1))
    before = {ask.id: ask for ask in first}[again.repeat_of]
    assert again.pair_id == before.pair_id and again.swapped != before.swapped


def briefs_of(ledger: Ledger, keys: int, tries: int, name: str = "brief") -> list[int]:
    """A run of so many briefs, of each of which the last try was kept. Returns the kept ones."""
    run, kept = ledger.start_run("ads", {}, 0), []
    for key in range(keys):
        brief = ledger.add_brief(run, f"{name} {key}", {"title": "cup"})
        for number in range(1, tries + 1):
            attempt = ledger.record_attempt(brief, 0, number, 0, Image.new("RGB", (4, 4), (run, key, number)))
            ledger.pick(brief, 0, attempt, number == tries, "as told")
        kept.append(attempt)
    catch_up(ledger)
    return kept


def sides(ledger: Ledger) -> list[tuple[int, int]]:
    with reading(ledger) as connection:
        return [(one.left_attempt, one.right_attempt) for one in connection.execute(select(Pair).order_by(Pair.id))]


def test_two_runs_are_compared_by_what_each_delivers(ledger: Ledger) -> None:
    """Eight briefs: a run with four rejected tries of each before the one that it kept, and one without. Of the two
    runs only kept ones are compared, and first; with rejected ones go tries of their own run, which rank nothing."""
    first, second = briefs_of(ledger, 8, 5), briefs_of(ledger, 8, 1)
    compare_all(ledger, "Ada", 24)
    across = [pair for pair in sides(ledger) if pair[1] >= second[0]]
    assert sorted(across) == list(zip(first, second, strict=True))
    assert sum(map(sides(ledger).index, across)) / 8 < 8  # of 24 places: by chance 11.5


def test_the_few_briefs_that_two_runs_share_are_found_among_many_that_stand_alone(ledger: Ledger) -> None:
    briefs_of(ledger, 120, 1, "alone")
    first, second = briefs_of(ledger, 3, 1), briefs_of(ledger, 3, 1)
    rules = replace(PLAIN, votes=1)
    assert [len(compare_all(ledger, f"person {number}", 1, rules)) for number in range(4)] == [1, 1, 1, 0]
    assert sorted(sides(ledger)) == list(zip(first, second, strict=True))


@pytest.mark.parametrize("kind", ["label", "compare"])
def test_a_desk_holds_nothing_of_runs_that_are_not_asked_about_any_more(ledger: Ledger, kind: str) -> None:
    """As after a restart with another --run."""
    fill(ledger, [0.5, 0.6], runs=4)
    old, new = replace(PLAIN, runs=(1, 2)), replace(PLAIN, runs=(3, 4))
    before = draw(ledger, "Ada", kind, 2, old)
    after = draw(ledger, "Ada", kind, 2, new)
    with reading(ledger) as connection:
        pairs = {one.id: one.left_attempt for one in connection.execute(select(Pair))}
    assert all((ask.attempt_id or pairs[ask.pair_id]) > 4 for ask in after) and len(after) == 2
    assert {ask.outcome for ask in rows(ledger, Ask.id.in_([ask.id for ask in before]))} == {"lapsed"}


def test_a_share_of_pairs_is_drawn_by_chance_alone(ledger: Ledger) -> None:
    """One that was chosen for its near scores belongs to what chance draws from, as if it were not there yet; what
    chance drew is on record as such also where it has its people."""
    fill(ledger, [0.6], runs=2)
    (ada,) = draw(ledger, "Ada", "compare")
    chosen = select(Pair.chosen)
    with reading(ledger) as connection:
        assert ada.chosen == "unsure" and list(connection.scalars(chosen)) == [""]
    (bo,) = draw(ledger, "Bo", "compare", rules=replace(PLAIN, random_share=1.0))
    with reading(ledger) as connection:
        assert (bo.chosen, bo.pair_id) == ("random", ada.pair_id) and list(connection.scalars(chosen)) == ["random"]


def test_a_pair_that_has_its_people_can_still_be_drawn_by_chance(ledger: Ledger) -> None:
    fill(ledger, [0.6], runs=2)
    for person in ("Ada", "Bo"):
        compare_all(ledger, person, 5)
    assert draw(ledger, "Cy", "compare", rules=replace(PLAIN, random_share=1.0)) == []
    with reading(ledger) as connection:
        assert list(connection.scalars(select(Pair.chosen))) == ["random"]


def test_chance_draws_pairs_whatever_their_scores(ledger: Ledger) -> None:
    """Two pairs of what two runs deliver: one of equal scores, which doubt asks first, and one of .9 and .6."""
    fill(ledger, [0.5, 0.9])
    fill(ledger, [0.5, 0.6], runs=2)
    rules, firsts = replace(PLAIN, runs=(1, 3), random_share=1.0, votes=1000), []
    for number in range(30):
        (ask,) = draw(ledger, f"p{number}", "compare", rules=rules, seed=number)
        firsts.append(sides(ledger)[ask.pair_id - 1])
    assert set(firsts) == {(1, 5), (2, 6)} and min(Counter(firsts).values()) >= 8


def test_a_pair_on_which_people_differ_comes_before_one_on_which_they_agree(ledger: Ledger) -> None:
    first, second, third, fourth = fill(ledger, [0.6, 0.7], runs=2)
    compare_all(ledger, "Ada", 9)
    older, newer, *others = sides(ledger)
    ada = {(one.left_attempt, one.right_attempt): one.choice for one in ledger.comparisons()}
    for pair, person in ((older, "Bo"), (older, "Cy"), (newer, "Bo"), (newer, "Cy")):
        turned = {"left": "right", "right": "left"}[ada[pair]]
        ledger.compare(*pair, person, "overall", turned if (pair, person) == (older, "Bo") else ada[pair])  # type: ignore[arg-type]
    with writing(ledger) as connection:
        for one in connection.execute(select(Pair)).all():
            connection.execute(
                update(Pair)
                .where(Pair.id == one.id)
                .values(said_by_people(connection, one.left_attempt, one.right_attempt, one.axis))
            )
    (ask,) = draw(ledger, "Dee", "compare", rules=replace(PLAIN, votes=4))
    assert sides(ledger)[ask.pair_id - 1] == older and {first, second, third, fourth} >= {*older, *newer} and others


def test_undo_asks_the_same_again(ledger: Ledger) -> None:
    fill(ledger, [0.5, 0.6])
    (ask,) = draw(ledger, "Ada")
    answer(ledger, "Ada", ask.id, "answered", "available")
    again = undo(ledger, "Ada", ask.id)
    assert undo(ledger, "Ada", ask.id) == again, "a second undo changes nothing"
    assert ledger.votes() == [] and draw(ledger, "Ada")[0].id == again
    assert answer(ledger, "Ada", ask.id, "answered", "available") == "undone", "a late copy is not stored"
    assert ledger.votes() == []
    answer(ledger, "Ada", again, "answered", "size_mismatch")
    assert [vote.label for vote in ledger.votes()] == ["size_mismatch"]


def test_nobody_is_asked_about_a_try_without_a_picture(ledger: Ledger) -> None:
    (pictured,) = fill(ledger, [0.5])
    brief = ledger.briefs(1)[0].id
    ledger.record_attempt(brief, 1, 1, 0, None, detail={"why": "prose"})
    catch_up(ledger)
    assert label_all(ledger, "Ada") == [pictured]
    assert draw(ledger, "Ada", "compare") == [] and look.attempt(ledger, 2)["detail"] == {"why": "prose"}


def test_rows_that_begin_alike_are_compared_whole(ledger: Ledger) -> None:
    rows = []
    for run in range(2):
        brief = ledger.add_brief(ledger.start_run("search", {}, run), "q", {"prompt": "a red shoe"})
        shown = [Image.new("RGB", (4, 4), (one, 0, 0)) for one in (0, run + 1, run + 3)]
        rows.append(ledger.record_attempt(brief, 0, 1, 0, None, shown=shown))
    catch_up(ledger)
    assert draw(ledger, "Ada") == []  # a class is said of one picture
    (ask,) = draw(ledger, "Ada", "compare")
    (page,) = shown_to(ledger, "Ada", [ask.id])
    attempts = [ledger.attempt(number) for number in (rows[::-1] if ask.swapped else rows)]
    assert page["axis"] == "accuracy" and page["rows"] == [list(one.shown) for one in attempts]
    assert page["images"] == [sha for row in page["rows"] for sha in row]


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_nobody_is_asked_about_pictures_to_learn_from(ledger: Ledger, share: float) -> None:
    """CLIS is in the greatest doubt of them; yet no label of ads fits, and only the cups are asked about."""
    synth = drawn(ledger)
    cups = fill(ledger, [0.9, 0.8], runs=2)
    rules = replace(PLAIN, random_share=share)
    assert set(label_all(ledger, "Ada", rules)) == set(cups)
    for number in range(8):
        (ask,) = draw(ledger, f"Bo {number}", "compare", rules=rules, seed=number)
        with reading(ledger) as connection:
            pair = connection.execute(select(Pair).where(Pair.id == ask.pair_id)).one()
        assert not {pair.left_attempt, pair.right_attempt} & set(synth)
    alone = replace(rules, runs=(1,))
    assert draw(ledger, "Cy", rules=alone) == draw(ledger, "Cy", "compare", rules=alone) == []


# On a ledger of any size


@pytest.mark.parametrize("kind", ["label", "compare"])
@pytest.mark.parametrize("runs", [(), (1, 2)])
def test_no_statement_reads_a_whole_table(folder: Ledger, kind: str, runs: tuple[int, ...]) -> None:
    """As SQLite plans what is really asked when something is handed out, shown and answered."""
    fill(folder, [number / 12 for number in range(6)], runs=2)
    said: dict[str, Any] = {}

    @event.listens_for(folder.engine, "before_cursor_execute")
    def note(_connection: Any, _cursor: Any, statement: str, values: Any, _context: Any, _many: bool) -> None:
        said.setdefault(statement, values)

    for share in (0.0, 1.0):
        rules = replace(PLAIN, runs=runs, random_share=share, repeat_share=share, repeat_after=1)
        for person in ("Ada", "Bo", "Ada"):
            (ask,) = draw(folder, person, kind, rules=rules)
            assert desk_of(folder, person, kind, [ask.id])["asks"]
            answer(folder, person, ask.id, "answered", "available" if kind == "label" else "left")
    event.remove(folder.engine, "before_cursor_execute", note)
    large = ("items", "attempts", "asks", "votes", "verdicts", "picks", "pairs", "comparisons", "briefs", "shown")
    with reading(folder) as connection:
        for statement, values in said.items():
            if statement.startswith(("SELECT", "UPDATE", "DELETE")):
                plan = [row[-1] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)]
                assert "votes<?" not in " ".join(plan), "all that lacks votes, to be sorted anew"
                scanned = [step for step in plan if step.startswith("SCAN") and step.split()[1] in large]
                assert not [step for step in scanned if "ORDER" not in statement or "USING" not in step], (
                    plan,
                    statement,
                )
    assert len(said) > 10


@pytest.mark.parametrize("kind", ["label", "compare"])
@pytest.mark.parametrize("runs", [(), (1, 2)])
def test_what_is_asked_of_the_ledger_again_and_again_is_made_once(
    ledger: Ledger, kind: Kind, runs: tuple[int, ...]
) -> None:
    """Making a statement takes several times as long as asking it. All of one round are asked in the next."""
    fill(ledger, [number / 12 for number in range(6)], runs=2)
    made: list[list[Any]] = []

    @event.listens_for(ledger.engine, "before_execute")
    def note(_connection: Any, statement: Any, *_more: Any) -> None:
        made[-1].append(statement)

    for _round in range(3):
        made.append([])
        (ask,) = hand_out(ledger, "Ada", kind, 1, replace(PLAIN, runs=runs), random.Random(0))
        assert desk_of(ledger, "Ada", kind, [ask])["asks"]
        answer(ledger, "Ada", ask, "answered", "available" if kind == "label" else "left")
    event.remove(ledger.engine, "before_execute", note)
    before = {id(one) for one in made[1]}
    assert made[2] and not [str(one) for one in made[2] if id(one) not in before]


def test_a_place_in_the_random_order_is_gone_to_and_not_walked_to(folder: Ledger) -> None:
    """With a million attempts the walk took longer than all else, and everyone who wrote waited for it."""
    fill(folder, [number / 40 for number in range(40)])
    with reading(folder) as connection:
        last = connection.scalar(select(func.max(Item.shuffle)))
        steps = []
        for start in (0, last):
            steps.append(0)

            def count() -> None:
                steps[-1] += 1

            raw: Any = connection.connection.driver_connection
            raw.set_progress_handler(count, 1)
            assert connection.execute(_from_place(False), {"start": start}).first() is not None
            raw.set_progress_handler(None, 1)
    assert steps[1] < steps[0] + 10, "of SQLite's machine"


def test_who_did_all_that_is_looked_at_first_is_asked_about_the_rest(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("goodeye.review.queue.NEAREST", 1)
    monkeypatch.setattr("goodeye.review.queue.WINDOW", 2)
    attempts = fill(ledger, [0.5, 0.51, 0.52, 0.8, 0.9])
    assert label_all(ledger, "Ada") == attempts  # by doubt
    for attempt in attempts[3:]:
        ledger.vote(attempt, "Cy", "available")
    catch_up(ledger)
    rules = replace(PLAIN, votes=3)
    assert label_all(ledger, "Bo", rules) == [*attempts[3:], *attempts[:3]]
    assert set(label_all(ledger, "Cy", rules)) == set(attempts[:3])
    for place, attempt in enumerate(attempts):
        ledger.vote(attempt, "Dee" if place < 2 else "Eve", "available")
    catch_up(ledger)
    assert label_all(ledger, "Dee", replace(PLAIN, votes=5)) == attempts[2:], "beyond what is looked through at first"
