"""The report of a training: a table for the terminal, and report.html with its plots and pictures inside."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from goodeye.atomic import write_bytes
from goodeye.html import page, picture, plot
from goodeye.judging.metrics import METRICS, Array, Interval
from goodeye.judging.pixels import on_white
from goodeye.judging.rfnet import CLASSES
from goodeye.judging.rfnet_compare import Row
from goodeye.judging.samples import Samples
from goodeye.tables import Skipped
from goodeye.training.loop import read_metrics

ERRORS = 24  # pictures that were judged wrongly, the surest first
SIDE = 128  # pixels of a picture in the report


@dataclass(frozen=True)
class Mistake:
    """A held-out picture that was judged wrongly. Pictures are data URIs."""

    product: str
    image: str
    depth: str
    saliency: str
    title: str
    truth: str
    said: str
    sure: float


def text_table(rows: Sequence[Row]) -> str:
    """The comparison in plain text: percent with 95 % intervals; available is the positive class."""
    lines = [f"{'':20}" + "".join(f"{name:>24}" for name in ("precision", "recall", "F1", "AP", "macro AP"))]
    for row in rows:
        found = [*(row.agreement.binary[name] for name in METRICS), row.agreement.macro["ap"]]
        lines.append(f"{row.variant:20}" + "".join(f"{_percent(one):>24}" for one in found))
    for row in rows:
        if row.lost:
            lines.append(f"{row.variant}: AP below RFNet's by {_percent(row.lost)} points")
    count = rows[0].agreement.count
    lines.append(f"{count} held-out pictures; in brackets 95 % bootstrap intervals; available is positive.")
    return "\n".join(lines)


def _percent(found: Interval) -> str:
    return f"{100 * found.mean:.1f} ({_span(found)})"


def _span(found: Interval) -> str:
    return f"{100 * found.low:.1f} to {100 * found.high:.1f}"


def write_report(
    out: Path, rows: Sequence[Row], held_out: Samples, probabilities: Array, skipped: Sequence[Skipped]
) -> Path:
    """Writes out/report.html; probabilities are RFNet's for the held-out samples. Returns its path."""
    labels = held_out.label_tensor().numpy()
    filled = page(
        "goodeye.judging",
        "rfnet_report.html.j2",
        {"span": _span, "words": lambda name: name.replace("_", " ")},
        rows=rows,
        metrics=METRICS,
        full=rows[0].agreement,
        curves=plot(curves_figure(out)),
        ranking=plot(ranking_figure(probabilities, labels)),
        confusion=plot(confusion_figure(rows[0].agreement.confusion, rows[0].agreement.names)),
        mistakes=mistakes(held_out, probabilities),
        wrong=int((probabilities.argmax(1) != labels).sum()),
        skipped=skipped,
    )
    write_bytes(out / "report.html", filled)
    return out / "report.html"


def curves_figure(out: Path) -> Figure:
    """Loss and accuracy over the steps, in training and held out."""
    figure, (loss, accuracy) = _figure(9.0, 3.2, 2)
    table = read_metrics(out)
    for axes, name in ((loss, "loss"), (accuracy, "accuracy")):
        for column, label, colour in ((name, "training", "#a8a29e"), (f"held_out_{name}", "held out", "#1a7f4b")):
            points = [(row["step"], row[column]) for row in table if column in row]
            if points:
                axes.plot(*zip(*points, strict=True), label=label, color=colour, marker="." if "held" in column else "")
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("step")
        axes.legend(frameon=False)
    return figure


def ranking_figure(probabilities: Array, labels: Array) -> Figure:
    """Precision over recall for available, and how often what it calls p % available is available."""
    figure, (ranking, calibration) = _figure(9.0, 3.6, 2)
    positive, score = labels == 0, probabilities[:, 0]
    found = np.cumsum(positive[np.argsort(-score, kind="stable")])
    ranking.plot(found / max(1, found[-1]), found / np.arange(1, len(found) + 1), color="#1a7f4b")
    ranking.axhline(positive.mean(), color="#a8a29e", linestyle=":")
    ranking.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
    ranking.set_title("ranked by p(available)", fontsize=10)
    bins = np.clip((score * 10).astype(int), 0, 9)
    used = [number for number in range(10) if (bins == number).any()]
    calibration.plot([0, 1], [0, 1], color="#a8a29e", linestyle=":")
    calibration.plot(
        [score[bins == n].mean() for n in used], [positive[bins == n].mean() for n in used], "o-", color="#1a7f4b"
    )
    calibration.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="p(available)", ylabel="share that is")
    calibration.set_title("calibration", fontsize=10)
    return figure


def confusion_figure(confusion: Array, names: Sequence[str]) -> Figure:
    """True classes in rows, predicted ones in columns; shades are shares of a row."""
    figure, (axes,) = _figure(5.4, 4.4, 1)
    shares = confusion / np.maximum(1, confusion.sum(1, keepdims=True))
    axes.imshow(shares, cmap="Greens", vmin=0, vmax=1)
    words = [name.replace("_", "\n") for name in names]
    axes.set_xticks(range(len(names)), words, fontsize=8)
    axes.set_yticks(range(len(names)), words, fontsize=8)
    axes.set(xlabel="judged as", ylabel="is")
    for (row, column), count in np.ndenumerate(confusion):
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, str(count), ha="center", va="center", fontsize=9, color=colour)
    return figure


def mistakes(held_out: Samples, probabilities: Array, limit: int = ERRORS) -> list[Mistake]:
    """The wrongly judged samples, those first of which the judge was surest."""
    labels = held_out.label_tensor().numpy()
    said, sure = probabilities.argmax(1), probabilities.max(1)
    wrong = sorted(np.flatnonzero(said != labels).tolist(), key=lambda number: -sure[number])[:limit]
    return [_mistake(held_out, number, int(said[number]), float(sure[number])) for number in wrong]


def _mistake(held_out: Samples, number: int, said: int, sure: float) -> Mistake:
    batch = held_out.batch([number])
    pictures = {name: batch[name].float() / 255 for name in ("products", "images", "depth", "saliency")}
    return Mistake(
        product=picture(on_white(pictures["products"])[0], SIDE),
        image=picture(pictures["images"][0], SIDE),
        depth=picture(pictures["depth"][0], SIDE),
        saliency=picture(pictures["saliency"][0], SIDE),
        title=held_out.titles[int(batch["row"])],
        truth=CLASSES[int(batch["labels"])],
        said=CLASSES[said],
        sure=sure,
    )


def _figure(width: float, height: float, columns: int) -> tuple[Figure, Sequence]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False)[0]
    return figure, axes
