"""What an export does not hold is counted and named, in every format."""

from pathlib import Path

import pytest

from exchange.world import fill
from goodeye.exchange.formats import FORMATS, Name, export
from goodeye.ledger.ledger import Ledger
from goodeye.ledger.rows import VerdictRow
from ledger.recorder import picture

ALL = {"votes": 13, "verdicts": 8, "comparisons": 9}  # of `fill` that count
LOST: dict[Name, dict[str, int]] = {
    "csv": {"verdicts": 8},
    "label-studio": {"comparisons": 9},
    "argilla": {"votes": 1, "comparisons": 9},  # the vote that Ann replaced
    "coco": {"verdicts": 8, "comparisons": 9},
    "rf1m": {**ALL, "votes": 12},  # one label of one picture stays, of two who agree
    "hpir": ALL,  # nobody was asked about its axes
    "rewardedit": ALL,
    "preferences": {**ALL, "comparisons": 1},  # both similar
}
NAMED = {"argilla": {"votes": 1}, "rf1m": {"votes": 11}, "preferences": {"comparisons": 1}}  # one by one, with why


@pytest.mark.parametrize("format", FORMATS)
def test_what_a_format_does_not_hold_is_counted_and_named(ledger: Ledger, tmp_path: Path, format: Name) -> None:
    fill(ledger)
    done = export(ledger, format, tmp_path / "out")
    assert done.lost == LOST[format]
    rest = {kind: count - NAMED.get(format, {}).get(kind, 0) for kind, count in LOST[format].items()}
    messages = [one.message for one in done.left_out]
    wanted = [f"{count} {kind} have no place in this format." for kind, count in rest.items() if count]
    assert messages[: len(wanted)] == wanted and not any("no place" in one for one in messages[len(wanted) :])
    assert all(f"{count} {kind}" in done.summary() for kind, count in LOST[format].items())


def test_nothing_is_named_where_all_is_held(ledger: Ledger, tmp_path: Path) -> None:
    """Of one run of two: what is said of the other, or of both, is not this export's."""
    attempts = []
    for _run in range(2):
        brief = ledger.add_brief(ledger.start_run("edit", {}, 0), "room", {})
        attempts.append(ledger.record_attempt(brief, 1, 1, 0, picture(1)))
        ledger.vote(attempts[-1], "ann", "scored", {"quality": 3.0})
    ledger.compare(*attempts, "ann", "overall", "left")
    for format in ("csv", "label-studio", "argilla", "coco", "rewardedit"):
        done = export(ledger, format, tmp_path / format, [1])  # type: ignore[arg-type]
        assert (done.lost, done.left_out) == ({}, []), format
        assert "Nothing is left out" in done.summary()


def test_of_papers_formats_what_is_held_is_not_lost(ledger: Ledger, tmp_path: Path) -> None:
    """HPIR: two people on both axes and one who found both similar. RewardEdit: a judge's earlier verdict."""
    brief = ledger.add_brief(ledger.start_run("search", {}, 0), "q", {})
    one, other = (ledger.record_attempt(brief, 0, number, 0, None, shown=[picture(number)]) for number in (1, 2))
    for person in ("ann", "bo"):
        for axis in ("accuracy", "aesthetic"):
            ledger.compare(one, other, person, axis, "left")
    ledger.compare(one, other, "cy", "accuracy", "similar")
    ledger.compare(one, other, "clip", "accuracy", "left", version="1")
    done = export(ledger, "hpir", tmp_path / "hpir")
    assert done.lost == {"comparisons": 2} and [one.name for one in done.left_out] == ["1 comparisons", "q"]
    run = ledger.start_run("edit", {}, 0)
    said = [VerdictRow(judge="m", version=v, label="", scores={"quality": 1.0}, failures=[]) for v in "12"]
    ledger.record_attempt(ledger.add_brief(run, "room", {}), 1, 1, 0, picture(3), said)
    done = export(ledger, "rewardedit", tmp_path / "rewardedit", [run])
    assert done.lost == {"verdicts": 1} and [one.name for one in done.left_out] == ["attempt 3"]
