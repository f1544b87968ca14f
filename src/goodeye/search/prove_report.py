"""A proof as something to look at: a table for the terminal, and report.html with a strip of pictures."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from goodeye.atomic import write_bytes
from goodeye.html import page, two_lines

if TYPE_CHECKING:
    from goodeye.search.prove import Proof

COLUMNS = (  # measure, its heading, and what it says
    (
        "hpir_accuracy",
        "accuracy",
        "agreement with people on which of two rows fits the query, weighed by their majority",
    ),
    ("hpir_aesthetic", "aesthetic", "agreement with people on which of two rows is more beautiful"),
    ("recall_at_1", "recall@1", "share of captions that find their own picture first"),
    ("win_and_similar_accuracy", "fits as well", "share of queries whose answer fits at least as well as base's"),
    ("win_and_similar_aesthetic", "as beautiful", "share of queries whose answer is at least as beautiful as base's"),
    ("ms_per_query", "ms", "milliseconds a query on this machine, from its words to the first pictures"),
)


def table(numbers: Mapping[str, Any]) -> str:
    """The proof for a terminal: a line a row, each number with its 95 % interval."""
    heads = [head for measure, head, _ in COLUMNS if _has(numbers, measure)]
    lines = [["", *heads]]
    for name, row in numbers["rows"].items():
        lines.append([name, *(_cell(row.get(measure)) for measure, _, _ in COLUMNS if _has(numbers, measure))])
    widths = [max(len(line[at]) for line in lines) for at in range(len(lines[0]))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    head = f"{numbers['n']} queries on {numbers['gallery']} unseen pictures, seed {numbers['seed']}; 95 % intervals"
    return "\n".join([head, *text, *_notes(numbers)])


def _notes(numbers: Mapping[str, Any]) -> list[str]:
    notes = [
        f"{name} against base: aesthetic {_cell(found['hpir_aesthetic'], signed=True)}, recall@1 "
        f"{_cell(found['recall_at_1'], signed=True)}"
        for name, found in numbers["minus_base"].items()
    ]
    return notes + [f"left out: {name}; {why}" for name, why in numbers["left_out"].items()]


def write_report(proof: "Proof", queries: Sequence[str]) -> None:
    """Writes report.html: self-contained, light and dark, without JavaScript."""
    filled = page(
        "goodeye.search",
        "prove.html.j2",
        {"cell": _two_lines},
        numbers=proof.numbers,
        columns=[column for column in COLUMNS if _has(proof.numbers, column[0])],
        strip=proof.strip,
        queries=queries,
        notes=_notes(proof.numbers),
    )
    write_bytes(proof.report, filled)


def _has(numbers: Mapping[str, Any], measure: str) -> bool:
    return any(measure in row for row in numbers["rows"].values())


def _cell(value: Mapping[str, float | None] | None, signed: bool = False) -> str:
    """`.719 (.640 to .790)`; a dash where there is none."""
    if value is None or value["mean"] is None:
        return "-"
    mean, low, high = (_number(value[name], signed) for name in ("mean", "low", "high"))
    return f"{mean} ({low} to {high})"


def _two_lines(value: Mapping[str, float | None] | None) -> Markup:
    """The same for the page: the interval on a small line of its own, so that all columns fit."""
    number, _, rest = _cell(value).partition(" (")
    return two_lines(number, rest.rstrip(")"))


def _number(value: float | None, signed: bool) -> str:
    if value is None:
        return "-"
    digits = 3 if abs(value) < 2 else 1
    return f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
