"""Where attempts are made: a brief is prepared when its turn comes, a batch is generated, inspected and recorded.

With checks on the way, a batch goes one leg of the schedule: what ends with it is recorded, the others wait as drafts.
"""

import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from goodeye.ads.brief import Brief, choose_prompt
from goodeye.ads.canvas import Canvas, place, visible_box
from goodeye.ads.cutout import Remover, cut_out
from goodeye.ads.early import Rule
from goodeye.ads.generate import Draft, advance_on_cores, pictures_on_cores
from goodeye.ads.recurrent import Plan, Restart
from goodeye.ads.results import AVAILABLE, STOPPED, outcomes, picture_name, why
from goodeye.diffusion.batch import Prompts, attempt_seed, eight_bit, lay_out
from goodeye.errors import BadInput
from goodeye.images import open_image, save_png, shrunk, to_pil, to_tensor
from goodeye.judging.protocol import Context, Inspector, Verdict
from goodeye.ledger.ledger import Ledger
from goodeye.ledger.rows import AttemptRow
from goodeye.scheduler import Leg, Outcome, Try
from goodeye.tables import Skipped

if TYPE_CHECKING:
    from goodeye.modelset import Models, Settings

KEPT_SIDE = 1024  # pixels of the long side of a cut-out in the ledger
EARLY = "early"  # the judge whose verdict a stopped attempt has


@dataclass(frozen=True, kw_only=True)
class Ready:
    """A brief made ready: cut out and placed on the canvas."""

    title: str
    prompt: str
    canvas: Canvas

    @property
    def context(self) -> Context:
        """What judges get to know."""
        return Context(product=self.canvas.product, title=self.title, prompt=self.prompt)


@dataclass(frozen=True, kw_only=True)
class Job(Ready):
    """A brief made ready and on record."""

    brief_id: int


@dataclass(frozen=True, kw_only=True)
class Running:
    """An attempt between two legs: its draft, the step it began at, and its share of the time so far."""

    job: Job
    draft: Draft
    began: int
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Made:
    """One attempt, made and on record."""

    attempt: Try
    image: Image.Image
    verdict: Verdict
    outcome: Outcome

    @property
    def passed(self) -> bool:
        return self.outcome.passed


