"""RF1M, HPIR and RewardEdit: our files are read by their readers, theirs by ours, and out and in again is the same."""

import json
from collections import Counter
from pathlib import Path

import pytest

from exchange.world import WHY, comparisons_of, fill, jpeg, votes_of, when
from goodeye.edit.people import annotate_by_people
from goodeye.edit.rewards import Rewards
from goodeye.edit.triplets import Triplet, read_triplets
from goodeye.errors import BadInput
from goodeye.exchange.formats import export, import_into
from goodeye.judging.rfnet_data import find_labelled
from goodeye.ledger.ledger import Ledger
from goodeye.ledger.opinions import store_vote
from goodeye.ledger.rows import SCORED, VerdictRow
from ledger.recorder import picture


def test_rf1m_out_and_in_again(ledger: Ledger, other: Ledger, tmp_path: Path) -> None:
    fill(ledger)
    done = export(ledger, "rf1m", tmp_path / "out")
    # of attempts 1 to 6, those on which Ann's last word and Bo's "available" agree: the fourth
    assert done.written == 1 and sum("as many votes" in one.message for one in done.left_out) == 5
    for attempt in (1, 2):
        ledger.vote(attempt, "cy", "size_mismatch")
    assert export(ledger, "rf1m", tmp_path / "more").written == 3
    lines = (tmp_path / "more" / "label.txt").read_text().splitlines()
    assert lines == ["1_1.jpg\t4", "1_2.png\t4", "1_4.png\t1"]  # 4: size, by the published order
    labelled, skipped = find_labelled(tmp_path / "more")
    assert [row.label for row in labelled] == [2, 2, 0] and skipped == [] and all(row.product for row in labelled)
    found = import_into(other, "rf1m", tmp_path / "more", person="rf1m")
    assert found.votes == 3 and import_into(other, "rf1m", tmp_path / "more", person="rf1m").known == 3
    attempts = {row.id: row.image_sha for row in ledger.attempts(1)}
    assert set(votes_of(other, "label")) == {
        (attempts[1], "'size_mismatch'"), (attempts[2], "'size_mismatch'"), (attempts[4], "'available'")
    }  # fmt: skip


def test_rf1m_names_the_lines_that_cannot_be_used(other: Ledger, tmp_path: Path) -> None:
    picture(1).save(tmp_path / "1.png")
    (tmp_path / "label.txt").write_text("1.png 1\n2.png 1\n1.png nothing\n")
    found = import_into(other, "rf1m", tmp_path)
    assert found.votes == 1 and [one.name for one in found.skipped] == ["label.txt line 2", "label.txt line 3"]
    with pytest.raises(BadInput, match=r"label\.txt"):
        import_into(other, "rf1m", tmp_path / "elsewhere")


def benchmark(folder: Path) -> Path:
    for name in ("a1", "a2", "b1", "b2"):
        (folder / f"{name}.jpg").write_bytes(jpeg(ord(name[0]) * 10 + int(name[1])))
    entry = {"id": 7, "query": "a red shoe", "A": ["a1.jpg", "a2.jpg"], "B": ["b1.jpg", "b2.jpg"],
             "accuracy": {"votes": [21, 9]}, "aesthetic": {"votes": [12, 18]}}  # fmt: skip
    bad = {**entry, "accuracy": {"votes": [0, 0]}}
    (folder / "hpir.json").write_text(json.dumps([entry, bad, {**entry, "B": ["gone.jpg"]}, 3]))
    return folder / "hpir.json"


def test_hpir_in_and_out_again_keeps_every_vote(other: Ledger, tmp_path: Path) -> None:
    from goodeye.search.hpir import load

    found = import_into(other, "hpir", benchmark(tmp_path))
    assert found.comparisons == 60 and [one.name for one in found.skipped] == [
        f"hpir.json entry {number}" for number in (2, 3, 4)
    ]
    assert import_into(other, "hpir", tmp_path / "hpir.json").known == 60
    done = export(other, "hpir", tmp_path / "out")
    assert done.written == 1 and done.left_out == []
    (pair,) = load(tmp_path / "out" / "hpir.json")
    assert (pair.id, pair.query) == ("7", "a red shoe")
    assert {axis: tuple(votes) for axis, votes in pair.votes.items()} == {"accuracy": (21, 9), "aesthetic": (12, 18)}
    originals = [[tmp_path / f"{side}{place}.jpg" for place in (1, 2)] for side in "ab"]
    for group, files in zip(pair.groups.values(), originals, strict=True):
        assert [one.read_bytes() for one in group] == [one.read_bytes() for one in files]
    with Ledger.open(tmp_path / "third") as third:
        import_into(third, "hpir", tmp_path / "out")
        assert comparisons_of(third, "axis", "choice") == comparisons_of(other, "axis", "choice")


def test_similar_has_no_place_in_hpir(other: Ledger, tmp_path: Path) -> None:
    import_into(other, "hpir", benchmark(tmp_path))
    other.compare(1, 2, "zoe", "accuracy", "similar")
    done = export(other, "hpir", tmp_path / "out")
    assert done.written == 1 and "1 votes that found both similar" in done.left_out[0].message


