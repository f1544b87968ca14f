"""How good an editor is: Real-Edit's measure by a large model, and pixels outside the edited region.

Real-Edit (edit paper): 80 photographs, seven instructions each, one of each type. For each perspective the judge says
yes or no and a score; shares of yes and mean scores, for each type and over all; overall is the mean of the three. The
judge must be another model than the one that annotated what the editor learned from.
"""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from goodeye.edit.annotate import PROMPTS, SYSTEM, Reward, shown
from goodeye.edit.preserve import Preserved, pooled, preserved_of
from goodeye.edit.rewards import AXES
from goodeye.edit.triplets import Picture, Triplet, check_instruction, read_triplets, usable
from goodeye.errors import BadInput
from goodeye.judging.large import Asked, BadAnswer
from goodeye.judging.metrics import Interval, bootstrap
from goodeye.progress import track
from goodeye.tables import PICTURES, Skipped

if TYPE_CHECKING:
    from goodeye.judging.large import LargeModel

INSTRUCTIONS, IMAGES = "eval_instruct.json", "imgs"
TYPES = ("Local", "Remove", "Add", "Texture", "Background", "Global", "Style")
_LINE = re.compile(r"\s*(\d+)\s*\.\s*([A-Za-z]+)(?:\s+Edit)?\s*:\s*(.*)", re.DOTALL)  # two pictures write "Local Edit:"
_YES = " Say in `yes`, too, whether it is right in this respect on the whole."


@dataclass(frozen=True, kw_only=True)
class Task:
    """One edit that is asked for. mask: white where it may change something, if that is known."""

    key: str
    kind: str
    instruction: str
    original: Picture
    mask: Picture | None = None

    @property
    def stem(self) -> str:
        """The name of its edited picture, without ending."""
        return self.key.replace("/", "-")


class Judgement(Reward):
    """One perspective, with yes or no."""

    yes: bool


@dataclass(frozen=True)
class Judged:
    """Of one edited picture: by axis yes or no and the score, an answer that is missing left out; and its pixels.
    missing: how many answers are; none where none was asked for."""

    task: Task
    yes: dict[str, bool] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    pixels: Preserved | None = None
    missing: int = 0


Judge = Callable[[str, Image.Image, Image.Image], Mapping[str, Judgement | None]]  # instruction, original, edited


