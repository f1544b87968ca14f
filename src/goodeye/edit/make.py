"""`goodeye edit make`: a picture edited several times, the best chosen by a judge, before and after on a sheet."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont, ImageOps

from goodeye.diffusion.batch import attempt_seed
from goodeye.edit.annotate import Annotator
from goodeye.edit.book import opened
from goodeye.edit.generate import Editor, Settings, edit_images, require_readable
from goodeye.edit.measure import Task
from goodeye.edit.rewards import AXES, BEST, Rewards, check_rewards
from goodeye.edit.triplets import check_instruction, opaque
from goodeye.errors import BadInput
from goodeye.images import open_image, save_png
from goodeye.progress import track
from goodeye.runfolder import RESULTS, RunFolder, mark_of
from goodeye.tables import Skipped

EDITED, SHEET = "pictures", "sheet.png"  # the folder of a benchmark's edits; before and after of a picture's
CELL, GAP, CAPTION = 320, 12, 26
INK, FAINT, PAPER = "#1c1917", "#78716c", "#faf9f7"


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One edited picture: its file, its seed, and what the judge said (None without a judge)."""

    file: Path
    seed: int
    rewards: Rewards | None = None

    @property
    def score(self) -> float | None:
        """The mean of the three scores; None where one is missing."""
        known = [score for score in self.rewards.scores if score is not None] if self.rewards else []
        return sum(known) / len(AXES) if len(known) == len(AXES) else None


@dataclass(frozen=True, kw_only=True)
class Made:
    """What came of it. best: the attempt with the highest score; the first one without a judge; None where the judge
    gave none all three scores."""

    attempts: list[Attempt]
    best: Attempt | None
    sheet: Path
    judged: bool

    def summary(self) -> str:
        """What a terminal shows."""
        lines = [
            f"{one.file}{_said(one)}{'  best' if self.judged and one is self.best else ''}" for one in self.attempts
        ]
        return "\n".join([*lines, f"sheet: {self.sheet}"])

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and texts."""
        rows = [
            {"file": str(one.file), "seed": one.seed, "rewards": one.rewards.to_json() if one.rewards else None}
            for one in self.attempts
        ]
        best = str(self.best.file) if self.judged and self.best else None
        return {"attempts": rows, "best": best, "sheet": str(self.sheet)}


def make(
    image: str | Path,
    instruction: str,
    editor: Editor,
    out: str | Path,
    *,
    rewards: Sequence[float] | None = None,
    n: int = 4,
    judge: Annotator | None = None,
    judged_by: tuple[str, str] = ("judge", ""),
    settings: Settings | None = None,
    seed: int = 0,
    batch: int = 4,
    ledger: str | Path | None = None,
) -> Made:
    """Edits the picture `n` times and writes 1.png ..., sheet.png and results.json into the folder `out`.

    rewards: what is asked for, (5, 5, 5) if not given. judge: its mean score chooses the best; an attempt of which a
    score is missing cannot win; judged_by: its name and version. All goes to the ledger, a folder or URL. Killed at any
    moment, the same call goes on. Raises BadInput for an instruction, rewards or a picture that cannot be used, and
    for a folder that was begun otherwise, or has files of these names and no run.
    """
    instruction, wanted = check_instruction(instruction), _wanted(rewards, editor)
    if n < 1 or batch < 1:
        raise BadInput(f"n is {n} and batch {batch}. Ask for one edit or more, one or more at once.")
    settings = settings or Settings()
    settings.check()
    require_readable(editor, instruction)
    original, folder = opaque(open_image(image)), RunFolder(Path(out))
    seeds = [attempt_seed(seed, instruction, 1, number) for number in range(1, n + 1)]
    _require_free(folder, *(f"{number}.png" for number in range(1, n + 1)), SHEET, RESULTS)
    about = {"image": mark_of(image), "instruction": instruction, "n": n, **_about(editor, wanted, settings, seed)}
    attempts: list[Attempt] = []
    with opened(folder, {"job": "edit make", **about}, ledger, seed, judged_by) as book:
        brief, known = book.brief(Path(image).stem, instruction, original), dict[int, Attempt]()
        for first in track(range(0, n, batch), "editing", unit="batches"):
            some, began = seeds[first : first + batch], time.monotonic()
            edited = _kept(folder, first, len(some))
            if not edited:
                edited = edit_images(
                    editor, original, instruction, some, rewards=wanted, settings=settings, batch=batch
                )
                for number, img in enumerate(edited, first + 1):  # all, before a judge is asked, who may be away
                    save_png(img, folder.path / f"{number}.png")
            took = (time.monotonic() - began) / len(some)
            for own, img in zip(some, edited, strict=True):
                said = judge(instruction, original, img) if judge else None
                one = Attempt(file=folder.path / f"{len(attempts) + 1}.png", seed=own, rewards=said)
                attempts.append(one)
                known[book.attempt(brief, len(attempts), own, img, said, settings.steps, took)] = one
        best = _best(attempts) if judge else attempts[0]
        if judge:
            chosen = next((attempt for attempt, one in known.items() if one is best), None)
            book.pick(brief, {attempt: _why(one, one is best, n) for attempt, one in known.items()}, chosen)
        sheet = folder.path / SHEET
        save_png(before_after(original, attempts, best if judge else None, instruction), sheet)
        made = Made(attempts=attempts, best=best, sheet=sheet, judged=judge is not None)
        folder.write_json(RESULTS, made.to_json())
    return made


def _best(attempts: Sequence[Attempt]) -> Attempt | None:
    """The one with the highest score, the first of equals; None where no attempt has all three."""
    scored = [(one.score, one) for one in attempts if one.score is not None]
    return max(scored, key=lambda pair: pair[0])[1] if scored else None


def _require_free(folder: RunFolder, *names: str) -> None:
    """Raises BadInput where a folder without a run has files that this one would write over, or take for its own."""
    for name in names:
        if not folder.holds_a_run() and (folder.path / name).exists():
            raise BadInput(f"{folder.path / name} was not made by this command. Name another folder with --out.")


def _kept(folder: RunFolder, first: int, count: int) -> list[Image.Image]:
    """A batch's pictures, if an earlier call made all of them."""
    files = [folder.path / f"{number}.png" for number in range(first + 1, first + count + 1)]
    return [open_image(file) for file in files] if all(file.is_file() for file in files) else []


