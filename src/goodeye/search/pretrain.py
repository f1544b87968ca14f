"""Training CLIP, or any two-tower model, on captioned pictures of one's own (`goodeye search pretrain`).

The contrastive loss with smoothed targets, a queue of past embeddings and gradient accumulation ("Aligning Vision
Models with Human Aesthetics in Retrieval", section 3.1): `goodeye.search.towers`.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from goodeye.errors import BadInput
from goodeye.judging.protocol import fingerprint
from goodeye.progress import progress
from goodeye.search.embed import count_too_long, embed_pixels, embed_whole, prepare
from goodeye.search.source import Item, find_items
from goodeye.search.towers import Pairs, fit_towers, recall_of, save_clip
from goodeye.tables import Skipped
from goodeye.training.loop import Loop, shuffled
from goodeye.training.processes import is_main
from goodeye.training.told import told_data

if TYPE_CHECKING:
    from goodeye.judging.clip import Clip

TEMPERATURE = 0.05  # at the start of a model that is trained from nothing (paper); learned


@dataclass(frozen=True, kw_only=True)
class Pretrain:
    """How a model is trained. Where no source stands beside it, ours."""

    fresh: bool = False  # begin with random weights instead of the model's own
    steps: int = 2000
    batch: int = 64  # pictures of each process
    accumulate: int = 1  # batches to an optimizer step
    queue: int = 4096  # past embeddings that enlarge the contrast (paper: a queue; its size is not published)
    settled: int | None = None  # step from which the queue is used; None: 400 with random weights, else 0
    lr: float | None = None  # None: 5e-4 with random weights, else 1e-5
    warmup: int = 100
    weight_decay: float = 0.1
    held: int = 256  # pictures kept back to measure recall on
    evaluate_every: int = 100  # steps
    precision: Literal["fp32", "bf16"] = "fp32"
    seed: int = 0

    def check(self) -> None:
        """Raises BadInput for numbers that make no sense."""
        leasts = {"steps": 1, "batch": 2, "accumulate": 1, "queue": 0, "held": 2, "evaluate_every": 1}
        for name, least in leasts.items():
            if getattr(self, name) < least:
                raise BadInput(f"{name} is {getattr(self, name)}. Give {least} or more.")
        if self.lr is not None and not 0 < self.lr < np.inf:
            raise BadInput(f"lr is {self.lr:g}. Give a plain number above 0.")

    def loop(self) -> Loop:
        """The training loop of such a run."""
        return Loop(
            steps=self.steps,
            lr=self.lr or (5e-4 if self.fresh else 1e-5),
            weight_decay=self.weight_decay,
            schedule="cosine",
            warmup=min(self.warmup, self.steps // 3),
            accumulate=self.accumulate,
            precision=self.precision,
            seed=self.seed,
            log_every=min(10, self.evaluate_every),
            evaluate_every=self.evaluate_every,
        )


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """What came of it. last: the last numbers of metrics.jsonl, recall on the pictures kept back among them. cut:
    captions that are longer than the model reads, of which it learned the beginnings."""

    out: Path
    weights: Path
    pictures: int
    steps: int
    seconds: float
    last: dict[str, float]
    skipped: list[Skipped] = field(default_factory=list)
    cut: int = 0

    def summary(self) -> str:
        """What a terminal shows."""
        recall = ", ".join(f"{name.replace('_', ' ')} {self.last[name]:.3f}" for name in self.last if "recall" in name)
        lines = [f"{self.steps} steps on {self.pictures} pictures in {self.seconds:.0f} s; {recall}"]
        lines += [f"{self.cut} captions are longer than the model reads: it learned their beginnings"] * bool(self.cut)
        return "\n".join([*lines, f"weights: {self.weights}"])

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and texts."""
        places = {"out": str(self.out), "weights": str(self.weights)}
        return {**vars(self), **places, "skipped": [vars(one) for one in self.skipped]}


