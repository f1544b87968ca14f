"""A proof as something to look at: a table for the terminal, and report.html with a strip of pictures."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from goodeye import proof_table
from goodeye.atomic import write_bytes
from goodeye.html import page
from goodeye.proof_table import cell

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
    (
        "ms_per_query",
        "ms",
        "milliseconds a query on this machine, from its words to the first pictures; a large model is asked anew",
    ),
)


FINE = 2  # numbers below it are shown to three decimals


def table(numbers: Mapping[str, Any]) -> str:
    """The proof for a terminal: a line a row, each number with its 95 % interval."""
    head = f"{numbers['n']} queries on {numbers['gallery']} unseen pictures, seed {numbers['seed']}; 95 % intervals"
    return "\n".join([head, *proof_table.lines(numbers, COLUMNS, FINE), *_notes(numbers)])


def _notes(numbers: Mapping[str, Any]) -> list[str]:
    notes = [
        f"{name} against base: aesthetic {cell(found['hpir_aesthetic'], FINE, signed=True)}, recall@1 "
        f"{cell(found['recall_at_1'], FINE, signed=True)}"
        for name, found in numbers["minus_base"].items()
    ]
    notes += [
        f"{name}: {row['failures']} texts were rewritten into nothing usable, and stood as they were"
        for name, row in numbers["rows"].items()
        if row["failures"]
    ]
    notes += [_collapse(name, seen) for name, seen in numbers["guard"].items()]
    return notes + [f"left out: {name}; {why}" for name, why in numbers["left_out"].items()]


def _collapse(name: str, seen: Mapping[str, Any]) -> str:
    """What the recall guard saw of a run, in a line."""
    curve = ", ".join(f"{step}: {recall:.3f}" for step, recall in zip(seen["steps"], seen["recall_at_1"], strict=True))
    last = seen["steps"][-1]
    end = f"stopped it there: {seen['stopped']}" if seen["stopped"] else "did not stop it"
    return (
        f"{name}: recall@1 of the captions that its guard watched was, by step, {curve}, while the trained measure "
        f"went from {seen['trained'][0]:.3f} to {seen['trained'][-1]:.3f} and how far pictures are apart from "
        f"{seen['diversity'][0]:.3f} to {seen['diversity'][-1]:.3f}. At step {last} the guard {end}. The row is "
        f"the model of step {last}; the guard keeps that of step {seen['best']}"
    )


def write_report(proof: "Proof", queries: Sequence[str]) -> None:
    """Writes report.html: self-contained, light and dark, without JavaScript."""
    filled = page(
        "goodeye.search",
        "prove.html.j2",
        {"cell": partial(proof_table.small, fine=FINE)},
        numbers=proof.numbers,
        columns=proof_table.measured(proof.numbers, COLUMNS),
        strip=proof.strip,
        queries=queries,
        notes=_notes(proof.numbers),
    )
    write_bytes(proof.report, filled)
