"""What each way to rank pictures gains, side by side on unseen ones: the whole job (`goodeye search prove`).

Every row answers the same queries on the same pictures. Beside agreement with people on beauty stand agreement on
accuracy, recall of captions that ask for their own picture, and the time of a query, since beauty alone can be bought
by pictures that nobody asked for. Intervals are 95 %, by bootstrap over queries; differences are paired by query.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from goodeye.atomic import write_bytes
from goodeye.errors import BadInput
from goodeye.judging.clip import Clip
from goodeye.judging.large import BadAnswer, LargeModel
from goodeye.judging.metrics import Interval, bootstrap, paired_bootstrap
from goodeye.judging.wins import Choice, Outcome, Wins, count_wins, outcome
from goodeye.progress import progress
from goodeye.search.align import Align
from goodeye.search.align import Method as Aligning
from goodeye.search.embed import embed_items, embed_pixels, embed_text, prepare
from goodeye.search.hpir import AXES, Axis, Group, Pair, choose, load, weighted
from goodeye.search.index import Index
from goodeye.search.lessons import ROW, UNHELD, Learner, Lessons, load_row, train_row, train_unheld
from goodeye.search.lexicon import choose_phrases
from goodeye.search.recall import load_captions, text_ranks_of
from goodeye.search.rephrase import BY_MODEL, Asks, Method, rephrase
from goodeye.search.shift import Scale, shift
from goodeye.search.source import open_named
from goodeye.search.vectors import Vector, Vectors

Scores = Float[np.ndarray[Any, Any], "Q N"]
Prefer = Callable[[int, Sequence[str], Sequence[str]], Mapping[str, Choice]]

BASE, SHIFT = "base", "shift"
ALIGNED = ("rrhf", "ipo", "dpo")  # the rows of aligned models that a proof is expected to have
ALONE = "rrhf_alone"  # RRHF that nothing holds, under the recall guard
SHIFTED = "dpo"  # the one that is also shown with the query shift
SHOWN = 5  # pictures of an answer
TIMED = 10  # queries whose time is taken
STRIP = 3  # queries in the strip of pictures


@dataclass(frozen=True, kw_only=True)
class Ground(Lessons):
    """What a proof stands on. gallery: the folder of unseen pictures that are searched, HPIR's among them; captions:
    unseen pictures with captions. prefer: says for a query's number which of two rows is better on each axis, one order
    a call. answers: a large model that rephrases, or what stands in for one."""

    gallery: Path
    hpir: Path
    captions: Path
    prefer: Prefer
    answers: Asks


@dataclass(frozen=True, kw_only=True)
class Prove:
    """How a proof is made. All ours. train: how a row is trained that is to be trained anew. unheld: how RRHF is
    trained whose collapse the recall guard shows."""

    seed: int = 0
    taste: float = 0.5
    depths: tuple[int, ...] = (20, 100, 400)
    train: Align = ROW
    unheld: Align = UNHELD

    def check(self) -> None:
        """Raises BadInput for numbers that make no sense."""
        if not np.isfinite(self.taste) or any(depth < 1 for depth in self.depths):
            raise BadInput("taste is a finite number, and a re-ranker's depth 1 or more. Correct them.")
        self.train.check()
        self.unheld.check()


@dataclass(frozen=True, kw_only=True)
class System:
    """One way to rank pictures. depth: of the two-stage re-ranker; None lets beauty count everywhere."""

    name: str
    about: str
    model: "Model"
    taste: float = 0.0
    depth: int | None = None
    method: Method | None = None


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What came of it. numbers: as results.json has it. strip: for each row its first pictures of the first queries."""

    out: Path
    numbers: dict[str, Any]
    strip: Mapping[str, Sequence[Sequence[str]]] = field(repr=False)

    @property
    def report(self) -> Path:
        return self.out / "report.html"


