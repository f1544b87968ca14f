"""What makes a run's pictures and what inspects them.

By this a promise, a rule for stopping early and a resumed run know that it is still the same.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from goodeye.errors import BadInput
from goodeye.judging.protocol import fingerprint
from goodeye.modelset import GENERATOR, Models, Settings, opened


@dataclass(frozen=True, kw_only=True)
class Maker:
    """Judge and generator (names and fingerprints), and how the generator samples. retried: the fingerprint of what
    makes all but the first attempt, where that is another generator."""

    judge: str
    judge_version: str
    generator: str
    generator_version: str
    sampler: str
    steps: int
    guidance_scale: float
    stride: int = 1
    retried: str = ""


TOLD = {  # how a message names each, and the threshold of those that have one
    "judge": "the judge",
    "judge_version": "the judge's version",
    "generator": "the models",
    "generator_version": "the generator's version",
    "sampler": "the sampler",
    "steps": "a number of steps of",
    "guidance_scale": "a guidance scale of",
    "stride": "a stride of",
    "retried": "retries by",
    "threshold": "the threshold",
}
OF_JUDGE = ("judge", "judge_version")


def maker_of(models: Models, settings: Settings, inspector: object, retry_models: Models | None = None) -> Maker:
    """What a run with these is made by. The inspector needs a name and a version, as judges have them."""
    generator, retried = _version_of(models), "" if retry_models is None else _version_of(retry_models)
    return Maker(
        judge=str(getattr(inspector, "name", "")),
        judge_version=str(getattr(inspector, "version", "")),
        generator=models.model_set.name,
        generator_version=generator,
        sampler=settings.sampler,
        steps=settings.steps,
        guidance_scale=settings.guidance_scale,
        stride=settings.stride,
        retried=retried,
    )


def _version_of(models: Models) -> str:
    return fingerprint(models.unet, models.controlnet, models.vae)


def retrying(models: Models, retry_models: str | Path | Models | None, device: str) -> Models | None:
    """The generator of the retries, loaded. Raises BadInput where it makes pictures of another size."""
    if retry_models is None:
        return None
    loaded = opened(retry_models, device)
    loaded.require(*GENERATOR)
    size, other = models.model_set.settings.size, loaded.model_set.settings.size
    if size != other:
        raise BadInput(
            f"{models.model_set.name} makes pictures of {size} pixels, and {loaded.model_set.name}, which is to make "
            f"the retries, of {other}. Name a set of the same size."
        )
    return loaded


def strided(settings: Settings, stride: int | None) -> Settings:
    """The settings with this stride, if one is given. Raises BadInput for one that makes no sense."""
    if stride is not None and stride < 1:
        raise BadInput(f"stride is {stride}. Give 1 or more.")
    return settings if stride is None else replace(settings, stride=stride)


def difference(ours: Maker | Mapping[str, Any], theirs: Maker | Mapping[str, Any]) -> tuple[str, Any, Any] | None:
    """The first thing in which two makers differ: its words, ours and theirs; None where both are the same. What one of
    them does not name is not compared."""
    first, second = (dict(one) if isinstance(one, Mapping) else asdict(one) for one in (ours, theirs))
    for name, what in TOLD.items():
        if name in first and name in second and first[name] != second[name]:
            return what, _said(first[name]), _said(second[name])
    return None


def _said(value: Any) -> Any:
    return "none" if value == "" else value
