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
    kinds = ("count", "crowd", "over_restart")
    counts = {name: sum(result[name][kind] for kind in kinds) for name in result if name.endswith("_ms")}
    assert counts["next_item_ms"] >= counts["vote_stored_ms"] == 24 and counts["picture_ms"] > 24
    assert json.loads(out.read_text()) == result


def test_what_waited_for_the_restart_is_told_apart(bench: Callable[[str], ModuleType]) -> None:
    """The killed server was away from 10 to 12: who asked at 9.9 and 11 waited for it, at 9.5 and 13.1 nobody did, and
    who asked at 12.1 asked amid the crowd."""
    times = [(9.5, 0.1), (9.9, 2.5), (11.0, 1.5), (12.1, 0.9), (13.1, 0.3)]
    said = bench("review_load").milliseconds(times, (10.0, 12.0))
    assert (said["count"], said["median"]) == (2, 200.0)
    assert (said["over_restart"], said["longest_over_restart"]) == (2, 2500.0)
    assert (said["crowd"], said["longest_crowd"]) == (1, 900.0)