def prove(
    ground: Ground,
    *,
    clip: Clip,
    aligned: Mapping[str, Path] | None = None,
    retrain: Sequence[Aligning] = (),
    config: Prove | None = None,
    models: str = "showroom",
    out: str | Path = "goodeye-search-proof",
    resume: bool = True,
) -> Proof:
    """The rows base, two-stage re-ranking, query shift, each rephrasing, and one for each of `aligned` (folders as
    `align` writes them) and `retrain` (methods that are trained first, in out/align/). RRHF without the contrastive
    loss is trained for each proof, under the recall guard; where that cannot be, it is left out with the reason.

    out gets results.json, report.html and the indexes; the same call goes on where it was stopped. Raises BadInput for
    a folder that holds no model, before anything is measured.
    """
    from goodeye.search.prove_report import write_report

    config, out, started = config or Prove(), Path(out), time.monotonic()
    config.check()
    base = Model(BASE, clip, ground, out, models)
    variants = {
        name: Model(name, load_row(folder, clip), ground, out, models) for name, folder in (aligned or {}).items()
    }
    for name in retrain:
        train = replace(config.train, method=name, seed=config.seed)
        trained = train_row(base, train, out / "align" / name, resume)
        variants[name] = Model(name, trained, ground, out, models)
    left_out = {name: "no model was given for it" for name in ALIGNED if name not in variants}
    guard: dict[str, Any] = {}
    if ALONE not in variants:
        try:
            trained, guard[ALONE] = _alone(base, config, out, resume)
            variants[ALONE] = Model(ALONE, trained, ground, out, models)
        except BadInput as error:
            left_out[ALONE] = str(error)
    bench = _Bench(ground, base, config)
    systems = _systems(base, variants, config)
    rows: dict[str, dict[str, Any]] = {}
    measured: dict[str, Measured] = {}
    with progress("proving", len(systems), "rows") as advance:
        for system in systems:
            measured[system.name] = bench.measure(system)
            rows[system.name] = _told(measured[system.name])
            advance(note=system.name)
    numbers = {
        "seed": config.seed,
        "n": len(bench.pairs),
        "gallery": len(base.gallery),
        "captions": len(bench.captioned.captions),
        "taste": config.taste,
        "models": models,
        "rows": rows,
        "minus_base": {name: _minus(one, measured[BASE]) for name, one in measured.items() if name != BASE},
        "guard": guard,
        "left_out": left_out,
        "about": {system.name: system.about for system in systems},
        "seconds": round(time.monotonic() - started, 1),
    }
    proof = Proof(out=out, numbers=numbers, strip={name: one.shown[:STRIP] for name, one in measured.items()})
    write_bytes(out / "results.json", (json.dumps(numbers, indent=1, allow_nan=False) + "\n").encode())
    write_report(proof, [pair.query for pair in bench.pairs[:STRIP]])
    return proof


def _alone(base: "Model", config: Prove, out: Path, resume: bool) -> tuple[Clip, dict[str, Any]]:
    """RRHF without the contrastive loss, and what the guard saw; its folder is of this model, lessons and captions."""
    captions = base.ground.captions
    folder = out / ALONE / f"{base.clip.version}-{config.seed}-{base.told}-{captions.stem}" / "run"
    return train_unheld(base, replace(config.unheld, seed=config.seed), folder, base.index(captions), resume)


def _systems(base: "Model", variants: Mapping[str, "Model"], config: Prove) -> list[System]:
    found = [System(name=BASE, about="the model alone", model=base)]
    found += [
        System(
            name=f"rerank_{depth}",
            about=f"two stages: the first {depth} pictures are looked at again and re-ranked",
            model=base,
            taste=config.taste,
            depth=depth,
        )
        for depth in config.depths
    ]
    found.append(System(name=SHIFT, about="one shifted query ranks all pictures", model=base, taste=config.taste))
    methods: tuple[Method, ...] = ("repeat", "lexicon", *BY_MODEL)
    for method in methods:
        control = "; the control of all rephrasing" if method == "repeat" else ""
        found.append(System(name=method, about=f"the query rewritten{control}", model=base, method=method))
    for name, model in variants.items():
        after = "RRHF without the contrastive loss, where the guard last looked" if name == ALONE else name.upper()
        found.append(System(name=name, about=f"the model after {after}", model=model))
        if name == SHIFTED:
            about = f"the model after {name.upper()}, with a shifted query"
            found.append(System(name=f"{name}_{SHIFT}", about=about, model=model, taste=config.taste))
    return found


