"""The scheduler's bench runs, and compares like with like."""

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def bench():
    path = Path(__file__).parents[2] / "bench" / "scheduler.py"
    spec = importlib.util.spec_from_file_location("bench_scheduler", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_both_ways_make_the_same_attempts(bench, tiny_set, tmp_path):
    out = tmp_path / "bench.json"
    arguments = ["--models", str(tiny_set), "--briefs", "6", "--attempts", "3", "--batch", "4", "--out", str(out)]
    result = bench.main(arguments)
    assert result["loop"]["attempts"] == result["scheduler"]["attempts"] >= 6
    assert result["loop"]["mean_batch"] == 1 < result["scheduler"]["mean_batch"] <= 4
    assert result["ratio"] > 0 and out.exists()
