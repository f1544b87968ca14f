"""A proof of synth as something to look at: a table for the terminal, and report.html with plots and pictures."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from goodeye import proof_table
from goodeye.atomic import write_bytes
from goodeye.html import page
from goodeye.synth.look import with_boxes

REAL, RANDOM, CLIS = "real", "random", "clis"
COLUMNS = (
    ("ap", "AP", "COCO's average precision over all categories, IoU .5 to .95"),
    ("ap_rare", "AP rare", "that of the rare categories; a dash where none of them is in the test pictures"),
)
WAYS = {  # what each row of the table is
    REAL: "the real pictures alone",
    RANDOM: "picked by chance",
    "clip": "cosine of picture and caption",
    "detector": "where the detector of the real pictures finds what was wanted",
    CLIS: "CLIS-I of the picture",
}
SWAPS = {
    "clis_l": "CLIS-L",
    "average": "averaging, references as found",
    "average_exact": "averaging, this triplet's alone (as published)",
    "average_as_asked": "averaging, references in the sizes asked for",
}
LESS = {  # what CLIS-L has more than these, pair by pair
    "clis_l_minus_average": "CLIS-L minus averaging, references as found",
    "clis_l_minus_average_as_asked": "CLIS-L minus averaging, sizes asked for",
}
FINE = 2.0  # numbers below it are shown to three decimals
SHOWN = 8  # layouts in the strip


def table(numbers: Mapping[str, Any]) -> str:
    """The proof for a terminal."""
    related, swap = numbers["correlation"], numbers["swap_intervals"]
    gained = numbers["minus_random"][CLIS]["ap_rare"]
    return "\n".join([
        *proof_table.lines(numbers, COLUMNS, FINE),
        f"clis minus random, AP rare: {told(gained)}",
        f"Spearman of score and gain over {len(related['bins'])} bins: {told(_spearman(numbers))}",
        *(f"box swap, {words}: {told(swap[name])}" for name, words in SWAPS.items()),
        *(f"box swap, {words}: {told(swap[name], signed=True)}" for name, words in LESS.items()),
    ])  # fmt: skip


def told(value: Mapping[str, float | None], signed: bool = False) -> str:
    """`0.024 (0.010 to 0.038)`; a dash for what there is not."""
    return proof_table.cell(value, FINE, signed)


def _spearman(numbers: Mapping[str, Any]) -> dict[str, float | None]:
    found = numbers["correlation"]
    return {"mean": found["spearman"], "low": found["low"], "high": found["high"]}


def answer(gained: Mapping[str, float | None]) -> str:
    """What a difference with its interval says, in a word: yes, no, open, or unknown of one seed and of none."""
    low, high = gained["low"], gained["high"]
    if low is None or high is None:
        return "unknown"
    return "yes" if low > 0 else "no" if high < 0 else "open"


# --- plots: numbers become places, and the page draws them


@dataclass(frozen=True, kw_only=True)
class Axis:
    """Values from low to high lie at places from start to end (pixels of the plot)."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Where a value lies."""
        return round(self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start), 1)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Round values, four to nine of them: where each lies, and how it is written."""
        step = _step((self.high - self.low) / 4)
        digits = max(0, -math.floor(math.log10(step)))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [(self(at * step), f"{at * step:.{digits}f}".replace("-", "−")) for at in range(first, last + 1)]


def _step(most: float) -> float:
    """The largest of 1, 2, 5, 10 and so on that is at most this."""
    power = 10.0 ** math.floor(math.log10(most))
    return next(factor * power for factor in (5, 2, 1) if factor * power <= most * (1 + 1e-9))


def axis_of(values: Sequence[float], start: float, end: float) -> Axis:
    """An axis that shows all of them, with a little room."""
    low, high = min(values), max(values)
    room = 0.06 * (high - low) or 0.01
    return Axis(low=low - room, high=high + room, start=start, end=end)


def forest(rows: Sequence[Mapping[str, Any]], line: float, start: float = 150, end: float = 690) -> dict[str, Any]:
    """Rows under each other, each a mean with its interval and single values. rows: name, found, and values by seed
    where there are any. line: of no effect."""
    numbers = [value for row in rows for value in (*row["found"].values(), *row["values"].values())]
    axis = axis_of([line, *(value for value in numbers if value is not None)], start, end)
    placed = []
    for at, row in enumerate(rows):
        found = {name: None if value is None else axis(value) for name, value in row["found"].items()}
        dots = [(axis(value), seed, f"{value:.3f}") for seed, value in row["values"].items()]
        placed.append({"name": row["name"], "y": 26 + 40 * at, "dots": dots, "told": told(row["found"]), **found})
    return {"rows": placed, "line": axis(line), "ticks": axis.ticks, "bottom": 6 + 40 * len(rows)}


def scatter(bins: Sequence[Mapping[str, float]], width: float = 720, height: float = 340) -> dict[str, Any]:
    """Each bin's mean score and what it gained; those of a seed hang together."""
    across = axis_of([one["score"] for one in bins], 64, width - 70)
    up = axis_of([0.0, *(one["gain"] for one in bins)], height - 46, 14)
    seeds: dict[int, list[tuple[float, float, str]]] = {}
    for one in sorted(bins, key=lambda one: one["score"]):
        words = f"CLIS {one['score']:.1f}, gain {one['gain']:+.3f}"
        seeds.setdefault(int(one["seed"]), []).append((across(one["score"]), up(one["gain"]), words))
    return {"seeds": dict(sorted(seeds.items())), "across": across, "up": up, "zero": up(0.0)}


