"""CLIS-L of 10,000 layouts against 1,000 references each, vectorised, and the formulas in a loop on a part of them.

Boxes are random, since their values change no time. Both give the same values, which is checked. With --priors, the
box-swap test on pairs of that store that are held out is there, too, beside plain averaging. Prints JSON.

    python bench/clis.py --layouts 10000 --references 1000 --out clis.json
"""

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import finish, new_parser

from goodeye.synth.clis_l import RULES, ClisL, Standard, features, swap_test, typical
from goodeye.synth.priors import open_priors

STANDARD = Standard((0.2, 1.3, 0.5), (0.5, 0.4, 0.6))
Box = Sequence[float]


def loop(pairs: Any, references: Any, standard: Standard) -> list[float]:
    """Equations 4 to 8 as they stand, a reference at a time."""
    found = []
    for subject, other in pairs:
        totals = []
        for real_subject, real_other in references:
            parts = (
                fallen(similar(ratio(subject, other), ratio(real_subject, real_other))),
                fallen(similar(iou(subject, other) + RULES.smooth, iou(real_subject, real_other) + RULES.smooth))
                + fallen(similar(apart(subject, other), apart(real_subject, real_other))),
                cosine(way(subject, other), way(real_subject, real_other)),
            )
            totals.append(sum((p - m) / d for p, m, d in zip(parts, standard.mean, standard.deviation, strict=True)))
        found.append(float(np.percentile(totals, RULES.percentile)))
    return found


def similar(first: float, second: float) -> float:
    return 1.0 if first == second else 1 - abs(first - second) / max(first, second)


def fallen(similarity: float) -> float:
    t = RULES.floor
    return similarity if similarity >= t else -1 + similarity * (t + 1) / t


def ratio(subject: Box, other: Box) -> float:
    return subject[2] * subject[3] / (other[2] * other[3])


def iou(subject: Box, other: Box) -> float:
    across = min(subject[0] + subject[2], other[0] + other[2]) - max(subject[0], other[0])
    down = min(subject[1] + subject[3], other[1] + other[3]) - max(subject[1], other[1])
    shared = max(0.0, across) * max(0.0, down)
    return shared / (subject[2] * subject[3] + other[2] * other[3] - shared)


def way(subject: Box, other: Box) -> tuple[float, float]:
    return other[0] + other[2] / 2 - subject[0] - subject[2] / 2, other[1] + other[3] / 2 - subject[1] - subject[3] / 2


def apart(subject: Box, other: Box) -> float:
    return math.hypot(*way(subject, other)) / ((math.hypot(*subject[2:]) + math.hypot(*other[2:])) / 2)


def cosine(first: Box, second: Box) -> float:
    return (first[0] * second[0] + first[1] * second[1]) / (math.hypot(*first) * math.hypot(*second))


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """What it gave, and its seconds by the clock and of the processor."""
    clock, processor = time.perf_counter(), time.process_time()
    return work(), time.perf_counter() - clock, time.process_time() - processor


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    parser = new_parser(__doc__)
    parser.add_argument("--layouts", type=int, default=10_000)
    parser.add_argument("--references", type=int, default=1000)
    parser.add_argument("--part", type=int, default=20, help="layouts that the loop scores")
    parser.add_argument("--priors", type=Path, help="a store for the box-swap test")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    random = np.random.default_rng(options.seed)
    pairs, references = (random.uniform(0.05, 0.5, (n, 2, 4)) for n in (options.layouts, options.references))
    values, seconds, processor = timed(lambda: typical(features(pairs), features(references), False, STANDARD))
    part = pairs[: options.part].tolist()
    looped, loop_seconds, loop_processor = timed(lambda: loop(part, references.tolist(), STANDARD))
    each = {"vectorised": processor / options.layouts, "loop": loop_processor / len(part)}
    result: dict[str, Any] = {
        "seconds": round(seconds, 3),
        "processor_seconds": round(processor, 3),
        "loop_seconds_for_all": round(loop_seconds / len(part) * options.layouts, 1),
        "ratio": round(each["loop"] / each["vectorised"], 1),
        "largest_difference": float(np.abs(values[: len(part)] - looped).max()),
    }
    if options.priors:
        judge = ClisL.fit(open_priors(options.priors), seed=options.seed)
        result["swap"] = {name: one.to_json() for name, one in swap_test(judge, *judge.held, judge.pictures).items()}
        result["swap_pairs"] = len(judge.held[0])
    return finish(result, options)


if __name__ == "__main__":
    main()
