"""What was found as one picture to look at."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from goodeye.errors import BadInput
from goodeye.images import save_png
from goodeye.search.query import Hit
from goodeye.search.source import open_named

CELL, GAP, CAPTION = 192, 10, 34
INK, FAINT, PAPER, EMPTY = "#1c1917", "#78716c", "#faf9f7", "#e7e5e4"


def write_sheet(hits: Sequence[Hit], title: str, path: str | Path) -> None:
    """Writes a contact sheet as PNG: pictures in order, with similarity, beauty, and how many are like it."""
    save_png(contact_sheet(hits, title), path)


def contact_sheet(hits: Sequence[Hit], title: str, columns: int = 5) -> Image.Image:
    """A picture that can no longer be opened is an empty cell that says so."""
    columns = max(1, min(columns, len(hits)))
    rows = -(-len(hits) // columns)
    size = max(480, columns * (CELL + GAP) + GAP), 44 + rows * (CELL + CAPTION + GAP)
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, 12), _drawable(title)[:90], INK, ImageFont.load_default(16))
    for place, hit in enumerate(hits):
        corner = GAP + place % columns * (CELL + GAP), 44 + place // columns * (CELL + CAPTION + GAP)
        sheet.paste(_cell(hit), corner)
        words = f"{place + 1}   {hit.similarity:.3f}" + (
            f"   beauty {hit.beauty:.2f}" if hit.beauty is not None else ""
        )
        draw.text((corner[0], corner[1] + CELL + 3), words, INK, ImageFont.load_default(12))
        alike = f"best of {hit.alike} alike" if hit.alike > 1 else Path(hit.name).name
        draw.text((corner[0], corner[1] + CELL + 18), _drawable(alike)[:30], FAINT, ImageFont.load_default(11))
    return sheet


def _cell(hit: Hit) -> Image.Image:
    tile = Image.new("RGB", (CELL, CELL), EMPTY)
    try:
        img = open_named(hit.name)
    except BadInput:
        ImageDraw.Draw(tile).text((20, CELL // 2 - 8), "not there any more", FAINT, ImageFont.load_default(13))
        return tile
    fitted = ImageOps.contain(img, (CELL, CELL), Image.Resampling.LANCZOS)
    place = (CELL - fitted.width) // 2, (CELL - fitted.height) // 2
    tile.paste(fitted, place, fitted if fitted.mode == "RGBA" else None)
    return tile


def _drawable(text: str) -> str:
    """What the font that comes with Pillow can draw."""
    return "".join(char for char in text if ord(char) < 0x250)
