"""The report and the contact sheets of made-up results."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from goodeye.ads.report import CELL, _percent, contact_sheet, grid, write_contact_sheets, write_report
from goodeye.ads.results import AttemptResult, BriefResult, Result, SlotResult, failed_as, why
from goodeye.images import open_image
from goodeye.tables import Skipped

CLASSES = ("available", "space_mismatch", "size_mismatch", "indistinctiveness", "shape_hallucination")


def attempt(
    folder: Path, slot: int, number: int, label: str, available: float, threshold: float = 0.5
) -> AttemptResult:
    image = folder / f"{slot}-{number}.png"
    Image.new("RGB", (40, 40), (slot * 40, number * 40, 90)).save(image)
    scores = dict.fromkeys(CLASSES, 0.01) | {label: 0.9, "available": available}
    return AttemptResult(
        id=number,
        slot=slot,
        number=number,
        seed=1,
        image=image,
        label=label,
        available=available,
        passed=available >= threshold,
        scores=scores,
        failures=[] if available >= threshold else ["said <plainly>"],
        seconds=0.5,
    )


@pytest.fixture
def result(tmp_path) -> Result:
    product = tmp_path / "product.png"
    Image.new("RGBA", (50, 80), (200, 0, 0, 255)).save(product)
    slots = [
        SlotResult(
            slot=1,
            attempts=[
                attempt(tmp_path, 1, 1, "size_mismatch", 0.1),
                attempt(tmp_path, 1, 2, "available", 0.97),
            ],
        ),
        SlotResult(
            slot=2,
            attempts=[
                attempt(tmp_path, 2, 1, "size_mismatch", 0.2),
                attempt(tmp_path, 2, 2, "space_mismatch", 0.3),
            ],
        ),
    ]
    brief = BriefResult(
        key="cup", title='Cup "☕" <b>', prompt="on ice", source="cup.png", product=product, slots=slots
    )
    return Result(
        out=tmp_path,
        ledger="book",
        run=3,
        command={"attempts": 2, "seed": 0, "models": "tiny"},
        threshold=0.5,
        briefs=[brief],
        problems=[Skipped(name="x.png", message="x.png is empty <script>.")],
    )


def test_the_best_of_a_slot(result):
    passed, failed = result.briefs[0].slots
    assert (passed.passed, passed.best.number) == (True, 2)
    assert (failed.passed, failed.best.number) == (False, 2)
    assert result.briefs[0].picture(passed) == "passed/cup-1.png"
    assert result.briefs[0].picture(failed) == "not_passed/cup-2.png"


def test_the_numbers(result):
    assert result.passed == 1 and len(result.attempts) == 4
    assert result.failures == {"size_mismatch": 2, "space_mismatch": 1}
    assert result.passed_within() == [0, 1]
    assert result.summary() == "1 of 2 pictures passed, in 4 attempts at 1 product."
    data = json.loads(json.dumps(result.as_json(), allow_nan=False))
    assert data["totals"]["slots_passed"] == 1 and data["totals"]["slots_passed_within_attempts"] == [0, 1]
    assert [slot["picture"] for slot in data["briefs"][0]["slots"]] == ["passed/cup-1.png", "not_passed/cup-2.png"]
    assert [one["seed"] for one in data["briefs"][0]["slots"][0]["attempts"]] == [1, 1]
    assert data["problems"][0]["name"] == "x.png"


def test_likely_but_below_a_strict_threshold_is_called_unsure(tmp_path):
    one = attempt(tmp_path, 1, 1, "available", 0.8, threshold=0.9)
    assert not one.passed and failed_as(one) == "unsure"


def test_why_says_the_figures():
    assert why(True, "available", 0.97, 0.5) == "passed: p(available) 0.970, threshold 0.5"
    assert why(False, "size_mismatch", 0.1, 0.5, best_of=5).startswith("best of 5, not passed: size_mismatch, ")


class Page(HTMLParser):
    """Collects what a page refers to and what it says, and checks that its tags close."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.alts: list[str] = []
        self.text = ""
        self.tags: set[str] = set()

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        values = dict(attributes)
        self.sources += [values[name] for name in ("src", "href") if name in values]
        if tag == "img":
            self.alts.append(values["alt"])
        if tag not in ("meta", "img", "br", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_the_report_is_one_file_that_says_everything(result):
    page = Page()
    page.feed(write_report(result).read_text(encoding="utf-8"))
    assert page.open == []
    assert page.sources and all(source.startswith("data:image/") for source in page.sources), "self-contained"
    assert "script" not in page.tags and "link" not in page.tags
    text = " ".join(page.text.split())
    for words in (
        "1 of 2 pictures passed inspection.",
        'Cup "☕" <b>',
        "on ice",
        "Not passed.",
        "x.png is empty <script>.",
        "said <plainly>",
        "has the wrong size for what is around it",
        "Run 3",
    ):
        assert words in text
    assert all(page.alts), "every picture has words for who can't see it"


def test_the_report_follows_light_and_dark(result):
    text = write_report(result).read_text(encoding="utf-8")
    assert "prefers-color-scheme: dark" in text
    assert not re.search(r"https?://", text)


def test_a_long_run_shows_its_first_products_and_says_so(result, monkeypatch):
    monkeypatch.setattr("goodeye.ads.report.REPORT_BRIEFS", 1)
    text = write_report(Result(**{**vars(result), "briefs": [*result.briefs] * 3})).read_text(encoding="utf-8")
    assert "first 1 of 3 products" in text


def test_contact_sheets_hold_every_attempt_over_as_many_files_as_it_takes(result, monkeypatch):
    monkeypatch.setattr("goodeye.ads.report.SHEET_CELLS", 8)
    sheets = write_contact_sheets(Result(**{**vars(result), "briefs": [*result.briefs] * 3}))
    assert [path.name for path in sheets] == ["contact_sheet.png", "contact_sheet-2.png"]
    heights = [open_image(path).height for path in sheets]
    assert heights[0] == 2 * heights[1]
    sheet = contact_sheet(result.briefs)
    colours = {sheet.getpixel((8 + (1 + place) * (CELL + 8) + 60, 26 + 60)) for place in range(4)}
    assert colours == {(slot * 40, number * 40, 90) for slot in (1, 2) for number in (1, 2)}


def test_a_grid_holds_every_picture():
    sheet = grid([Image.new("RGB", (4, 4), (0, 0, level)) for level in (10, 20, 30)])
    assert sheet.size == (8, 8)
    assert [sheet.getpixel(at)[2] for at in ((1, 1), (5, 1), (1, 5))] == [10, 20, 30]


def test_percent_never_rounds_to_certainty():
    assert [_percent(x) for x in (0, 0.001, 0.5, 0.999, 1)] == ["0 %", "< 1 %", "50 %", "> 99 %", "100 %"]