def won(ledger: Ledger) -> Counter[tuple[str, str, str]]:
    """The better row, the other one and the axis of each comparison."""
    said = [(ledger.attempt(one.left_attempt), ledger.attempt(one.right_attempt), one) for one in ledger.comparisons()]
    return Counter(
        (left.image_sha, right.image_sha, one.axis)
        if one.choice == "left"
        else (right.image_sha, left.image_sha, one.axis)
        for left, right, one in said
    )


def test_three_systems_of_one_query_come_back_with_all_their_pairs(
    ledger: Ledger, other: Ledger, tmp_path: Path
) -> None:
    """Also where a person thought again with the sides turned: the last word counts, and one vote is one vote."""
    rows = []
    for system in range(3):
        brief = ledger.add_brief(ledger.start_run("search", {}, 0), "q1", {"prompt": "a red shoe"})
        rows.append(ledger.record_attempt(brief, 0, 1, 0, None, shown=[jpeg(10 * system + one) for one in (1, 2)]))
    for left, right in ((0, 1), (0, 2), (1, 2)):
        for axis in ("accuracy", "aesthetic"):
            ledger.compare(rows[right], rows[left], "ann", axis, "left")
            ledger.compare(rows[left], rows[right], "ann", axis, "left")
            ledger.compare(rows[right], rows[left], "bo", axis, "left")
    assert export(ledger, "hpir", tmp_path / "out").written == 3
    found = import_into(other, "hpir", tmp_path / "out")
    assert found.skipped == [] and found.comparisons == 12
    shas = [ledger.attempt(row).image_sha for row in rows]
    axes = ("accuracy", "aesthetic")
    assert won(other) == Counter((one, two, axis) for one in shas for two in shas for axis in axes if one != two)
    with Ledger.open(tmp_path / "third") as third:
        export(other, "hpir", tmp_path / "again")
        assert import_into(third, "hpir", tmp_path / "again").comparisons == 12


def published(folder: Path) -> Path:
    rows = [
        [{"Score": 4, "Negative Prompt": ""}, {"Score": "2.5", "Negative Prompt": "the sky: changed"},
         {"Score": None, "Negative Prompt": None}],
        {"a": {"Score": 5}, "b": {"Score": 5}, "c": {"Score": 5}},
        [{"Score": 9}, {"Score": 1}, {"Score": 1}],
        [{"Score": 1}],
    ]  # fmt: skip
    (folder / "rewards.json").write_text(json.dumps(dict(zip(("0001", "0002", "0003", "0004"), rows, strict=True))))
    (folder / "0001").mkdir()
    for place in (0, 1):
        (folder / "0001" / f"77_{place}.jpg").write_bytes(jpeg(place))
    (folder / "0001" / "prompt.json").write_text(json.dumps({"edit": "make it night"}))
    return folder / "rewards.json"


def test_rewardedit_in_and_out_again(other: Ledger, tmp_path: Path) -> None:
    found = import_into(other, "rewardedit", published(tmp_path), person="gpt-4o")
    assert found.attempts == 2 and [one.name for one in found.skipped] == ["rewards.json 0003", "rewards.json 0004"]
    first, second = other.attempts(found.runs[0])
    assert first.verdicts == [
        VerdictRow(judge="gpt-4o", version="published", label="", scores={"following": 4.0, "preserving": 2.5},
                   failures=["preserving: the sky: changed"])
    ]  # fmt: skip
    assert first.seed == 77 and other.image_path(first.image_sha).read_bytes() == jpeg(1)
    assert second.image_sha == "" and "no pair of pictures" in second.detail["why"]
    assert other.briefs(found.runs[0])[0].content["instruction"] == "make it night"
    export(other, "rewardedit", tmp_path / "out")
    written = json.loads((tmp_path / "out" / "rewards.json").read_text())
    assert written["0001"] == [
        {"Score": 4.0, "Negative Prompt": ""}, {"Score": 2.5, "Negative Prompt": "the sky: changed"},
        {"Score": None, "Negative Prompt": ""},
    ]  # fmt: skip
    with Ledger.open(tmp_path / "third") as third:
        again = import_into(third, "rewardedit", tmp_path / "out", person="gpt-4o")
        assert [row.verdicts for row in third.attempts(again.runs[0])] == [first.verdicts, second.verdicts]
        assert third.attempts(again.runs[0])[0].image_sha == first.image_sha


