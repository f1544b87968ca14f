"""What a proof of search learns from, and how a row of it is trained: taste, then the model itself by `align`."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from goodeye.errors import BadInput
from goodeye.judging.clip import Clip
from goodeye.runfolder import RunFolder
from goodeye.search.adapt import adapted, make_trainable
from goodeye.search.align import Align, align
from goodeye.search.build import index_pictures
from goodeye.search.index import Index
from goodeye.search.pseudo import captions_of, from_captions
from goodeye.search.taste import fit_taste, load_head
from goodeye.search.towers import Heads, Queue, save_clip
from goodeye.search.vectors import Vector
from goodeye.training import checkpoint
from goodeye.training.guard import MEASURES
from goodeye.training.loop import read_metrics

ROW = Align(
    train="projection",
    steps=4000,
    warmup=30,
    batch=32,
    accumulate=1,
    stride=4,
    lr=1e-3,
    gain=10.0,
    pretrain=0.5,
    pairs=512,
    queue=0,
    evaluate_every=500,
    watched=0,
    guard=False,
)  # ours: how a row is trained in the showroom's small world (docs/lab.md)
UNHELD = replace(
    ROW,
    method="rrhf",
    stride=10,
    batch=64,
    steps=160,
    lr=4e-3,
    pretrain=0.0,
    evaluate_every=20,
    watched=400,
    guard=True,
)  # ours: a short run at a high rate whose collapse the recall guard is to see
WHOLE = 300  # its queries, whole captions among them: such as the guard watches
TOLD = "row.json"  # in a row's run folder: all that the row is a function of
QUERIES = 1000  # pseudo-queries that a row is trained on, at most


@dataclass(frozen=True, kw_only=True)
class Lessons:
    """taught, votes: pictures with captions, and people's votes on them. plain: captioned pictures such as the model
    was pretrained on, for the contrastive loss; without them it learns from the taught ones."""

    taught: Path
    votes: Path
    plain: Path | None = None


class Learner:
    """A model with what it knows of the lessons: their indexes, and its own taste.

    The taste is fitted anew for each model, on the same votes: embeddings of two models have nothing in common.
    """

    def __init__(self, name: str, clip: Clip, lessons: Lessons, out: Path, models: str) -> None:
        self.name, self.clip, self.lessons, self.models = name, clip, lessons, models
        self.out = out / "indexes" / f"{name}-{clip.version}"

    def index(self, source: Path) -> Index:
        """The index of a folder or table of pictures by this model; made once. Another place has another index, since
        pictures are known by their full paths."""
        folder = self.out / f"{source.stem}-{_digest(str(source.resolve()))}"
        index_pictures(source, folder, self.clip, self.models, duplicates=0)
        return Index(folder)

    @cached_property
    def taught(self) -> Index:
        return self.index(self.lessons.taught)

    @cached_property
    def plain(self) -> Index | None:
        return None if self.lessons.plain is None else self.index(self.lessons.plain)

    @cached_property
    def head(self) -> Vector:
        """w of the taste, [D]."""
        path = self.taught.folder / f"taste-{_digest(self.lessons.votes.read_bytes())}.safetensors"
        if not path.exists():
            fit_taste(self.taught.folder, self.lessons.votes, out=path)
        return load_head(path, self.taught.card).weight.numpy()

    @property
    def told(self) -> str:
        """A digest of captions and votes: 8 digits."""
        captions = [list(captions_of(index).values()) for index in (self.taught, self.plain) if index is not None]
        return _digest(json.dumps([captions, self.lessons.votes.read_text()]))


def train_row(
    learner: Learner,
    config: Align,
    folder: Path,
    resume: bool = True,
    count: int = QUERIES,
    captioned: Index | None = None,
    most: int | None = 1,
) -> Clip:
    """The model after `config.method` on the lessons, its run in `folder`; trained once.

    Queries are what the taught captions name first (most: of how many parts; None: whole captions, too), and lists are
    those of the queries as they are: the lexicon's words gain nothing in the showroom. captioned: what the contrastive
    loss and the guard look at; the plain pictures if not given. A batch has no more pairs than it has pictures. Raises
    BadInput for a folder whose row is trained otherwise.
    """
    _claim(folder, {**asdict(config), "queries": count, "start": learner.clip.version, "lessons": learner.told})
    if not (folder / "clip" / "config.json").is_file():
        captioned = learner.plain if captioned is None else captioned
        pairs = min(config.pairs, len(captions_of(captioned or learner.taught)))
        start = save_clip(learner.clip, folder.parent / "start")
        align(
            learner.taught,
            Clip.from_pretrained(start, learner.clip.model.device),
            learner.head,
            folder,
            captioned=captioned,
            queries=from_captions(list(captions_of(learner.taught).values()), count, config.seed, most),
            config=replace(config, pairs=pairs),
            resume=resume,
            cpu=learner.clip.model.device.type == "cpu",
        )
    return Clip.from_pretrained(folder / "clip", learner.clip.model.device)


def train_unheld(
    learner: Learner, config: Align, folder: Path, watched: Index, resume: bool = True
) -> tuple[Clip, dict[str, Any]]:
    """A row that nothing holds, under the recall guard: the model as it was at the guard's last look, and what the
    guard saw. That is at each look its `steps`, MEASURES and `recall_at_1` of the captions that it watched, further why
    it `stopped` the run ("" if it did not), and the step of its `best` look, whose weights are in the folder's clip/.

    config: with the guard, without the contrastive loss, and of the projections alone. watched: an index with captions.
    Raises as `train_row` and `align` do.
    """
    train_row(learner, config, folder, resume, WHOLE, watched, most=None)
    last = checkpoint.found(folder / "checkpoints")[-1]
    state = json.loads((last / "state.json").read_text())
    looks = [row for row in read_metrics(folder) if "recall_at_1" in row]
    seen = {"steps": [row["step"] for row in looks]}
    seen |= {name: [row[name] for row in looks] for name in (*MEASURES, "recall_at_1")}
    clip = Clip.from_pretrained(folder.parent / "start", learner.clip.model.device)
    make_trainable(clip, "projection", temperature=False)
    heads = Heads(clip, Queue(0, clip.dimensions))
    checkpoint.load_best(last.parent, {"clip": heads}, int(last.name))
    clip.model.requires_grad_(False)
    return clip, {**seen, "stopped": state["stopped"], "best": state["best"]}


def _claim(folder: Path, told: Mapping[str, Any]) -> None:
    run = RunFolder(folder)
    if not (folder / TOLD).exists() and not run.holds_a_run():
        run.write_json(TOLD, told)
    before = run.read_json(TOLD)
    changed = [f"{name} {before.get(name)}, now {value}" for name, value in told.items() if before.get(name) != value]
    if changed:
        raise BadInput(f"{folder} was trained with {', '.join(changed)}. Use the old settings, or another folder.")


def _digest(told: str | bytes) -> str:
    return hashlib.sha256(told.encode() if isinstance(told, str) else told).hexdigest()[:8]


def load_row(folder: Path, like: Clip) -> Clip:
    """The model in a run folder of `align`, in a model's own folder, or `like` with an adapter. Raises BadInput for
    other folders."""
    if (folder / "adapter_config.json").is_file():
        return adapted(like, folder)
    place = folder / "clip" if (folder / "clip").is_dir() else folder
    if not (place / "config.json").is_file():
        raise BadInput(f"{folder} holds no model. Name the run folder of `goodeye search align`.")
    return Clip.from_pretrained(place, like.model.device)
