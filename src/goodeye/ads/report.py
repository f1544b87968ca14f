"""A run as something to look at: report.html, one file with everything in it, and a contact sheet of every attempt."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from goodeye.ads.results import AttemptResult, BriefResult, Result, count, failed_as
from goodeye.atomic import write_bytes
from goodeye.html import page
from goodeye.images import save_png

REPORT_BRIEFS = 60  # products shown in report.html; more would make it too heavy to open
LARGE, SMALL = 512, 128  # pixels of the pictures in it
SHEET_CELLS = 400  # attempts on one contact sheet; the next go on another
CELL = 128

WORDS = {
    "available": "passed",
    "space_mismatch": "does not stand where a thing can stand",
    "size_mismatch": "has the wrong size for what is around it",
    "indistinctiveness": "does not stand out from the background",
    "shape_hallucination": "grows parts that are not its own",
    "unsuitable": "is a picture that cannot be used",
    "unsure": "looks right, but not surely enough",
    "stopped": "would most likely have failed: stopped early",
}
PASSED, FAILED, INK, FAINT, PAPER = "#1a7f4b", "#c2410c", "#1c1917", "#78716c", "#faf9f7"


def write_report(result: Result) -> Path:
    """Writes report.html into the run's folder: self-contained, light and dark, without JavaScript."""
    filled = page(
        "goodeye.ads",
        "report.html.j2",
        {"percent": _percent, "label": label},
        result=result,
        briefs=result.briefs[:REPORT_BRIEFS],
        reasons=reasons(result),
        within=[(number, _share(passed, len(result.slots))) for number, passed in enumerate(result.passed_within(), 1)],
        failed_as=failed_as,
        count=count,
        words=WORDS,
        large=LARGE,
        small=SMALL,
    )
    write_bytes(result.report, filled)
    return result.report


def reasons(result: Result) -> list[tuple[str, int, float]]:
    """Why attempts failed: in words, how many, and as a share of the most frequent reason."""
    failures = result.failures
    most = max(failures.values(), default=1)
    return [(WORDS.get(name, label(name)), number, number / most) for name, number in failures.items()]


def label(name: str) -> str:
    """A class name as a person reads it."""
    return name.replace("_", " ")


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _percent(share: float) -> str:
    """`97 %`; never 100 % or 0 % for what is not."""
    whole = round(100 * share)
    if share < 1 and whole == 100:
        return "> 99 %"
    if share > 0 and whole == 0:
        return "< 1 %"
    return f"{whole} %"


def write_contact_sheets(result: Result) -> list[Path]:
    """Writes contact_sheet.png, and -2, -3, … for long runs: every attempt, framed by its verdict, brief by brief."""
    written = []
    for number, briefs in enumerate(_pages(result.briefs), start=1):
        name = "contact_sheet.png" if number == 1 else f"contact_sheet-{number}.png"
        save_png(contact_sheet(briefs), result.out / name)
        written.append(result.out / name)
    return written


def _pages(briefs: Sequence[BriefResult]) -> Iterator[list[BriefResult]]:
    page: list[BriefResult] = []
    cells = 0
    for brief in briefs:
        more = len(list(brief.attempts))
        if page and cells + more > SHEET_CELLS:
            yield page
            page, cells = [], 0
        page.append(brief)
        cells += more
    if page:
        yield page


def contact_sheet(briefs: Sequence[BriefResult], columns: int = 10) -> Image.Image:
    """Every attempt of some briefs: a heading a brief, the product, then the attempts, at most `columns` a row."""
    gap, caption, heading = 8, 30, 26
    columns = min(columns, max(4, *(len(list(brief.attempts)) for brief in briefs)))
    rows = [1 + (len(list(brief.attempts)) - 1) // columns for brief in briefs]
    width = (columns + 1) * (CELL + gap) + gap
    height = sum(heading + number * (CELL + caption + gap) + gap for number in rows)
    sheet = Image.new("RGB", (width, height), PAPER)
    draw, top = ImageDraw.Draw(sheet), 0
    for brief, number in zip(briefs, rows, strict=True):
        draw.text((gap, top + 6), _heading(brief), INK, ImageFont.load_default(14))
        top += heading
        if brief.product:
            sheet.paste(_product(brief.product), (gap, top))
        for place, one in enumerate(brief.attempts):
            left = gap + (1 + place % columns) * (CELL + gap)
            _cell(sheet, draw, one, (left, top + place // columns * (CELL + caption + gap)))
        top += number * (CELL + caption + gap) + gap
    return sheet


def grid(images: Sequence[Image.Image]) -> Image.Image:
    """Pictures of one size in a square-like grid."""
    columns = math.ceil(math.sqrt(len(images)))
    width, height = images[0].size
    sheet = Image.new("RGB", (columns * width, math.ceil(len(images) / columns) * height), PAPER)
    for place, img in enumerate(images):
        sheet.paste(img, (place % columns * width, place // columns * height))
    return sheet


def _heading(brief: BriefResult) -> str:
    drawable = "".join(char for char in brief.title if ord(char) < 0x250).strip()  # by the font that comes with Pillow
    return f"{drawable[:90] or brief.key}: {brief.passed} of {count(len(brief.slots), 'picture')} passed"


def _product(path: Path) -> Image.Image:
    with Image.open(path) as file:
        product = ImageOps.contain(file.convert("RGBA"), (CELL, CELL))
    tile = Image.new("RGBA", (CELL, CELL), "#e7e5e4")
    tile.alpha_composite(product, ((CELL - product.width) // 2, (CELL - product.height) // 2))
    return tile.convert("RGB")


def _cell(sheet: Image.Image, draw: ImageDraw.ImageDraw, one: AttemptResult, place: tuple[int, int]) -> None:
    left, top = place
    colour = PASSED if one.passed else FAILED
    with Image.open(one.image) as file:
        sheet.paste(ImageOps.fit(file.convert("RGB"), (CELL, CELL), Image.Resampling.LANCZOS), place)
    draw.rectangle((left, top + CELL, left + CELL - 1, top + CELL + 2), fill=colour)
    words = "passed" if one.passed else label(failed_as(one))
    draw.text((left, top + CELL + 4), words, colour, ImageFont.load_default(11))
    where = f"picture {one.slot}, try {one.number}: {_percent(one.available)}"
    draw.text((left, top + CELL + 17), where, FAINT, ImageFont.load_default(10))
