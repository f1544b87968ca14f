"""HPIR, human preference in image retrieval: which of two rows of pictures people found right, and which beautiful.

"Aligning Vision Models with Human Aesthetics in Retrieval", section 4: 150 queries, two groups of five pictures each,
30 votes on accuracy and on aesthetics. Votes are kept raw; golden labels and weights are derived. A benchmark file is
a JSON list of

    {"id": 1, "query": "a red shoe", "A": [5 paths], "B": [5 paths],
     "accuracy": {"votes": [21, 9]}, "aesthetic": {"votes": [12, 18]}}

with paths from the file's own folder (the schema is ours; the paper published none).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from goodeye.errors import BadInput
from goodeye.judging.metrics import Interval, bootstrap

Group = Literal["A", "B"]
Axis = Literal["accuracy", "aesthetic"]
AXES: tuple[Axis, ...] = ("accuracy", "aesthetic")


class Votes(NamedTuple):
    """How many people chose each group."""

    a: int
    b: int

    @property
    def golden(self) -> Group | None:
        """The majority's group; None where they are even."""
        return None if self.a == self.b else "A" if self.a > self.b else "B"

    @property
    def weight(self) -> float:
        """(N_golden - N_other) / (N_golden + N_other): 0 where even, 1 where all agree."""
        return abs(self.a - self.b) / (self.a + self.b)


@dataclass(frozen=True)
class Pair:
    """One query with its two groups of pictures and the votes on each axis."""

    id: str
    query: str
    groups: dict[Group, tuple[Path, ...]]
    votes: dict[Axis, Votes]


def load(path: str | Path) -> list[Pair]:
    """Reads a benchmark file. Raises BadInput, naming the entry, for whatever is not right in it."""
    path = Path(path)
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}. Check the path.") from error
    except ValueError as error:
        raise BadInput(f"{path} is not JSON ({error}). Write it as a list of queries with two groups.") from error
    if not isinstance(entries, list) or not entries:
        raise BadInput(f"{path} is not a list of queries. Write it as a list of queries with two groups.")
    return [_pair(entry, number, path) for number, entry in enumerate(entries, start=1)]


def _pair(entry: Any, number: int, path: Path) -> Pair:
    where = f"{path} entry {number}"
    if not isinstance(entry, dict) or not isinstance(entry.get("query"), str) or not entry["query"].strip():
        raise BadInput(f'{where} has no query. Write {{"query", "A", "B", "accuracy", "aesthetic"}}.')
    groups: dict[Group, tuple[Path, ...]] = {}
    for name in ("A", "B"):
        listed = entry.get(name)
        if not isinstance(listed, list) or not listed or not all(isinstance(one, str) and one for one in listed):
            raise BadInput(f"{where}: group {name} is not a list of pictures. Name at least one.")
        groups["A" if name == "A" else "B"] = tuple(path.parent / one for one in listed)
    votes = {axis: _votes(entry.get(axis), f"{where}: {axis}") for axis in AXES}
    return Pair(str(entry.get("id", number)), entry["query"], groups, votes)


def _votes(given: Any, where: str) -> Votes:
    listed: Any = given.get("votes") if isinstance(given, dict) else None
    right = isinstance(listed, list) and len(listed) == 2 and all(type(one) is int and one >= 0 for one in listed)
    if not right or not sum(listed):
        raise BadInput(f'{where} has no votes. Write {{"votes": [for A, for B]}}, counts of people, not both 0.')
    return Votes(*listed)


def choose(scores: dict[Group, Sequence[float]]) -> Group:
    """The group with the higher mean score, A where they are equal. Raises ValueError for NaN."""
    a, b = float(np.mean(scores["A"])), float(np.mean(scores["B"]))
    if np.isnan(a) or np.isnan(b):
        raise ValueError("a score is NaN, so there is no choice")
    return "A" if a >= b else "B"


@dataclass(frozen=True)
class Agreement:
    """M = sum w [choice = golden] / sum w on each axis, with a bootstrap interval over the queries.

    even: queries on which the votes were even, which weigh nothing. missing: queries without a choice.
    """

    measured: dict[Axis, Interval]
    even: dict[Axis, int]
    count: int
    missing: int

    def to_json(self) -> dict[str, Any]:
        """Plain lists and numbers."""
        axes: dict[str, Any] = {
            axis: {"mean": mean, "interval": [low, high]} for axis, (mean, low, high) in self.measured.items()
        }
        return {"count": self.count, "missing": self.missing, "even": dict(self.even), **axes}


def agreement(pairs: Sequence[Pair], choices: Sequence[Group | None], seed: int = 0) -> Agreement:
    """How choices agree with people's, weighed by how sure people were. A missing choice is left out and counted.

    Raises BadInput where nothing with a majority is left to compare on an axis.
    """
    kept = [(pair, choice) for pair, choice in zip(pairs, choices, strict=True) if choice is not None]
    measured, even = {}, {}
    for axis in AXES:
        rows = np.array([(p.votes[axis].weight, p.votes[axis].golden == c) for p, c in kept], dtype=float)
        even[axis] = sum(pair.votes[axis].golden is None for pair, _ in kept)
        if even[axis] == len(kept):
            raise BadInput(f"no query has both a choice and a majority on {axis}, so there is nothing to compare.")
        measured[axis] = bootstrap(rows, weighted, seed=seed)
    return Agreement(measured, even, len(kept), len(pairs) - len(kept))


def weighted(rows: np.ndarray[Any, Any]) -> float:
    """rows: [N, 2] of weight and 1 where right. NaN where all weights are 0."""
    total = rows[:, 0].sum()
    return float((rows[:, 0] * rows[:, 1]).sum() / total) if total else float("nan")
