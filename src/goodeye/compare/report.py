"""A comparison as something to look at, and to go on working with: report.html, one file, and report.json."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

from goodeye.atomic import write_bytes
from goodeye.compare.sides import Side
from goodeye.compare.tournament import Tournament, common
from goodeye.html import page, picture

SHOWN = 12  # pairs of pictures of the first two runs
THUMB = 256


def write_report(out: Path, sides: Sequence[Side], found: Sequence[Tournament]) -> Path:
    """Writes out/report.html and out/report.json; returns the page's path."""
    content = page(
        "goodeye.compare",
        "report.html.j2",
        {"percent": percent, "number": number},
        names=[side.name for side in sides],
        found=found,
        pictures=_pictures(sides),
    )
    out.mkdir(parents=True, exist_ok=True)
    write_bytes(out / "report.html", content)
    data = json.dumps([one.to_json() for one in found], indent=1, ensure_ascii=False, allow_nan=False)
    write_bytes(out / "report.json", f"{data}\n".encode(errors="backslashreplace"))
    return out / "report.html"


def summary(found: Tournament) -> str:
    """The ranking and each pair of runs, as lines for a terminal."""
    by = f"{found.by} {found.version}".strip()
    lines = [f"By {by}: {found.asked} questions asked, {found.kept} answered before."]
    for axis, places in found.rankings.items():
        lines.append(f"{axis}: strength in log odds")
        for one in places:
            lines.append(f"  {found.names[one.run]}: {number(one.strength)} ({number(one.low)} to {number(one.high)})")
    for match in found.matches:
        counts = ", ".join(f"{name} {count}" for name, count in match.wins.counts.items())
        flips = "" if match.flipped is None else f"; orders disagree in {percent(match.flipped)}"
        lines.append(
            f"{found.names[match.first]} against {found.names[match.second]}, {match.axis}: {counts}; "
            f"win rate {percent(match.wins.win.mean)}{flips}; {percent(match.coverage)} of {match.pairs} pairs covered"
        )
    return "\n".join(lines)


def percent(share: float | None) -> str:
    """`97 %`; a dash where there is nothing to measure."""
    return "–" if share is None or math.isnan(share) else f"{100 * share:.0f} %"


def number(value: float) -> str:
    """`+0.42`; a dash for what is not a number."""
    return "–" if math.isnan(value) else f"{value:+.2f}"


def _pictures(sides: Sequence[Side]) -> list[tuple[str, list[str]]]:
    first, second = sides[:2]
    keys = common(first, second)[:SHOWN]
    both = [(first.answers[key], second.answers[key]) for key in keys]
    return [(one.title, [picture(side.pictures[0], THUMB) for side in (one, other)]) for one, other in both]
