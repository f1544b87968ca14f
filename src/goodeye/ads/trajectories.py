"""Recording attempts whole, with the inspector's readings on the way, to calibrate early stopping on them (ours).

The recording is a file to which lines are added batch by batch: a killed one goes on, and another promise or threshold
is calibrated on the same lines without making a picture.
"""

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from itertools import count, islice
from pathlib import Path
from typing import Any

import torch

from goodeye.ads.brief import PRODUCTS, Brief, read_briefs
from goodeye.ads.cutout import Remover
from goodeye.ads.early import (
    CONFIDENCE,
    MOST,
    RULE,
    SHARE,
    Rule,
    Setting,
    Trajectory,
    calibrate,
    check_options,
    check_steps,
)
from goodeye.ads.generate import advance_on_cores, drafts_of, pictures_on_cores
from goodeye.ads.maker import maker_of, strided
from goodeye.ads.results import AVAILABLE
from goodeye.ads.workshop import Ready, prepare, shown
from goodeye.atomic import append, mend, read_rows, write_bytes
from goodeye.diffusion.batch import Prompts, attempt_seed, eight_bit, lay_out
from goodeye.errors import BadInput
from goodeye.judging.protocol import Inspector
from goodeye.modelset import Models, Settings, opened
from goodeye.progress import Advance
from goodeye.progress import progress as show_progress
from goodeye.tables import Skipped

