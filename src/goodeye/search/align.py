"""The model itself learns what is right and beautiful: ranked preference training (`goodeye search align`).

"Aligning Vision Models with Human Aesthetics in Retrieval", section 3. For each pseudo-query, the pictures that its
rephrased form finds are ordered by a re-ranker; the model learns that order for the query as it was, so that what
rephrasing and re-ranking did is in its weights. Or it learns which of two answers people chose (`voted.py`).
A run folder holds config.json, queries.json (the grids), metrics.jsonl, checkpoints/, samples/ with a guard, and clip/,
a model for plain transformers and for model sets.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from goodeye.atomic import write_bytes
from goodeye.errors import BadInput
from goodeye.judging.protocol import fingerprint
from goodeye.progress import track
from goodeye.search.adapt import Train, layer_shares, make_trainable, merged
from goodeye.search.embed import count_too_long, embed_text, embed_texts, prepare, token_count, token_limit
from goodeye.search.index import Index, in_milvus
from goodeye.search.pseudo import captions_of, from_captions, from_model
from goodeye.search.ranked import Grids, dpo, ipo, ordered_grid, preferences, reach, rrhf
from goodeye.search.shift import Scale, shift
from goodeye.search.source import open_named
from goodeye.search.towers import (
    SEEN_AT_ONCE,
    Heads,
    Queue,
    Seen,
    Towers,
    contrastive,
    save_clip,
)
from goodeye.search.vectors import Vector
from goodeye.search.voted import voted_pairs
from goodeye.search.watch import Watch
from goodeye.training import checkpoint
from goodeye.training.guard import Guard, Limits
from goodeye.training.loop import Loop, Modules, fit, shuffled
from goodeye.training.processes import is_main, main_process_first, of_processes

if TYPE_CHECKING:
    from goodeye.judging.clip import Clip
    from goodeye.judging.large import LargeModel
    from goodeye.ledger.training import Preference

Method = Literal["dpo", "ipo", "rrhf"]
Rewrite = Callable[[str], str]
KEPT = 512 * 2**20  # bytes of prepared pictures that stay in memory
LOOPED = ("steps", "warmup", "lr", "clip", "accumulate", "evaluate_every", "precision", "seed")  # the loop tells these
NEEDED = 32  # captioned pictures that the guard looks at, at least


@dataclass(frozen=True, kw_only=True)
class Align:
    """What is trained, by what, and for how long. Defaults are the paper's where P stands beside them, else ours."""

    method: Method = "dpo"  # P; ipo and rrhf are its controls
    train: Train = "full"  # P
    rows: int = 5  # u, aesthetic sequences (P)
    columns: int = 5  # v, semantic sequences (P)
    stride: int = 10  # ranks between the pictures of a grid (P)
    taste: float = 1.0  # beauty's weight in the re-ranker, in standard deviations
    gain: float = 5.0  # beta / tau
    beta: float = 0.05  # P; only ipo needs it apart from the gain
    pretrain: float = 1.0  # weight of the contrastive loss on the index's own captions (P)
    pairs: int = 64  # captioned pictures of a batch, for that loss
    queue: int = 1024  # past embeddings that enlarge it
    batch: int = 16  # queries of each process
    accumulate: int = 8  # batches to an optimizer step; P: 128 queries in all
    steps: int = 650  # P
    warmup: int = 200  # P
    lr: float = 5e-5  # P
    decay: float = 0.9  # of the rate from layer to layer towards the input, where all weights are trained (P)
    clip: float = 3.0  # largest norm of the gradient (P)
    rank: int = 16  # of LoRA
    evaluate_every: int = 50  # steps
    watched: int = 128  # captioned pictures that the guard looks at; nothing is learned from them
    guard: bool = True
    precision: Literal["fp32", "bf16"] = "fp32"
    seed: int = 0

    def check(self) -> None:
        """Raises BadInput for numbers that make no sense."""
        for name in ("rows", "columns", "stride", "batch", "accumulate", "steps", "rank", "evaluate_every"):
            if getattr(self, name) < 1:
                raise BadInput(f"{name} is {getattr(self, name)}. Give 1 or more.")
        if self.rows * self.columns < 2:
            raise BadInput("a grid of one picture has no order. Give more rows or columns.")
        for name in ("taste", "gain", "beta", "pretrain", "lr", "decay", "clip"):
            if not np.isfinite(getattr(self, name)):
                raise BadInput(f"{name} is {getattr(self, name)}. Give a plain number.")
        for name in ("gain", "beta", "lr", "decay", "clip"):
            if getattr(self, name) <= 0:
                raise BadInput(f"{name} is {getattr(self, name):g}. Give more than 0.")
        if self.decay > 1:
            raise BadInput(f"decay is {self.decay:g}. Give 1, for the same rate everywhere, or less.")
        if self.pretrain < 0 or self.pairs < 2:
            raise BadInput(f"pretrain is {self.pretrain:g} on {self.pairs} pairs. Give 0 or more, on 2 pairs or more.")

    def loop(self) -> Loop:
        """The training loop of such a run."""
        return Loop(
            steps=self.steps,
            lr=self.lr,
            weight_decay=0.0,  # P
            schedule="cosine",  # P
            warmup=min(self.warmup, self.steps // 3),
            clip=self.clip,
            accumulate=self.accumulate,
            precision=self.precision,
            seed=self.seed,
            log_every=min(10, self.evaluate_every),
            evaluate_every=min(self.evaluate_every, self.steps),
            save_steps=self.evaluate_every,
        )


@dataclass(frozen=True, kw_only=True)
class Aligned:
    """What came of it. weights: the folder of the model. queries: learned from, or choices of people. left_out: those
    that the model cannot read whole, or whose pictures the index does not have. cut: captions of the contrastive loss
    that are longer than the model reads, of which it learned the beginnings."""

    out: Path
    weights: Path
    queries: int
    left_out: int
    steps: int
    seconds: float
    last: dict[str, float]
    best: int | None = None
    stopped: str = ""
    learned_from: str = "queries"
    cut: int = 0

    def summary(self) -> str:
        """What a terminal shows."""
        lines = [f"{self.steps} steps on {self.queries} {self.learned_from} in {self.seconds:.0f} s"]
        lines += [f"stopped: {self.stopped}"] * bool(self.stopped)
        for name in ("trained", "held_out", "recall_at_1", "preferred"):
            if name in self.last:
                lines.append(f"{name.replace('_', ' ')}: {self.last[name]:.3f}")
        lines += [f"{self.cut} captions are longer than the model reads: it learned their beginnings"] * bool(self.cut)
        return "\n".join([*lines, f"weights: {self.weights}"])

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and texts."""
        return {**vars(self), "out": str(self.out), "weights": str(self.weights)}


Key = tuple[bool, int]  # a row of the index that is searched (True), or of the captioned one


class Batch(NamedTuple):
    """Pixels [M + P, 3, h, w]: each picture of the grids once, then P captioned ones. texts: B queries, P captions.
    Where the towers do not learn, both are what the towers give of them, [M + P, H] and [B + P, K]. where: [B, N, L],
    a grid's pictures among the first M; shares: [B, N, L], theirs in what is ordered; reference: [B, N]."""

    pixels: Tensor
    texts: list[str] | Tensor
    where: Tensor
    shares: Tensor
    reference: Tensor


def align(
    index: Index,
    clip: "Clip",
    head: Vector | None,
    out: str | Path,
    *,
    captioned: Index | None = None,
    queries: Sequence[str] | None = None,
    preferred: "Sequence[Preference] | None" = None,
    count: int = 1000,
    model: "LargeModel | None" = None,
    rewrite: Rewrite | None = None,
    config: Align | None = None,
    limits: Limits | None = None,
    resume: bool = False,
    cpu: bool = False,
) -> Aligned:
    """Trains `clip`, whose index it is, in place.

    head: w of the index's taste, [D], for the re-ranker and for what is watched. captioned: an index of the same model
    whose pictures and captions the contrastive loss and the guard look at, such as the model was pretrained on; the
    index's own if not given. queries: without them `count` are made, by `model` if it is given, else from the index's
    captions. rewrite: rephrases a query before its list is searched. preferred: what people chose, in the place of
    queries and grids; each choice is one pair.
    Raises BadInput for an index that is too small for a grid, one without captions where they are needed, and queries
    that cannot be read; Diverged where the loss is not finite.
    """
    config, out = config or Align(), Path(out)
    config = config if preferred is None else replace(config, rows=1, columns=2)  # the better one, then the other
    config.check()
    told = index if captioned is None else captioned
    for one in (index, told):
        if in_milvus(one.folder):
            raise BadInput(f"{one.folder} lies in Milvus. Index the pictures that shall be learned from into a folder.")
    if told.card.version != index.card.version:
        raise BadInput(f"{told.folder} is of another model than {index.folder}. Index its pictures by the same one.")
    if not resume and checkpoint.found(out / "checkpoints"):
        raise BadInput(f"{out} holds a run that was begun. Go on with --resume or use another folder.")
    needed = reach(config.rows, config.columns, config.stride)
    if preferred is None and len(index) < needed:
        raise BadInput(
            f"{index.folder} holds {len(index)} pictures, and a grid of {config.rows} x {config.columns} at every "
            f"{config.stride}th rank needs {needed}. Add pictures, or lower --stride."
        )
    watched, learned_from = _split(captions_of(told), config, told)
    if head is None and (preferred is None or watched):
        raise BadInput(
            f"{index.folder} has no taste. Fit one by `goodeye search fit-taste`, or learn from --votes with "
            "--no-guard --watched 0, and give them again with --resume."
        )
    taste = np.zeros(clip.dimensions, np.float32) if head is None else head
    before = fingerprint(clip.model)

    def make() -> tuple[Grids, int]:
        if preferred is not None:
            return _enough(voted_pairs(index, clip, preferred), config, "choices of people"), len(preferred)
        asked = queries
        if asked is None:
            own = list((learned_from if captioned is None else captions_of(index)).values())
            asked = from_model(model, own, count, config.seed) if model else from_captions(own, count, config.seed)
        return _enough(make_grids(index, clip, taste, asked, rewrite, config), config, "queries"), len(asked)

    with main_process_first(cpu):
        grids, asked = _grids(out / "queries.json", make, again=is_main(cpu) and not resume)
    watch = Watch(told, clip, taste, watched, config.taste) if watched else None
    guard = Guard(watch.look, out / "samples", limits) if watch and config.guard else None
    words = list(learned_from.values())
    cut = count_too_long(words, clip) if config.pretrain else 0
    learned = make_trainable(clip, config.train, config.rank, temperature=config.pretrain > 0)
    asked_for = {name: value for name, value in asdict(config).items() if name not in LOOPED}
    data = _digest(grids, words)
    about = {"job": "search align", "align": asked_for, "start": before, "learned": learned, "data": data}
    queue = Queue(config.queue if config.pretrain else 0, clip.dimensions)
    done = fit(
        {"clip": (Heads if config.train == "projection" else Towers)(clip, queue)},
        _Step(config, queue),
        _Batches(index, told, clip, grids, learned_from, config, cpu),
        config.loop(),
        out,
        about=about,
        evaluate=watch.numbers if watch and not guard else None,
        guard=guard,
        shares=layer_shares(clip, config.decay) if config.train == "full" else None,
        resume=resume,
        cpu=cpu,
        label=f"aligning by {config.method}",
    )
    whole = merged(clip)
    if is_main(cpu):
        save_clip(whole, out / "clip")
    return Aligned(
        out=out,
        weights=out / "clip",
        queries=len(grids.queries),
        left_out=asked - len(grids.queries),
        steps=done.steps,
        seconds=done.seconds,
        last=done.last,
        best=done.best,
        stopped=done.stopped,
        learned_from="queries" if preferred is None else "choices of people",
        cut=cut,
    )


def _split(captions: Mapping[int, str], config: Align, index: Index) -> tuple[dict[int, str], dict[int, str]]:
    """Captioned pictures for the guard, and those that are learned from. Raises BadInput where there are too few."""
    rows = sorted(captions)
    order = [rows[at] for at in np.random.default_rng((config.seed, 7)).permutation(len(rows))]
    count = min(config.watched, len(order) // 4)
    if config.guard and count < NEEDED:
        raise BadInput(
            f"{index.folder} has {len(order)} pictures with captions, and the guard needs {4 * NEEDED}. Index pictures "
            "with captions, or use --no-guard."
        )
    if config.pretrain and len(order) - count < config.pairs:
        raise BadInput(
            f"{index.folder} has {len(order)} pictures with captions, too few for batches of {config.pairs} pairs. "
            "Index pictures with captions, or use --pretrain 0."
        )
    return {row: captions[row] for row in order[:count]}, {row: captions[row] for row in order[count:]}


# --- the data


def _grids(path: Path, make: Callable[[], tuple[Grids, int]], again: bool) -> tuple[Grids, int]:
    """The grids of a run and how many queries were asked for. They are made once: a run that goes on takes them from
    its folder. Raises BadInput where that file is damaged."""
    if again or not path.exists():
        grids, asked = make()
        columns = grids.queries, grids.rewritten, grids.rows.tolist(), grids.reference.tolist()
        told = [dict(zip(Grids._fields, one, strict=True)) for one in zip(*columns, strict=True)]
        write_bytes(path, (json.dumps({"asked": asked, "grids": told}) + "\n").encode())
    try:
        found = json.loads(path.read_text())
        queries, rewritten, rows, reference = ([one[name] for one in found["grids"]] for name in Grids._fields)
        grids = Grids(queries, rewritten, np.array(rows, dtype=np.int64), torch.tensor(reference))
        return grids, found["asked"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise BadInput(f"{path} is damaged ({error}). Start the run in another folder.") from error


def _enough(grids: Grids, config: Align, what: str) -> Grids:
    """The grids, which are not kept where they are fewer than a batch: with more the same line works."""
    if len(grids.queries) >= config.batch:
        return grids
    more = "Give more in a file, index pictures with captions" if what == "queries" else "Ask for more"
    raise BadInput(f"{len(grids.queries)} {what} are fewer than a batch of {config.batch}. {more}, or lower --batch.")


def make_grids(
    index: Index, clip: "Clip", head: Vector, queries: Sequence[str], rewrite: Rewrite | None, config: Align
) -> Grids:
    """One grid a query: the rewritten query's list, ordered by cos(q, x) + lambda w . x of the query as it was.

    The start model's similarities are taken from the index's own embeddings: no picture is embedded again. Queries that
    the model cannot read whole are left out.
    """
    scale, needed = Scale(index.sample, head), reach(config.rows, config.columns, config.stride)
    kept = [query for query in dict.fromkeys(queries) if token_count(query, clip) <= token_limit(clip)]
    texts, rows, reference = [], [], []
    for query in track(kept, "making grids", unit="queries"):
        vector = embed_texts([query], clip)[0]
        texts.append(rewrite(query) if rewrite else query)
        asked = embed_text(texts[-1], clip).vector
        listed = index.search(asked[None], needed)[1][0]
        scores = index.vectors[listed] @ shift(vector, head, scale.lam(config.taste, vector))
        rows.append(ordered_grid(listed, scores, config.rows, config.columns, config.stride).ravel())
        reference.append(index.vectors[rows[-1]] @ vector)
    return Grids(kept, texts, np.array(rows, dtype=np.int64), torch.from_numpy(np.array(reference, dtype=np.float32)))


class _Batches:
    """The index-th batch of queries with their pictures, each prepared once and kept as long as there is room; or what
    the towers give of them, all of it computed at the beginning."""

    def __init__(
        self,
        index: Index,
        told: Index,
        clip: "Clip",
        grids: Grids,
        captions: Mapping[int, str],
        config: Align,
        cpu: bool,
    ) -> None:
        self.grids, self.captions = grids, captions
        self.pictures, self.shares = grids.laid_out()
        self.queries = shuffled(len(grids.queries), config.batch, config.seed)
        self.rows = list(captions)
        self.pairs = shuffled(len(self.rows), config.pairs, config.seed + 1) if config.pretrain else None

        def picture(key: Key) -> Tensor:
            of_grid, row = key
            return prepare(open_named((index if of_grid else told).row(row)[0]), clip)

        size = picture((True, int(grids.rows[0, 0]))).nbytes
        self.picture = lru_cache(maxsize=max(1, KEPT // size))(picture)
        self.seen = Seen(clip, picture) if config.train == "projection" else None
        if self.seen:
            self._look(self.seen, config, cpu)

    def __call__(self, number: int) -> Batch:
        keys, texts, where, chosen = self._drawn(number)
        more = where, self.shares[chosen], self.grids.reference[chosen]
        if self.seen:
            return Batch(self.seen.images(keys), self.seen.texts(texts), *more)
        return Batch(torch.stack([self.picture(key) for key in keys]), texts, *more)

    def _drawn(self, number: int) -> tuple[list[Key], list[str], Tensor, list[int]]:
        """Pictures, texts, where each grid's pictures are among them, and which queries."""
        chosen = self.queries(number)
        rows, where = np.unique(self.pictures[chosen], return_inverse=True)
        told = [self.rows[at] for at in self.pairs(number)] if self.pairs else []
        keys = [*((True, row) for row in rows.tolist()), *((False, row) for row in told)]
        texts = [*(self.grids.queries[at] for at in chosen), *(self.captions[row] for row in told)]
        return keys, texts, torch.from_numpy(where.reshape(self.pictures[chosen].shape)), chosen

    def _look(self, seen: Seen, config: Align, cpu: bool) -> None:
        """Everything that this process will need, in a fixed order: a run that goes on sees the very same numbers."""
        world, rank = of_processes(cpu)
        drawn = [self._drawn(number * world + rank) for number in range(config.steps * config.accumulate)]
        keys = sorted({key for of_batch, _, _, _ in drawn for key in of_batch})
        texts = sorted({text for _, of_batch, _, _ in drawn for text in of_batch})
        for start in track(range(0, len(keys), SEEN_AT_ONCE), "looking at pictures", unit="batches"):
            seen.images(keys[start : start + SEEN_AT_ONCE])
        seen.texts(texts)


class _Step:
    """One step: each picture is encoded once, and one masked tensor holds all pairs of all grids."""

    def __init__(self, config: Align, queue: Queue) -> None:
        self.config, self.queue = config, queue
        self.pairs = preferences(config.rows, config.columns)

    def __call__(self, nets: Modules, batch: Batch, number: int) -> dict[str, Tensor]:
        config = self.config
        image, text, temperature = nets["clip"](batch.pixels, batch.texts)
        queries, pairs = len(batch.where), self.pairs.to(image.device)
        similar = (torch.einsum("bd,bnld->bnl", text[:queries], image[batch.where]) * batch.shares).sum(-1)
        if config.method == "dpo":
            ranked = dpo(similar, batch.reference, pairs, config.gain)
        elif config.method == "ipo":
            ranked = ipo(similar, batch.reference, pairs, config.gain, config.beta)
        else:
            ranked = rrhf(similar, pairs)
        found = {"loss": ranked, "ranked": ranked, "preferred": _preferred(similar, pairs)}
        if config.pretrain:
            told = image[len(image) - config.pairs :], text[queries:]
            found["contrastive"] = contrastive(*told, *self.queue.past(), temperature)
            found["loss"] = ranked + config.pretrain * found["contrastive"]
            self.queue.push(*told)
        return found


def _preferred(similar: Tensor, pairs: Tensor) -> Tensor:
    """The share of pairs that stand in the wanted order."""
    return (similar[:, :, None] > similar[:, None, :])[:, pairs].float().mean()


def _digest(grids: Grids, captions: Sequence[str]) -> str:
    told = json.dumps([grids.queries, grids.rewritten, grids.rows.tolist(), *captions])
    return hashlib.sha256(told.encode()).hexdigest()[:12]
