"""Trains the oracle's facts reader on a world of its own, and measures the oracle on others.

Seeds: 31 to learn from, 33 to set the rules' lines by, 32 to measure on. The house's models use 11 to 15, so that no
picture is shared with them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from goodeye.atomic import write_bytes
from goodeye.judging.protocol import Context
from goodeye.showroom import degrade as D
from goodeye.showroom import facts as X
from goodeye.showroom import scenes as S
from goodeye.showroom.oracle import Oracle
from goodeye.showroom.world import World, world
from goodeye.training.loop import Loop, Modules, Result, fit, shuffled

SEED, MEASURED_ON = 31, 32
SCENES, HELD = 14336, 1000
SHARD = 256
PLANES = {"image": (3, X.SIZE), "alpha": (1, X.SIZE), "extension": (1, X.GRID)}
TRAINING = Loop(
    steps=3600, lr=2e-3, betas=(0.9, 0.99), weight_decay=1e-2, schedule="cosine", floor=0.01, warmup=100, seed=SEED,
    log_every=20, save_seconds=120.0,
)  # fmt: skip
BATCH = 32
DEGRADED, LOST = 0.7, 0.12  # shares of the pictures that are degraded, and that lose their place

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class ReadingWorld:
    """Pictures and their facts: image [N,3,128,128], alpha of the product [N,1,128,128] and how much of each cell an
    extension covers [N,1,32,32], all uint8 and memory-mapped; truth of N."""

    image: np.ndarray
    alpha: np.ndarray
    extension: np.ndarray
    truth: X.Truth

    def __len__(self) -> int:
        return len(self.image)


def reading_world(folder: Path, seed: int, count: int, say: Callable[[str], None] = print) -> ReadingWorld:
    """The world `seed` from `folder`; renders what is not there yet (a killed run goes on at its last 256 scenes)."""
    folder.mkdir(parents=True, exist_ok=True)
    state = folder / "state.json"
    wanted = {"seed": seed, "count": count}
    done = json.loads(state.read_text()) if state.exists() else {}
    if done.get("wanted") != wanted:
        done = {"wanted": wanted, "scenes": 0}
    scenes = X.draw_scenes(seed, count)
    mode = "r+" if done["scenes"] else "w+"
    maps = {name: np.lib.format.open_memmap(folder / f"{name}.npy", mode, np.uint8, (count, c, size, size))
            for name, (c, size) in PLANES.items()}  # fmt: skip
    while done["scenes"] < count:
        at = done["scenes"]
        for r in S.render_many(scenes[at : at + SHARD]):
            grown = F.adaptive_avg_pool2d((r.obj == S.EXTENSION).float()[:, None], X.GRID)
            for name, plane in (("image", r.image), ("alpha", r.product[:, 3:]), ("extension", grown)):
                maps[name][at : at + len(plane)] = (plane * 255).round().byte().numpy()
            at += len(r.image)
        for array in maps.values():
            array.flush()
        done["scenes"] = at
        write_bytes(state, json.dumps(done).encode())
        say(f"the oracle's world {seed}: {at}/{count} scenes")
    return ReadingWorld(**maps, truth=X.truth(scenes))


def batch_of(source: ReadingWorld, ids: Sequence[int], seed: int) -> Batch:
    """Pictures and targets of some scenes, degraded, mirrored and lost by a generator that `seed` starts."""
    rng = np.random.default_rng(seed)
    images = []
    lost = torch.from_numpy(rng.random(len(ids)) < LOST)
    for i, gone in zip(ids, lost.tolist(), strict=True):
        if gone or rng.random() < DEGRADED:
            images.append(D.imitated(source.image[i], source.alpha[i], rng, gone))
        else:
            images.append(source.image[i].astype(np.float32) / 255)
    where = torch.tensor(ids)
    truth = source.truth
    batch = {
        "pixels": torch.from_numpy(np.stack(images)),
        "mask": torch.from_numpy(source.alpha[ids]).float() / 255,
        "extension": torch.from_numpy(source.extension[ids])[:, 0].float() / 255,
        "known": (~lost).float(),
        "horizon": truth.horizon[where].masked_fill(lost, math.nan),
        "place": truth.place[where].masked_fill(lost, X.PLACE_NAMES.index(X.NOWHERE)),
        "wall": truth.wall[where].masked_fill(lost, X.UNKNOWN),
        "light": truth.light[where].masked_fill(lost, X.UNKNOWN),
        "reference": truth.reference[where].masked_fill(lost, X.UNKNOWN),
        "height": truth.height[where].masked_fill(lost, math.nan),
    }
    if rng.random() < 0.5:
        batch |= {name: batch[name].flip(-1) for name in ("pixels", "mask", "extension")}
    return batch


def losses(seen: X.Facts, batch: Batch) -> dict[str, Tensor]:
    """The loss of each fact and their weighted sum, "loss". Facts that a picture does not show count nothing."""
    weights = {
        "horizon": 1.0,
        "place": 1.0,
        "wall": 0.4,
        "light": 0.4,
        "reference": 1.0,
        "height": 1.0,
        "extension": 4.0,
    }
    parts = {}
    for name in ("place", "wall", "light", "reference"):
        total = F.cross_entropy(getattr(seen, name), batch[name], ignore_index=X.UNKNOWN, reduction="sum")
        parts[name] = total / (batch[name] != X.UNKNOWN).sum().clamp(min=1)
    places = {"horizon": (X.horizon_bins, batch["horizon"]), "height": (X.height_bins, batch["height"].log())}
    for name, (bins, value) in places.items():
        logits = getattr(seen, name)
        goal = X.soft_bins(value, bins(logits.shape[1]).to(logits.device))
        parts[name] = -(goal * logits.log_softmax(1)).sum() / goal.sum().clamp(min=1)
    goal = batch["extension"]
    cells = F.binary_cross_entropy_with_logits(seen.extension, goal, weight=1 + 3 * goal, reduction="none")
    parts["extension"] = (cells.mean((1, 2)) * batch["known"]).mean()
    return {"loss": torch.stack([weights[name] * value for name, value in parts.items()]).sum(), **parts}


def train_oracle(
    out: Path, work: Path, *, scenes: int = SCENES, held: int = HELD, config: Loop = TRAINING, batch: int = BATCH
) -> Result:
    """Trains the facts reader from nothing and writes it, with its card and its accuracy, to `out`.

    work: folder for its worlds and checkpoints; the same call goes on where an earlier one was stopped.
    """
    source = reading_world(work / "world", config.seed, scenes)
    torch.manual_seed(config.seed)
    reader = X.FactsReader(X.FactsConfig()).to(memory_format=torch.channels_last)  # a fifth faster on CPUs
    order = shuffled(len(source), batch, config.seed)

    def data(index: int) -> Batch:
        return batch_of(source, sorted(order(index)), config.seed * 1_000_003 + index)

    def step(nets: Modules, given: Batch, number: int) -> dict[str, Tensor]:
        return losses(nets["reader"](given["pixels"], given["mask"]), given)

    about = {"scenes": scenes, "batch": batch, "reader": reader.config.to_diff_dict()}
    result = fit(
        {"reader": reader}, step, data, config, work / "run", about=about, resume=True, label="the oracle's reader"
    )
    out.mkdir(parents=True, exist_ok=True)
    reader.to(memory_format=torch.contiguous_format).half().save_pretrained(out)
    oracle = Oracle.from_pretrained(out)
    measured = measure(oracle, judged_world(work, MEASURED_ON, held))
    numbers = {kind: asdict(one) for kind, one in measured.items()}
    write_bytes(out / "measured.json", (json.dumps(numbers, indent=1) + "\n").encode())
    write_bytes(out / "README.md", card(oracle, result, measured, scenes, config, batch).encode())
    return result


def judged_world(work: Path, seed: int, count: int) -> World:
    """Labelled scenes, the five classes in equal shares, to measure on."""
    return world(work / f"judged-{seed}", seed, count, available=1 / len(S.CLASSES))


@dataclass(frozen=True)
class Agreement:
    """How often the oracle's label is the true one.

    accuracy: of the five labels. binary: available or not. recall: of each class. balanced: for each fault, the mean of
    two shares: its pictures that are not called available, and available pictures that are not called by its name.
    """

    count: int
    accuracy: float
    binary: float
    recall: dict[str, float]
    balanced: dict[str, float]


def measure(oracle: Oracle, held: World, batch: int = 64) -> dict[str, Agreement]:
    """The agreement on pictures as rendered ("clean") and as degraded by fixed draws, with the product pasted back as
    the ads job does ("degraded")."""
    out = {}
    for kind in ("clean", "degraded"):
        said: list[str] = []
        for start in range(0, len(held), batch):
            ids = range(start, min(start + batch, len(held)))
            verdicts = oracle.inspect(pictures(held, ids, kind == "degraded"), contexts(held, ids))
            said += [verdict.label for verdict in verdicts]
        out[kind] = agreement([S.CLASSES[i] for i in held.label], said)
    return out


def pictures(held: World, ids: Sequence[int], spoil: bool) -> Tensor:
    """Pictures [N,3,H,W] in [0,1] of a world, degraded by a draw of each one's own where `spoil`."""
    if not spoil:
        return torch.from_numpy(np.stack([held.image[i] for i in ids])).float() / 255
    made = [D.imitated(held.image[i], held.product[i, 3:], np.random.default_rng((MEASURED_ON, i))) for i in ids]
    return torch.from_numpy(np.stack(made))


