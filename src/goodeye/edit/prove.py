"""What rewards as a condition gain, side by side on unseen edits: the whole job (`goodeye edit prove`).

Every row edits the same pictures by the same instructions from the same noise; a judge that nothing was trained
against scores following, preserving and quality, 0 to 5, and overall is their mean. Beside them stand the pixels
outside of what was to change, which reward training tends to lose. The row with rewards is swept, too: one axis is
asked for at 0 to 5, the others at 5, and its own measured axis must rise. Intervals are 95 %, by bootstrap over edits;
differences are paired.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from goodeye.diffusion.batch import attempt_seed, on_cores
from goodeye.edit.config import Train
from goodeye.edit.generate import Editor, Settings, edit, load_editor, settings_of
from goodeye.edit.preserve import Preserved, preserved, psnr
from goodeye.edit.rewards import AXES, BEST, HIGH
from goodeye.edit.train import train
from goodeye.edit.triplets import Triplet
from goodeye.errors import BadInput
from goodeye.images import open_image, save_png, to_pil, to_tensor
from goodeye.judging.metrics import bootstrap, paired_bootstrap, spearman
from goodeye.judging.protocol import fingerprint
from goodeye.progress import progress
from goodeye.runfolder import RESULTS, RunFolder
from goodeye.tables import Skipped

if TYPE_CHECKING:
    from goodeye.modelset import Models

BASE, CONTROL, FULL = "base", "no_reward", "full"
ROWS: dict[str, dict[str, Any]] = {  # what is trained, all of them in as many steps of the same batches, and how
    CONTROL: {"given": "none"},
    "best": {"given": "none", "best": 0.3},
    FULL: {},
    "scores": {"without": ("text",)},
    "text": {"without": ("scores",)},
    "a": {"without": ("b",)},
    "b": {"without": ("a",)},
    "averaged": {"given": "averaged"},
    "shuffled": {"given": "shuffled"},
}
ABOUT = {
    BASE: "the editor after stage 1",
    CONTROL: "stage 2 on the same data in as many steps, without rewards",
    "best": "the same on the best-scored 30 % alone",
    FULL: "stage 2 with three rewards as its condition",
    "scores": "scores without failure texts",
    "text": "failure texts without scores",
    "a": "injection A alone: tokens that the picture attends to",
    "b": "injection B alone: an addition to the time embedding",
    "averaged": "one mean score in the place of three",
    "shuffled": "each triplet with another's rewards",
}
LEVELS = (0, 1, 2, 3, 4, 5)
STRIP = 5  # edits that the report shows


@dataclass(frozen=True, eq=False, kw_only=True)
class Asked:
    """One edit of a proof. original: [3, S, S] in [0, 1]. mask: [S, S], true where it may change something."""

    key: str
    instruction: str
    original: Tensor
    mask: Bool[Tensor, "S S"] | None = None


Score = Callable[[Float[Tensor, "N 3 S S"], Sequence[int]], Float[np.ndarray, "N 3"]]


@dataclass(frozen=True, eq=False, kw_only=True)
class Bench:
    """The edits that are asked for, and what scores pictures made for those with these numbers, 0 to 5 on each axis."""

    asked: Sequence[Asked]
    score: Score


@dataclass(frozen=True, kw_only=True)
class Prove:
    """How a proof is made. All ours. sweep: of so many edits each axis is swept; 0 for none."""

    seed: int = 0
    sweep: int = 48
    batch: int = 16

    def check(self) -> None:
        """Raises BadInput for numbers that make no sense."""
        if self.sweep < 0 or self.batch < 1:
            raise BadInput(f"sweep is {self.sweep} and batch {self.batch}. Give 0 or more, and 1 or more.")


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What came of it. numbers: as results.json has them. strip: for each row, and for each level of a sweep, the first
    pictures."""

    out: Path
    numbers: dict[str, Any]
    strip: Mapping[str, Sequence[Path]] = field(repr=False)

    @property
    def report(self) -> Path:
        return self.out / "report.html"


