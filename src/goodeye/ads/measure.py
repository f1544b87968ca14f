"""Attempts of one generator, each made once, judged and measured: what the proof counts.

Nothing here chooses. An attempt has its own seed by its place, so rows that ask for the same place see the same
picture: what differs between two rows is the generator or the choice, not luck.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from goodeye.ads.generate import generate_on_cores
from goodeye.ads.results import AVAILABLE
from goodeye.ads.rollout import Placed
from goodeye.atomic import append, mend, read_rows
from goodeye.diffusion.batch import Prompts, attempt_seed, eight_bit, lay_out
from goodeye.images import open_image, save_png, to_pil, to_tensor
from goodeye.judging.diversity import colour_entropy
from goodeye.judging.expansion import expansion
from goodeye.judging.fidelity import PromptFidelity
from goodeye.judging.maps import MapEstimator
from goodeye.judging.protocol import Inspector
from goodeye.scheduler import Try

if TYPE_CHECKING:
    from goodeye.modelset import Models

FIDELITY = "prompt_fidelity"
ATTEMPTS = "attempts.jsonl"


@dataclass(frozen=True, kw_only=True)
class Judges:
    """Who looks at every attempt. judge: the one that chooses and is trained against. held_out: one that nothing was
    trained against, None if there is none. fidelity, saliency: for the measures of those names."""

    judge: Inspector
    held_out: Inspector | None = None
    fidelity: PromptFidelity | None = None
    saliency: MapEstimator | None = None


@dataclass(frozen=True, kw_only=True)
class Made:
    """One attempt. available: p(available) by the judge. labels: by the judge and by the held-out one ("" if none).

    numbers: prompt_fidelity as the held-out judge sees it, clip_fidelity, expansion, colour_entropy; those that could
    be measured.
    """

    place: Try
    available: float
    judge: str
    held_out: str
    evals: int
    seconds: float
    numbers: Mapping[str, float]

    @property
    def passed(self) -> bool:
        """By the judge."""
        return self.judge == AVAILABLE

    @property
    def good(self) -> bool:
        """By the held-out judge; by the judge where there is none."""
        return (self.held_out or self.judge) == AVAILABLE


@dataclass(kw_only=True)
class Gallery:
    """The attempts of one generator at the given briefs.

    suffix: put after each prompt; judges know the prompt without it. folder: keeps what was made, so that the same
    gallery made again goes on where it was stopped. kept: briefs whose pictures stay, for `pictures`.
    """

    models: "Models"
    briefs: Mapping[str, Placed]
    judges: Judges
    seed: int
    folder: Path
    batch: int = 16
    suffix: str = ""
    kept: frozenset[str] = frozenset()
    advance: Callable[[Sequence[Made]], None] = lambda made: None
    made: dict[Try, Made] = field(init=False)
    embed: Prompts = field(init=False)

    def __post_init__(self) -> None:
        self.embed = Prompts(self.models)
        lay_out(self.models)
        mend(self.folder / ATTEMPTS)
        kept = (Made(**(row | {"place": Try(*row["place"])})) for row in read_rows(self.folder / ATTEMPTS))
        self.made = {one.place: one for one in kept}

    def make(self, places: Iterable[Try]) -> list[Made]:
        """Those attempts, in order; the ones that are not there yet are made, a batch at a time."""
        places = list(places)
        new = [one for one in dict.fromkeys(places) if one not in self.made]
        for at in range(0, len(new), self.batch):
            made = self._attempt(new[at : at + self.batch])
            self._keep(made)
            self.advance(made)
        return [self.made[one] for one in places]

    def picture(self, place: Try) -> Float[Tensor, "3 S S"]:
        """The picture of an attempt at one of the kept briefs."""
        return to_tensor(open_image(self._path(place)))

    def _attempt(self, places: Sequence[Try]) -> list[Made]:
        briefs = [self.briefs[one.brief] for one in places]
        contexts = [brief.context for brief in briefs]
        settings, judges = self.models.model_set.settings, self.judges
        started = time.monotonic()
        images = eight_bit(
            generate_on_cores(
                self.models,
                [brief.canvas for brief in briefs],
                [brief.prompt + self.suffix for brief in briefs],
                [attempt_seed(self.seed, *one) for one in places],
                settings=settings,
                embed=self.embed,
            )
        )
        with torch.no_grad():
            verdicts = judges.judge.inspect(images, contexts)
            seconds = (time.monotonic() - started) / len(places)
            truths = judges.held_out.inspect(images, contexts) if judges.held_out else [None] * len(places)
            columns: dict[str, Tensor] = {"colour_entropy": colour_entropy(images)}
            if judges.fidelity is not None:
                columns["clip_fidelity"] = judges.fidelity(images, contexts)
            if judges.saliency is not None:
                columns["expansion"] = expansion(images, contexts, judges.saliency)
        for place, image in zip(places, images, strict=True):
            if place.brief in self.kept:
                save_png(to_pil(image), self._path(place))
        found = []
        for at, (place, verdict, truth) in enumerate(zip(places, verdicts, truths, strict=True)):
            numbers = {name: float(values[at]) for name, values in columns.items()}
            if truth is not None and FIDELITY in truth.scores:
                numbers[FIDELITY] = truth.scores[FIDELITY]
            found.append(
                Made(
                    place=place,
                    available=verdict.scores[AVAILABLE],
                    judge=verdict.label,
                    held_out=truth.label if truth is not None else "",
                    evals=len(settings.starts),
                    seconds=seconds,
                    numbers=numbers,
                )
            )
        return found

    def _keep(self, made: Sequence[Made]) -> None:
        self.made.update((one.place, one) for one in made)
        append(self.folder / ATTEMPTS, *map(asdict, made))

    def _path(self, place: Try) -> Path:
        return self.folder / "pictures" / f"{place.brief}-{place.slot}-{place.number}.png"
