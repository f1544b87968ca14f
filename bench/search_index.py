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
from goodeye.search.index import Index, exact, ivf_path
from goodeye.search.query import Weights, find
from goodeye.search.vectors import normalised

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


def latency(call: Callable[[np.ndarray], Any], queries: np.ndarray) -> dict[str, float]:
    """Milliseconds a query, one at a time, after a first round that warms the files."""
    for query in queries:
        call(query)
    times = []
    for query in queries:
        started = time.perf_counter()
        call(query)
        times.append(1000 * (time.perf_counter() - started))
    return {"median": round(float(np.median(times)), 3), "p95": round(float(np.percentile(times, 95)), 3)}


def bare(index: Index) -> Callable[[np.ndarray], Any]:
    """Faiss alone, with the same lists and nothing behind them; exact where the index has none."""
    if not index.card.sealed:
        return lambda query: faiss.knn(query[None], index.vectors, 10, faiss.METRIC_INNER_PRODUCT)
    lists = faiss.read_index(str(ivf_path(index.folder, index.card)), faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY)
    parameters = faiss.SearchParametersIVF(nprobe=index.card.nprobe)
    return lambda query: lists.search(query[None], 10, params=parameters)


def two_stage(index: Index, head: np.ndarray, depth: int, lam: float) -> Callable[[np.ndarray], Any]:
    """The first `depth` by similarity, then re-ranked by similarity and beauty."""

    def call(query: np.ndarray) -> Any:
        rows = index.search(query[None], depth)[1][0]
        vectors = index.vectors[rows]
        return rows[np.argsort(-(vectors @ query + lam * (vectors @ head)))][:10]

    return call


def recall(index: Index, queries: np.ndarray) -> float:
    truth = exact(index.vectors, queries, 10, 0, index.removed)[1][:, :10]
    found = index.search(queries, 10)[1]
    return round(
        float(np.mean([len(set(a) & set(b)) / 10 for a, b in zip(truth.tolist(), found.tolist(), strict=True)])), 4
    )


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
        plain, taste = Weights(cutoff=0), Weights(taste=0.5, cutoff=0)
        index.search(queries[:1], 10)  # opens the lists
        times = {
            "bare faiss": latency(bare(index), queries),
            "index": latency(lambda query: index.search(query[None], 10), queries),
            "whole query, no taste": latency(lambda query: find(index, query, 10, plain), queries),
            "whole query, taste": latency(lambda query: find(index, query, 10, taste, head=head), queries),
            **{f"two stages, {at}": latency(two_stage(index, head, at, 0.0125), queries) for at in (100, 400)},
        }
        result = {
            "build": {"seconds": round(seconds, 1), "peak_mib": round(peak), "lists_looked_at": index.card.nprobe},
            "recall_at_10": recall(index, queries),
            "ms_per_query": times,
            "overhead": round(times["index"]["median"] / times["bare faiss"]["median"] - 1, 3),
            "start_up_seconds": float(subprocess.check_output([sys.executable, "-c", OPENING, str(folder)]).decode()),
        }
    return finish(result, options)


if __name__ == "__main__":
    main()