def prove(
    bench: Bench, rows: Mapping[str, "Models"], *, config: Prove | None = None, out: str | Path = "goodeye-edit-proof"
) -> Proof:
    """rows: name -> the model set of a row's editor, with a reward module or without; base first, if it is there.

    The row FULL, or else the last one that has rewards, is swept. out gets pictures of each row, results.json and
    report.html; the same call goes on where it was stopped. Raises BadInput where there is no row, where a row's editor
    cannot be loaded, and where `out` was begun otherwise.
    """
    from goodeye.edit.prove_report import write_report

    config, folder, began = config or Prove(), RunFolder(Path(out)), time.monotonic()
    config.check()
    if not rows or not bench.asked:
        raise BadInput("there is no editor to prove, or no edit to prove it by. Name rows by --row NAME=FOLDER.")
    editors = {name: load_editor(models) for name, models in rows.items()}
    _begin(folder, editors, bench, config)
    maker = _Maker(bench, config, folder.path / "pictures")
    with_rewards = [name for name, editor in editors.items() if editor.rewarded]
    swept = FULL if FULL in with_rewards else with_rewards[-1] if with_rewards else ""
    found = {name: maker.row(name, editor, BEST, range(len(bench.asked))) for name, editor in editors.items()}
    sweep = maker.sweep(swept, editors[swept], found[swept]) if swept and config.sweep else {}
    numbers = {
        "seed": config.seed,
        "n": len(bench.asked),
        "swept": {"row": swept, "n": min(config.sweep, len(bench.asked))} if sweep else None,
        "rows": {name: _told(one) for name, one in found.items()},
        "against": {
            other: {name: _minus(one, found[other]) for name, one in found.items() if name != other}
            for other in (BASE, CONTROL)
            if other in found
        },
        "sweep": sweep,
        "left_out": {name: "no editor was given for it" for name in (BASE, *ROWS) if name not in rows},
        "about": {name: ABOUT.get(name, "") for name in rows},
        "seconds": round(time.monotonic() - began, 1),
    }
    strip = {name: maker.files(name, range(min(STRIP, len(bench.asked)))) for name in rows}
    few = range(min(STRIP, config.sweep, len(bench.asked)))
    for axis in sweep:
        strip |= {f"{axis} {level}": maker.files(_swept(swept, axis, level), few) for level in LEVELS}
    proof = Proof(out=folder.path, numbers=numbers, strip=strip)
    folder.write_json(RESULTS, numbers)
    write_report(proof, bench.asked[:STRIP])
    return proof


def _begin(folder: RunFolder, editors: Mapping[str, Editor], bench: Bench, config: Prove) -> None:
    told = {"job": "edit prove", "seed": config.seed, "sweep": config.sweep, "n": len(bench.asked)}
    rows = {name: _identity(editor) for name, editor in editors.items()}
    if folder.holds_a_run():
        before = folder.config()
        known = before.pop("rows", {})
        before.pop("batch", None)  # changes no picture; older proofs have it
        if before != told or any(known.get(name, mark) != mark for name, mark in rows.items()):
            raise BadInput(f"{folder.path} holds a proof of other editors or edits. Name another folder with --out.")
        rows = known | rows
    folder.begin({**told, "rows": rows})


def _identity(editor: Editor) -> str:
    """Of weights and settings."""
    return fingerprint(editor.version, repr(settings_of(editor.models.model_set)))


@dataclass(frozen=True, eq=False)
class Measured:
    """Of one row: [N, 3] scores, and of the edits with a mask what was kept outside of it."""

    scores: np.ndarray
    pixels: list[Preserved]


