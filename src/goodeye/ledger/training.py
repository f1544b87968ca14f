"""What people said, as training reads it: labels of pictures, taste, and which of two rows is better for a query."""

import csv
import io
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL.Image import Image

from goodeye.atomic import write_bytes
from goodeye.errors import BadInput
from goodeye.ledger.ledger import DATABASE, Ledger
from goodeye.ledger.rows import HIGHEST, AttemptRow, BriefRow, ComparisonRow, RunRow, VoteRow
from goodeye.tables import Skipped

TASTE = ("aesthetic", "aesthetics", "beauty", "overall")  # axes of comparisons that say what people find beautiful
ACCURACY = ("accuracy",)  # the axis that says which fits what was asked for
PRODUCTS = "products"
Placed = Callable[[Path, Path], Image]  # a cut-out's file and the picture's: the cut-out where it stands in the picture


def runs_of(ledger: Ledger, job: str, runs: Collection[int] = ()) -> list[RunRow]:
    """The runs of these numbers, else all of the job. Raises BadInput for one that is not there or is another job's."""
    found = [ledger.run(run) for run in dict.fromkeys(runs)]
    for run in found:
        if run.job != job:
            raise BadInput(f"Run {run.id} of the ledger {ledger.where} is one of {run.job}, not of {job}. Name others.")
    return found or ledger.runs(job)


@dataclass(frozen=True, kw_only=True)
class Labels:
    """A table of labelled pictures. even: attempts on which as many said one thing as another; they are left out."""

    table: Path
    count: int
    even: int

    def summary(self) -> str:
        """For a terminal."""
        return f"{self.count} labelled pictures on the ledger; {self.even} left out, on which people are even."


def is_ledger(place: str | Path) -> bool:
    """Whether that names a ledger rather than a table or a folder of pictures."""
    return "://" in str(place) or (Path(place) / DATABASE).is_file()


def label_table(ledger: Ledger, folder: Path, placed: Placed, job: str = "ads", runs: Collection[int] = ()) -> Labels:
    """Writes folder/metadata.csv with image, product, title and label of every attempt of a job that people labelled.

    runs: only of these; none: of all the job's. Why a picture was put before people does not matter here: what a judge
    is in doubt of teaches it most.

    The last vote of each person counts, and what most say; votes of people set aside do not. Products are placed as
    they stand in the picture and kept in folder/products, once for each size. Raises BadInput where there are no votes.
    """
    rows: list[dict[str, str]] = []
    even = 0
    for run in runs_of(ledger, job, runs):
        said: dict[int, dict[str, str]] = defaultdict(dict)
        for vote in ledger.votes(run.id):
            said[vote.attempt_id][vote.person] = vote.label
        briefs = {brief.id: brief for brief in ledger.briefs(run.id)} if said else {}
        for row in ledger.attempts(run.id) if said else ():
            (label, most), *others = Counter(said[row.id].values()).most_common() or [("", 0)]
            if not label or not row.image_sha:
                continue
            if others and others[0][1] == most:
                even += 1
                continue
            image, brief = ledger.image_path(row.image_sha), briefs[row.brief_id]
            product = brief.product_sha and _product(ledger.image_path(brief.product_sha), image, folder, placed)
            title = str(brief.content.get("title") or "")
            rows.append({"image": str(image.resolve()), "product": product or "", "title": title, "label": label})
    if not rows:
        of = f" in run {', '.join(map(str, runs))}" if runs else ""
        raise BadInput(f"The ledger {ledger.where} holds no labels of {job}{of}. Ask people with `goodeye review`.")
    write_table(folder / "metadata.csv", rows)
    return Labels(table=folder / "metadata.csv", count=len(rows), even=even)


def _product(cutout: Path, image: Path, folder: Path, placed: Placed) -> str:
    import PIL.Image

    with PIL.Image.open(image) as opened:
        side = opened.width
    name = f"{PRODUCTS}/{cutout.stem}-{side}.png"  # from the table's folder: what is held out goes by names
    place = folder / name
    if not place.is_file():
        buffer = io.BytesIO()
        placed(cutout, image).save(buffer, format="PNG")
        place.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(place, buffer.getvalue())
    return name


def taste_table(ledger: Ledger, table: Path) -> int:
    """Writes a table of image, up and down, from people's comparisons of pictures and rows; returns its rows.

    Each picture of the chosen side gets a vote up, each of the other one a vote down; of each person the last word on a
    pair counts, and similar says nothing. A picture is named by the file that it was taken in from, if that is on
    record, else by the ledger's own. Raises BadInput where nobody compared.
    """
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    names: dict[int, list[str]] = {}
    for one in last_words(ledger.comparisons(), TASTE):
        if one.choice == "similar":
            continue
        sides = (one.left_attempt, one.right_attempt)
        for attempt, vote in zip(sides, ("up", "down") if one.choice == "left" else ("down", "up"), strict=True):
            if attempt not in names:
                names[attempt] = _names(ledger, ledger.attempt(attempt))
            for name in names[attempt]:
                counts[name][vote] += 1
    if not counts:
        raise BadInput(f"The ledger {ledger.where} holds no comparisons of beauty. Ask people with `goodeye review`.")
    write_table(table, [{"image": name, "up": votes["up"], "down": votes["down"]} for name, votes in counts.items()])
    return len(counts)


