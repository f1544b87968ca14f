"""The table of a proof, for a terminal and for its page: a row a method, each number with its 95 % interval."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from goodeye.html import two_lines

Column = tuple[str, str, str]  # the measure's name in the JSON, its heading, what it is
Found = Mapping[str, float | None]  # mean, low and high


def measured(numbers: Mapping[str, Any], columns: Sequence[Column]) -> list[Column]:
    """The columns of which at least one row has the measure."""
    return [column for column in columns if any(column[0] in row for row in numbers["rows"].values())]


def lines(numbers: Mapping[str, Any], columns: Sequence[Column], fine: float) -> list[str]:
    """The table for a terminal. fine: numbers below it are given to three decimals, others to one."""
    shown = measured(numbers, columns)
    cells = [["", *(head for _, head, _ in shown)]]
    for name, row in numbers["rows"].items():
        cells.append([name, *(cell(row.get(measure), fine) for measure, _, _ in shown)])
    widths = [max(len(line[at]) for line in cells) for at in range(len(cells[0]))]
    return ["  ".join(one.ljust(width) for one, width in zip(line, widths, strict=True)).rstrip() for line in cells]


def cell(value: Found | None, fine: float, signed: bool = False) -> str:
    """`0.719 (0.640 to 0.790)`; a dash where there is none, the number alone where it has no interval."""
    if value is None or value["mean"] is None:
        return "-"
    if value["low"] is None or value["high"] is None:
        return _number(value["mean"], fine, signed)
    mean, low, high = (_number(found, fine, signed) for found in (value["mean"], value["low"], value["high"]))
    return f"{mean} ({low} to {high})"


def small(value: Found | None, fine: float, signed: bool = False) -> Markup:
    """The same for the page: the interval on a small line of its own, so that all columns fit."""
    number, _, rest = cell(value, fine, signed).partition(" (")
    return two_lines(number, rest.rstrip(")"))


def _number(value: float, fine: float, signed: bool) -> str:
    digits = 3 if abs(value) < fine else 1
    return f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