@dataclass(kw_only=True)
class Workshop:
    """The models and the ledger of one run, and the briefs at work in it.

    Briefs are prepared one by one as the scheduler asks for them and forgotten afterwards: a table of ten thousand
    takes no more memory than a batch. One that cannot be used becomes a problem, and its slots are left out.

    early: when attempts are looked at and stopped. restart: whether failed ones go back to a middle noise level.
    retry_models: what makes all but the first attempt of a slot, if not `models`.
    past and last: of each slot that isn't finished, its attempts so far, and the last one's picture or its file.
    """

    models: "Models"
    settings: "Settings"
    inspector: Inspector
    ledger: Ledger
    run: int
    out: Path
    seed: int
    threshold: float
    briefs: Mapping[str, Brief]
    batch: int = 16
    remover: Remover = "saliency"
    early: Rule | None = None
    restart: Restart | None = None
    retry_models: "Models | None" = None
    problems: dict[str, Skipped] = field(default_factory=dict)
    jobs: OrderedDict[str, Job] = field(default_factory=OrderedDict)
    running: dict[Try, Running] = field(default_factory=dict)
    past: dict[tuple[str, int], list[Outcome]] = field(default_factory=dict)
    last: dict[tuple[str, int], Image.Image | Path] = field(default_factory=dict)
    reading_seconds: float = 0.0
    generators: "list[tuple[Models, Prompts]]" = field(init=False)  # by number, as a leg names them
    plan: Plan = field(init=False)

    def __post_init__(self) -> None:
        both = [self.models, *([self.retry_models] if self.retry_models else [])]
        self.generators = [(one, Prompts(one)) for one in both]
        checks = tuple(check.step for check in self.early.checks) if self.early else ()
        retried = self.retry_models is not None
        self.plan = Plan(starts=self.settings.starts, checks=checks, restart=self.restart, retried=retried)
        for one in both:
            lay_out(one)

    def ready(self, slots: Iterable[Try]) -> Iterator[Try]:
        """The slots whose brief could be prepared."""
        for one in slots:
            if one.brief in self.problems:
                continue
            try:
                self.job(one.brief)
            except BadInput as error:
                self.problems[one.brief] = Skipped(name=shown(self.briefs[one.brief].image), message=str(error))
                continue
            yield one

    def job(self, key: str) -> Job:
        """The brief made ready; prepared again if it was forgotten. Raises BadInput if its picture cannot be used."""
        if key not in self.jobs:
            self.jobs[key] = self._prepare(self.briefs[key])
        self.jobs.move_to_end(key)
        while len(self.jobs) > 2 * self.batch * (1 + len(self.plan.checks)) + 1:
            self.jobs.popitem(last=False)
        return self.jobs[key]

    def _prepare(self, brief: Brief) -> Job:
        found, product = prepare(brief, self.models, self.settings, self.seed, self.remover)
        content = {"title": brief.title, "prompt": found.prompt, "image": str(brief.image)}
        brief_id = self.ledger.add_brief(self.run, brief.key, content, shrunk(product, KEPT_SIDE))
        return Job(brief_id=brief_id, title=found.title, prompt=found.prompt, canvas=found.canvas)

    def remember(self, rows: Sequence[AttemptRow]) -> list[Outcome]:
        """Takes up a run where the ledger has it, and returns its attempts as the scheduler takes them."""
        made = outcomes(rows, self.threshold)
        for row, one in zip(rows, made, strict=True):
            self._note(one, self.ledger.image_path(row.image_sha))
        return made

    def _note(self, one: Outcome, picture: Image.Image | Path) -> None:
        if self.restart and not one.passed:
            self.past.setdefault((one.brief, one.slot), []).append(one)
            self.last[(one.brief, one.slot)] = picture

    def first(self, one: Try) -> Leg:
        """The leg with which this attempt begins, after those made at its slot before."""
        return self.plan.first(one, self.past.get((one.brief, one.slot), ()))

    def again(self, made: Made, attempts: int) -> Leg | None:
        """What comes next at the slot of an attempt: the first leg of another one, or None where it has ended."""
        if made.passed or made.attempt.number >= attempts:
            self.past.pop((made.attempt.brief, made.attempt.slot), None)
            self.last.pop((made.attempt.brief, made.attempt.slot), None)
            return None
        return self.first(made.attempt.again())

    def work(self, batch: Sequence[Leg]) -> list[Made | Leg]:
        """Runs one leg for each place of the batch, all of the same stretch and by the same generator.

        An attempt that ends there, finished or stopped, is made and on record; of the others, the next leg.
        """
        started = time.monotonic()
        stop, (models, embed) = batch[0].stop, self.generators[batch[0].by]
        held = [self.running.pop(leg.attempt) if leg.attempt in self.running else self._begin(leg) for leg in batch]
        drafts = [one.draft for one in held]
        drafts = advance_on_cores(models, drafts, stop, settings=self.settings, embed=embed)
        sampled = time.monotonic()
        images = eight_bit(pictures_on_cores(models, drafts))
        with torch.no_grad():
            verdicts = self.inspector.inspect(images, [one.job.context for one in held])
        if stop < self.plan.evaluations:
            self.reading_seconds += time.monotonic() - sampled
        seconds = (time.monotonic() - started) / len(batch)
        held = [
            replace(one, draft=draft, seconds=one.seconds + seconds) for one, draft in zip(held, drafts, strict=True)
        ]
        rows = zip(batch, held, images, verdicts, strict=True)
        return [self._end_or_go_on(leg, one, image, verdict) for leg, one, image, verdict in rows]

    def _begin(self, leg: Leg) -> Running:
        one, picture = leg.attempt, None
        if leg.start:
            before = self.last[(one.brief, one.slot)]
            picture = to_tensor(open_image(before) if isinstance(before, Path) else before)[:3]
        job = self.job(one.brief)
        seed = attempt_seed(self.seed, *one)
        draft = Draft(canvas=job.canvas, prompt=job.prompt, seed=seed, done=leg.start, picture=picture)
        return Running(job=job, draft=draft, began=leg.start)

    def _end_or_go_on(self, leg: Leg, one: Running, image: Float[Tensor, "3 H W"], verdict: Verdict) -> Made | Leg:
        available = verdict.scores[AVAILABLE]
        if leg.stop == self.plan.evaluations:
            return self._record(leg.attempt, one, to_pil(image), verdict, available >= self.threshold)
        if self.early and self.early.stops(leg.stop, available):
            return self._record(leg.attempt, one, to_pil(image), stopped_verdict(self.early, leg.stop, verdict), False)
        self.running[leg.attempt] = one
        return self.plan.onward(leg)

    def _record(self, one: Try, run: Running, image: Image.Image, verdict: Verdict, passed: bool) -> Made:
        """To the ledger first; then, if it passed, to the run's folder."""
        brief_id, evals = run.job.brief_id, run.draft.done - run.began
        attempt = self.ledger.record_attempt(
            brief_id, one.slot, one.number, run.draft.seed, image, [verdict], evals=evals, seconds=run.seconds
        )
        available = verdict.scores[AVAILABLE]
        self.ledger.pick(brief_id, one.slot, attempt, passed, why(passed, verdict.label, available, self.threshold))
        if passed:
            save_png(image, self.out / picture_name(one.brief, one.slot, passed=True))
        outcome = Outcome(*one, passed, evals, verdict.label == STOPPED)
        self._note(outcome, image)
        return Made(attempt=one, image=image, verdict=verdict, outcome=outcome)


def stopped_verdict(rule: Rule, step: int, reading: Verdict) -> Verdict:
    """The word on an attempt that the rule stops: a judge of its own, since it has seen a prediction, not a picture."""
    available, below = reading.scores[AVAILABLE], next(check.below for check in rule.checks if check.step == step)
    words = (
        f"stopped after {step} of {rule.setting.evaluations} steps: "
        f"p(available) of the prediction is {available:.3f}, below {below:.3f}"
    )
    return Verdict(EARLY, rule.version, STOPPED, reading.scores, [words, *reading.failures])


def prepare(
    brief: Brief, models: "Models", settings: "Settings", seed: int, remover: Remover
) -> tuple[Ready, Image.Image]:
    """Cuts the product out, places it, and chooses a prompt; and the cut-out in its own size.

    Raises BadInput if its picture cannot be used.
    """
    name = shown(brief.image)
    cut = cut_out(open_image(name), models, name=name, remover=remover)
    canvas = place(cut, settings.size, settings.product_scale, canny=settings.canny, name=name)
    prompt = choose_prompt(brief, settings.prompts, seed)
    return Ready(title=brief.title, prompt=prompt, canvas=canvas), cut.crop(visible_box(cut, name))


def shown(path: Path) -> str:
    """A path as a person would type it here: relative where it is below the working folder."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
