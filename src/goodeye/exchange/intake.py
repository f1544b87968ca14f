"""Taking a file's pictures, votes and comparisons into the ledger: each once, whatever is imported how often."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from PIL.Image import Image as Picture
from sqlalchemy import select

from goodeye.errors import BadInput
from goodeye.images import open_image
from goodeye.ledger.ledger import Ledger
from goodeye.ledger.opinions import store_comparison, store_vote
from goodeye.ledger.rows import AttemptRow, Choice, RunRow, VerdictLike
from goodeye.ledger.sample import RANDOM, UNSURE
from goodeye.ledger.schema import Attempt, Brief, Comparison, Vote
from goodeye.ledger.store import encode, encode_file
from goodeye.tables import Cell, Skipped


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What an import did. known: votes and comparisons that were there already. skipped: bad rows, each with why."""

    runs: tuple[int, ...]
    attempts: int
    votes: int
    comparisons: int
    known: int
    skipped: list[Skipped]

    def summary(self) -> str:
        """For a terminal."""
        runs = ", ".join(map(str, self.runs)) or "none"
        return (
            f"run {runs}: {self.attempts} attempts, {self.votes} votes and {self.comparisons} comparisons new, "
            f"{self.known} there before, {len(self.skipped)} rows not usable."
        )


@dataclass(eq=False)
class Intake:
    """Writes into runs of the ledger that belong to one source, told apart by names of the source's own.

    The same source again finds its runs, its attempts, and how often each vote is there already. So whoever was stopped
    imports again, and whoever mended a bad row does, too.
    """

    ledger: Ledger
    source: Path
    format: str
    job: str
    on_row: Callable[[], None] = lambda: None
    pictures: Path | None = None  # where pictures may lie besides the file's own folder
    runs: dict[str, RunRow] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    _attempts: dict[tuple[int, str, int], list[AttemptRow]] = field(default_factory=dict)
    _known: Counter[tuple[Any, ...]] = field(default_factory=Counter)

    @contextmanager
    def row(self, name: str) -> Iterator[None]:
        """Work on one row: whatever is wrong with it is noted, with its name, and the next one goes on."""
        try:
            yield
        except BadInput as error:
            words = str(error)
            self.skipped.append(Skipped(name, words if words.startswith(name) else f"{name}: {words}"))
        finally:
            self.on_row()

    def inside(self, name: str, *folders: Path) -> Path:
        """The file or folder that a row names, looked for in each of `folders` and in `pictures`.

        Whoever wrote the file may be a stranger, and what it names becomes visible to reviewers. So raises BadInput for
        what is neither below the first of `folders` nor below `pictures`, by its name or by a link.
        """
        places = [*folders, *([self.pictures] if self.pictures else [])]
        named = [place / name for place in places]
        try:
            roots = [place.resolve() for place in (folders[0], self.pictures) if place]
            there = [path for path in named if path.exists()] or named
            inside = [path for path in there if any(map(path.resolve().is_relative_to, roots))]
        except (OSError, ValueError, RuntimeError) as error:  # too long, a zero byte, links in a circle
            raise BadInput(f"{name[:300]!r} is no path to a picture. Correct it.") from error
        if not inside:
            raise BadInput(
                f"its picture {name[:300]} is not below {folders[0]}. Put it there and write its path from there, or "
                "name the folder that holds it with --pictures."
            )
        return inside[0]

    def picture(self, name: str, *folders: Path) -> Cell:
        """The picture file that a row names. Raises BadInput as `inside`."""
        return Cell(name, path=self.inside(name, *folders))

    def run(self, name: str = "") -> RunRow:
        """The run of that name in the source."""
        if name not in self.runs:
            command = {"imported": self.format, "from": str(self.source.resolve()), "name": name}
            found = next((row for row in self.ledger.runs(self.job) if row.command == command), None)
            self.runs[name] = found or self.ledger.run(self.ledger.start_run(self.job, command, seed=0))
            if found is not None:
                self._remember(found.id)
        return self.runs[name]

    def _remember(self, run: int) -> None:
        for row in self.ledger.attempts(run):
            self._attempts.setdefault((run, row.brief_key, row.slot), []).append(row)
        mine = select(Attempt.id).join(Brief, Attempt.brief_id == Brief.id).where(Brief.run_id == run)
        with self.ledger.reading() as connection:
            votes = select(Vote.attempt_id, Vote.person, Vote.label, Vote.created).where(Vote.attempt_id.in_(mine))
            self._known.update(tuple(one) for one in connection.execute(votes))
            compared = select(*(getattr(Comparison, name) for name in _COMPARED))
            there = compared.where(Comparison.left_attempt.in_(mine))
            self._known.update(tuple(one) for one in connection.execute(there))

    def attempt(
        self,
        key: str,
        content: Mapping[str, Any],
        picture: "Cell | Path | None",
        *,
        product: "Cell | Path | None" = None,
        shown: Sequence["Cell | Path"] = (),
        run: str = "",
        slot: int = 0,
        number: int | None = None,
        seed: int = 0,
        verdicts: Sequence[VerdictLike] = (),
        detail: Mapping[str, Any] | None = None,
    ) -> int:
        """The attempt with this picture at the brief of this key, recorded if it is new; its id.

        number: without one, the same picture at the same slot is the same attempt. Raises BadInput for a picture that
        cannot be read, and for a number under which another one is on record.
        """
        if max(abs(seed), abs(slot), abs(number or 0)) >= 2**63:
            raise BadInput("its slot, number or seed is too large to be kept. Correct it.")
        image = None if picture is None else read(picture)
        row = [read(one) for one in shown]
        sha = _sha(image if image is not None else next(iter(row), None))
        of = self.run(run).id
        others = self._attempts.setdefault((of, key, slot), [])
        same = [one for one in others if (one.image_sha == sha if number is None else one.number == number)]
        if same and same[0].image_sha != sha:
            raise BadInput(f"attempt {number} at slot {slot} of {key} is there with another picture. Number it anew.")
        if same and not verdicts:
            return same[0].id
        brief = self.ledger.add_brief(of, key, content, None if product is None else read(product))
        free = 1 + max((one.number for one in others), default=0)
        count = same[0].number if same else free if number is None else number
        found = self.ledger.record_attempt(brief, slot, count, seed, image, verdicts, shown=row, detail=detail)
        if not same:
            others.append(self.ledger.attempt(found))
            self.counts["attempts"] += 1
        return found

    def vote(
        self,
        attempt: int,
        person: str,
        label: str,
        axes: Mapping[str, float] | None = None,
        seconds: float = 0.0,
        created: datetime | None = None,
        *,
        run: str = "",
        chosen: str = "",
    ) -> None:
        """Records a vote, unless this import brought it before. Without a time of its own it has the import's."""
        moment = created or self.run(run).started
        if not self._is_known((attempt, person, label, moment)):
            with self.ledger.transaction() as connection:
                store_vote(connection, attempt, person, label, axes, seconds, moment, chosen)
            self.counts["votes"] += 1

    def comparison(
        self,
        sides: Sequence[int],
        by: str,
        axis: str,
        choice: Choice,
        swapped: bool = False,
        *,
        version: str | None = None,
        created: datetime | None = None,
        run: str = "",
    ) -> None:
        """Records a comparison of two attempts, the left one first, unless this import brought it before."""
        left, right = sides
        if left == right:
            raise BadInput("both sides are the same picture of one brief, so there is nothing to compare.")
        moment = created or self.run(run).started
        said_by = (by, None, None) if version is None else (None, by, version)
        if not self._is_known((left, right, *said_by, axis, choice, swapped, moment)):
            said = (left, right, by, axis, choice, swapped)
            with self.ledger.transaction() as connection:
                store_comparison(connection, *said, version=version, created=moment)
            self.counts["comparisons"] += 1

    def _is_known(self, key: tuple[Any, ...]) -> bool:
        if not self._known[key]:
            return False
        self._known[key] -= 1
        self.counts["known"] += 1
        return True

    def done(self) -> Imported:
        """Ends the runs. Raises BadInput where not one row could be used."""
        if not self.runs:
            why = f" First: {self.skipped[0].message}" if self.skipped else ""
            raise BadInput(f"{self.source} holds nothing that can be used as {self.format}.{why}")
        for row in self.runs.values():
            self.ledger.finish_run(row.id)
        names = ("attempts", "votes", "comparisons", "known")
        return Imported(
            runs=tuple(row.id for row in self.runs.values()),
            **{name: self.counts[name] for name in names},
            skipped=self.skipped,
        )


