"""A proof as something to look at: a table for the terminal, and report.html with a strip of pictures."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from goodeye.atomic import write_bytes
from goodeye.html import page, two_lines

if TYPE_CHECKING:
    from goodeye.ads.prove import Proof

COLUMNS = (  # measure, its heading, and what it says
    ("available_judge", "judge", "share that the judge which was trained against lets pass"),
    ("available_oracle", "held out", "share that a judge which nothing was trained against lets pass"),
    ("diversity", "diversity", "how unlike each other pictures of one brief are"),
    ("prompt_fidelity", "prompt", "how far the prompt is followed"),
    ("expansion", "expansion", "area that grew from the product, as a share of it; lower is better"),
    ("evals_per_available", "evaluations", "denoiser evaluations for each available picture; lower is better"),
    ("seconds_per_available", "seconds", "on this machine, for each available picture; lower is better"),
)


def table(numbers: Mapping[str, Any]) -> str:
    """The proof for a terminal: a line a row, each number with its 95 % interval."""
    heads = [head for measure, head, _ in COLUMNS if _has(numbers, measure)]
    lines = [["", *heads]]
    for name, row in numbers["rows"].items():
        lines.append([name, *(_cell(row.get(measure)) for measure, _, _ in COLUMNS if _has(numbers, measure))])
    widths = [max(len(line[at]) for line in lines) for at in range(len(lines[0]))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join(
        [f"{numbers['n']} fresh briefs, seed {numbers['seed']}; 95 % intervals over briefs", *text, *_notes(numbers)]
    )


def _notes(numbers: Mapping[str, Any]) -> list[str]:
    notes = []
    for name, found in numbers["minus_base"].items():
        key, by = ("available_oracle", "held out") if "available_oracle" in found else ("available_judge", "judge")
        share = _cell(numbers["share_of_base"][name]["diversity"])
        notes.append(f"{name} against base: {by} {_cell(found[key], signed=True)}, diversity times {share}")
    notes += [f"left out: {name}; {why}" for name, why in numbers["left_out"].items()]
    return notes


def write_report(proof: "Proof", titles: Sequence[str]) -> None:
    """Writes report.html: self-contained, light and dark, without JavaScript."""
    filled = page(
        "goodeye.ads",
        "prove.html.j2",
        {"cell": _two_lines},
        numbers=proof.numbers,
        columns=[column for column in COLUMNS if _has(proof.numbers, column[0])],
        strip=proof.strip,
        titles=titles,
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
    digits = 3 if abs(value) < 10 else 1
    return f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