def read_real_edit(folder: str | Path) -> Iterator[Task | Skipped]:
    """The tasks of Real-Edit's folder (eval_instruct.json, imgs/), in its order; key: "10-local" of 10.jpeg.

    A photograph that is not there, and a line that is none, is skipped with a message. Raises BadInput where
    eval_instruct.json cannot be read.
    """
    root = Path(folder)
    try:
        listed = json.loads((root / INSTRUCTIONS).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{root / INSTRUCTIONS} cannot be read ({error}). Name Real-Edit's folder.") from error
    for name, lines in listed.items():
        file = root / IMAGES / name
        if not file.is_file():
            yield Skipped(name, f"{file} is not there. Download Real-Edit's photographs.")
            continue
        for line in lines:
            yield _task(file, line)


def _task(file: Path, line: str) -> Task | Skipped:
    found = _LINE.fullmatch(line)
    kind = found[2].capitalize() if found else ""
    if found is None or kind not in TYPES or TYPES.index(kind) + 1 != int(found[1]):
        return Skipped(file.name, f"{file.name}: {line[:60]!r} is no instruction of a known type. Correct the file.")
    key = f"{file.stem}-{kind.lower()}"
    try:
        return Task(key=key, kind=kind, instruction=check_instruction(found[3]), original=Picture(file.name, file))
    except BadInput as error:
        return Skipped(key, f"{key}: {error}")


def tasks_in(source: str | Path, skipped: list[Skipped]) -> list[Task]:
    """The tasks of Real-Edit's folder, or of triplets; what cannot be used goes to `skipped`."""
    if (Path(source) / INSTRUCTIONS).is_file():
        listed = list(read_real_edit(source))
        skipped += [one for one in listed if isinstance(one, Skipped)]
        return [one for one in listed if isinstance(one, Task)]
    return tasks_of(usable(read_triplets(source), skipped))


def tasks_of(triplets: Iterable[Triplet]) -> list[Task]:
    """The same edits asked for again: triplets as a benchmark. Their kind is the first word of the instruction."""
    return [
        Task(key=one.key, kind=one.instruction.split()[0].lower(), instruction=one.instruction,
             original=one.original, mask=one.mask)
        for one in triplets
    ]  # fmt: skip


def edited_of(folder: str | Path, task: Task) -> Picture:
    """The edited picture of a task: KEY.png (or another ending) in `folder`. Raises BadInput where it is not there."""
    root = Path(folder)
    for suffix in PICTURES:
        if (file := root / f"{task.stem}{suffix}").is_file():
            return Picture(str(file), file)
    raise BadInput(f"{root} has no picture {task.stem}.png. Make it, or leave the task out.")


@dataclass
class LargeJudge:
    """Asks a large model for each perspective: yes or no, a score, and what failed. wrong: what was wrong with the last
    answer that could not be used."""

    model: "LargeModel"
    wrong: str = ""

    def __call__(self, instruction: str, original: Image.Image, edited: Image.Image) -> dict[str, Judgement | None]:
        """None where the answer cannot be used. Raises BadInput where the server fails."""
        both = [shown(original), shown(edited)]
        found: dict[str, Judgement | None] = {}
        for axis in AXES:
            words = PROMPTS[axis].format(instruction=instruction) + _YES
            try:
                found[axis] = self.model.ask(Asked(words, both[1:] if axis == "quality" else both, SYSTEM), Judgement)
            except BadAnswer as error:
                found[axis], self.wrong = None, str(error)
        return found


def measure(tasks: Sequence[Task], folder: str | Path, judge: Judge | None, skipped: list[Skipped]) -> list[Judged]:
    """Measures the edited pictures of `folder`; without a judge, pixels alone. What is unreadable goes to `skipped`."""
    found = []
    for task in track(tasks, "measuring edits", unit="edits"):
        try:
            original, edited = task.original.open(), edited_of(folder, task).open()
            pixels = preserved_of(original, edited, task.mask.open()) if task.mask else None
        except BadInput as error:
            skipped.append(Skipped(task.key, f"{task.key}: {error}"))
            continue
        said = {axis: one for axis, one in judge(task.instruction, original, edited).items() if one} if judge else {}
        found.append(
            Judged(
                task,
                {axis: one.yes for axis, one in said.items()},
                {axis: one.score for axis, one in said.items()},
                {axis: one.failure for axis, one in said.items() if one.failure},
                pixels,
                len(AXES) - len(said) if judge else 0,
            )
        )
    return found


def tables(judged: Sequence[Judged], seed: int = 0) -> dict[str, Any]:
    """Per type and over all ("all"): shares of yes and mean scores of each axis and overall with 95 % intervals, how
    many answers are missing, and the pixels outside the mask where one is known."""
    rows: dict[str, list[Judged]] = defaultdict(list)
    for one in judged:
        rows[one.task.kind].append(one)
    return {name: _row(some, seed) for name, some in [*rows.items(), ("all", list(judged))]}


def _row(judged: list[Judged], seed: int) -> dict[str, Any]:
    row: dict[str, Any] = {"count": len(judged), "yes": {}, "score": {}}
    for name, given in (("yes", [one.yes for one in judged]), ("score", [one.scores for one in judged])):
        for axis in AXES:
            if values := [one[axis] for one in given if axis in one]:
                row[name][axis] = _mean(values, seed).to_json()
        if whole := [[one[axis] for axis in AXES] for one in given if all(axis in one for axis in AXES)]:
            row[name]["overall"] = _mean(whole, seed).to_json()
    row["missing"] = sum(one.missing for one in judged)
    if pixels := [one.pixels for one in judged if one.pixels is not None]:
        row["outside"] = pooled(pixels)
    return row


def _mean(values: Sequence[Any], seed: int) -> Interval:
    return bootstrap(np.array(values, dtype=float), lambda some: float(some.mean()), seed=seed)


def as_text(rows: Mapping[str, Any]) -> str:
    """The tables as a terminal shows them: % of yes and mean score of each axis, and the pixels outside the mask;
    each where it was measured, and how many answers are missing."""
    axes = (*AXES, "overall") if any(row["yes"] or row["missing"] for row in rows.values()) else ()
    pixels = ("L1", "PSNR", "SSIM") if any("outside" in row for row in rows.values()) else ()
    lines = [f"{'type':12}{'n':>5}" + "".join(f"{name:>18}" for name in axes) + "".join(f"{n:>9}" for n in pixels)]
    for name, row in rows.items():
        cells = [f"{_cell(row, axis):>18}" for axis in axes]
        cells += [f"{_outside(row, measure):>9}" for measure in pixels]
        lines.append(f"{name:12}{row['count']:5}" + "".join(cells))
    if pixels:
        lines.append("L1, PSNR, SSIM: of the pixels outside the edited region")
    if axes and (missing := rows["all"]["missing"]):
        lines.append(f"{missing} of {len(AXES) * rows['all']['count']} answers are missing and left out")
    return "\n".join(lines)


def _outside(row: Mapping[str, Any], name: str) -> str:
    """PSNR has no number where nothing changed."""
    found = row.get("outside", {})
    value = found.get(name.lower())
    if value is None:
        return "inf" if name == "PSNR" and found.get("l1") == 0 else "-"
    return f"{value:.1f}" if name == "PSNR" else f"{value:.3f}"


def _cell(row: Mapping[str, Any], axis: str) -> str:
    if axis not in row["yes"]:
        return "-"
    return f"{100 * row['yes'][axis]['mean']:.0f} %  {row['score'][axis]['mean']:.2f}"
