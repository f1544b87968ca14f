"""Runs compared from their names to a report: what `goodeye compare` does, as one function."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from goodeye.compare.judges import PairJudge
from goodeye.compare.report import summary, write_report
from goodeye.compare.sides import Side, ledger_of, read_sides, require_place
from goodeye.compare.tournament import Tournament, by_judge, by_people
from goodeye.ledger.ledger import Ledger
from goodeye.progress import progress


@dataclass(frozen=True, kw_only=True)
class Compared:
    """What came of it: by the judge, by people, or both, in this order. report: the page."""

    sides: list[Side]
    found: list[Tournament]
    report: Path

    @property
    def failures(self) -> list[str]:
        """What no judge gave a usable answer to."""
        return [failure for one in self.found for failure in one.failures]

    def summary(self) -> str:
        """For a terminal."""
        return "\n".join([*map(summary, self.found), f"report: {self.report}"])


def compare_runs(
    runs: Sequence[str | Path],
    judge: Callable[[Sequence[Side]], PairJudge] | None,
    *,
    people: bool = False,
    ledger: str | None = None,
    images: str | Path | None = None,
    out: str | Path = "runs/compare",
    seed: int = 0,
) -> Compared:
    """Compares run folders, folders of pictures or runs' numbers on the briefs that they share, ranks them, and writes
    out/report.html and out/report.json.

    judge: makes the judge of what is compared, such as `goodeye.compare.judges.judge_named`; None: none is asked.
    people: by what people chose in `goodeye review`, too. ledger: that of the run folders if not given. What was asked
    once is not asked again. seed: of the intervals. Raises BadInput as its parts do.
    """
    for place in runs:
        require_place(place)
    with Ledger.open(ledger_of(runs, ledger), images) as opened:
        sides = read_sides(opened, runs)
        found = []
        if judge is not None:
            made = judge(sides)
            with progress("comparing", unit="questions") as advance:
                found.append(by_judge(opened, sides, made, seed, on_asked=advance))
        if people:
            found.append(by_people(opened, sides, seed))
        return Compared(sides=sides, found=found, report=write_report(Path(out), sides, found))