def contexts(held: World, ids: Sequence[int]) -> list[Context]:
    """What belongs to these pictures: product, title and caption."""
    products = torch.from_numpy(np.stack([held.product[i] for i in ids])).float() / 255
    return [Context(p, held.titles[i], held.captions[i]) for p, i in zip(products, ids, strict=True)]


def agreement(true: Sequence[str], said: Sequence[str]) -> Agreement:
    """Compares the oracle's labels with the true ones (see `Agreement`)."""
    pairs = list(zip(true, said, strict=True))

    def share(name: str, right: Callable[[str], bool]) -> float:
        these = [right(s) for t, s in pairs if t == name]
        return round(sum(these) / max(1, len(these)), 4)

    return Agreement(
        count=len(pairs),
        accuracy=round(sum(t == s for t, s in pairs) / len(pairs), 4),
        binary=round(sum((t == "available") == (s == "available") for t, s in pairs) / len(pairs), 4),
        recall={name: share(name, name.__eq__) for name in S.CLASSES},
        balanced={
            name: round((share(name, "available".__ne__) + share("available", name.__ne__)) / 2, 4)
            for name in S.CLASSES[1:]
        },
    )


def card(oracle: Oracle, result: Result, measured: dict[str, Agreement], scenes: int, config: Loop, batch: int) -> str:
    """The model card, Markdown."""
    clean, spoiled = measured["clean"], measured["degraded"]
    rows = {
        "accuracy of five labels": (clean.accuracy, spoiled.accuracy),
        "available or not": (clean.binary, spoiled.binary),
    }
    rows |= {f"recall of {name}": (clean.recall[name], spoiled.recall[name]) for name in S.CLASSES}
    rows |= {f"balanced accuracy of {name}": (clean.balanced[name], spoiled.balanced[name]) for name in S.CLASSES[1:]}
    return CARD.format(
        parameters=f"{sum(p.numel() for p in oracle.reader.parameters()):,}",
        scenes=f"{scenes:,}",
        seed=config.seed,
        steps=config.steps,
        batch=batch,
        lr=config.lr,
        minutes=f"{result.seconds / 60:.0f}",
        held=clean.count,
        measured_on=MEASURED_ON,
        rows="\n".join(f"| {name} | {a:.1%} | {b:.1%} |" for name, (a, b) in rows.items()),
        rules="".join(f"- {name}: {value:g}\n" for name, value in asdict(oracle.rules).items()),
        version=oracle.version,
    )


