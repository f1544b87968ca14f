"""The full circle: votes come in over HTTP, judge and taste learn from them, and what is made next uses both."""

import json
import random
import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from goodeye.cli import main
from goodeye.edit.triplets import Triplet, read_triplets
from goodeye.ledger.ledger import Ledger
from goodeye.review import promised
from goodeye.review.items import catch_up
from goodeye.review.queue import Rules
from goodeye.review.standing import standing
from goodeye.search.ask import Searcher
from goodeye.search.box import Box
from goodeye.search.build import index_pictures
from goodeye.search.index import Index
from judging.tiny_judges import tiny_clip
from review.conftest import Browser, edits
from search.tiny_clip import ColourClip

RATERS = ("Ada", "Bo", "Cy")
EASY = ["--max-bad", "0.5", "--confidence", "0.5"]  # what a dozen votes hold


@pytest.fixture
def ledger(folder: Ledger) -> Ledger:
    """In a folder, which is named here."""
    return folder


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GOODEYE_LEDGER", raising=False)


def products(folder: Path) -> Path:
    """Six cut-outs."""
    folder.mkdir()
    for number, colour in enumerate(("red", "blue", "green", "white", "black", "orange")):
        img = Image.new("RGBA", (60, 40))
        ImageDraw.Draw(img).ellipse([5 + 3 * number, 5, 55 - number, 35], fill=colour)
        img.save(folder / f"{colour}.png")
    return folder


def vote_all(ledger: Ledger, right: set[str], run: int) -> int:
    """Raters for whom these pictures are right, each wrong now and then, label until nothing is left.

    What is in doubt is asked first in the first run, which the judge learns from, and by chance in the second.
    """
    rules = Rules(votes=len(RATERS), random_share=run - 1, repeat_share=0, runs=(run,))
    said = 0
    for name in RATERS:
        who, slips = Browser(ledger, name, rules=rules), random.Random(name)
        while asks := who.desk(count=4):
            for ask in asks:
                good = (ask["images"][0] in right) != (slips.random() < 0.1)
                answer = who.answer(ask["id"], "available" if good else "size_mismatch", seconds=2.0)
                assert answer.json() == {"outcome": "answered"}
                said += 1
    return said


def brightness(ledger: Ledger, run: int) -> dict[str, dict[str, float]]:
    """Of each brief's pictures, by their hash."""
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for row in ledger.attempts(run):
        with Image.open(ledger.image_path(row.image_sha)) as picture:
            found[row.brief_key][row.image_sha] = float(np.asarray(picture.convert("L")).mean())
    return found


def brighter(ledger: Ledger, run: int) -> set[str]:
    """The brightest picture of each product: so each has a good and a bad one, whatever is held out."""
    return {max(pictures, key=pictures.__getitem__) for pictures in brightness(ledger, run).values()}


def all_but_the_darkest(ledger: Ledger, run: int) -> set[str]:
    """Few enough are bad that any judge's scores hold an easy promise."""
    found = {sha: value for pictures in brightness(ledger, run).values() for sha, value in pictures.items()}
    return set(found) - {min(found, key=found.__getitem__)}


