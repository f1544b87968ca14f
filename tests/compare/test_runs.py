"""From names of runs to a report, as `goodeye compare` does it, and the judges by their names."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from compare.test_tournament import Reds
from goodeye.ads.make import make
from goodeye.compare.judges import ByLargeModel, ByScore, PairJudge, judge_named
from goodeye.compare.runs import compare_runs
from goodeye.compare.sides import Side, read_side
from goodeye.errors import BadInput
from goodeye.judging.large import Server
from goodeye.ledger.ledger import Ledger
from goodeye.modelset import Models, resolve


def folder(place: Path, *reds: int) -> Path:
    place.mkdir()
    for number, red in enumerate(reds):
        Image.new("RGB", (4, 4), (red, 0, 9)).save(place / f"{number}.png")
    return place


def test_two_folders_by_a_judge_and_by_people(tmp_path: Path) -> None:
    """Of three briefs ours is redder in two; nobody has voted, then one person has."""
    both = [folder(tmp_path / "ours", 200, 90, 50), folder(tmp_path / "theirs", 100, 80, 60)]
    seen: list[str] = []

    def judge_of(sides: Sequence[Side]) -> PairJudge:
        seen.extend(side.name for side in sides)
        return Reds()

    place = str(tmp_path / "ledger")
    done = compare_runs(both, judge_of, people=True, ledger=place, out=tmp_path / "out")
    assert seen == ["ours", "theirs"] and done.failures == [] and done.report == tmp_path / "out" / "report.html"
    judged, people = done.found
    assert judged.matches[0].wins.counts == {"win": 2, "similar": 0, "lose": 1} and (judged.by, people.kept) == (
        "reds",
        0,
    )
    assert "By reds 1: 6 questions asked" in done.summary() and f"report: {done.report}" in done.summary()
    assert [one["by"] for one in json.loads((tmp_path / "out" / "report.json").read_text())] == ["reds", "people"]
    with Ledger.open(place) as ledger:
        ledger.compare(1, 4, "ann", "overall", "left")
    (people,) = compare_runs(both, None, people=True, ledger=place, out=tmp_path / "out").found
    assert people.kept == 1 and people.matches[0].wins.counts == {"win": 1, "similar": 0, "lose": 0}


def test_a_run_of_ads_against_a_folder(tiny_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of two pictures wanted of each product is set beside the folder's, and a folder of something else is
    named, before anything is asked."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shoes").mkdir()
    for name, colour in (("red_shoe", "red"), ("Blue shoe", "blue")):
        product = Image.new("RGBA", (60, 40))
        ImageDraw.Draw(product).ellipse([10, 5, 50, 35], fill=colour)
        product.save(tmp_path / "shoes" / f"{name}.png")
    for place, names in (("theirs", ("red_shoe", "Blue shoe")), ("others", ("bowl",))):
        (tmp_path / place).mkdir()
        for name in names:
            Image.new("RGB", (32, 32), "orange").save(tmp_path / place / f"{name}.jpg")
    models = Models(resolve(str(tiny_set)))
    runs = ["runs/before", "runs/after"]
    for run in runs:
        make(["shoes"], models=models, ledger="ledger", want=2, attempts=1, out=run)
    (found,) = compare_runs([*runs, "theirs"], lambda sides: Reds(ordered=False)).found
    pairs = {(one.first, one.second): one.pairs for one in found.matches}
    assert pairs == {(1, 2): 4, (1, 3): 2, (2, 3): 2} and found.asked == 8
    judge = Reds()
    with pytest.raises(BadInput, match="others has no brief in common.* answers bowl; the others answer .*red-shoe"):
        compare_runs([*runs, "others"], lambda sides: judge)
    assert judge.asked == []


def test_judges_by_their_names(tiny_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOODEYE_SERVER", raising=False)
    models = Models(resolve(str(tiny_set)))
    rfnet = judge_named("rfnet", [], models, placed=lambda file, side: pytest.fail("not asked yet"))
    assert isinstance(rfnet, ByScore) and rfnet.axes == ("available",) and rfnet.placed is not None
    server = Server(url="http://localhost:1/v1", model="eye-7b")
    with Ledger.open(tmp_path / "ledger") as ledger:
        brief = ledger.add_brief(ledger.start_run("search", {}, 0), "q", {})
        ledger.record_attempt(brief, 0, 1, 0, None, shown=[Image.new("RGB", (4, 4), (red, 0, 0)) for red in (1, 2)])
        rows = [read_side(ledger, "1")]
    for sides, axes in (([], 2), (rows, 3)):
        large = judge_named("large", sides, models, server=server)
        assert isinstance(large, ByLargeModel) and len(large.axes) == axes and large.name == "eye-7b"
    with pytest.raises(BadInput, match="no large model is named"):
        judge_named("large", [], models)


def test_places_that_are_not_there_make_no_ledger(tmp_path: Path) -> None:
    for place in (tmp_path / "none", "0", "12x"):
        with pytest.raises(BadInput, match="neither a run's folder"):
            compare_runs([str(place), str(tmp_path)], None, people=True, ledger=str(tmp_path / "ledger"))
    assert not (tmp_path / "ledger").exists()
