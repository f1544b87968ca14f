"""Trains RFNet on labelled pictures in memory."""

import math
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from goodeye.errors import BadInput
from goodeye.judging.baseline import SingleImage
from goodeye.judging.metrics import Array, average_precision
from goodeye.judging.rfnet import CLASSES, RFNet, encode_titles
from goodeye.judging.samples import Samples, as_inputs, mirrored
from goodeye.judging.titles import title_tokenizer
from goodeye.training.loop import Loop, fit, shuffled
from goodeye.training.processes import is_cpu, own_device
from goodeye.training.told import told_data

# Encoders for training from nothing at about 128 pixels. Ours.
SMALL_RESNET = {"embedding_size": 24, "hidden_sizes": [32, 64, 96, 128], "depths": [1, 1, 1, 1], "layer_type": "basic"}
SMALL_BERT = {
    "model_type": "bert",
    "hidden_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 192,
    "max_position_embeddings": 64,
}
SMALL = {"width": 128, "heads": 4}


@dataclass(frozen=True, kw_only=True)
class RFNetTraining:
    """How RFNet is trained. Epochs, rate and its drop: a third party's reading of the paper; the rest ours.

    Encoders: a hub id or folder with pretrained weights, or config fields to start from nothing; None is a small one
    from nothing. A text encoder's vocabulary is made of the titles where it starts from nothing.
    """

    image_encoder: str | dict[str, Any] | None = None
    text_encoder: str | dict[str, Any] | None = None
    rfnet: dict[str, Any] | None = None  # RFNetConfig's other fields; None: small ones
    epochs: float = 10.0
    batch_size: int = 64
    lr: float = 1e-4
    schedule: Literal["step", "cosine"] = "step"
    drop_at: float = 0.5  # for "step": the part of training after which the rate is multiplied by drop_to
    drop_to: float = 0.1
    warmup: int = 0  # steps
    weight_decay: float = 1e-2
    label_smoothing: float = 0.0
    mirror: bool = True  # half of the samples are mirrored, all their pictures alike
    ema: float | None = None
    precision: Literal["fp32", "bf16"] = "fp32"
    seed: int = 0
    log_every: int = 10
    evaluations: int = 10  # evenly over training

    def loop(self, count: int) -> Loop:
        """The loop's settings for so many samples."""
        steps = max(1, math.ceil(self.epochs * count / self.batch_size))
        return Loop(
            steps=steps,
            lr=self.lr,
            weight_decay=self.weight_decay,
            schedule=self.schedule,
            milestones=(max(1, round(self.drop_at * steps)),),
            gamma=self.drop_to,
            warmup=self.warmup,
            ema=self.ema,
            precision=self.precision,
            seed=self.seed,
            log_every=self.log_every,
            evaluate_every=max(1, steps // max(1, self.evaluations)),
        )


@dataclass(frozen=True)
class Fitted:
    """A trained model (RFNet or the baseline) with its tokenizer; last: the last numbers of its metrics.jsonl."""

    model: RFNet | SingleImage
    tokenizer: PreTrainedTokenizerBase | None
    last: dict[str, float]
    seconds: float

    def save_pretrained(self, folder: str | Path) -> None:
        """Model and tokenizer in one folder, as RFNetJudge.from_pretrained reads it."""
        self.model.save_pretrained(str(folder))
        if self.tokenizer is not None:
            self.tokenizer.save_pretrained(str(folder))


def build_rfnet(
    titles: Sequence[str], config: RFNetTraining, **fields: Any
) -> tuple[RFNet, PreTrainedTokenizerBase | None]:
    """A new RFNet and its tokenizer. `fields` of RFNetConfig win over config.rfnet. The same seed gives the same."""
    fields = (SMALL if config.rfnet is None else config.rfnet) | fields
    text: str | dict[str, Any] = config.text_encoder or SMALL_BERT
    tokenizer: PreTrainedTokenizerBase | None = None
    if fields.get("use_title", True):
        tokenizer = title_tokenizer(titles) if isinstance(text, dict) else AutoTokenizer.from_pretrained(text)
    if isinstance(text, dict) and tokenizer is not None:
        text = text | {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        model = RFNet.from_encoders(config.image_encoder or SMALL_RESNET, text, **fields)
    return model, tokenizer


def fit_rfnet(
    samples: Samples,
    config: RFNetTraining,
    *,
    held_out: Samples | None = None,
    model: RFNet | SingleImage | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    run_dir: str | Path | None = None,
    about: dict[str, Any] | None = None,
    resume: bool = False,
    device: str = "cpu",
    label: str = "training RFNet",
    beside: nn.Module | None = None,
) -> Fitted:
    """Trains RFNet on pictures in memory: cross-entropy, AdamW.

    model, tokenizer: where to start; without them `build_rfnet` makes new ones for the pictures' size and the
    classes that occur. beside: a module that learns along and is thrown away afterwards; called with the trunk's
    pooled tokens [N, width], the image's tokens [N, L, width] and the batch (with the samples' facts), it gives
    losses by name. run_dir: gets config.json, metrics.jsonl and checkpoints/, from which the same call with
    resume=True goes on; without it nothing is kept. Raises BadInput where there are no samples, and for a run of other
    ones.
    """
    if not len(samples):
        raise BadInput("there is nothing to train on. Give labelled pictures.")
    if model is None:
        fields = {"classes": classes_in(samples), "image_size": samples.images.shape[-1]}
        chosen = {name: value for name, value in fields.items() if name not in (config.rfnet or {})}
        model, tokenizer = build_rfnet(titles_of(samples), config, **chosen)
    config = replace(config, batch_size=min(config.batch_size, len(samples)))
    loop = config.loop(len(samples))
    words = _Words(model, tokenizer, samples)
    items = shuffled(len(samples), config.batch_size, config.seed)

    def data(index: int) -> dict[str, Tensor]:
        batch = samples.batch(items(index))
        if config.mirror:
            random = torch.Generator().manual_seed(config.seed * 1_000_003 + index)
            batch = mirrored(batch, torch.rand(config.batch_size, generator=random) < 0.5)
        return batch | words.of(batch["row"])

    def step(modules: Any, batch: dict[str, Tensor], number: int) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = modules["judge"](batch)
        return losses

    def evaluate(number: int) -> dict[str, float]:
        assert held_out is not None
        return _quick(predict(model, tokenizer, held_out), held_out.label_tensor().numpy())

    _arrange(model, torch.channels_last)  # convolutions on a CPU take about two thirds of the time so
    with nullcontext(run_dir) if run_dir else tempfile.TemporaryDirectory() as folder:
        result = fit(
            {"judge": _Learner(model, beside, config.label_smoothing)},
            step,
            data,
            loop,
            folder,
            about={"training": asdict(config), "samples": len(samples), **_told(folder, samples), **(about or {})},
            evaluate=evaluate if held_out is not None and len(held_out) else None,
            resume=resume,
            cpu=is_cpu(own_device(device)),
            label=label,
        )
    _arrange(model, torch.contiguous_format)
    return Fitted(model.eval(), tokenizer, result.last, result.seconds)


def _told(folder: str | Path, samples: Samples) -> dict[str, str]:
    """Labels, titles, and the middle line of each image: enough to know the samples by, and read in no time."""
    lines = samples.images[:, :, samples.images.shape[2] // 2]
    lines = lines if samples.rows is None else lines[samples.rows]
    rows = [samples.label_tensor().tolist(), titles_of(samples)]
    return told_data(folder, rows, lines.contiguous().numpy().tobytes())


class _Learner(nn.Module):
    """The judge and what learns beside it, called with a batch for its losses."""

    def __init__(self, judge: RFNet | SingleImage, beside: nn.Module | None, label_smoothing: float) -> None:
        super().__init__()
        self.judge, self.beside, self.label_smoothing = judge, beside, label_smoothing

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        logits, pooled, tokens = self.judge.trunk(**as_inputs(batch), **_words_of(batch))
        logits, labels = logits.float(), batch["labels"]
        loss = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        losses = self.beside(pooled, tokens, batch) if self.beside is not None else {}
        right = (logits.argmax(1) == labels).float().mean()
        return {"loss": loss + sum(losses.values()), "accuracy": right, **losses}


def _arrange(model: nn.Module, order: torch.memory_format) -> None:
    model.to(memory_format=order)  # type: ignore[call-overload]


def _quick(probabilities: Array, labels: Array) -> dict[str, float]:
    likely = np.clip(probabilities[np.arange(len(labels)), labels], 1e-9, 1.0)
    found = {
        "held_out_loss": float(-np.log(likely).mean()),
        "held_out_accuracy": float((probabilities.argmax(1) == labels).mean()),
        "held_out_ap": average_precision(labels == 0, probabilities[:, 0]),
    }
    return {name: value for name, value in found.items() if math.isfinite(value)}


class _Words:
    """The titles of samples as numbers, once for the whole training. Nothing where the model reads no titles."""

    def __init__(self, model: nn.Module, tokenizer: PreTrainedTokenizerBase | None, samples: Samples) -> None:
        self.tensors: tuple[Tensor, Tensor] | None = None
        if isinstance(model, RFNet) and model.config.use_title:
            if tokenizer is None:
                raise ValueError("this RFNet reads titles; give its tokenizer")
            ids, mask = encode_titles(tokenizer, samples.titles, model.config.title_length)
            self.tensors = ids.int(), mask.bool()

    def of(self, rows: Int[Tensor, " N"]) -> dict[str, Tensor]:
        """The words of these rows of the samples' tensors, no wider than the longest title needs."""
        if self.tensors is None:
            return {}
        ids, mask = (tensor[rows] for tensor in self.tensors)
        longest = max(1, int(mask.sum(1).max()))
        return {"input_ids": ids[:, :longest].long(), "attention_mask": mask[:, :longest].long()}


def _words_of(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: batch[name] for name in ("input_ids", "attention_mask") if name in batch}


@torch.no_grad()
def predict(
    model: RFNet | SingleImage, tokenizer: PreTrainedTokenizerBase | None, samples: Samples, batch_size: int = 64
) -> Float[Array, "N classes"]:
    """Each sample's probability of each class, in double precision."""
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    words = _Words(model, tokenizer, samples)
    parts = []
    for first in range(0, len(samples), batch_size):
        batch = samples.batch(range(first, min(first + batch_size, len(samples))))
        batch = {name: value.to(device) for name, value in (batch | words.of(batch["row"])).items()}
        parts.append(model(**as_inputs(batch), **_words_of(batch)).double().softmax(1).cpu().numpy())
    model.train(was_training)
    return np.concatenate(parts)


def classes_in(samples: Samples) -> int:
    """Five classes, or six where the last one (unsuitable) occurs."""
    return len(CLASSES) if len(CLASSES) - 1 in samples.label_tensor() else len(CLASSES) - 1


def titles_of(samples: Samples) -> list[str]:
    """The titles of the samples, in order."""
    return list(samples.titles) if samples.rows is None else [samples.titles[row] for row in samples.rows.tolist()]