CARD = """---
license: apache-2.0
library_name: transformers
tags: [goodeye, showroom, evaluation]
---
# The oracle's facts reader

A residual network of {parameters} weights that reads facts from a 128x128 picture of the showroom and the product's
mask: the horizon, the place, the wall's colour, the light, the thing of known size beside the product and its height,
and a map of what grows from the product. The oracle (`goodeye.showroom.oracle`) judges these facts by fixed rules,
read from the picture and from its mirror image and averaged.

It measures; nothing is ever trained with it or on what it says.

**Data.** {scenes} scenes rendered for it alone (world {seed}; the house's models use worlds 11 to 17), in which
horizon and reference thing are in half of the scenes drawn without regard to the product. 70 % are degraded (noise,
blur, JPEG, resampling, wrong light, stains, wobble, coarse patches), 12 % have lost their place.

**Training.** {steps} steps of {batch} pictures, AdamW, learning rate {lr:g} falling by a cosine, seed {seed}; {minutes}
minutes on one busy CPU core.

**Measured** on {held} held-out scenes (world {measured_on}), as rendered and degraded. A fault's balanced accuracy is
the mean of two shares: its pictures that are not called available, and available ones that are not called by it.

| | as rendered | degraded |
|---|---|---|
{rows}

**Rules** (lengths in canvas widths):
{rules}
**Limits.** It knows the showroom's eight places and four reference things only. A size is judged only where the title
names one of the showroom's products. Version {version}.
"""