CONFIG, READINGS = "config.json", "readings.jsonl"
CANDIDATES = (0.2, 0.35, 0.5, 0.65)  # checks to choose from, as parts of the steps (ours)
HELD = 64  # products kept ready


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What `calibrate_early` returns: the rule, where it is, and the inputs that could not be used."""

    rule: Rule
    file: Path
    problems: Sequence[Skipped]

    def summary(self) -> str:
        """What the rule does, what it promises, and what that rests on: a line each."""
        rule, counts = self.rule, self.rule.counts
        checks = ", ".join(f"{check.below:.3f} after {check.step}" for check in rule.checks)
        return "\n".join(
            [
                f"{counts.recorded} attempts recorded, {counts.good} of them good.",
                f"Stop below p(available) {checks} of {rule.setting.evaluations} steps.",
                f"With confidence {rule.confidence:.3g}, at most {rule.share:.3g} of the good attempts are lost; "
                f"of the {counts.promised_on} that this rests on, {counts.lost} are.",
                f"{counts.saved} of {counts.failed} failed attempts are stopped: {counts.evals:.1f} denoiser "
                f"evaluations for each good picture instead of {counts.evals_plain:.1f}.",
                f"For a picture, a reading takes {rule.seconds['reading']:.3f} s and a denoiser evaluation "
                f"{rule.seconds['evaluation']:.3f} s.",
            ]
        )


def calibrate_early(
    inputs: Sequence[str | Path],
    *,
    title: str | None = None,
    prompt: str | None = None,
    attempts: int = 400,
    checks: Sequence[int] | None = None,
    lose: float = SHARE,
    confidence: float = CONFIDENCE,
    most: int = MOST,
    models: str | Path | Models = "showroom",
    out: str | Path = "goodeye-early",
    seed: int = 0,
    batch: int = 16,
    threshold: float | None = None,
    stride: int | None = None,
    resume: bool = False,
    device: str = "cpu",
    remover: Remover = "saliency",
    inspector: Inspector | None = None,
    progress: bool = False,
) -> Calibration:
    """Records attempts at these products and calibrates when to stop one that will fail.

    inputs, title, prompt, remover: as `make` takes them; the products take turns until there are `attempts` in all.
    checks: after which numbers of steps the inspector reads x0_hat; `most` of them, at most, are used. lose,
    confidence: the promise, see `goodeye.ads.early.calibrate`. threshold: from which p(available) a finished picture is
    good; stride: of the sampler; both the model set's own if not given. resume: go on with the recording in `out`;
    attempts, lose, confidence, most and threshold may be others than before.

    Raises BadInput where nothing can run, where `out` holds another recording, and where the good attempts are too few
    for the promise: it says how many it takes, and the recording stays.
    """
    check_options(lose, confidence, most)
    if attempts < 1 or batch < 1:
        raise BadInput("attempts and batch are counts. Give 1 or more.")
    briefs, problems = read_briefs(inputs, Path(out) / PRODUCTS, title, prompt)
    if not briefs:
        raise BadInput(problems[0].message if problems else "No products are named. Name some to record attempts at.")
    loaded = opened(models, device)
    settings = strided(loaded.model_set.settings, stride)
    judge = inspector or loaded.rfnet
    setting = setting_of(loaded, settings, judge, settings.threshold if threshold is None else threshold)
    whole = len(settings.starts)
    steps = check_steps(candidates(whole) if checks is None else checks, whole)
    tape = Tape(Path(out))
    same = {name: value for name, value in asdict(setting).items() if name != "threshold"}
    tape.begin({**same, "checks": list(steps), "seed": seed, "products": _digest(briefs)}, resume)
    recorder = Recorder(models=loaded, settings=settings, inspector=judge, steps=steps, seed=seed, remover=remover)
    record_all(recorder, tape, briefs, attempts, batch, progress)
    problems += recorder.problems.values()
    if not tape.lines:
        raise BadInput(problems[0].message)
    rule = calibrate(
        tape.trajectories(attempts),
        steps,
        setting,
        share=lose,
        confidence=confidence,
        most=most,
        seconds=tape.seconds(),
    )
    rule.save(tape.folder / RULE)
    return Calibration(rule=rule, file=tape.folder / RULE, problems=problems)


def _digest(briefs: Sequence[Brief]) -> str:
    """Changes with the products, their titles and prompts."""
    told = json.dumps([[brief.key, brief.title, brief.prompt] for brief in briefs])
    return hashlib.sha256(told.encode()).hexdigest()[:12]


def candidates(steps: int) -> list[int]:
    """The checks to choose from where none are named."""
    return sorted({max(1, round(part * steps)) for part in CANDIDATES} - {steps}) if steps > 1 else []


def setting_of(models: Models, settings: Settings, inspector: Inspector, threshold: float) -> Setting:
    """What a rule calibrated with these holds for. The inspector needs a name and a version, as judges have them."""
    return Setting(**asdict(maker_of(models, settings, inspector)), threshold=threshold)


@dataclass
class Tape:
    """The recording's folder: config.json says of what, readings.jsonl has a line an attempt, in order."""

    folder: Path
    lines: list[dict[str, Any]] = field(default_factory=list)

    def begin(self, config: dict[str, Any], resume: bool) -> None:
        """Starts a recording or takes it up; a last line that a kill left half written is cut off.

        Raises BadInput where the folder holds another recording, or one that `resume` does not ask for.
        """
        there = self.folder / CONFIG
        if not there.exists():
            write_bytes(self.folder / READINGS, b"")
            write_bytes(there, (json.dumps(config, indent=1) + "\n").encode())
            return
        if not resume:
            raise BadInput(f"{self.folder} already holds a recording. Go on with --resume, or name another with --out.")
        try:
            before = json.loads(there.read_text(encoding="utf-8"))
            self.lines = read_rows(self.folder / READINGS)
        except (OSError, ValueError) as error:
            raise BadInput(f"{self.folder} holds a damaged recording. Name another folder with --out.") from error
        for name, value in config.items():
            if before.get(name) != value:
                raise BadInput(
                    f"The recording in {self.folder} has {name} {before.get(name)}, not {value}. "
                    "Name another folder with --out."
                )
        mend(self.folder / READINGS)

    def add(self, lines: Sequence[dict[str, Any]]) -> None:
        """Adds the attempts of a batch."""
        append(self.folder / READINGS, *lines)
        self.lines += lines

    def trajectories(self, most: int) -> list[Trajectory]:
        """The first `most` attempts."""
        return [Trajectory(tuple(line["readings"]), line["final"]) for line in self.lines[:most]]

    def seconds(self) -> dict[str, float]:
        """What one denoiser evaluation and one reading took on average, for one picture."""
        return {
            name: round(sum(line["seconds"][name] for line in self.lines) / len(self.lines), 5)
            for name in ("evaluation", "reading")
        }


