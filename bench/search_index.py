"""An index of many vectors beside bare faiss and a two-stage loop: recall, latency, memory, start-up. Prints JSON.

The vectors lie around random centres, as pictures of real collections do. Everything is on disk and memory-mapped.

    python bench/search_index.py --rows 1000000 --dimensions 768 --out search_index.json
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import faiss
import numpy as np
from common import finish, new_parser

from goodeye.search.build import new_card, writing
from goodeye.search.index import Index, exact
from goodeye.search.query import Weights, find
from goodeye.search.shift import Scale, shift
from goodeye.search.vectors import normalised

Answer = Callable[[np.ndarray], Any]  # of one query, [D]
Taste = Callable[[np.ndarray], np.ndarray]  # moves a query, [D]

TOP, TASTE = 10, 0.5
SHOWN = 20  # pictures of an answer of `goodeye search query`
BLOCK = 16_384
OPENING = (
    "import sys, time; from goodeye.search.index import Index; import numpy as np; import faiss; t = time.monotonic(); \
i = Index(sys.argv[1]); i.search(np.ones((1, i.card.dimensions), np.float32), 10); print(time.monotonic() - t)"
)


def blocks(rows: int, dimensions: int, seed: int) -> Any:
    """Unit vectors around one centre for 500 rows, block by block."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(max(1, rows // 500), dimensions)).astype(np.float32)
    for start in range(0, rows, BLOCK):
        count = min(BLOCK, rows - start)
        noise = random.normal(size=(count, dimensions)).astype(np.float32)
        yield start, normalised(centres[random.integers(0, len(centres), count)] + 0.9 * noise)


def build(folder: Path, options: argparse.Namespace) -> float:
    """Makes the index; returns seconds."""
    clip = SimpleNamespace(version="bench", dimensions=options.dimensions)
    started = time.monotonic()
    with writing(folder, new_card("showroom", clip, options.duplicates)) as writer:  # type: ignore[arg-type]
        for start, vectors in blocks(options.rows, options.dimensions, options.seed):
            names = [str(row) for row in range(start, start + len(vectors))]
            writer.append(names, [""] * len(names), vectors)
        writer.finish()
    return time.monotonic() - started


def queries_of(index: Index, count: int, seed: int) -> np.ndarray:
    """Rows moved by noise to a cosine of about .7, of length 1."""
    random = np.random.default_rng(seed + 1)
    rows = np.sort(random.choice(len(index), count, replace=False))
    noise = random.normal(size=(count, index.card.dimensions)) / index.card.dimensions**0.5
    return normalised(np.asarray(index.vectors[rows]) + noise)


def latencies(calls: dict[str, Answer], queries: np.ndarray) -> dict[str, dict[str, float]]:
    """Milliseconds a query of each, one at a time, after a first round that warms the files. They take turns at every
    query, in an order that is drawn anew: what else the machine does meets all of them, and so does what the one before
    left in the caches."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    random = np.random.default_rng(0)
    for turn in range(2):
        for query in queries:
            for name in random.permutation(list(calls)):
                call = calls[name]
                started = time.perf_counter()
                call(query)
                if turn:
                    times[name].append(1000 * (time.perf_counter() - started))
    return {
        name: {"median": round(float(np.median(found)), 3), "p95": round(float(np.percentile(found, 95)), 3)}
        for name, found in times.items()
    }


def bare(index: Index) -> Answer:
    """Faiss alone, with the same lists, opened once, and nothing behind them; exact where the index has none."""
    if not index.card.sealed:
        return lambda query: faiss.knn(query[None], index.vectors, TOP, faiss.METRIC_INNER_PRODUCT)[1][0]
    parameters = faiss.SearchParametersIVF(nprobe=index.card.nprobe)
    return lambda query: index.lists.search(query[None], TOP, params=parameters)[1][0]


def two_stage(index: Index, taste: Taste, depth: int) -> Answer:
    """The first `depth` by similarity, then re-ranked by similarity and beauty."""

    def call(query: np.ndarray) -> np.ndarray:
        rows = index.search(query[None], depth)[1][0]
        return rows[np.argsort(-(index.vectors[rows] @ taste(query)))][:TOP]

    return call


def shared(truth: np.ndarray, queries: np.ndarray, call: Answer) -> float:
    """The mean share of the true rows, [Q, TOP], among those that `call` gives."""
    found = [
        len(set(row) & set(call(query).tolist())) / TOP for row, query in zip(truth.tolist(), queries, strict=True)
    ]
    return round(float(np.mean(found)), 4)


def main(arguments: Sequence[str] | None = None) -> dict:
    parser = new_parser(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dimensions", type=int, default=768)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--duplicates", type=float, default=0.0, help="cosine of near-duplicates; 0 does not look")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where the index is made and kept; a temporary one if not given")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)) / "index"
        seconds = build(folder, options)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        index = Index(folder)
        queries = queries_of(index, min(options.queries, options.rows), options.seed)
        head = normalised(np.random.default_rng(options.seed + 2).normal(size=(1, options.dimensions)))[0] * 18
        scale = Scale(index.sample, head)

        def moved(query: np.ndarray) -> np.ndarray:
            return shift(query, head, scale.lam(TASTE, query))

        def by_index(query: np.ndarray) -> np.ndarray:
            return index.search(query[None], TOP)[1][0]

        plain, tasteful = Weights(cutoff=0), Weights(taste=TASTE, cutoff=0)
        stages = {f"two stages, {depth}": two_stage(index, moved, depth) for depth in (100, 400)}
        times = latencies(
            {
                "bare faiss": bare(index),
                "index": by_index,
                "index, shifted": lambda query: by_index(moved(query)),
                **stages,
                "whole query, no taste": lambda query: find(index, query, TOP, plain),
                "whole query, taste": lambda query: find(index, query, TOP, tasteful, head=head),
            },
            queries,
        )
        times |= latencies(  # apart from those above, whose caches they would fill with much else
            {
                "as the command asks, no taste": lambda query: find(index, query, SHOWN),
                "as the command asks, taste": lambda query: find(index, query, SHOWN, Weights(taste=TASTE), head=head),
            },
            queries,
        )
        nearest, wanted = (
            exact(index.vectors, asked, TOP, 0, index.removed)[1][:, :TOP]
            for asked in (queries, np.stack([moved(query) for query in queries]))
        )
        opened = time.monotonic()
        first = float(subprocess.check_output([sys.executable, "-c", OPENING, str(folder)]).decode())
        result = {
            "build": {
                "seconds": round(seconds, 1),
                "peak_mib": round(peak),
                "on_disk_mib": round(sum(path.stat().st_size for path in folder.iterdir()) / 2**20),
                "lists_looked_at": index.card.nprobe,
            },
            "recall_at_10": shared(nearest, queries, by_index),
            "recall_at_10_of_bare_faiss": shared(nearest, queries, bare(index)),
            "recall_at_10_by_taste": {  # of the first ten by similarity and beauty among all rows
                "index, shifted": shared(wanted, queries, lambda query: by_index(moved(query))),
                **{name: shared(wanted, queries, call) for name, call in stages.items()},
            },
            "ms_per_query": times,
            "overhead": round(times["index"]["median"] / times["bare faiss"]["median"] - 1, 3),
            "start_up_seconds": first,  # opening the files and the first answer
            "start_up_with_imports_seconds": round(time.monotonic() - opened, 3),
        }
    return finish(result, options)


if __name__ == "__main__":
    main()
