"""`goodeye ads train-judge`: trains RFNet from labelled pictures and reports how well it judges those held out."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goodeye.atomic import write_bytes
from goodeye.errors import BadInput
from goodeye.judging.rfnet import CLASSES
from goodeye.judging.rfnet_compare import VARIANTS, Row, Variant, compare
from goodeye.judging.rfnet_data import Cache, Labelled, find_labelled, some_of
from goodeye.judging.rfnet_fit import SMALL, RFNetTraining, fit_rfnet
from goodeye.judging.rfnet_report import text_table, write_report
from goodeye.judging.samples import Samples
from goodeye.tables import Skipped

if TYPE_CHECKING:
    from goodeye.modelset import Models

__all__ = ["RFNetTraining", "TrainedJudge", "fit_rfnet", "train_judge"]


@dataclass(frozen=True)
class TrainedJudge:
    """What `train_judge` made: the folder of the judge, how it agrees with held-out labels, what was skipped."""

    folder: Path
    report: Path
    rows: list[Row]
    trained_on: int
    skipped: list[Skipped]

    def as_json(self) -> dict[str, Any]:
        """Plain lists and numbers."""
        return {
            "judge": str(self.folder),
            "report": str(self.report),
            "trained_on": self.trained_on,
            "skipped": [asdict(one) for one in self.skipped],
            "rows": [row.to_json() for row in self.rows],
        }

    def summary(self) -> str:
        """The table for a terminal."""
        lines = [text_table(self.rows), f"judge: {self.folder}", f"report: {self.report}"]
        if self.skipped:
            lines.append(
                f"not used: {len(self.skipped)} row{'s' if len(self.skipped) > 1 else ''} that could not be read"
            )
        return "\n".join(lines)


def train_judge(
    data: str | Path,
    *,
    out: str | Path,
    models: "str | Models" = "showroom",
    epochs: float = 10.0,
    batch: int = 64,
    seed: int = 0,
    device: str = "cpu",
    resume: bool = False,
    lr: float | None = None,
    image_encoder: str | None = None,
    text_encoder: str | None = None,
    image_size: int | None = None,
    held_out: float = 0.1,
    most: int | None = None,
    ablations: bool = False,
    config: RFNetTraining | None = None,
) -> TrainedJudge:
    """Trains RFNet from a labelled folder or table (see `find_labelled`) and reports on the held-out part.

    Depth and saliency are made by the model set's estimators and kept in out/cache. Where no row has a product, or
    none a title, it trains without. image_encoder, text_encoder: hub ids or folders with pretrained weights; without
    them small ones start from nothing, at the larger learning rate 1e-3. most: about so many pictures are taken, by
    products; the cache needs 9 bytes for each pixel of one. ablations: also trains the single-image
    baseline and RFNet with each modality left out. config: everything else, where the defaults do not serve.

    out gets judge/ (for RFNetJudge.from_pretrained), report.html, report.json, and the run's config.json,
    metrics.jsonl and checkpoints/. Raises BadInput where the data cannot be used.
    """
    out = Path(out)
    found, skipped = find_labelled(data, held_out, out / "cache" / "unpacked")
    found = found if most is None else some_of(found, most)
    parts = {split: [row for row in found if row.split == split] for split in ("train", "held_out")}
    _require_both(parts, Path(data))
    _require_classes(parts["train"], Path(data))
    loaded = _models(models, device)
    pretrained = image_encoder is not None
    size = image_size or (loaded.model_set.settings.size if not pretrained else 384)
    config = config or RFNetTraining(
        image_encoder=image_encoder,
        text_encoder=text_encoder,
        rfnet=({} if pretrained else SMALL) | {"image_size": size} | _switches(found),
        epochs=epochs,
        batch_size=batch,
        lr=lr or (1e-4 if pretrained else 1e-3),
        seed=seed,
    )
    samples: dict[str, Samples] = {}
    for split, rows in parts.items():
        cache = Cache(
            out / "cache",
            rows,
            (config.rfnet or {}).get("image_size", size),
            loaded.depth,
            loaded.saliency,
            with_product=any(row.product for row in found),
        )
        samples[split], unread = cache.samples(device=device)
        skipped += unread
    _require_both(samples, Path(data))
    variants: list[Variant] = [name for name in VARIANTS if ablations and _possible(name, config)]
    lines, fitted, probabilities = compare(
        samples["train"], samples["held_out"], config, variants, run_dir=out, resume=resume, device=device
    )
    fitted.save_pretrained(out / "judge")
    report = write_report(out, lines, samples["held_out"], probabilities, skipped)
    result = TrainedJudge(out / "judge", report, lines, len(samples["train"]), skipped)
    write_bytes(out / "report.json", (json.dumps(result.as_json(), indent=2) + "\n").encode())
    return result


def _models(models: "str | Models", device: str) -> "Models":
    if not isinstance(models, str):
        return models
    from goodeye.modelset import Models, resolve

    return Models(resolve(models), device=device)


def _switches(rows: Sequence[Labelled]) -> dict[str, bool]:
    """Trains without what no picture has."""
    switches = {"use_product": any(row.product for row in rows), "use_title": any(row.title for row in rows)}
    return {name: False for name, there in switches.items() if not there}


def _possible(variant: Variant, config: RFNetTraining) -> bool:
    """False for leaving out what is left out already."""
    return (config.rfnet or {}).get(f"use_{variant.removeprefix('without ')}", True)


def _require_classes(rows: Sequence[Labelled], data: Path) -> None:
    """Raises BadInput where all pictures to train on are of one class: whatever is learnt then says nothing."""
    labels = {row.label for row in rows}
    if len(labels) == 1:
        name = CLASSES[labels.pop()]
        raise BadInput(
            f"{data}: all {len(rows)} pictures to train on are {name}, so there is nothing to tell apart. Add pictures "
            "of another class."
        )


def _require_both(parts: Mapping[str, Sequence[Any] | Samples], data: Path) -> None:
    for split, rows in parts.items():
        if not len(rows):
            raise BadInput(f"{data} has no usable pictures in its {split} part. Give more, or a split column.")