def pretrain(
    sources: Sequence[str | Path],
    clip: "Clip",
    out: str | Path,
    *,
    config: Pretrain | None = None,
    workers: int = 4,
    resume: bool = False,
    cpu: bool = False,
) -> Pretrained:
    """Trains `clip`, in place, on the captioned pictures of folders, tables and shards (as `goodeye search index` reads
    them), and writes it to out/clip.

    Pictures without a caption, or that cannot be read, are skipped and named. Raises BadInput where too few are left,
    and for a run on others or on other captions; Diverged where the loss is not finite.
    """
    config, out = config or Pretrain(), Path(out)
    config.check()
    items, skipped = _captioned(sources, workers)
    held = min(config.held, len(items) // 5)
    if len(items) - held < config.batch or held < 2:
        raise BadInput(
            f"{len(items)} captioned pictures can be read, too few for batches of {config.batch} with some kept back. "
            "Give more, or a smaller --batch."
        )
    order = np.random.default_rng((config.seed, 3)).permutation(len(items)).tolist()
    kept, learned = [items[at] for at in order[:held]], [items[at] for at in order[held:]]
    if config.fresh:
        _forget(clip, config.seed)
    before = fingerprint(clip.model)
    numbers = shuffled(len(learned), config.batch, config.seed)

    def data(index: int) -> Pairs:
        chosen = [learned[at] for at in numbers(index)]
        with ThreadPoolExecutor(max(1, workers)) as pool:
            pixels = list(pool.map(lambda item: prepare(item.cell.open(), clip), chosen))
        return Pairs(torch.stack(pixels), [item.caption for item in chosen])

    def evaluate(number: int) -> dict[str, float]:
        pixels = torch.stack([prepare(item.cell.open(), clip) for item in kept])
        images = np.concatenate([embed_pixels(part, clip) for part in pixels.split(64)])
        texts = embed_whole([item.caption for item in kept], clip)
        return recall_of(torch.from_numpy(images), torch.from_numpy(texts), torch.arange(len(kept)))

    asked = asdict(config)
    rows = [(item.name, item.caption) for item in items]
    about = {"job": "search pretrain", "start": before, "pictures": len(learned), "fresh": asked["fresh"]}
    done = fit_towers(
        clip,
        data,
        config.loop(),
        out,
        queue=config.queue,
        settled=(400 if config.fresh else 0) if config.settled is None else config.settled,
        about={**about, "batch": config.batch, "held": held, **told_data(out, rows)},
        evaluate=evaluate,
        resume=resume,
        cpu=cpu,
    )
    if is_main(cpu):
        save_clip(clip, out / "clip")
    return Pretrained(
        out=out,
        weights=out / "clip",
        pictures=len(learned),
        steps=done.steps,
        seconds=done.seconds,
        last=done.last,
        skipped=skipped,
        cut=count_too_long([item.caption for item in learned], clip),
    )


def _captioned(sources: Sequence[str | Path], workers: int) -> tuple[list[Item], list[Skipped]]:
    """Pictures that have a caption and can be opened: each is opened once, so that no step of the training fails."""
    found: list[Item] = []
    skipped: list[Skipped] = []
    for item in (one for source in sources for one in find_items(source)):
        if isinstance(item, Skipped):
            skipped.append(item)
        elif not item.caption:
            skipped.append(Skipped(item.name, f"{item.name} has no caption. Write one beside it, or leave it away."))
        else:
            found.append(item)

    def opened(item: Item) -> Item | Skipped:
        try:
            item.cell.open()
        except BadInput as error:
            return Skipped(item.name, str(error))
        return item

    usable: list[Item] = []
    with ThreadPoolExecutor(max(1, workers)) as pool, progress("reading", len(found), "pictures") as advance:
        for one in pool.map(opened, found):
            advance()
            if isinstance(one, Skipped):
                skipped.append(one)
            else:
                usable.append(one)
    return usable, skipped


def _forget(clip: "Clip", seed: int) -> None:
    """Random weights in place of the model's own, of the same configuration, with the paper's first temperature."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        new = type(clip.model)(clip.model.config)
    clip.model.load_state_dict(new.state_dict())
    with torch.no_grad():
        clip.model.logit_scale.fill_(float(np.log(1 / TEMPERATURE)))