class Model(Learner):
    """A model with what a proof knows by it, too: the gallery and the captioned pictures."""

    def __init__(self, name: str, clip: Clip, ground: Ground, out: Path, models: str) -> None:
        super().__init__(name, clip, ground, out, models)
        self.ground = ground

    @cached_property
    def gallery(self) -> Index:
        return self.index(self.ground.gallery)

    @cached_property
    def vectors(self) -> Vectors:
        return np.asarray(self.gallery.vectors)

    @cached_property
    def row(self) -> dict[str, int]:
        return self.gallery.names()

    @cached_property
    def captioned(self) -> Vectors:
        items = load_captions(self.ground.captions).items
        return np.concatenate([done.vectors for done in embed_items(items, self.clip)])


@dataclass(frozen=True, eq=False)
class Measured:
    """One row's findings. right: axis -> [N, 2] of weight and 1 where right; ranks: of each caption's own picture;
    milliseconds: of each timed query; shown: the first pictures of each query; outcomes: against base. failures: texts
    that the large model rewrote into nothing usable, and that stood as they were."""

    right: dict[Axis, np.ndarray[Any, Any]]
    ranks: np.ndarray[Any, Any]
    milliseconds: np.ndarray[Any, Any]
    shown: list[list[str]]
    outcomes: dict[str, list[Outcome | None]]
    failures: int


class _Bench:
    """Queries, pictures and people of a proof, and what they say of a system."""

    def __init__(self, ground: Ground, base: Model, config: Prove) -> None:
        self.ground, self.base, self.config = ground, base, config
        self.pairs: list[Pair] = load(ground.hpir)
        self.captioned = load_captions(ground.captions)
        self.shown_by_base: list[list[str]] = []
        answers = ground.answers
        # the time of a query holds that of the server, which an answer that is kept would leave out
        self.unkept = LargeModel(answers.server) if isinstance(answers, LargeModel) else answers

    def measure(self, system: System) -> Measured:
        """All of a row."""
        model = system.model
        failed: list[str] = []
        answers = self.ground.answers
        texts = [self.rewritten(system, pair.query, answers, failed) for pair in self.pairs]
        scores = self.scores(system, texts, model.vectors)
        names = {at: name for name, at in model.row.items()}
        shown = [[names[at] for at in row] for row in np.argsort(-scores, axis=1, kind="stable")[:, :SHOWN].tolist()]
        self.shown_by_base = self.shown_by_base or shown
        captions = [self.rewritten(system, caption, answers, failed) for caption in self.captioned.captions]
        recall = self.scores(system, captions, model.captioned)
        return Measured(
            right={axis: self._right(axis, scores, model.row) for axis in AXES},
            ranks=text_ranks_of(recall, np.array(self.captioned.owner)),
            milliseconds=self._timed(system),
            shown=shown,
            outcomes=self._outcomes(shown),
            failures=len(failed),
        )

    def rewritten(self, system: System, query: str, answers: Asks, failed: list[str]) -> str:
        """The words that the system embeds. Where the large model gives no answer that can be used, the query as it is,
        which is then appended to `failed`."""
        if system.method == "lexicon":
            model = system.model
            return choose_phrases(query, model.gallery, model.clip, model.head).text
        if system.method is not None:
            try:
                return rephrase(query, system.method, system.model.clip, answers).text
            except BadAnswer:
                failed.append(query)
        return query

    def scores(self, system: System, texts: Sequence[str], vectors: Vectors) -> Scores:
        """What each text gives each picture. Outside of a re-ranker's depth beauty was not looked at: it counts as the
        middle one."""
        clip = system.model.clip
        queries = np.stack([embed_text(text, clip).vector for text in texts])
        similar = queries @ vectors.T
        if not system.taste:
            return similar
        head = system.model.head
        scale = Scale(system.model.gallery.sample, head)
        lam = np.array([scale.lam(system.taste, query) for query in queries])[:, None]
        beauty = np.broadcast_to((vectors @ head - np.median(vectors @ head))[None], similar.shape)
        if system.depth is not None:
            places = np.argsort(np.argsort(-similar, axis=1, kind="stable"), axis=1)
            beauty = np.where(places < system.depth, beauty, 0.0)
        return similar + lam * beauty

    def _right(self, axis: Axis, scores: Scores, row: Mapping[str, int]) -> np.ndarray[Any, Any]:
        found = []
        for pair, line in zip(self.pairs, scores, strict=True):
            given: dict[Group, Sequence[float]] = {
                group: [float(line[row[str(path.resolve())]]) for path in paths] for group, paths in pair.groups.items()
            }
            votes = pair.votes[axis]
            found.append((votes.weight, votes.golden == choose(given)))
        return np.array(found, dtype=float)

    def _outcomes(self, shown: Sequence[Sequence[str]]) -> dict[str, list[Outcome | None]]:
        """Against base, asked in both orders; the same pictures are similar."""
        found: dict[str, list[Outcome | None]] = {}
        for number, (ours, theirs) in enumerate(zip(shown, self.shown_by_base, strict=True)):
            above = self.ground.prefer(number, ours, theirs)
            below = self.ground.prefer(number, theirs, ours)
            same = set(ours) == set(theirs)
            for axis in above:
                found.setdefault(axis, []).append("similar" if same else outcome(above[axis], below[axis]))
        return found

    def _timed(self, system: System) -> np.ndarray[Any, Any]:
        """Milliseconds from a query's words to its first pictures, one at a time, after a first round that warms up. A
        large model is asked anew, whatever it answered before."""
        answer = self._answer(system)
        answer(self.pairs[0].query)
        found = []
        for pair in self.pairs[:TIMED]:
            began = time.perf_counter()
            answer(pair.query)
            found.append(1000 * (time.perf_counter() - began))
        return np.array(found)

    def _answer(self, system: System) -> Callable[[str], Any]:
        """The system as it would run: on the index, and a second stage that opens and looks at its pictures."""
        model, index = system.model, system.model.gallery
        scale = Scale(index.sample, model.head if system.taste else None)

        def query_of(words: str) -> Vector:
            return embed_text(self.rewritten(system, words, self.unkept, []), model.clip).vector

        def once(words: str) -> Any:
            query = query_of(words)
            moved = shift(query, scale.head, scale.lam(system.taste, query)) if system.taste else query
            return index.search(moved[None], SHOWN)[1][0]

        def twice(words: str) -> Any:
            query = query_of(words)
            rows = index.search(query[None], min(system.depth or 1, len(index)))[1][0]
            pixels = torch.stack([prepare(open_named(index.row(int(row))[0]), model.clip) for row in rows])
            seen = embed_pixels(pixels, model.clip)
            scores = seen @ query + scale.lam(system.taste, query) * (seen @ model.head)
            return rows[np.argsort(-scores)[:SHOWN]]

        return twice if system.depth else once


