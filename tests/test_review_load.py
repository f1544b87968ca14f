"""The bench of reviewers at once runs, with a server that is killed in the middle."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType


def test_a_killed_server_loses_no_answer_of_a_few_reviewers(bench: Callable[[str], ModuleType], tmp_path: Path) -> None:
    """Three label and one compares; each sends again what nobody confirmed."""
    out = tmp_path / "bench.json"
    size = ["--attempts", "600", "--reviewers", "4", "--answers", "6", "--think", "0"]
    result = bench("review_load").main([*size, "--out", str(out)])
    assert result["confirmed"] == 24 and result["votes"] > 0 and result["comparisons"] > 0
    assert (result["lost"], result["doubled"], result["not_sent"]) == (0, 0, 0)
    assert result["sent_again"] > 0, "the server was away"
    assert result["next_item_ms"]["count"] >= result["vote_stored_ms"]["count"] == 24
    assert json.loads(out.read_text()) == result