@pytest.fixture
def scored(ledger: Ledger) -> Ledger:
    """Edits that people scored in review: two of one picture, the first judged by a model, too."""
    brief = ledger.add_brief(ledger.start_run("edit", {}, 0), "room", {"instruction": "make it night"}, picture(9))
    said = VerdictRow(judge="m", version="1", label="", scores={"following": 1.0}, failures=["following: not done"])
    for number, verdicts in ((1, [said]), (2, [])):
        ledger.record_attempt(brief, 1, number, 70 + number, picture(number), verdicts)
    given = (
        (1, "Ann Ö.", {"following": 0, "preserving": 0, "quality": 0}),  # she thought again
        (1, "Ann Ö.", {"following": 5.0, "preserving": 4.0, "quality": 3.0}),
        (1, "bo", {"following": 2.0, "preserving": 5.0}),
        (1, "eve", {"following": 9}),
        (2, "bo", {"quality": 1.0}),
    )
    with ledger.transaction() as connection:
        for second, (attempt, person, axes) in enumerate(given):
            store_vote(connection, attempt, person, SCORED, axes, 1 / 3, when(second), WHY[attempt])
    return ledger


def test_what_people_scored_is_rewardedits_and_comes_back_whole(scored: Ledger, other: Ledger, tmp_path: Path) -> None:
    done = export(scored, "rewardedit", tmp_path / "out")
    assert [one.message for one in done.left_out] == [
        "vote 4 on attempt 1 says 9 of following. Scores are numbers from 0 to 5.",
        "attempt 1 has 1 votes that their voters replaced.",
    ]
    people = json.loads((tmp_path / "out" / "people.json").read_text())
    assert {name: [row["Score"] for row in rows] for name, rows in people.items()} == {
        "room": [3.5, 4.5, 3.0], "room-2": [None, None, 1.0]
    }  # fmt: skip
    judged = json.loads((tmp_path / "out" / "rewards.json").read_text())
    assert list(judged) == ["room"] and judged["room"][0] == {"Score": 1.0, "Negative Prompt": "not done"}
    first, second = read_triplets(tmp_path / "out" / "people.json")  # by the reader of published files
    assert isinstance(first, Triplet) and isinstance(second, Triplet) and first.instruction == "make it night"
    assert first.rewards == Rewards((3.5, 4.5, 3.0)) and second.rewards == Rewards((None, None, 1.0))
    assert second.edited.read() == scored.image_path(scored.attempt(2).image_sha).read_bytes()

    found = import_into(other, "rewardedit", tmp_path / "out", person="m")
    assert (found.attempts, found.votes, found.skipped) == (2, 3, [])
    assert import_into(other, "rewardedit", tmp_path / "out", person="m").known == 3
    columns = ("person", "label", "axes", "seconds", "created", "chosen")
    counting = votes_of(scored, *columns) & votes_of(other, *columns)
    assert counting == votes_of(other, *columns) and counting.total() == 3
    assert [len(row.verdicts) for row in other.attempts(found.runs[0])] == [1, 0]
    with Ledger.open(tmp_path / "third") as third:
        import_into(third, "rewardedit", tmp_path / "out" / "people.json")
        assert votes_of(third, *columns) == votes_of(other, *columns)
        assert all(row.verdicts == [] for row in third.attempts(1))
    for place in (tmp_path / "ledger", tmp_path / "other"):
        annotate_by_people(place, tmp_path / f"from-{place.name}")
    before, after = (
        list(json.loads((tmp_path / f"from-{name}" / "rewards.json").read_text()).values())
        for name in ("ledger", "other")
    )
    assert before == after and [row["Score"] for row in before[0]] == [3.5, 4.5, 3.0]


@pytest.mark.parametrize(
    ("vote", "words"),
    [
        ({"person": "ann", "score": 6}, "score of quality is 6"),
        ({"person": "ann"}, "score of quality is None"),
        ({"score": 1}, "no person of a vote"),
        ({"person": "ann", "score": 1, "created": "yesterday"}, "is no time"),
        ({"person": "ann", "score": 1, "chosen": "x"}, "chosen is 'x'"),
        ("ann", "a vote on quality is no object"),
    ],
)
def test_a_persons_score_that_cannot_be_is_named(other: Ledger, tmp_path: Path, vote: object, words: str) -> None:
    good = [{"Score": 4, "Votes": [{"person": "ann", "score": 4}]}, {"Score": 4}, {"Score": 4}]
    rows = {"0001": good, "0002": [{"Score": 4}, {"Score": 4}, {"Score": 4, "Votes": [vote]}]}
    (tmp_path / "people.json").write_text(json.dumps(rows))
    found = import_into(other, "rewardedit", tmp_path / "people.json")
    (skipped,) = found.skipped
    assert found.votes == 1 and skipped.name == "people.json 0002" and words in skipped.message


def test_a_briefs_name_leads_nowhere_else(other: Ledger, tmp_path: Path) -> None:
    brief = other.add_brief(other.start_run("edit", {}, 0), "../../evil", {})
    said = VerdictRow(judge="x", version="1", label="", scores={"following": 1.0}, failures=[])
    other.record_attempt(brief, 0, 1, 5, picture(1), [said])
    export(other, "rewardedit", tmp_path / "a" / "b" / "out")
    assert {one.name for one in (tmp_path / "a" / "b").iterdir()} == {"out"} and not (tmp_path / "evil").exists()
    assert (tmp_path / "a" / "b" / "out" / "_.._evil" / "5_1.png").is_file()