def _paired(numbers: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Of each way what it has more than random in AP rare, seed by seed; of those seeds that have one."""
    each = {(row["seed"], row["name"]): row["ap_rare"] for row in numbers["trained"] if row["ap_rare"] is not None}
    seeds = sorted({seed for seed, _ in each})
    return [
        {
            "name": name,
            "found": found["ap_rare"],
            "values": {seed: each[seed, name] - each[seed, RANDOM] for seed in seeds if (seed, name) in each},
        }
        for name, found in numbers["minus_random"].items()
    ]


# --- the page


def write_report(numbers: Mapping[str, Any], out: Path) -> Path:
    """Writes out/report.html: self-contained, light and dark, without JavaScript. out: the proof's folder, with its
    pictures; without them there is no strip."""
    swap = numbers["swap_intervals"]
    swaps = [{"name": words, "found": swap[name], "values": {}} for name, words in SWAPS.items()]
    bins = numbers["correlation"]["bins"]
    filled = page(
        "goodeye.synth",
        "prove.html.j2",
        {
            "cell": partial(proof_table.small, fine=FINE),
            "told": told,
            "more": partial(told, signed=True),
            "gain": partial(proof_table.small, fine=FINE, signed=True),
        },
        numbers=numbers,
        about=numbers["about"],
        columns=COLUMNS,
        ways=WAYS,
        answer=answer(numbers["minus_random"][CLIS]["ap_rare"]),
        seeds=sorted({row["seed"] for row in numbers["trained"]}),
        paired=forest(_paired(numbers), 0.0),
        related=answer(_spearman(numbers)),
        spearman=_spearman(numbers),
        bins=scatter(bins),
        swaps=forest(swaps, 0.5, start=360),
        less={words: swap[name] for name, words in LESS.items()},
        strip=strip(out / f"seed-{numbers['about']['seed']}"),
    )
    write_bytes(out / "report.html", filled)
    return out / "report.html"


def strip(seed: Path) -> list[list[dict[str, Any]]]:
    """Layouts drawn by chance, of a seed's folder, each a column: of half of them the kept try and the worst one, of
    the others the best and the worst try, neither kept."""
    from goodeye.synth.prove import clis_of, pick_half, usable_rows

    if not (seed / "scores").exists():
        return []
    rows = usable_rows(seed)
    scores = clis_of(rows)
    kept = set(pick_half(scores, rows).tolist())
    groups: dict[str, list[int]] = {}
    for at, row in enumerate(rows):
        groups.setdefault(row["group"], []).append(at)
    ranked = [sorted(some, key=lambda at: -scores[at]) for some in groups.values() if len(some) > 1]
    order = np.random.default_rng(0).permutation(len(ranked))
    both: list[list[int]] = []
    for wanted in (True, False):
        both += [ranked[at] for at in order if (ranked[at][0] in kept) is wanted][: SHOWN // 2]
    return [[_shown(rows[at], float(scores[at]), at in kept) for at in (some[0], some[-1])] for some in both]


def _shown(row: Mapping[str, Any], score: float, kept: bool) -> dict[str, Any]:
    labels = set(range(len(row["layout"]["things"]))) if kept else set[int]()
    return {"picture": with_boxes(row, labels), "caption": row["layout"]["caption"], "score": score, "kept": kept}
