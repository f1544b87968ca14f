"""Where attempts are made: a brief is prepared when its turn comes, a batch is generated, inspected and recorded."""

import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from goodeye.ads.brief import Brief, Problem, choose_prompt
from goodeye.ads.canvas import Canvas, place, visible_box
from goodeye.ads.cutout import Remover, cut_out
from goodeye.ads.generate import Prompts, eight_bit, generate_on_cores
from goodeye.ads.recurrent import Try, attempt_seed
from goodeye.ads.results import AVAILABLE, picture_name, why
from goodeye.errors import BadInput
from goodeye.images import open_image, resize_rgba, save_png, to_pil
from goodeye.judging.protocol import Context, Verdict
from goodeye.ledger.ledger import Ledger

if TYPE_CHECKING:
    from goodeye.modelset import Models, Settings

KEPT_SIDE = 1024  # pixels of the long side of a cut-out in the ledger


class Inspector(Protocol):
    """A judge that says of each picture whether it is available, as RFNetJudge does."""

    def inspect(self, images: Float[Tensor, "N 3 H W"], contexts: Sequence[Context]) -> list[Verdict]:
        """One verdict a picture; its scores have the axis "available"."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A brief made ready: cut out, placed on the canvas, and on record."""

    brief_id: int
    title: str
    prompt: str
    canvas: Canvas


@dataclass(frozen=True, kw_only=True)
class Made:
    """One attempt, made and on record."""

    attempt: Try
    image: Image.Image
    verdict: Verdict
    passed: bool


@dataclass(kw_only=True)
class Workshop:
    """The models and the ledger of one run, and the briefs at work in it.

    Briefs are prepared one by one as the scheduler asks for them and forgotten afterwards: a table of ten thousand
    takes no more memory than a batch. One that cannot be used becomes a problem, and its slots are left out.
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
    problems: dict[str, Problem] = field(default_factory=dict)
    jobs: OrderedDict[str, Job] = field(default_factory=OrderedDict)
    embed: Prompts = field(init=False)

    def __post_init__(self) -> None:
        self.embed = Prompts(self.models)
        for network in (self.models.unet, self.models.controlnet, self.models.vae):
            network.to(memory_format=torch.channels_last)  # a quarter to a third less time on a CPU, batches most

    def ready(self, slots: Iterable[Try]) -> Iterator[Try]:
        """The slots whose brief could be prepared."""
        for one in slots:
            if one.brief in self.problems:
                continue
            try:
                self.job(one.brief)
            except BadInput as error:
                self.problems[one.brief] = Problem(name=shown(self.briefs[one.brief].image), message=str(error))
                continue
            yield one

    def job(self, key: str) -> Job:
        """The brief made ready; prepared again if it was forgotten. Raises BadInput if its picture cannot be used."""
        if key not in self.jobs:
            self.jobs[key] = self._prepare(self.briefs[key])
        self.jobs.move_to_end(key)
        while len(self.jobs) > 2 * self.batch + 1:
            self.jobs.popitem(last=False)
        return self.jobs[key]

    def _prepare(self, brief: Brief) -> Job:
        name, settings = shown(brief.image), self.settings
        product = cut_out(open_image(name), self.models, name=name, remover=self.remover)
        canvas = place(product, settings.size, settings.product_scale, canny=settings.canny, name=name)
        prompt = choose_prompt(brief, settings.prompts, self.seed)
        content = {"title": brief.title, "prompt": prompt, "image": str(brief.image)}
        brief_id = self.ledger.add_brief(self.run, brief.key, content, _small(product.crop(visible_box(product, name))))
        return Job(brief_id=brief_id, title=brief.title, prompt=prompt, canvas=canvas)

    def attempt(self, batch: Sequence[Try]) -> list[Made]:
        """Makes, inspects and records one attempt for each place of the batch."""
        started = time.monotonic()
        jobs = [self.job(one.brief) for one in batch]
        seeds = [attempt_seed(self.seed, *one) for one in batch]
        canvases, prompts = [job.canvas for job in jobs], [job.prompt for job in jobs]
        images = generate_on_cores(self.models, canvases, prompts, seeds, settings=self.settings, embed=self.embed)
        images = eight_bit(images)
        contexts = [Context(product=job.canvas.product, title=job.title, prompt=job.prompt) for job in jobs]
        with torch.no_grad():
            verdicts = self.inspector.inspect(images, contexts)
        seconds = (time.monotonic() - started) / len(batch)
        return [
            self._record(one, job, seed, to_pil(image), verdict, seconds)
            for one, job, seed, image, verdict in zip(batch, jobs, seeds, images, verdicts, strict=True)
        ]

    def _record(self, one: Try, job: Job, seed: int, image: Image.Image, verdict: Verdict, seconds: float) -> Made:
        """To the ledger first; then, if it passed, to the run's folder."""
        attempt = self.ledger.record_attempt(
            job.brief_id, one.slot, one.number, seed, image, [verdict], evals=self.settings.steps, seconds=seconds
        )
        available = verdict.scores[AVAILABLE]
        passed = available >= self.threshold
        self.ledger.pick(job.brief_id, one.slot, attempt, passed, why(passed, verdict.label, available, self.threshold))
        if passed:
            save_png(image, self.out / picture_name(one.brief, one.slot, passed=True))
        return Made(attempt=one, image=image, verdict=verdict, passed=passed)


def shown(path: Path) -> str:
    """A path as a person would type it here: relative where it is below the working folder."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _small(product: Image.Image) -> Image.Image:
    """A cut-out as the ledger keeps it."""
    shrink = min(1.0, KEPT_SIDE / max(product.size))
    return resize_rgba(product, (max(1, round(product.width * shrink)), max(1, round(product.height * shrink))))
