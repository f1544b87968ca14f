"""Votes become tables: labels for the judge, ups and downs for taste."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from sqlalchemy import insert

from goodeye.errors import BadInput
from goodeye.judging.rfnet_data import find_labelled
from goodeye.ledger import schema
from goodeye.ledger.asks import Person
from goodeye.ledger.ledger import Ledger
from goodeye.ledger.training import is_ledger, label_table, preferences, taste_table
from goodeye.tables import read_table
from ledger.recorder import picture


@pytest.fixture
def voted(ledger: Ledger) -> Iterator[Ledger]:
    """One brief, four attempts: agreed, changed, even, and one that only someone set aside voted on."""
    brief = ledger.add_brief(ledger.start_run("ads", {}, 0), "cup", {"title": "a cup"}, picture(9).convert("RGBA"))
    for number in range(4):
        ledger.record_attempt(brief, 0, number, 0, picture(number, 32))
    ledger.record_attempt(brief, 0, 5, 0, None)
    for attempt, person, label in (
        (1, "ann", "available"), (1, "bo", "available"), (1, "cy", "size_mismatch"),
        (2, "ann", "available"), (2, "ann", "shape_hallucination"),
        (3, "ann", "available"), (3, "bo", "size_mismatch"),
        (4, "eve", "available"), (5, "ann", "available"),
    ):  # fmt: skip
        ledger.vote(attempt, person, label)
    aside = {"name": "eve", "aside": True, "why": "", "decided_by": "x", "decided": schema.now()}
    with ledger.transaction() as connection:
        connection.execute(insert(Person).values(**aside))
    yield ledger


def test_labels_are_what_most_last_say(voted: Ledger, tmp_path: Path) -> None:
    placed = []

    def place(cutout: Path, image: Path) -> Image.Image:
        placed.append((cutout, image))
        return Image.new("RGBA", (32, 32))

    made = label_table(voted, tmp_path / "out", place)
    assert (made.count, made.even) == (2, 1)
    found, skipped = find_labelled(made.table)
    assert [(row.label, row.title) for row in found] == [(0, "a cup"), (4, "a cup")] and skipped == []
    first, second = voted.attempts(1)[:2]
    assert [row.image.path for row in found] == [voted.image_path(one.image_sha).resolve() for one in (first, second)]
    assert len(placed) == 1 and found[0].product == found[1].product  # one size, one cut-out
    assert found[0].product and found[0].product.open().size == (32, 32)
    assert found[0].product.name.startswith("products/"), "what is held out must not depend on where the table lies"
    again = label_table(voted, tmp_path / "again", place, runs=(1,))
    assert (again.count, again.even) == (2, 1)
    other = voted.start_run("ads", {}, 1)
    for runs, message in (((other,), f"no labels of ads in run {other}"), ((9,), "has no run 9")):
        with pytest.raises(BadInput, match=message):
            label_table(voted, tmp_path / "none", place, runs=runs)
    with pytest.raises(BadInput, match="is one of ads, not of edit"):
        label_table(voted, tmp_path / "none", place, job="edit", runs=(1,))
    with pytest.raises(BadInput, match="no labels of edit"):
        label_table(voted, tmp_path / "out", place, job="edit")


def test_taste_counts_who_was_chosen(voted: Ledger, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no comparisons"):
        taste_table(voted, tmp_path / "votes.csv")
    voted.compare(1, 2, "ann", "overall", "left")
    voted.compare(1, 2, "ann", "overall", "right")  # thought again
    voted.compare(1, 3, "ann", "aesthetic", "left")
    voted.compare(1, 3, "bo", "aesthetic", "similar")
    voted.compare(1, 3, "bo", "accuracy", "right")
    voted.compare(1, 3, "eve", "aesthetic", "right")
    voted.compare(1, 3, "clip", "aesthetic", "right", version="1")
    assert taste_table(voted, tmp_path / "votes.csv") == 3
    counts = {
        row.cells["image"].name: (row.words["up"], row.words["down"]) for row in read_table(tmp_path / "votes.csv")
    }
    names = [str(voted.image_path(one.image_sha).resolve()) for one in voted.attempts(1)[:3]]
    assert counts == dict(zip(names, (("1", "1"), ("1", "0"), ("0", "1")), strict=True))


def test_each_picture_of_a_row_is_voted_on_and_named_by_its_own_file(ledger: Ledger, tmp_path: Path) -> None:
    brief = ledger.add_brief(ledger.start_run("search", {}, 0), "q", {})
    rows = [ledger.record_attempt(brief, 0, 0, 0, None, shown=[picture(1), picture(2)]),
            ledger.record_attempt(brief, 0, 1, 0, picture(3), detail={"path": "/pictures/3.jpg"})]  # fmt: skip
    ledger.compare(*rows, "ann", "aesthetic", "right")
    assert taste_table(ledger, tmp_path / "votes.csv") == 3
    counts = {row.cells["image"].name: row.words["up"] for row in read_table(tmp_path / "votes.csv")}
    assert counts["/pictures/3.jpg"] == "1" and sorted(counts.values()) == ["0", "0", "1"]


def answered(ledger: Ledger, query: str, run: int, *reds: int, path: str = "") -> int:
    """One system's answer to a query: a row of plain pictures, or one picture from a file."""
    brief = ledger.add_brief(run, query, {"title": "no query", "prompt": query})
    pictures = [Image.new("RGB", (8, 8), (red, run, 0)) for red in reds]
    detail = {"path": path} if path else None
    number = len(ledger.attempts(run)) + 1
    if len(pictures) > 1:
        return ledger.record_attempt(brief, 0, number, 0, None, shown=pictures)
    return ledger.record_attempt(brief, 0, number, 0, pictures[0], detail=detail)


