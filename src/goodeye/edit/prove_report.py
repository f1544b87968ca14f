"""A proof as something to look at: a table for the terminal, and report.html with pictures of each row and level."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from goodeye import proof_table
from goodeye.atomic import write_bytes
from goodeye.edit.prove import BASE
from goodeye.html import page
from goodeye.proof_table import cell

if TYPE_CHECKING:
    from goodeye.edit.prove import Asked, Proof

COLUMNS = (  # measure, its heading, and what it says
    ("following", "following", "was it done what was asked for, 0 to 5"),
    ("preserving", "preserving", "did the rest stay as it was, 0 to 5"),
    ("quality", "quality", "is the picture free of artefacts, 0 to 5"),
    ("overall", "overall", "the mean of the three"),
    ("outside_l1", "L1", "difference of pixels outside of what was to change, 0 to 1; lower is better"),
    ("outside_psnr", "PSNR", "the same in decibels; higher is better"),
    ("outside_ssim", "SSIM", "likeness of structure there, 1 where nothing changed"),
)
FINE = 10  # numbers below it are shown to three decimals


def table(numbers: Mapping[str, Any]) -> str:
    """The proof for a terminal: a line a row, each number with its 95 % interval."""
    head = f"{numbers['n']} unseen edits, seed {numbers['seed']}; 95 % intervals over edits"
    lines = proof_table.lines(numbers, COLUMNS, FINE)
    return "\n".join([head, *lines, *_differences(numbers), *_sweeps(numbers), *_left_out(numbers)])


def _differences(numbers: Mapping[str, Any]) -> list[str]:
    """Paired; base against a control says what the control against base has said."""
    notes = []
    for other, rows in numbers["against"].items():
        for name, found in rows.items():
            if name == BASE:
                continue
            alike = found.get("outside_ssim")
            kept = f", SSIM outside {cell(alike, FINE, signed=True)}" if alike else ""
            notes.append(f"{name} against {other}: overall {cell(found['overall'], FINE, signed=True)}{kept}")
    return notes


def _sweeps(numbers: Mapping[str, Any]) -> list[str]:
    notes = []
    for axis, found in numbers["sweep"].items():
        means = ", ".join(f"{one['mean']:.2f}" for one in found["measured"])
        notes.append(f"{axis} asked for at 0 to 5: {means}; Spearman {cell(found['spearman'], FINE)}")
    return notes


def _left_out(numbers: Mapping[str, Any]) -> list[str]:
    """A line for each reason."""
    reasons: dict[str, list[str]] = {}
    for name, why in numbers["left_out"].items():
        reasons.setdefault(why, []).append(name)
    return [f"left out: {', '.join(names)}; {why}" for why, names in reasons.items()]


def write_report(proof: "Proof", asked: Sequence["Asked"]) -> None:
    """Writes report.html: self-contained, light and dark, without JavaScript."""
    filled = page(
        "goodeye.edit",
        "prove.html.j2",
        {"cell": partial(proof_table.small, fine=FINE)},
        numbers=proof.numbers,
        columns=proof_table.measured(proof.numbers, COLUMNS),
        strip=proof.strip,
        asked=asked,
        notes=[*_differences(proof.numbers), *_left_out(proof.numbers)],
    )
    write_bytes(proof.report, filled)