def _why(one: Attempt, best: bool, n: int) -> str:
    if one.score is None:
        return "a score is missing"
    return f"mean score {one.score:.2f}, {'the best' if best else 'not the best'} of {n}"


def make_all(
    tasks: Sequence[Task],
    editor: Editor,
    out: str | Path,
    skipped: list[Skipped],
    *,
    rewards: Sequence[float] | None = None,
    settings: Settings | None = None,
    seed: int = 0,
    ledger: str | Path | None = None,
) -> int:
    """Edits each task's picture once, as OUT/pictures/KEY.png, for `goodeye edit measure` and `goodeye compare`.

    Returns how many were made. What is there already is not made again: the same call goes on where it was killed. A
    task that cannot be used, or is another than when it was edited here, goes to `skipped`. Raises BadInput where the
    folder was begun otherwise, or has pictures/ and no run.
    """
    settings, wanted, folder = settings or Settings(), _wanted(rewards, editor), RunFolder(Path(out))
    settings.check()
    _require_free(folder, EDITED)
    made = 0
    with opened(folder, {"job": "edit make", **_about(editor, wanted, settings, seed)}, ledger, seed) as book:
        begun = {one.key: one.content for one in book.ledger.briefs(book.run)}
        for task in track(tasks, "editing", unit="edits"):
            file, began = folder.path / EDITED / f"{task.stem}.png", time.monotonic()
            own = attempt_seed(seed, task.key, 1, 1)
            try:
                mark = hashlib.sha256(task.original.read()).hexdigest()[:12]
                _require_same(begun.get(task.key, {}), {"instruction": task.instruction, "picture": mark})
                if file.is_file():
                    continue
                original = task.original.open()
                (img,) = edit_images(editor, original, task.instruction, [own], rewards=wanted, settings=settings)
            except BadInput as error:
                skipped.append(Skipped(task.key, f"{task.key}: {error}"))
                continue
            brief = book.brief(task.key, task.instruction, original, mark)
            book.attempt(brief, 1, own, img, None, settings.steps, time.monotonic() - began)
            save_png(img, file)
            made += 1
    return made


def _require_same(begun: Mapping[str, Any], now: Mapping[str, str]) -> None:
    """Raises BadInput where the edit that is on record was of another picture, or by another instruction."""
    if changed := [name for name, value in now.items() if begun.get(name, value) != value]:
        raise BadInput(f"it was edited here with another {changed[0]}. Name another folder with --out.")


def _about(editor: Editor, wanted: Sequence[float], settings: Settings, seed: int) -> dict[str, Any]:
    roles = editor.models.model_set.roles
    network = {"editor": roles["editor"], "reward_module": roles["rewards"] if editor.rewarded else None}
    return {**network, "weights": editor.version, "rewards": list(wanted), "settings": asdict(settings), "seed": seed}


def _wanted(rewards: Sequence[float] | None, editor: Editor) -> tuple[float, float, float]:
    if rewards is not None and not editor.rewarded:
        raise BadInput("this editor has no reward module, so rewards do not steer it. Leave them, or name the role.")
    return check_rewards(rewards or BEST)


def before_after(original: Image.Image, attempts: Sequence[Attempt], best: Attempt | None, title: str) -> Image.Image:
    """The original, then the edits, the best first and named so, with their scores."""
    ordered = sorted(attempts, key=lambda one: one is not best)
    cells = [(original, "before", INK)]
    for one in ordered:
        words = f"{one.file.stem}{_said(one)}{'  best' if one is best else ''}"
        cells.append((open_image(one.file), words, INK if one is best else FAINT))
    shown = [(ImageOps.contain(img, (CELL, CELL)), words, ink) for img, words, ink in cells]
    columns, high = min(4, len(shown)), max(img.height for img, *_ in shown) + CAPTION + GAP
    size = columns * (CELL + GAP) + GAP, 44 + -(-len(shown) // columns) * high
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(16)
    draw.text((GAP, 12), _fitting(_drawable(title), draw, font, sheet.width - 2 * GAP), INK, font)
    for place, (img, words, ink) in enumerate(shown):
        left, top = GAP + place % columns * (CELL + GAP), 44 + place // columns * high
        sheet.paste(img, (left + (CELL - img.width) // 2, top))
        draw.text((left, top + high - CAPTION - GAP + 4), words, ink, ImageFont.load_default(13))
    return sheet


def _fitting(text: str, draw: ImageDraw.ImageDraw, font: Any, width: int) -> str:
    """The text, cut where the sheet ends."""
    if draw.textlength(text, font) <= width:
        return text
    while text and draw.textlength(f"{text}...", font) > width:
        text = text[:-1].rstrip()
    return f"{text}..."


def _said(one: Attempt) -> str:
    if one.rewards is None:
        return ""
    scores = zip(AXES, one.rewards.scores, strict=True)
    return "  " + "  ".join(f"{axis} {'-' if score is None else f'{score:.1f}'}" for axis, score in scores)


def _drawable(text: str) -> str:
    """What the font that comes with Pillow can draw."""
    return "".join(char for char in text if ord(char) < 0x250)
