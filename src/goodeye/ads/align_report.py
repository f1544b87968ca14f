"""A run of `align` as something to look at: report.html, one file with curves and pictures in it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from goodeye.atomic import write_bytes
from goodeye.html import page, picture, plot
from goodeye.training.loop import read_metrics

GREEN, ORANGE, GREY = "#1a7f4b", "#c2410c", "#a8a29e"
PANELS = (  # title, and the columns of metrics.jsonl in it
    ("judges", ("trained", "held_out")),
    ("pictures", ("diversity", "fidelity")),
    ("training", ("available", "preferred")),
    ("loss", ("loss", "reward_loss")),
)


def write_report(out: Path, settings: Mapping[str, Any], stopped: str = "", best: int | None = None) -> Path:
    """Writes out/report.html from metrics.jsonl and samples/; returns its path. settings: as they took effect, method
    and train among them."""
    rows = read_metrics(out)
    first: dict[str, float] = {}
    last: dict[str, float] = {}
    for row in rows:
        first = {**row, **first}
        last = {**last, **row}
    filled = page(
        "goodeye.ads",
        "align_report.html.j2",
        settings=settings,
        steps=int(last.get("step", 0)),
        measures=[(name, first[name], last[name]) for name in ("trained", "held_out", "diversity", "fidelity")
                  if name in last],
        stopped=stopped,
        best=best,
        curves=plot(curves_figure(rows, best)),
        sheets=[(int(path.stem), picture(path)) for path in _shown(out / "samples", best)],
    )  # fmt: skip
    write_bytes(out / "report.html", filled)
    return out / "report.html"


def curves_figure(rows: Sequence[Mapping[str, float]], best: int | None = None) -> Figure:
    """What the run measured, over its steps; bands are one standard error, the dotted line is the guard's choice."""
    panels = [(title, [name for name in names if any(name in row for row in rows)]) for title, names in PANELS]
    panels = [(title, names) for title, names in panels if names]
    figure = Figure(figsize=(4.2 * max(1, len(panels)), 3.2), layout="constrained")
    for axes, (title, names) in zip(figure.subplots(1, max(1, len(panels)), squeeze=False)[0], panels, strict=False):
        for name, colour in zip(names, (GREEN, ORANGE), strict=False):
            steps, values = zip(*((row["step"], row[name]) for row in rows if name in row), strict=True)
            axes.plot(steps, values, label=name.replace("_", " "), color=colour, marker=".")
            errors = [row[f"{name}_se"] for row in rows if f"{name}_se" in row]
            if len(errors) == len(values):
                low = [value - error for value, error in zip(values, errors, strict=True)]
                high = [value + error for value, error in zip(values, errors, strict=True)]
                axes.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
        if best is not None:
            axes.axvline(best, color=GREY, linestyle=":")
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("step")
        axes.legend(frameon=False)
    return figure


def _shown(samples: Path, best: int | None) -> list[Path]:
    """The sheet of the guard's choice, if there is one, and the last."""
    sheets = sorted(path for path in samples.glob("*.png") if path.stem.isdigit())
    chosen = [path for path in sheets if best is not None and int(path.stem) == best]
    return list(dict.fromkeys([*chosen, *sheets[-1:]]))
