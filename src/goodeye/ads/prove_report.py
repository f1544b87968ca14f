"""A proof as something to look at: a table for the terminal, and report.html with a strip of pictures."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from goodeye import proof_table
from goodeye.atomic import write_bytes
from goodeye.html import page
from goodeye.proof_table import cell

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


FINE = 10  # numbers below it are shown to three decimals


def table(numbers: Mapping[str, Any]) -> str:
    """The proof for a terminal: a line a row, each number with its 95 % interval."""
    head = f"{numbers['n']} fresh briefs, seed {numbers['seed']}; 95 % intervals over briefs"
    return "\n".join([head, *proof_table.lines(numbers, COLUMNS, FINE), *_notes(numbers)])


def _notes(numbers: Mapping[str, Any]) -> list[str]:
    notes = []
    for name, found in numbers["minus_base"].items():
        key, by = ("available_oracle", "held out") if "available_oracle" in found else ("available_judge", "judge")
        share = cell(numbers["share_of_base"][name]["diversity"], FINE)
        notes.append(f"{name} against base: {by} {cell(found[key], FINE, signed=True)}, diversity times {share}")
    notes += [f"left out: {name}; {why}" for name, why in numbers["left_out"].items()]
    return notes


def write_report(proof: "Proof", titles: Sequence[str]) -> None:
    """Writes report.html: self-contained, light and dark, without JavaScript."""
    filled = page(
        "goodeye.ads",
        "prove.html.j2",
        {"cell": partial(proof_table.small, fine=FINE)},
        numbers=proof.numbers,
        columns=proof_table.measured(proof.numbers, COLUMNS),
        strip=proof.strip,
        titles=titles,
        notes=_notes(proof.numbers),
    )
    write_bytes(proof.report, filled)