_COMPARED = ("left_attempt", "right_attempt", "person", "judge", "version", "axis", "choice", "swapped", "created")


def read(picture: "Cell | Path") -> bytes | Picture:
    """The picture file's own bytes where the ledger keeps such files, else its pixels. Raises BadInput."""
    cell = picture if isinstance(picture, Cell) else Cell(str(picture), path=picture)
    try:
        data = cell.path.read_bytes() if cell.path else cell.member.read() if cell.member else cell.data or b""
    except OSError as error:
        raise BadInput(f"{cell.name} cannot be read: {error.strerror}. Check the path.") from error
    try:
        encode_file(data, cell.name)
    except BadInput:
        return cell.open() if cell.path is None else open_image(cell.path)
    return data


def _sha(image: "bytes | Picture | None") -> str:
    if image is None:
        return ""
    return (encode_file(image) if isinstance(image, bytes) else encode(image)).sha256


def moment(words: Any) -> datetime | None:
    """A time as ISO 8601 writes it, with UTC where it names no zone; None for none. Raises BadInput."""
    if words in (None, ""):
        return None
    try:
        found = datetime.fromisoformat(str(words))
    except ValueError as error:
        raise BadInput(f"{str(words)!r} is no time. Write it as 2026-01-31T12:00:00+00:00.") from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def number(words: Any, what: str) -> float:
    """A finite number. Raises BadInput."""
    try:
        found = float(words)
    except (TypeError, ValueError, OverflowError):
        found = float("nan")
    if found != found or abs(found) == float("inf") or isinstance(words, bool):
        raise BadInput(f"{what} is {words!r}, not a number. Correct it.")
    return found


def chosen(words: Any) -> str:
    """Why a picture was put before a person: random or unsure, "" where nobody knows. Raises BadInput."""
    if words not in (None, "", RANDOM, UNSURE):
        raise BadInput(f"chosen is {words!r}. Write {RANDOM}, {UNSURE}, or nothing where nobody knows.")
    return words or ""


def fields(given: Any, what: str) -> dict[str, Any]:
    """An object by its names, empty where nothing is given. Raises BadInput."""
    if given is not None and not isinstance(given, dict):
        raise BadInput(f"its {what} is {str(given)[:60]}, not an object. Correct it.")
    return given or {}


def listed(given: Any, what: str) -> list[Any]:
    """A list, empty where nothing is given. Raises BadInput."""
    if given is not None and not isinstance(given, list):
        raise BadInput(f"its {what} is {str(given)[:60]}, not a list. Correct it.")
    return given or []


def word(words: Any, what: str) -> str:
    """Text that says something. Raises BadInput."""
    if not isinstance(words, str | int) or isinstance(words, bool) or not str(words).strip():
        raise BadInput(f"there is no {what}. Give one.")
    return str(words).strip()
