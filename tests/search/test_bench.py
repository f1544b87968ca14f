"""The index's bench runs, and compares like with like."""

from itertools import permutations

import numpy as np
import pytest

from goodeye.search import build


def test_the_bench_of_a_small_index(bench, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "EXACT", 3000)
    arguments = ["--rows", "4000", "--dimensions", "32", "--queries", "20", "--out", str(tmp_path / "b.json")]
    result = bench("search_index").main(arguments)
    assert result["recall_at_10"] >= 0.95 and result["build"]["lists_looked_at"] >= 1
    assert set(result["ms_per_query"]) >= {"bare faiss", "index", "index, shifted", "two stages, 100"}
    by_taste = result["recall_at_10_by_taste"]
    assert by_taste["index, shifted"] >= 0.9 and by_taste["two stages, 400"] >= by_taste["two stages, 100"]
    assert result["recall_at_10"] >= result["recall_at_10_of_bare_faiss"]
    times = result["ms_per_query"]
    assert result["overhead"] == pytest.approx(times["index"]["median"] / times["bare faiss"]["median"] - 1, abs=1e-3)
    assert 0 < result["start_up_seconds"] < result["start_up_with_imports_seconds"] < 120
    assert (tmp_path / "b.json").exists()


def test_whoever_is_measured_comes_behind_each_other_and_first(bench):
    """Nobody always finds what the same one before left in the caches."""
    called = []
    calls = {name: lambda query, name=name: called.append(name) for name in "abc"}
    times = bench("search_index").latencies(calls, np.zeros((40, 4)))
    turns = ["".join(called[at : at + 3]) for at in range(0, len(called), 3)]
    assert set(map("".join, permutations("abc"))) == set(turns) and set(times) == set("abc")
