"""Measuring on benchmarks: a model's or large model's choices on HPIR, and two systems before a large model."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from goodeye.errors import BadInput
from goodeye.judging.large import LargeModel
from goodeye.judging.ranker import AXES as JUDGED
from goodeye.judging.ranker import Compared, Method, compare, summary
from goodeye.judging.wins import Choice, OrderAccuracy, Wins, order_accuracy
from goodeye.progress import progress
from goodeye.search.embed import embed_items, embed_text
from goodeye.search.hpir import AXES, Agreement, Axis, Group, Pair, agreement, choose, load
from goodeye.search.shift import Scale, shift
from goodeye.search.source import Item, open_named
from goodeye.search.taste import load_head
from goodeye.search.vectors import Vector
from goodeye.tables import Cell, Skipped

if TYPE_CHECKING:
    from goodeye.judging.clip import Clip


@dataclass(frozen=True)
class HpirResult:
    """The agreement, and pictures that could not be read; their queries have no choice and are counted as missing."""

    agreement: Agreement
    skipped: list[Skipped]


def measure_hpir(path: str | Path, clip: "Clip", *, head: str | Path | None = None, taste: float = 0.0) -> HpirResult:
    """The model chooses, for each query, the group with the higher mean of cos(q, x) + lambda w . x.

    The spreads behind lambda are taken over the benchmark's own pictures. Raises BadInput as `load` does, for a taste
    without a head, and for a head of another model.
    """
    if not np.isfinite(taste):
        raise BadInput(f"taste is {taste}. Give a plain number.")
    if taste and head is None:
        raise BadInput("taste needs an aesthetic head. Name its file with --head.")
    pairs = load(path)
    weight = load_head(head, clip).weight.numpy() if head is not None else None
    vectors, skipped = _embedded([file for pair in pairs for group in pair.groups.values() for file in group], clip)
    sample = np.stack(list(vectors.values())) if vectors else np.zeros((0, clip.dimensions), np.float32)
    scale = Scale(sample, weight)
    choices = [_choice(pair, vectors, clip, scale, taste) for pair in pairs]
    return HpirResult(agreement(pairs, choices), skipped)


def _embedded(files: Sequence[Path], clip: "Clip") -> tuple[dict[Path, Vector], list[Skipped]]:
    items = [Item(str(file), Cell(str(file), path=file)) for file in dict.fromkeys(files)]
    vectors: dict[Path, Vector] = {}
    skipped: list[Skipped] = []
    with progress("embedding", len(items), "pictures") as advance:
        for done in embed_items(items, clip):
            vectors |= {Path(item.name): vector for item, vector in zip(done.items, done.vectors, strict=True)}
            skipped += done.skipped
            advance(len(done.items) + len(done.skipped))
    return vectors, skipped


def _choice(pair: Pair, vectors: dict[Path, Vector], clip: "Clip", scale: Scale, taste: float) -> Group | None:
    if not all(file in vectors for group in pair.groups.values() for file in group):
        return None
    query = embed_text(pair.query, clip).vector
    moved = shift(query, scale.head, scale.lam(taste, query))
    return choose({name: [float(moved @ vectors[file]) for file in files] for name, files in pair.groups.items()})


# --- a large model's choices on HPIR


ASKED: dict[Axis, str] = {"accuracy": "accuracy", "aesthetic": "aesthetics"}  # the ranker's words
SWAPPED: dict[Choice, Choice] = {"first": "second", "second": "first"}


@dataclass(frozen=True)
class HpirJudged:
    """How a large model's choices agree with the majority's, and what it said of each query. even: queries on which the
    votes were even, which have no golden choice. skipped: pictures that cannot be read; their queries are missing."""

    accuracy: dict[Axis, OrderAccuracy]
    even: dict[Axis, int]
    compared: list[Compared]
    skipped: list[Skipped]

    @property
    def failures(self) -> list[str]:
        """A line for each query without a usable answer."""
        return [f"{one.query}: {one.failure}" for one in self.compared if one.failure]

    def to_json(self) -> dict[str, Any]:
        """Plain lists and numbers."""
        return {
            "count": len(self.compared),
            **{axis: {**found.to_json(), "even": self.even[axis]} for axis, found in self.accuracy.items()},
            "queries": [vars(one) for one in self.compared],
            "skipped": [vars(one) for one in self.skipped],
        }


def judge_hpir(path: str | Path, model: LargeModel) -> HpirJudged:
    """The large model as ranker chooses between the rows of each query, once with A above and once with B.

    A query whose pictures cannot be read, or of which the model says nothing that can be used, is missing. Answers are
    cached as they come, so a call that was stopped goes on where it was. Raises BadInput as `load` does, and where the
    server fails.
    """
    pairs, compared, skipped = load(path), list[Compared](), list[Skipped]()
    with progress("judging", len(pairs), "queries") as advance:
        for pair in pairs:
            try:
                a, b = ([Cell(str(file), path=file).open() for file in pair.groups[group]] for group in ("A", "B"))
            except BadInput as error:
                skipped.append(Skipped(pair.query, str(error)))
                compared.append(Compared(pair.query, {}))
            else:
                compared.append(compare(model, pair.query, a, b))
            advance()
    even = {axis: sum(pair.votes[axis].golden is None for pair in pairs) for axis in AXES}
    return HpirJudged({axis: _order_accuracy(pairs, compared, axis) for axis in AXES}, even, compared, skipped)


def _order_accuracy(pairs: Sequence[Pair], compared: Sequence[Compared], axis: Axis) -> OrderAccuracy:
    told = [(pair.votes[axis], one.said) for pair, one in zip(pairs, compared, strict=True) if pair.votes[axis].golden]
    above: list[Choice | None] = [said["above"][ASKED[axis]] if "above" in said else None for _, said in told]
    below: list[Choice | None] = [SWAPPED[said["below"][ASKED[axis]]] if "below" in said else None for _, said in told]
    golden: list[Choice] = ["first" if votes.golden == "A" else "second" for votes, _ in told]
    return order_accuracy(golden, above, below, [votes.weight for votes, _ in told])


# --- two systems before a large model


@dataclass(frozen=True)
class Comparison:
    """What the large model said of each query, and the win rates of the first system on each axis.

    skipped: queries that one side alone has, and further answers to one that was answered before.
    """

    compared: list[Compared]
    wins: dict[str, Wins]
    skipped: list[Skipped] = field(default_factory=list)

    @property
    def failures(self) -> list[str]:
        """A line for each query without a usable answer, or without pictures to show."""
        return [f"{one.query}: {one.failure}" for one in self.compared if one.failure]

    def to_json(self) -> dict[str, Any]:
        """Plain lists and numbers."""
        return {
            "axes": {axis: wins.to_json() for axis, wins in self.wins.items()},
            "queries": [vars(one) for one in self.compared],
            "skipped": [vars(one) for one in self.skipped],
        }


def compare_answers(
    ours: str | Path, theirs: str | Path, model: LargeModel, method: Method = "ranker", shown: int = 5
) -> Comparison:
    """Two systems' answers to the same queries: files of one `Answer.to_json()` or a list of them.

    What the model cannot say is recorded as missing, and so is a query with a picture that cannot be read or an answer
    without any. Queries that one file alone has, or has twice, are skipped and named. Answers are
    cached as they come, so a call that was stopped goes on where it was. Raises BadInput for files that do not fit
    together, and where the server fails.
    """
    (first, twice_first), (second, twice_second) = _answers(Path(ours)), _answers(Path(theirs))
    shared = [query for query in first if query in second]
    if not shared:
        raise BadInput(f"{ours} and {theirs} answer no query in common. Ask both systems the same.")
    if shown < 1:
        raise BadInput(f"{shown} pictures cannot be shown. Show at least one.")
    alone = [(one, ours) for one in first if one not in second] + [(one, theirs) for one in second if one not in first]
    skipped = [Skipped(query, f"the query {query} is in {path} alone, so it is not compared.") for query, path in alone]
    compared = []
    with progress("comparing", len(shared), "queries") as advance:
        for query in shared:
            try:
                rows = [_pictures(names[:shown]) for names in (first[query], second[query])]
            except BadInput as error:
                compared.append(Compared(query, dict.fromkeys(JUDGED), str(error)))
            else:
                compared.append(compare(model, query, rows[0], rows[1], method))
            advance()
    return Comparison(compared, summary(compared), [*skipped, *twice_first, *twice_second])


def _answers(path: Path) -> tuple[dict[str, list[str]], list[Skipped]]:
    """query -> names of its pictures; and the further answers to a query, of which the first one counts."""
    found: dict[str, list[str]] = {}
    twice: list[Skipped] = []
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        for one in data if isinstance(data, list) else [data]:
            query, names = one["query"], [image["name"] for image in one["images"]]
            if query in found:
                twice.append(Skipped(query, f"{path} answers the query {query} more than once. The first one counts."))
            found.setdefault(query, names)
        return found, twice
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}. Check the path.") from error
    except (ValueError, TypeError, KeyError) as error:
        raise BadInput(f"{path} holds no answers ({error!r}). Write them by `goodeye search query --json`.") from error


def _pictures(names: Sequence[str]) -> list[Image.Image]:
    if not names:
        raise BadInput("an answer has no pictures")
    return [open_named(name) for name in names]
