"""The bench of many comparisons runs, and ranks what it made."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType


def test_the_bench_of_a_few_runs(bench: Callable[[str], ModuleType], tmp_path: Path) -> None:
    """Four runs of 30 briefs: six matches, of which the last run wins most; a fifth run is set against each."""
    out = tmp_path / "bench.json"
    result = bench("compare_runs").main(["--runs", "4", "--briefs", "30", "--out", str(out)])
    assert (result["comparisons"], result["matches"], result["asked_for_one_run_more"]) == (6 * 30, 6, 4 * 30)
    assert result["best_run"] == 4 and json.loads(out.read_text()) == result
    assert all(one["clock"] >= 0 and one["processor"] >= 0 for one in result["seconds"].values())
