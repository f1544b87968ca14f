"""RFNet against its baseline and against itself with a modality left out: the table of the ads paper."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from goodeye.errors import BadInput
from goodeye.judging.baseline import SingleImage, baseline_for
from goodeye.judging.metrics import Agreement, Array, Interval, agreement, average_precision, paired_bootstrap
from goodeye.judging.rfnet import CLASSES, RFNet
from goodeye.judging.rfnet_fit import Fitted, RFNetTraining, build_rfnet, classes_in, fit_rfnet, predict, titles_of
from goodeye.judging.samples import Samples

Variant = Literal[
    "RFNet", "ResNet, image only", "without product", "without depth", "without saliency", "without title"
]
VARIANTS: tuple[Variant, ...] = get_args(Variant)


def named(shorts: Sequence[str]) -> tuple[Variant, ...]:
    """Variants by short names: image for the ResNet, else what is left out; all of them if none is named. Raises
    BadInput for another name."""
    known = dict(zip(("image", "product", "depth", "saliency", "title"), VARIANTS[1:], strict=True))
    if unknown := [name for name in shorts if name not in known]:
        raise BadInput(f"{unknown[0]} is no variant. Name some of: {', '.join(known)}.")
    return tuple(known[name] for name in shorts) or VARIANTS


@dataclass(frozen=True)
class Row:
    """One line of the comparison: a variant, how it agrees with the held-out labels, and its size.

    lost: binary AP of RFNet minus this one's, on the same pictures (paired bootstrap); None for RFNet itself.
    """

    variant: Variant
    agreement: Agreement
    parameters: int
    seconds: float
    lost: Interval | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain lists and numbers."""
        return {
            "variant": self.variant,
            "parameters": self.parameters,
            "seconds": round(self.seconds, 1),
            "lost_ap": self.lost.to_json() if self.lost else None,
            **self.agreement.to_json(),
        }


def compare(
    samples: Samples,
    held_out: Samples,
    config: RFNetTraining,
    variants: Sequence[Variant] = VARIANTS,
    *,
    run_dir: str | Path | None = None,
    resume: bool = False,
    device: str = "cpu",
    beside: Callable[[RFNet | SingleImage], nn.Module] | None = None,
) -> tuple[list[Row], Fitted, Array]:
    """Trains each variant on the same samples for as long, RFNet first, and measures each on the same held-out ones.

    beside: makes for each variant what learns along (see `fit_rfnet`).

    Returns the rows, RFNet as fitted and its held-out probabilities.
    """
    labels = held_out.label_tensor().numpy()
    classes = max(classes_in(samples), classes_in(held_out))
    rows: list[Row] = []
    first: tuple[Fitted, Array] | None = None
    ordered: list[Variant] = ["RFNet", *(name for name in variants if name != "RFNet")]
    for variant in ordered:
        model, tokenizer = build_variant(variant, samples, config, classes)
        fitted = fit_rfnet(
            samples,
            config,
            held_out=held_out,
            model=model,
            tokenizer=tokenizer,
            run_dir=_variant_folder(run_dir, variant),
            about={"variant": variant},
            resume=resume,
            device=device,
            label=f"training {variant}",
            beside=beside(model) if beside is not None else None,
        )
        probabilities = predict(fitted.model, fitted.tokenizer, held_out)
        first = first or (fitted, probabilities)
        rows.append(
            Row(
                variant,
                agreement(probabilities, labels, CLASSES[:classes], seed=config.seed),
                sum(parameter.numel() for parameter in fitted.model.parameters()),
                fitted.seconds,
                lost_ap(first[1], probabilities, labels) if variant != "RFNet" else None,
            )
        )
    assert first is not None
    return rows, *first


def build_variant(
    variant: Variant, samples: Samples, config: RFNetTraining, classes: int
) -> tuple[RFNet | SingleImage, PreTrainedTokenizerBase | None]:
    """RFNet, RFNet with one modality left out, or the ResNet of like size that sees the image alone."""
    fields: dict[str, Any] = {"classes": classes}
    if "image_size" not in (config.rfnet or {}):
        fields["image_size"] = samples.images.shape[-1]
    if variant.startswith("without "):
        fields[f"use_{variant.removeprefix('without ')}"] = False
    model, tokenizer = build_rfnet(titles_of(samples), config, **fields)
    if variant != "ResNet, image only":
        return model, tokenizer
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        pretrained = config.image_encoder if isinstance(config.image_encoder, str) else None
        return baseline_for(model.config, pretrained), None


def lost_ap(full: Array, reduced: Array, labels: Array, seed: int = 0) -> Interval:
    """Binary AP of `full` minus that of `reduced`, probabilities [N, classes] of the same samples, paired bootstrap."""

    def ap(rows: Array) -> float:
        return average_precision(rows[:, 1] == 0, rows[:, 0])

    return paired_bootstrap(np.stack([full[:, 0], labels], 1), np.stack([reduced[:, 0], labels], 1), ap, seed=seed)


def _variant_folder(run_dir: str | Path | None, variant: Variant) -> Path | None:
    if run_dir is None or variant == "RFNet":
        return Path(run_dir) if run_dir else None
    return Path(run_dir) / "ablations" / variant.replace(", ", "_").replace(" ", "_").lower()