@dataclass(kw_only=True)
class Recorder:
    """What makes attempts and reads them on the way. A brief that cannot be used becomes a problem."""

    models: Models
    settings: Settings
    inspector: Inspector
    steps: tuple[int, ...]
    seed: int
    remover: Remover = "saliency"
    ready: dict[str, Ready] = field(default_factory=dict)
    problems: dict[str, Skipped] = field(default_factory=dict)
    embed: Prompts = field(init=False)

    def __post_init__(self) -> None:
        self.embed = Prompts(self.models)
        lay_out(self.models)

    def places(self, briefs: Sequence[Brief]) -> Iterator[tuple[Brief, int, Ready]]:
        """Attempts without end, the usable briefs in turn, each time with the next number."""
        for number in count(1):
            usable = [brief for brief in briefs if brief.key not in self.problems]
            if not usable:
                return
            for brief in usable:
                if (found := self._ready(brief)) is not None:
                    yield brief, number, found

    def _ready(self, brief: Brief) -> Ready | None:
        if brief.key in self.ready:
            return self.ready[brief.key]
        try:
            found, _ = prepare(brief, self.models, self.settings, self.seed, self.remover)
        except BadInput as error:
            self.problems[brief.key] = Skipped(name=shown(brief.image), message=str(error))
            return None
        if len(self.ready) < HELD:
            self.ready[brief.key] = found
        return found

    def record(self, places: Sequence[tuple[Brief, int, Ready]]) -> list[dict[str, Any]]:
        """Makes a batch of attempts whole; a line for each, with its readings."""
        jobs = [ready for _, _, ready in places]
        seeds = [attempt_seed(self.seed, f"early/{brief.key}", number, 1) for brief, number, _ in places]
        drafts = drafts_of([job.canvas for job in jobs], [job.prompt for job in jobs], seeds)
        said, sampling, reading = [], 0.0, 0.0
        whole = len(self.settings.starts)
        for stop in (*self.steps, whole):
            started = time.monotonic()
            drafts = advance_on_cores(self.models, drafts, stop, settings=self.settings, embed=self.embed)
            sampled = time.monotonic()
            images = eight_bit(pictures_on_cores(self.models, drafts))
            with torch.no_grad():
                verdicts = self.inspector.inspect(images, [job.context for job in jobs])
            said.append([verdict.scores[AVAILABLE] for verdict in verdicts])
            sampling, reading = sampling + sampled - started, reading + time.monotonic() - sampled
        seconds = {
            "evaluation": round(sampling / len(jobs) / whole, 6),
            "reading": round(reading / len(jobs) / len(said), 6),
        }
        return [
            {"key": brief.key, "number": number, "readings": row[:-1], "final": row[-1], "seconds": seconds}
            for (brief, number, _), row in zip(places, zip(*said, strict=True), strict=True)
        ]


def record_all(
    recorder: Recorder, tape: Tape, briefs: Sequence[Brief], attempts: int, batch: int, progress: bool
) -> None:
    """Records what is missing. An attempt's place says its seed, so one that goes on makes what one in one go makes."""
    missing = attempts - len(tape.lines)
    if missing <= 0:
        return
    places = islice(recorder.places(briefs), len(tape.lines), attempts)
    nothing: AbstractContextManager[Advance] = nullcontext(lambda count=1, note=None: None)
    with show_progress("recording attempts", missing, "attempts") if progress else nothing as advance:
        while some := list(islice(places, batch)):
            tape.add(recorder.record(some))
            advance(len(some))
