"""Kept and rejected pictures of a run as one page to look at, with boxes, scores and reasons."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from goodeye.atomic import write_bytes
from goodeye.errors import BadInput
from goodeye.html import page
from goodeye.images import open_image
from goodeye.synth.pick import Choice, summary
from goodeye.synth.score import read_picks, read_scores

SIDE = 320  # pixels of a picture's longer side on the page
LINE = 13  # and of a name's height
BY = {  # where CLIS-L found its references
    "exact": "real ones of the same",
    "similar": "real ones of the like",
    "side": "real ones with one of the two",
    "relation": "all real ones so related",
    "all": "all real ones",
}
KEPT, DROPPED, PAPER = "#1a7f4b", "#c2410c", "#e7e5e4"


def write_page(run: str | Path, out: str | Path | None = None, most: int = 60) -> Path:
    """Writes run/look.html (or `out`), one file: at most so many kept and as many rejected, the best first.

    Raises BadInput where the run was not picked from, and for fewer than 1.
    """
    if most < 1:
        raise BadInput(f"--most is {most}. Show at least 1 picture.")
    rows = {row["key"]: row for row in read_scores(run)}
    found = read_picks(run)
    choices = [
        Choice(**{**one, "things": tuple(one["things"]), "notes": tuple(one["notes"])}) for one in found["choices"]
    ]
    ranked = sorted(choices, key=lambda one: -_number(rows[one.key]))
    groups = [
        (
            name,
            sum(one.kept is kept for one in choices),
            [_shown(one, rows[one.key]) for one in ranked if one.kept is kept][:most],
        )
        for name, kept in (("Kept", True), ("Rejected", False))
    ]
    place = Path(out) if out else Path(run) / "look.html"
    asked = ", ".join(f"{name} {value:g}" for name, value in found["picking"].items() if value is not None)
    write_bytes(
        place,
        page(
            "goodeye.synth", "look.html.j2", name=Path(run).name, summary=summary(choices), groups=groups, asked=asked
        ),
    )
    return place


def _number(row: Mapping[str, Any]) -> float:
    return _score(row, "clis_i", _score(row, "clis_l", -1.0))


def _score(row: Mapping[str, Any], which: str, otherwise: float) -> float:
    score = row[which]["score"] if row[which] else None
    return otherwise if score is None else float(score)


def _shown(choice: Choice, row: Mapping[str, Any]) -> dict[str, Any]:
    labels = set(choice.things)
    unknown: dict[str, Any] = {"score": None, "parts": {}}
    seen = row["clis_i"]["things"] if row["clis_i"] else [unknown] * len(row["layout"]["things"])
    return {
        "key": choice.key,
        "picture": with_boxes(row, labels),
        "gone": bool(row["file"]) and not Path(row["file"]).is_file(),
        "caption": row["layout"]["caption"],
        "clis_l": _words(row["clis_l"]["score"] if row["clis_l"] else None),
        "clis_i": _words(row["clis_i"]["score"] if row["clis_i"] else None),
        "things": [
            (one["key"], " ".join(one["attributes"]), _words(found["score"]), _parts(found["parts"]), at in labels)
            for at, (one, found) in enumerate(zip(row["layout"]["things"], seen, strict=True))
        ],
        "pairs": [
            (" ".join((one["subject"], one["relation"], one["object"])), _words(one["score"]), BY[one["level"]])
            for one in (row["clis_l"]["pairs"] if row["clis_l"] else [])
        ],
        "why": choice.why,
        "notes": list(dict.fromkeys(choice.notes))[:4],
    }


def _parts(parts: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {score:.2g}" for name, score in parts.items())


def _words(score: float | None) -> str:
    return "–" if score is None else f"{score:.0f}"


def with_boxes(row: Mapping[str, Any], labels: set[int]) -> Image.Image:
    """The picture (plain paper where there is none any more) with its boxes: green keeps its label, red loses it."""
    try:
        img = open_image(row["file"]).convert("RGB") if row["file"] else Image.new("RGB", (SIDE, SIDE), PAPER)
    except BadInput:
        img = Image.new("RGB", (SIDE, SIDE), PAPER)
    img = img.resize(_fitted(img.size), Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(img)
    named: list[tuple[float, float, float, float]] = []
    for at, one in enumerate(row["layout"]["things"]):
        x, y, width, height = one["box"]
        left, top = x * img.width, y * img.height
        right, bottom = max(left + 1, (x + width) * img.width - 1), max(top + 1, (y + height) * img.height - 1)
        colour = KEPT if at in labels else DROPPED
        draw.rectangle((left, top, right, bottom), outline=colour, width=2)
        words = "".join(char for char in one["key"] if ord(char) < 0x250)  # what the font can draw
        at_most = img.width - draw.textlength(words) - 6
        named.append(_named(draw, words, max(0.0, min(left, at_most)), max(0.0, top - LINE), colour, named))
    return img


def _named(draw: Any, words: str, left: float, top: float, colour: str, others: Sequence[Any]) -> Any:
    """Writes a name there, or lower where another one is; where it stands: left, top, right and bottom."""
    width = draw.textlength(words) + 6
    while any(left < one[2] and one[0] < left + width and top < one[3] and one[1] < top + LINE for one in others):
        top += 1
    draw.rectangle((left, top, left + width, top + LINE), fill=colour)
    draw.text((left + 3, top + 1), words, fill="white")
    return left, top, left + width, top + LINE


def _fitted(size: Sequence[int]) -> tuple[int, int]:
    scale = SIDE / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