def last_scores(
    votes: Iterable[VoteRow], axes: Collection[str], skipped: list[Skipped]
) -> dict[int, dict[str, VoteRow]]:
    """By attempt and person the last vote with scores on these axes, and no others. One with a score that is no number
    from 0 to HIGHEST goes to `skipped`."""
    found: dict[int, dict[str, VoteRow]] = defaultdict(dict)
    for vote in votes:
        scores = {axis: vote.axes[axis] for axis in axes if vote.axes.get(axis) is not None}
        if wrong := [axis for axis, score in scores.items() if not _is_score(score)]:
            name = f"vote {vote.id} on attempt {vote.attempt_id}"
            words = f"{name} says {scores[wrong[0]]!r} of {wrong[0]}. Scores are numbers from 0 to {HIGHEST}."
            skipped.append(Skipped(name, words))
        elif scores:
            plain = {axis: float(score) for axis, score in scores.items()}
            found[vote.attempt_id][vote.person] = replace(vote, axes=plain)
    return found


def _is_score(given: Any) -> bool:
    return isinstance(given, int | float) and not isinstance(given, bool) and 0 <= given <= HIGHEST


def last_words(said: Iterable[ComparisonRow], axes: Collection[str]) -> list[ComparisonRow]:
    """Of each person the last word on a pair, whichever side was left, on each of these axes."""
    found = {
        (one.person, frozenset((one.left_attempt, one.right_attempt)), one.axis): one
        for one in said
        if one.person is not None and one.axis in axes
    }
    return list(found.values())


def _names(ledger: Ledger, row: AttemptRow) -> list[str]:
    return [names[0] for names in _known_as(ledger, row)]


def _known_as(ledger: Ledger, row: AttemptRow) -> list[tuple[str, ...]]:
    """Of each picture the file that it was taken in from, if that is on record, and the ledger's own."""
    files: list[tuple[str, ...]] = [
        (str(ledger.image_path(sha).resolve()),) for sha in row.shown or (row.image_sha,) if sha
    ]
    path = None if row.shown else row.detail.get("path")
    return [(str(path), *files[0])] if path and files else files


@dataclass(frozen=True, kw_only=True)
class Preference:
    """One person's word on one axis: for `query`, one row of pictures is better than another; a row may be of one.

    Of each picture all the names that an index may have it under.
    """

    query: str
    axis: str
    person: str
    better: tuple[tuple[str, ...], ...]
    worse: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Preferences:
    """What people preferred. similar: how often someone found both sides similar, which prefers nothing."""

    said: list[Preference]
    similar: int


def preferences(ledger: Ledger, runs: Collection[int] = (), job: str = "search") -> Preferences:
    """What people chose between two answers to the same query, on accuracy and on beauty, the last word of each.

    runs: both answers are of these; without them, of any run of the job. Whoever is set aside does not count. Why a
    pair was put before people does not matter to who learns from it. The query is the brief's prompt, else its title or
    key. Raises BadInput where nobody chose anything.
    """
    mine = [run.id for run in runs_of(ledger, job, runs)]
    briefs = {brief.id: brief for run in mine for brief in ledger.briefs(run)}
    attempts = {row.id: row for run in mine for row in ledger.attempts(run)}
    found, similar = list[Preference](), 0
    for one in last_words(ledger.comparisons(), (*ACCURACY, *TASTE)):
        left, right = attempts.get(one.left_attempt), attempts.get(one.right_attempt)
        if left is None or right is None or left.brief_key != right.brief_key:
            continue
        if one.choice == "similar":
            similar += 1
            continue
        better, worse = (left, right) if one.choice == "left" else (right, left)
        sides = tuple(_known_as(ledger, better)), tuple(_known_as(ledger, worse))
        if all(sides):
            query = _query(briefs[left.brief_id])
            words = {"query": query, "axis": one.axis, "person": one.person or ""}
            found.append(Preference(**words, better=sides[0], worse=sides[1]))
    if not found:
        of = f"run {', '.join(map(str, runs))}" if runs else job
        raise BadInput(
            f"The ledger {ledger.where} holds no choice of people between two answers of {of}. Ask with "
            "`goodeye review`, or name other runs."
        )
    return Preferences(said=found, similar=similar)


def _query(brief: BriefRow) -> str:
    return str(brief.content.get("prompt") or brief.content.get("title") or brief.key)


def write_table(table: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Writes rows as CSV, whole or not at all."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    table.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(table, text.getvalue().encode(errors="backslashreplace"))