def test_preferences_are_each_persons_last_word_on_accuracy_and_beauty(ledger: Ledger) -> None:
    first, second = ledger.start_run("search", {}, 0), ledger.start_run("search", {}, 1)
    ours, theirs = answered(ledger, "a cup", first, 10, 20), answered(ledger, "a cup", second, 30, 40, 50)
    other = answered(ledger, "a lamp", first, 60, path="/pictures/60.jpg")
    lamp = answered(ledger, "a lamp", first, 70)
    for left, right, person, axis, choice in (
        (ours, theirs, "ann", "accuracy", "right"), (theirs, ours, "ann", "accuracy", "right"),  # thought again
        (ours, theirs, "ann", "aesthetic", "right"), (ours, theirs, "bo", "aesthetic", "similar"),
        (ours, theirs, "bo", "diversity", "left"),  # no axis of these
        (other, lamp, "cy", "overall", "left"), (ours, lamp, "cy", "overall", "left"),  # of two queries
        (ours, theirs, "eve", "accuracy", "left"),  # set aside
    ):  # fmt: skip
        ledger.compare(left, right, person, axis, choice)  # type: ignore[arg-type]
    ledger.compare(ours, theirs, "a judge", "accuracy", "left", version="1")
    with ledger.transaction() as connection:
        connection.execute(insert(Person).values(name="eve", aside=True, why="", decided_by="x", decided=schema.now()))
    found = preferences(ledger)
    rows = {
        one: tuple((str(ledger.image_path(sha).resolve()),) for sha in ledger.attempt(one).shown)
        for one in (ours, theirs)
    }
    assert found.similar == 1
    assert [(one.person, one.axis, one.query) for one in found.said] == [
        ("ann", "accuracy", "a cup"), ("ann", "aesthetic", "a cup"), ("cy", "overall", "a lamp")
    ]  # fmt: skip
    assert [(one.better, one.worse) for one in found.said[:2]] == [
        (rows[ours], rows[theirs]),
        (rows[theirs], rows[ours]),
    ]
    own = [str(ledger.image_path(ledger.attempt(one).image_sha).resolve()) for one in (other, lamp)]
    assert (found.said[2].better, found.said[2].worse) == ((("/pictures/60.jpg", own[0]),), ((own[1],),))
    assert [one.query for one in preferences(ledger, [first]).said] == ["a lamp"], "both answers are of the run"
    with pytest.raises(BadInput, match=f"no choice of people between two answers of run {second}"):
        preferences(ledger, [second])
    with pytest.raises(BadInput, match="is one of ads, not of search"):
        preferences(ledger, [ledger.start_run("ads", {}, 0)])


def test_what_names_a_ledger(ledger: Ledger, tmp_path: Path) -> None:
    assert is_ledger(ledger.where) and is_ledger("postgresql://me@db/ads")
    assert not is_ledger(tmp_path) and not is_ledger(tmp_path / "votes.csv")


def test_choices_and_scores_are_read_from_postgres(postgres_url: str, tmp_path: Path) -> None:
    """By the commands' own readers; the folder of the pictures is named, and no password is written anywhere."""
    from goodeye.cli import main
    from goodeye.search.voted import read_preferences

    images, out = tmp_path / "images", tmp_path / "out"
    with Ledger.open(postgres_url, images) as ledger:
        run = ledger.start_run("search", {}, 0)
        sides = [ledger.record_attempt(ledger.add_brief(run, "a cup", {}), 0, n, 0, picture(n)) for n in (1, 2)]
        ledger.compare(*sides, "ann", "aesthetic", "right")
        edit = ledger.add_brief(ledger.start_run("edit", {}, 0), "cup", {"instruction": "blue"}, picture(9))
        ledger.vote(ledger.record_attempt(edit, 0, 1, 0, picture(3)), "ann", "scored", {"following": 4.0})
    (said,) = read_preferences(postgres_url, images).said
    with Ledger.open(postgres_url, images) as ledger:
        assert said.better == ((str(ledger.image_path(ledger.attempt(sides[1]).image_sha).resolve()),),)
    secret = postgres_url.replace("goodeye@", "goodeye:s3cret@")
    for _again in range(2):
        assert main(["edit", "annotate", secret, "--images", str(images), "--out", str(out)]) == 0
    assert "s3cret" not in (out / "config.json").read_text() and "following" in (out / "sources.json").read_text()
    with pytest.raises(BadInput, match="pictures in a folder of its own"):
        read_preferences(postgres_url)
