"""The index's bench runs, and compares like with like."""

import pytest

from goodeye.search import build


def test_the_bench_of_a_small_index(bench, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "EXACT", 3000)
    arguments = ["--rows", "4000", "--dimensions", "32", "--queries", "20", "--out", str(tmp_path / "b.json")]
    result = bench("search_index").main(arguments)
    assert result["recall_at_10"] >= 0.95 and result["build"]["lists_looked_at"] >= 1
    assert set(result["ms_per_query"]) >= {"bare faiss", "index", "two stages, 100"}
    times = result["ms_per_query"]
    assert result["overhead"] == pytest.approx(times["index"]["median"] / times["bare faiss"]["median"] - 1, abs=1e-3)
    assert 0 < result["start_up_seconds"] < 30 and (tmp_path / "b.json").exists()
