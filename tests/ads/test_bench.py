"""The scheduler's bench runs, and compares like with like."""


def test_both_ways_make_the_same_attempts(bench, tiny_set, tmp_path):
    out = tmp_path / "bench.json"
    arguments = ["--models", str(tiny_set), "--briefs", "6", "--attempts", "3", "--batch", "4", "--out", str(out)]
    result = bench("scheduler").main(arguments)
    assert result["loop"]["attempts"] == result["scheduler"]["attempts"] >= 6
    assert result["loop"]["mean_batch"] == 1 < result["scheduler"]["mean_batch"] <= 4
    assert result["ratio"] > 0 and out.exists()