# --- the numbers


def _share(rows: np.ndarray[Any, Any]) -> float:
    return float((rows < 1).mean())


def _mean(rows: np.ndarray[Any, Any]) -> float:
    return float(rows.mean())


def _told(one: Measured) -> dict[str, Any]:
    """A row as JSON: every measure as {mean, low, high}."""
    wins: dict[str, Wins] = {axis: count_wins(found) for axis, found in one.outcomes.items()}
    intervals: dict[str, Interval] = {
        **{f"hpir_{axis}": bootstrap(rows, weighted) for axis, rows in one.right.items()},
        "recall_at_1": bootstrap(one.ranks, _share),
        "ms_per_query": bootstrap(one.milliseconds, _mean),
        **{f"win_and_similar_{axis}": found.win_and_similar for axis, found in wins.items()},
    }
    counts = {axis: dict(found.counts) for axis, found in wins.items()}
    measures = {name: interval.to_json() for name, interval in intervals.items()}
    return {**measures, "against_base": counts, "failures": one.failures}


def _minus(one: Measured, base: Measured) -> dict[str, Any]:
    """Paired differences to base."""
    found = {f"hpir_{axis}": paired_bootstrap(rows, base.right[axis], weighted) for axis, rows in one.right.items()}
    found["recall_at_1"] = paired_bootstrap(one.ranks, base.ranks, _share)
    return {name: interval.to_json() for name, interval in found.items()}
