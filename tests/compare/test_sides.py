"""What is compared: run folders, folders of pictures, and numbers of runs."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from goodeye.compare.sides import ledger_of, read_side, read_sides
from goodeye.errors import BadInput
from goodeye.ledger.ledger import Ledger
from ledger.recorder import picture, verdict


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "ledger") as opened:
        yield opened


def test_of_a_run_the_kept_attempt_counts_else_the_best(ledger: Ledger, tmp_path: Path) -> None:
    run = ledger.start_run("ads", {}, seed=0)
    brief = ledger.add_brief(run, "cup", {"title": "a cup", "prompt": "on a table"}, picture(99))
    scores = (0, 6, 3)  # sevenths
    attempts = [
        ledger.record_attempt(brief, 0, number, 7, picture(number), [verdict(score)])
        for number, score in enumerate(scores)
    ]
    ledger.record_attempt(brief, 0, 4, 7, None, detail={"why": "prose"})
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(json.dumps({"run": run, "ledger": ledger.where}))
    side = read_side(ledger, tmp_path / "run")
    (answer,) = side.answers.values()
    assert (side.name, side.run, answer.attempt) == ("run", run, attempts[1])
    assert (answer.prompt, answer.title) == ("on a table", "a cup") and answer.product and answer.product.is_file()
    ledger.pick(brief, 0, attempts[2], True, "a person said so")
    assert read_side(ledger, str(run)).answers["cup", 0].attempt == attempts[2]
    assert ledger_of([tmp_path / "run", tmp_path]) == ledger.where and ledger_of([tmp_path], "x") == "x"


def test_a_folder_of_pictures_is_taken_in_once(ledger: Ledger, tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    picture(1).save(folder / "Red Shoe.jpg")
    picture(2).save(folder / "cup.webp")
    (folder / "notes.txt").write_text("no picture")
    first = read_side(ledger, folder)
    assert sorted(first.answers) == [("cup", 0), ("red-shoe", 0)]
    shoe = first.answers["red-shoe", 0]
    assert shoe.title == "red shoe" and shoe.pictures[0].read_bytes() == (folder / "Red Shoe.jpg").read_bytes()
    assert read_side(ledger, folder) == first and len(ledger.runs()) == 1
    Image.new("RGB", (4, 4)).save(folder / "cup.webp")
    again = read_side(ledger, folder)
    assert again.run == first.run and again.answers["red-shoe", 0] == shoe
    assert again.answers["cup", 0].attempt != first.answers["cup", 0].attempt


def test_slots_count_from_the_first_of_a_run(ledger: Ledger) -> None:
    """Also where the first came to no picture, so that later ones stay beside those of another run."""
    run = ledger.start_run("ads", {}, seed=0)
    brief = ledger.add_brief(run, "cup", {})
    ledger.record_attempt(brief, 1, 1, 0, None, detail={"why": "prose"})
    second, third = (ledger.record_attempt(brief, slot, 1, 0, picture(slot)) for slot in (2, 3))
    answers = read_side(ledger, str(run)).answers
    assert {key: answer.attempt for key, answer in answers.items()} == {("cup", 1): second, ("cup", 2): third}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: None, "neither a run's folder"),
        (lambda folder: folder.mkdir(), "no PNG, JPEG or WebP"),
        (lambda folder: (folder.mkdir(), (folder / "config.json").write_text("{")), "cannot be read"),
        (lambda folder: (folder.mkdir(), (folder / "config.json").write_text("{}")), "names no run"),
        (lambda folder: (folder.mkdir(), (folder / "a.png").write_bytes(b"x")), "not a whole PNG"),
    ],
)
def test_what_is_none_of_them_is_refused(ledger: Ledger, tmp_path: Path, make, message: str) -> None:  # type: ignore[no-untyped-def]
    make(tmp_path / "place")
    with pytest.raises(BadInput, match=message):
        read_side(ledger, tmp_path / "place")


def test_what_a_folder_holds_now_counts(ledger: Ledger, tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    for name in ("cup.png", "shoe.png"):
        picture(1).save(folder / name)
    (folder / "._cup.png").write_bytes(b"\0\5\x16\7")  # as macOS leaves beside each file
    run = read_side(ledger, folder).run
    (folder / "cup.png").unlink()
    assert list(read_side(ledger, folder).answers) == [("shoe", 0)]
    picture(1).save(folder / "cup.png")
    assert len(read_side(ledger, folder).answers) == 2 and len(ledger.attempts(run)) == 2
    picture(2).save(folder / "cup.jpg")
    with pytest.raises(BadInput, match=r"cup\.jpg and .*cup\.png both answer the brief cup"):
        read_side(ledger, folder)
    assert len(ledger.attempts(run)) == 2


def test_a_damaged_picture_is_named_and_leaves_no_run_behind(ledger: Ledger, tmp_path: Path) -> None:
    picture(1).save(tmp_path / "good.png")
    (tmp_path / "zebra.png").write_bytes(b"nonsense")
    with pytest.raises(BadInput, match=r"zebra\.png is not a whole"):
        read_side(ledger, tmp_path)
    assert ledger.runs() == []
    (tmp_path / "zebra.png").unlink()
    run = read_side(ledger, tmp_path).run
    (tmp_path / "zebra.png").write_bytes(b"nonsense")
    with pytest.raises(BadInput, match=r"zebra\.png"):
        read_side(ledger, tmp_path)
    assert ledger.run(run).status == "done"


def test_folders_of_one_name_are_told_apart(ledger: Ledger, tmp_path: Path) -> None:
    places = [tmp_path / name for name in ("one/out", "other/out", "third")]
    for place in places:
        place.mkdir(parents=True)
        picture(1).save(place / "cup.png")
    assert [side.name for side in read_sides(ledger, places)] == [str(places[0]), str(places[1]), "third"]


@pytest.mark.parametrize("told", [{"command": {"want": 4}, "threshold": 0.5}, {"want": 4}])
def test_a_run_of_the_same_number_on_another_ledger_is_not_taken_for_it(
    ledger: Ledger, tmp_path: Path, told: dict[str, Any]
) -> None:
    """told: as a config.json of ads has it, and as those of other jobs."""
    brief = ledger.add_brief(ledger.start_run("ads", {"want": 4}, 0), "cup", {})
    ledger.record_attempt(brief, 0, 1, 0, picture(1))
    (tmp_path / "config.json").write_text(json.dumps({**told, "run": 1, "ledger": "my-ledger"}))
    assert read_side(ledger, tmp_path).run == 1, "its ledger may have been moved"
    with Ledger.open(tmp_path / "other") as other:
        brief = other.add_brief(other.start_run("search", {"want": 5}, 0), "cup", {})
        other.record_attempt(brief, 0, 1, 0, picture(1))
        with pytest.raises(BadInput, match="on the ledger my-ledger, and not on"):
            read_side(other, tmp_path)


def test_a_password_that_is_not_written_down_must_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOODEYE_LEDGER", raising=False)
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"run": 1, "ledger": "postgresql+psycopg://me:***@db/ads"}))
    with pytest.raises(BadInput, match="GOODEYE_LEDGER"):
        ledger_of([tmp_path])
    monkeypatch.setenv("GOODEYE_LEDGER", "postgresql://me:secret@db/ads")
    assert ledger_of([tmp_path]) is None, "what GOODEYE_LEDGER names is opened"
    config.write_text(json.dumps({"run": 1, "ledger": "postgresql+psycopg://me@db/ads"}))
    assert ledger_of([tmp_path]) == "postgresql+psycopg://me@db/ads"


def test_runs_of_several_ledgers_and_runs_without_pictures_are_refused(ledger: Ledger, tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({"run": 1, "ledger": name}))
    with pytest.raises(BadInput, match="2 ledgers"):
        ledger_of([tmp_path / "one", tmp_path / "other"])
    run = ledger.start_run("ads", {}, seed=0)
    with pytest.raises(BadInput, match="no pictures to compare"):
        read_side(ledger, str(run))
