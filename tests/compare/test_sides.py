"""What is compared: run folders, folders of pictures, and numbers of runs."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from goodeye.compare.sides import ledger_of, read_side
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
    assert (answer.wanted, answer.title) == ("on a table", "a cup") and answer.product and answer.product.is_file()
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
    assert shoe.wanted == "red shoe" and shoe.pictures[0].read_bytes() == (folder / "Red Shoe.jpg").read_bytes()
    assert read_side(ledger, folder) == first and len(ledger.runs()) == 1
    Image.new("RGB", (4, 4)).save(folder / "cup.webp")
    again = read_side(ledger, folder)
    assert again.run == first.run and again.answers["red-shoe", 0] == shoe
    assert again.answers["cup", 0].attempt != first.answers["cup", 0].attempt


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


def test_runs_of_several_ledgers_and_runs_without_pictures_are_refused(ledger: Ledger, tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({"run": 1, "ledger": name}))
    with pytest.raises(BadInput, match="2 ledgers"):
        ledger_of([tmp_path / "one", tmp_path / "other"])
    run = ledger.start_run("ads", {}, seed=0)
    with pytest.raises(BadInput, match="no pictures to compare"):
        read_side(ledger, str(run))