@dataclass(frozen=True)
class _Maker:
    """Makes pictures, each once, and measures them."""

    bench: Bench
    config: Prove
    root: Path

    def files(self, name: str, which: Sequence[int]) -> list[Path]:
        return [self.root / name / f"{self.bench.asked[at].key}.png" for at in which]

    def row(self, name: str, editor: Editor, wanted: Sequence[float], which: Sequence[int]) -> Measured:
        """The pictures of these edits, asked for with these rewards."""
        files, settings = self.files(name, which), settings_of(editor.models.model_set)
        todo = [at for at, file in zip(which, files, strict=True) if not file.is_file()]
        with progress(f"editing: {name}", len(todo), "edits") as advance:
            for first in range(0, len(todo), self.config.batch):
                some = todo[first : first + self.config.batch]
                made = on_cores(lambda part: self._made(editor, settings, wanted, part), some, str(editor.vae.device))
                for at, picture in zip(some, made, strict=True):
                    save_png(to_pil(picture), self.files(name, [at])[0])
                advance(len(some))
        pictures = torch.stack([to_tensor(open_image(file)) for file in files])
        scores = [
            self.bench.score(pictures[first : first + 64], list(which)[first : first + 64])
            for first in range(0, len(files), 64)
        ]
        return Measured(np.concatenate(scores), self._outside(pictures, which))

    def _made(self, editor: Editor, settings: Settings, wanted: Sequence[float], which: Sequence[int]) -> list[Tensor]:
        asked = [self.bench.asked[at] for at in which]
        seeds = [attempt_seed(self.config.seed, one.key, 1, 1) for one in asked]
        originals = torch.stack([one.original for one in asked])
        words = [one.instruction for one in asked]
        return list(edit(editor, originals, words, seeds, rewards=wanted, settings=settings))

    def _outside(self, pictures: Tensor, which: Sequence[int]) -> list[Preserved]:
        asked = [self.bench.asked[at] for at in which]
        return [
            preserved(one.original, picture, one.mask)
            for one, picture in zip(asked, pictures, strict=True)
            if one.mask is not None and float((~one.mask).float().mean()) >= 0.05
        ]

    def sweep(self, name: str, editor: Editor, best: Measured) -> dict[str, Any]:
        """Each axis asked for at each level, the others at 5; what its own measured axis does."""
        which, found = range(min(self.config.sweep, len(self.bench.asked))), {}
        for number, axis in enumerate(AXES):
            columns = []
            for level in LEVELS:
                wanted = [float(level) if at == number else 5.0 for at in range(3)]
                made = best if level == HIGH else self.row(_swept(name, axis, level), editor, wanted, which)
                columns.append(made.scores[: len(which), number])
            found[axis] = _rising(np.stack(columns, 1), self.config.seed)
        return found


def _swept(row: str, axis: str, level: int) -> str:
    """The folder of a sweep's pictures; those with all rewards at 5 are the row's own."""
    return row if level == HIGH else f"{row}-{axis}-{level}"


def _rising(values: Float[np.ndarray, "N L"], seed: int) -> dict[str, Any]:
    """Mean of the measured axis at each level, and Spearman's correlation of level and mean."""
    return {
        "levels": list(LEVELS),
        "measured": [bootstrap(column, _mean, seed=seed).to_json() for column in values.T],
        "spearman": bootstrap(values, _follows, seed=seed).to_json(),
    }


def _follows(rows: np.ndarray) -> float:
    """Spearman of what was asked for and the mean of what came out; 0 where all come out the same."""
    return float(np.nan_to_num(spearman(np.array(LEVELS, dtype=float), rows.mean(0))))


def _mean(values: np.ndarray) -> float:
    return float(values.mean())


def _columns(one: Measured) -> dict[str, np.ndarray]:
    """What is measured of each edit, by its name in the JSON."""
    scores = {axis: one.scores[:, at] for at, axis in enumerate(AXES)} | {"overall": one.scores.mean(1)}
    alike = [
        p.ssim for p in one.pixels if not math.isnan(p.ssim)
    ]  # of the same edits in every row: the mask alone says
    pixels = {"outside_l1": [p.l1 for p in one.pixels], "outside_ssim": alike}
    return scores | {name: np.array(values) for name, values in pixels.items() if values}


def _told(one: Measured) -> dict[str, Any]:
    found = {name: bootstrap(values, _mean).to_json() for name, values in _columns(one).items()}
    if one.pixels:
        errors = np.array([p.mse for p in one.pixels])
        found["outside_psnr"] = bootstrap(errors, lambda some: min(psnr(float(some.mean())), 99.0)).to_json()
    return found


def _minus(one: Measured, other: Measured) -> dict[str, Any]:
    """Paired differences."""
    ours, theirs = _columns(one), _columns(other)
    return {name: paired_bootstrap(ours[name], theirs[name], _mean).to_json() for name in ours if name in theirs}


def retrained(
    name: str,
    models: "Models",
    triplets: Sequence[Triplet | Skipped],
    out: str | Path,
    *,
    config: Train,
    cache: str | Path | None = None,
) -> Path:
    """A row of ROWS, trained from the set's editor in out/NAME, or gone on with there; its model set's TOML file.

    config: of all rows alike, so that budgets are equal. Raises BadInput for a name that is no row.
    """
    if name not in ROWS:
        raise BadInput(f"{name} is no row that is trained. Those are {', '.join(ROWS)}.")
    cpu = models.device.type == "cpu"
    asked = replace(config, stage=2, **ROWS[name])
    return train(triplets, models, Path(out) / name, config=asked, cache=cache, resume=True, cpu=cpu).models
