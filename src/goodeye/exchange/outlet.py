"""Giving out what is on the ledger: attempts with their briefs, votes and comparisons, and copies of their pictures."""

import json
import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from goodeye.atomic import write_bytes
from goodeye.errors import BadInput
from goodeye.ledger.ledger import Ledger
from goodeye.ledger.opinions import ASIDE
from goodeye.ledger.rows import AttemptRow, BriefRow, ComparisonRow, RunRow, VoteRow
from goodeye.ledger.sample import RANDOM, UNSURE, chosen_in_doubt, fair_sample
from goodeye.ledger.schema import Attempt, Brief, Comparison, Verdict, Vote
from goodeye.ledger.sql import storable, storable_data
from goodeye.tables import Skipped

PICTURES = "images"
UNSTORABLE = re.compile(r"\\u(?:d[89a-f]|0000)", re.IGNORECASE)  # as JSON may write such; most files hold none


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What an export wrote, how many rows of it, and what the format could not hold: named, each with why, and how many
    votes, verdicts and comparisons that are in all."""

    path: Path
    written: int
    left_out: list[Skipped]
    lost: dict[str, int]

    def summary(self) -> str:
        """For a terminal."""
        lost = ", ".join(f"{count} {kind}" for kind, count in self.lost.items())
        return f"{self.path}: {self.written} rows. " + (f"Not among them: {lost}." if lost else "Nothing is left out.")


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One attempt with all that belongs to it; votes of people set aside are not among them."""

    run: RunRow
    brief: BriefRow
    attempt: AttemptRow
    votes: list[VoteRow]

    @property
    def title(self) -> str:
        return storable(str(self.brief.content.get("title") or ""))

    @property
    def prompt(self) -> str:
        return storable(str(self.brief.content.get("prompt") or ""))

    @property
    def last_votes(self) -> list[VoteRow]:
        """The last word of each person."""
        return list({vote.person: vote for vote in self.votes}.values())


@dataclass(eq=False)
class Outlet:
    """Reads runs of a ledger and copies pictures into a folder; one run is in memory at a time."""

    ledger: Ledger
    out: Path
    runs: Sequence[RunRow]
    left_out: list[Skipped] = field(default_factory=list)
    _named: Counter[str] = field(default_factory=Counter)  # how many of each kind left_out names
    _chosen: dict[str, set[int]] = field(default_factory=dict)

    @classmethod
    def open(cls, ledger: Ledger, out: Path, runs: Sequence[int] = ()) -> "Outlet":
        """Of these runs, or of all. Raises BadInput for a folder that holds something, and for a run that is not."""
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise BadInput(f"{out} is not an empty folder. Name another one, so that nothing is mixed.")
        found = [ledger.run(run) for run in dict.fromkeys(runs)] or ledger.runs()
        out.mkdir(parents=True, exist_ok=True)
        return cls(ledger, out, found)

    def subjects(self) -> Iterator[Subject]:
        """Every attempt of the runs."""
        for run in self.runs:
            votes: dict[int, list[VoteRow]] = defaultdict(list)
            for vote in self.ledger.votes(run.id):
                votes[vote.attempt_id].append(vote)
            briefs = {brief.id: brief for brief in self.ledger.briefs(run.id)}
            for row in self.ledger.attempts(run.id):
                yield Subject(run=run, brief=briefs[row.brief_id], attempt=row, votes=votes[row.id])

    def pictured(self) -> Iterator[Subject]:
        """Those with a picture; of others the votes are noted as left out."""
        for one in self.subjects():
            if one.attempt.image_sha:
                yield one
            elif one.votes:
                why = "has no picture, so its votes have nothing to stand beside."
                self.leave_out(f"attempt {one.attempt.id}", why, votes=len(one.votes))

    def compared(self) -> Iterator[tuple[ComparisonRow, Subject, Subject]]:
        """Every comparison of two attempts of the runs, with both."""
        subjects = {one.attempt.id: one for one in self.subjects()}
        seen: set[int] = set()
        for run in self.runs:
            for row in self.ledger.comparisons(run.id):
                if row.id in seen:
                    continue
                seen.add(row.id)
                if row.left_attempt in subjects and row.right_attempt in subjects:
                    yield row, subjects[row.left_attempt], subjects[row.right_attempt]

    def chosen(self, attempt: int) -> str:
        """Why an attempt's picture was put before people: by chance, in a judge's doubt, or "", which is unknown."""
        if not self._chosen:
            with self.ledger.reading() as connection:
                self._chosen[UNSURE] = chosen_in_doubt(connection)
                self._chosen[RANDOM] = fair_sample(connection)
        return next((why for why, attempts in self._chosen.items() if attempt in attempts), "")

    def copy(self, sha: str, name: str = "") -> str:
        """Copies a picture to `name` (without ending), else to images/ by its hash; its path as the files write it."""
        source = self.ledger.image_path(sha)
        place = self.out / (f"{name}{source.suffix}" if name else f"{PICTURES}/{source.name}")
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, place)
        return place.relative_to(self.out).as_posix()

    def leave_out(self, name: str, why: str, **counts: int) -> None:
        """Notes what the format cannot hold. counts: how many votes, verdicts or comparisons that are."""
        self.left_out.append(Skipped(name, f"{name} {why}"))
        self._named.update(counts)

    def write_json(self, name: str, data: Any) -> Path:
        """Writes a JSON file, whole or not at all."""
        text = json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        write_bytes(self.out / name, text.encode(errors="backslashreplace"))
        return self.out / name

    def done(self, written: int, **held: int) -> Exported:
        """What was written. held: how many votes, verdicts and comparisons of the runs are in it; how many of each are
        not, and have not been named either, is the first that is left out."""
        lost = {kind: more for kind, count in self._there().items() if (more := count - held.get(kind, 0)) > 0}
        rest = [f"{more} {kind}" for kind, count in lost.items() if (more := count - self._named[kind]) > 0]
        first = [Skipped(name, f"{name} have no place in this format.") for name in rest]
        return Exported(path=self.out, written=written, left_out=[*first, *self.left_out], lost=lost)

    def _there(self) -> dict[str, int]:
        """How many votes, verdicts and comparisons of the runs count; a comparison where both sides are of them."""
        runs = [run.id for run in self.runs]
        mine = select(Attempt.id).join(Brief, Attempt.brief_id == Brief.id).where(Brief.run_id.in_(runs))
        between = Comparison.left_attempt.in_(mine) & Comparison.right_attempt.in_(mine)
        by_whom = Comparison.person.is_(None) | Comparison.person.not_in(ASIDE)
        found = {
            "votes": (Vote.id, Vote.attempt_id.in_(mine) & Vote.person.not_in(ASIDE)),
            "verdicts": (Verdict.id, Verdict.attempt_id.in_(mine)),
            "comparisons": (Comparison.id, between & by_whom),
        }
        with self.ledger.reading() as connection:
            return {
                kind: connection.scalar(select(func.count(column)).where(where)) or 0
                for kind, (column, where) in found.items()
            }


def read_json(path: Path, kind: type, what: str) -> Any:
    """The content of a JSON file. Raises BadInput where it is none, or not a list or object as it should be.

    Halves of characters and zeros, which no database and no page takes, become the words in which JSON writes them.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        data = storable_data(json.loads(text)) if UNSTORABLE.search(text) else json.loads(text)
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}. Check the path.") from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path} is not JSON ({error}). Give {what}.") from error
    if not isinstance(data, kind):
        raise BadInput(f"{path} is not {what}. Give one.")
    return data