def test_votes_train_the_judge_hold_a_promise_and_both_are_used(
    tiny_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two runs: a judge is not calibrated on the votes that it learned from, nor on pictures chosen for its doubt."""
    shop = str(products(tmp_path / "shop"))

    def make(models: Path, name: str, *more: str) -> None:
        given = ["ads", "make", shop, "--models", str(models), "--want", "2", "--attempts", "1", "--out", name, *more]
        assert main([*given, "--ledger", "book"]) == 0

    make(tiny_set, "one", "--threshold", "0")
    with Ledger.open("book", create=False) as book:
        catch_up(book)
        assert vote_all(book, brighter(book, 1), 1) == len(book.votes()) == 3 * 12
        before = {verdict.version for row in book.attempts(1) for verdict in row.verdicts}

    taught = ["ads", "train-judge", "book", "--run", "1", "--models", str(tiny_set), "--out", "taught"]
    assert main([*taught, "--json", "taught.json", "--epochs", "2", "--batch", "4", "--held-out", "0.4"]) == 0
    report = json.loads(Path("taught.json").read_text())
    assert report["trained_on"] + report["rows"][0]["count"] == 12 and report["skipped"] == []

    roles = [role.name for role in tiny_set.parent.iterdir() if role.is_dir() and role.name != "rfnet"]
    lines = ['name = "tiny"', "[roles]", *(f'{role} = "{tiny_set.parent / role}"' for role in roles)]
    lines += [f'rfnet = "{tmp_path / "taught" / "judge"}"', *tiny_set.read_text().partition("\n[settings]")[1:]]
    better = tmp_path / "better.toml"
    better.write_text("\n".join(lines))

    calibrate = ["ads", "calibrate", "book", "--models", str(better), *EASY]
    make(better, "two", "--threshold", "0", "--seed", "1")
    assert main([*calibrate, "--run", "1"]) == 2, "its pictures were chosen in doubt"
    with Ledger.open("book", create=False) as book:
        catch_up(book)
        vote_all(book, all_but_the_darkest(book, 2), 2)
        assert main([*calibrate, "--run", "2"]) == 0
        kept = json.loads(Path("goodeye-promise.json").read_text())
        (told,) = standing(book).promised
        assert told.promise is None and told.still and told.pictures == kept["votes"] == 12
        monkeypatch.setattr(promised, "MAX_BAD", 0.5)
        monkeypatch.setattr(promised, "CONFIDENCE", 0.5)
        (told,) = standing(book).promised
        assert told.promise and told.version == kept["maker"]["judge_version"]
        assert (told.promise.threshold, told.promise.passed) == (kept["threshold"], kept["passed"])

    make(better, "three", "--promise", "0.5", "--seed", "2")
    results = json.loads(Path("three/results.json").read_text())
    assert results["threshold"] == kept["threshold"] and results["promise"]["words"] == kept["words"]
    with Ledger.open("book", create=False) as book:
        by = {verdict.version for row in book.attempts(3) for verdict in row.verdicts}
        assert by == {kept["maker"]["judge_version"]} and not by & before


def test_comparisons_become_a_taste_that_the_search_box_uses(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, browser: Callable[..., Browser]
) -> None:
    """Raters find red beautiful; after `search fit-taste INDEX LEDGER` red pictures come first."""
    brief = ledger.add_brief(ledger.start_run("search", {}, 0), "q", {"prompt": "a cup"})
    for number in range(12):
        ledger.record_attempt(brief, 0, number, 0, Image.new("RGB", (16, 16), (20 * number, 60, 60)))
    catch_up(ledger)
    red = {row.image_sha: row.number for row in ledger.attempts(1)}
    for name in RATERS:
        who = browser(name, rules=Rules(votes=3, repeat_share=0))
        for _pair in range(40):  # faster ones are told to wait
            if not (asks := who.desk("compare")):
                break
            left, right = (red[sha] for sha in asks[0]["images"])
            better = "left" if left > right else "right"
            said = who.answer(asks[0]["id"], better if asks[0]["axis"] == "aesthetic" else "similar")
            assert said.status_code == 200
    index_pictures(tmp_path / "ledger" / "images", tmp_path / "index", ColourClip(), "showroom", duplicates=0)

    fitted = ["search", "fit-taste", str(tmp_path / "index"), ledger.where, "--json", "taste.json"]
    assert main(fitted) == 0
    assert json.loads(Path("taste.json").read_text())["missing"] == []

    monkeypatch.setattr("goodeye.search.ask.load_clip", lambda models, device="cpu": ColourClip())
    box = Box(Searcher(tmp_path / "index"))
    assert box.has_taste
    assert box.searcher.head is not None
    index = box.searcher.index
    reds = [red[Path(name).stem] for name in index.names()]
    beauty = box.searcher.head(torch.from_numpy(np.array(index.vectors))).numpy()
    assert np.corrcoef(reds, beauty)[0, 1] > 0.9
    first = [box.words("a white picture", 1, taste=taste)[0] for taste in (-3.0, 3.0)]
    assert red[Path(first[0].name).stem] < red[Path(first[1].name).stem]
    page = browser("Ada", finder=box).client.get("/look/search?q=a+white+picture&taste=3").text
    shown = re.findall("/thumb/([0-9a-f]{64})", page)
    assert shown[0] == Path(first[1].name).stem and "beauty" in page


def test_comparisons_teach_the_model_itself(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, browser: Callable[..., Browser]
) -> None:
    """Raters choose the redder row on both axes; `search align INDEX --votes LEDGER` learns each of their choices."""
    for run in range(2):
        run_id = ledger.start_run("search", {}, run)
        for query in range(4):
            brief = ledger.add_brief(run_id, f"q{query}", {"prompt": f"a cup {query}"})
            reds = [40 * query + 20 * run + place for place in range(3)]
            ledger.record_attempt(
                brief, 0, 1, 0, None, shown=[Image.new("RGB", (16, 16), (red, 60, 9)) for red in reds]
            )
    catch_up(ledger)
    first = {row.shown[0]: row.brief_key for run in (1, 2) for row in ledger.attempts(run)}
    redder = {row.shown[0] for row in ledger.attempts(2)}
    for name in RATERS[:2]:
        who = browser(name, rules=Rules(votes=2, repeat_share=0))
        while asks := who.desk("compare"):
            (ask,) = asks
            assert [len(row) for row in ask["rows"]] == [3, 3] and ask["axis"] in ("accuracy", "aesthetic")
            who.answer(ask["id"], "left" if ask["rows"][0][0] in redder else "right")
    said = len(ledger.comparisons())
    assert 12 <= said <= 2 * 2 * 4, "pairs are drawn by chance, so the last may not be found"

    torch.manual_seed(0)
    clip = tiny_clip([f"a cup {query}" for query in range(4)])
    index_pictures(tmp_path / "ledger" / "images", tmp_path / "index", clip, "showroom", duplicates=0)
    monkeypatch.setattr("goodeye.search.ask.load_clip", lambda models, device="cpu": clip)
    assert main(["search", "fit-taste", str(tmp_path / "index"), ledger.where]) == 0
    small = ["--no-guard", "--watched", "0", "--pretrain", "0", "--train", "projection", "--batch", "4"]
    short = ["--accumulate", "1", "--steps", "60", "--lr", "1e-2", "--gain", "20", "--evaluate-every", "60"]
    line = ["search", "align", str(tmp_path / "index"), "--votes", ledger.where, "--out", "aligned", *small, *short]
    assert main([*line, "--run", "1"]) == 2, "both answers to a query are to be of the runs"
    assert main([*line, "--run", "1", "2", "--json", "aligned.json"]) == 0
    done = json.loads(Path("aligned.json").read_text())
    assert (done["queries"], done["left_out"]) == (said, 0) and done["last"]["preferred"] == 1

    index = Index(tmp_path / "index")
    grids = json.loads(Path("aligned/queries.json").read_text())["grids"]
    for grid in grids:
        better, worse = (Path(index.row(grid["rows"][place])[0]).stem for place in (0, 3))
        assert better in redder and worse not in redder and first[better] == first[worse] == f"q{grid['queries'][-1]}"


def test_scores_of_edits_become_annotations(ledger: Ledger, browser: Callable[..., Browser]) -> None:
    attempts = edits(ledger)
    said = {"Ada": ("5 4 3", "0 1 2"), "Bo": ("4 4 0", "1 1 1")}
    for name, scores in said.items():
        who = browser(name)
        by_picture = {ledger.attempt(one).image_sha: score for one, score in zip(attempts, scores, strict=True)}
        for ask in who.desk(count=2):
            assert who.answer(ask["id"], by_picture[ask["images"][0]]).status_code == 200
    assert main(["edit", "annotate", ledger.where, "--out", "rewards"]) == 0
    found = {one.key: one.rewards for one in read_triplets("rewards/triplets.parquet") if isinstance(one, Triplet)}
    assert {key: rewards and rewards.scores for key, rewards in found.items()} == {
        "room-1": (4.5, 4.0, 1.5), "room-2": (0.5, 1.0, 1.5)
    }  # fmt: skip
    assert json.loads(Path("rewards/rewards.json").read_text())["room-1"][1] == {"Score": 4.0, "Negative Prompt": ""}
