"""How long `goodeye compare` takes where everything was asked before: many comparisons of many runs, read and ranked.

Makes a ledger with a comparison of every two runs on every brief, then ranks it as the command does, with 1,000
bootstrap resamples. Then one more run comes in, of which the judge is asked everything, and nothing else. Prints JSON:
seconds by the clock and of the processor.

    python bench/compare_runs.py --out compare.json
    python bench/compare_runs.py --runs 4 --briefs 20       # a quick test of itself
"""

import random
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from common import finish, new_parser
from sqlalchemy import func, insert, select

from goodeye.compare.judges import Preferred, Question
from goodeye.compare.sides import Side, read_side
from goodeye.compare.tournament import by_judge
from goodeye.ledger.ledger import Ledger
from goodeye.ledger.schema import Attempt, Brief, Comparison, Image, now
from goodeye.ledger.sql import portions

SHA = "0" * 64


class Coin:
    """A judge that says anything, and counts how often it is asked."""

    name, version, axes, ordered = "coin", "1", ("overall",), False

    def __init__(self, seed: int) -> None:
        self.asked, self.chance = 0, random.Random(seed)

    def prefer(self, questions: Sequence[Question]) -> list[dict[str, Preferred | None]]:
        self.asked += len(questions)
        return [{"overall": self.chance.choice(("first", "second", "similar"))} for _ in questions]


def add_runs(ledger: Ledger, runs: int, briefs: int) -> list[int]:
    """So many runs with one attempt for each brief; all of one picture that is not there."""
    found = [ledger.start_run("ads", {}, seed) for seed in range(runs)]
    with ledger.transaction() as connection:
        first = connection.scalar(select(func.max(Brief.id))) or 0
        rows: list[dict[str, Any]] = [
            {"id": first + 1 + place * briefs + one, "run_id": run, "key": f"brief {one}", "job": "ads", "content": {}}
            for place, run in enumerate(found) for one in range(briefs)
        ]  # fmt: skip
        attempts = [
            {"id": row["id"], "brief_id": row["id"], "slot": 0, "number": 1, "seed": 0, "image_sha": SHA, "evals": 0,
             "seconds": 0.0, "created": now(), "detail": {}}
            for row in rows
        ]  # fmt: skip
        if first == 0:
            connection.execute(insert(Image).values(sha256=SHA, format="png", width=8, height=8, bytes=1))
        connection.execute(insert(Brief), rows)
        connection.execute(insert(Attempt), attempts)
    return found


def fill(ledger: Ledger, runs: int, briefs: int, seed: int) -> list[int]:
    """The runs, and a comparison by the judge of every two on every brief; the later run is the better one."""
    found, chance = add_runs(ledger, runs, briefs), random.Random(seed)
    rows = [
        {"left_attempt": 1 + left * briefs + one, "right_attempt": 1 + right * briefs + one, "axis": "overall",
         "choice": "right" if chance.random() < 0.5 + (right - left) / (3 * runs) else "left", "swapped": False,
         "created": now(), "judge": Coin.name, "version": Coin.version}
        for left, right in combinations(range(runs), 2) for one in range(briefs)
    ]  # fmt: skip
    with ledger.transaction() as connection:
        for some in portions(rows, 5000):
            connection.execute(insert(Comparison), some)
    return found


def timed(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    clock, processor = time.monotonic(), time.process_time()
    found = work()
    return found, {
        "clock": round(time.monotonic() - clock, 2),
        "processor": round(time.process_time() - processor, 2),
    }


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    parser = new_parser(__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--briefs", type=int, default=527, help="527 of 20 runs make 100,130 comparisons")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="goodeye-compare-") as folder, Ledger.open(Path(folder)) as ledger:
        runs = fill(ledger, options.runs, options.briefs, options.seed)
        judge = Coin(options.seed)

        def read(numbers: Sequence[int]) -> list[Side]:
            return [read_side(ledger, str(run)) for run in numbers]

        sides, reading = timed(lambda: read(runs))
        known, ranking = timed(lambda: by_judge(ledger, sides, judge, options.seed))
        assert known.asked == judge.asked == 0
        sides += read(add_runs(ledger, 1, options.briefs))
        more, growing = timed(lambda: by_judge(ledger, sides, judge, options.seed))
        assert more.asked == judge.asked == options.runs * options.briefs
        result = {
            "comparisons": sum(place.comparisons for place in known.rankings["overall"]) // 2,
            "matches": len(known.matches),
            "seconds": {"reading the runs": reading, "ranking what is known": ranking, "one run more": growing},
            "asked_for_one_run_more": more.asked,
            "best_run": known.rankings["overall"][0].run,
        }
    return finish(result, options)


if __name__ == "__main__":
    main()
