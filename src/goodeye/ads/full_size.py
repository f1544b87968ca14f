"""Is this machine large enough? Every model of a set loaded, one attempt and one step of RFFT, timed and weighed.

A sampler's steps are all alike, so few are run and the full number is worked out. Memory does not grow with them: what
comes before the gradient step has no graph (ads paper, section 3.3).
"""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image, ImageDraw
from torch import nn

from goodeye.ads.adapt import adapt
from goodeye.ads.canvas import Canvas, place
from goodeye.ads.generate import generate
from goodeye.ads.rfft import RFFT, RewardStep
from goodeye.ads.rollout import Placed, Studio
from goodeye.ads.settings import Align, Train
from goodeye.ads.watch import EACH
from goodeye.diffusion.batch import eight_bit, lay_out
from goodeye.errors import BadInput
from goodeye.judging.protocol import Context
from goodeye.meter import Meter, Part, fitting, table_of
from goodeye.modelset import ROLES, Models, ModelSet, Settings, resolve
from goodeye.random_set import Origin, with_random_weights

GB = 1e9
INSTEAD = "--batch 1, --train lora, --precision bf16, or a smaller size in a TOML file"
TITLE, PROMPT = "product", "a photograph of a product on a table"
DENOISER = ("U-Net", "ControlNet")  # the parts that a step of the sampler consists of


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A role: where its weights are from, how many there are, their bytes in memory, seconds to load, peak bytes."""

    role: str
    weights: Origin
    parameters: int
    bytes: int
    seconds: float
    peak: int


@dataclass(frozen=True, kw_only=True)
class Phase:
    """Something that was done with `steps` of the sampler, and what it takes with all of them, by calculation.

    seconds: as run. full_steps, full_seconds: with the model set's number of steps. peak: bytes, the same for both.
    """

    name: str
    steps: int
    seconds: float
    full_steps: float
    full_seconds: float
    peak: int
    parts: tuple[Part, ...]


@dataclass(frozen=True, kw_only=True)
class Check:
    """What `check_models` found. run_seconds: an alignment by the defaults of `align`, by calculation."""

    models: str
    device: str
    precision: str
    size: int
    batch: int
    train: str
    roles: list[Loaded]
    phases: list[Phase]
    run: Align
    run_seconds: float
    run_peak: int

    def as_json(self) -> dict[str, Any]:
        """Plain numbers and texts."""
        run = {name: getattr(self.run, name) for name in ("steps", "batch", "evaluate_every", "watched")}
        whole = asdict(self)
        return whole | {"run": run | {"seconds": whole.pop("run_seconds"), "peak": whole.pop("run_peak")}}

    def table(self) -> str:
        """The tables for a terminal."""
        lines = [f"{'role':16}{'weights':26}{'parameters':>14}{'GB':>8}{'seconds':>10}{'peak GB':>10}"]
        for one in self.roles:
            size = f"{one.parameters:>14,}{one.bytes / GB:>8.2f}" if one.parameters else f"{'':>22}"
            lines.append(f"{one.role:16}{one.weights:26}{size}{one.seconds:>10.1f}{one.peak / GB:>10.2f}")
        for phase in self.phases:
            shown = f"{phase.name}: {_count(self.batch, 'picture')} of {self.size} px, {_count(phase.steps, 'step')}"
            lines += ["", *table_of(shown, phase.parts)]
            lines.append(f"  {'in all':48}{'':>18}{phase.seconds:>10.2f}{phase.peak / GB:>10.2f}")
            if phase.full_steps:
                label = f"by calculation, {phase.full_steps:g} steps"
                lines.append(f"  {label:48}{'':>18}{phase.full_seconds:>10.2f}{phase.peak / GB:>10.2f}")
        run = self.run
        lines += [
            "",
            f"goodeye ads align, {run.steps} steps of {run.batch} pictures and {_evaluations(run)} evaluations, by "
            f"calculation: {self.run_seconds / 3600:.1f} hours on this machine ({self.device}, {self.precision}), "
            f"{self.run_peak / GB:.1f} GB with {_count(self.batch, 'picture')} at once.",
        ]
        return "\n".join(lines)


def check_models(
    models: str | Path = "sd15",
    *,
    random: bool = False,
    steps: int = 2,
    batch: int = 1,
    train: Train = "controlnet",
    precision: Literal["fp32", "bf16"] | None = None,
    device: str = "cpu",
    keep: str | Path | None = None,
    seed: int = 0,
) -> Check:
    """Loads every role of a model set, makes one attempt and one step of RFFT at full size, and measures each part.

    random: weights that are not on this machine are random ones of the right size, and no hub is asked; else they are
    loaded as always. keep: a folder in which the random models stay, with a TOML file that names them. steps: of the
    sampler, at least 2. batch: pictures at once. precision: of the RFFT step; bf16 on an accelerator, fp32 on a CPU if
    not given. Raises BadInput for models that cannot be had.
    """
    asked = resolve(models)
    if not 2 <= steps <= asked.settings.steps:
        raise BadInput(f"steps is {steps}, and {asked.name} has {asked.settings.steps}. Use 2 to that many.")
    if batch < 1:
        raise BadInput(f"batch is {batch}. Give 1 or more.")
    roles = [role for role in ROLES if role in asked.roles or role != "clip"]
    precision = precision or ("fp32" if device.startswith("cpu") else "bf16")
    lines: list[Loaded] = []
    phases: list[Phase] = []
    with _whole(asked, roles, random, keep, seed) as (model_set, origins), fitting(asked.name, device, INSTEAD):
        loaded = Models(model_set, device=device)
        meter = Meter(loaded.device)
        for role in sorted(roles, key=lambda one: one != "clip"):  # CLIP first, so that it can make room again
            lines.append(_load(loaded, role, origins[role], meter))
            if role == "clip":
                phases.append(_clip(loaded, meter, batch))
                del loaded.clip
        _watch(loaded, meter)
        phases.append(_attempt(loaded, meter, steps, batch, seed))
        phases.append(_rfft(loaded, meter, steps, batch, train, precision, seed))
    run = Align(train=train, precision=precision)
    return Check(
        models=asked.name,
        device=device,
        precision=precision,
        size=asked.settings.size,
        batch=batch,
        train=train,
        roles=sorted(lines, key=lambda one: ROLES.index(one.role)),
        phases=phases,
        run=run,
        run_seconds=_run_seconds(run, phases[-2], phases[-1], batch),
        run_peak=max(phase.peak for phase in phases[-2:]),
    )


@contextmanager
def _whole(
    asked: ModelSet, roles: Sequence[str], random: bool, keep: str | Path | None, seed: int
) -> Iterator[tuple[ModelSet, dict[str, Origin]]]:
    """The set with random weights where it has none here, kept or only for this once."""
    if not random:
        yield asked, dict.fromkeys(roles, "here")
        return
    if keep is not None:
        yield with_random_weights(asked, Path(keep), roles, seed=seed)
        return
    with tempfile.TemporaryDirectory(prefix="goodeye-") as folder:
        yield with_random_weights(asked, Path(folder), roles, seed=seed)


def _load(models: Models, role: str, origin: Origin, meter: Meter) -> Loaded:
    with meter.part(role) as part:
        found = getattr(models, "scheduler_config" if role == "scheduler" else role)
    meter.take()
    network = found if isinstance(found, nn.Module) else getattr(found, "model", None)
    weights = list(network.parameters()) if isinstance(network, nn.Module) else []
    return Loaded(
        role=role,
        weights=origin,
        parameters=sum(one.numel() for one in weights),
        bytes=sum(one.numel() * one.element_size() for one in weights),
        seconds=part.seconds,
        peak=part.peak,
    )


def _watch(models: Models, meter: Meter) -> None:
    """Each network is a part of what follows; the denoiser's two when gradient is wanted are parts of their own."""
    networks = {
        "text encoder": models.text_encoder,
        "VAE encoder": models.vae.encoder,
        "U-Net": models.unet,
        "ControlNet": models.controlnet,
        "VAE decoder": models.vae.decoder,
        "depth": getattr(models.depth, "model", None),
        "saliency": getattr(models.saliency, "model", None),
        "RFNet": models.rfnet.model,
    }
    for name, network in networks.items():
        if isinstance(network, nn.Module):  # an .onnx file is none
            meter.watch(name, network)


def _clip(models: Models, meter: Meter, batch: int) -> Phase:
    size = models.model_set.settings.size
    with meter.part("all") as whole, torch.no_grad():
        with meter.part("CLIP, pictures"):
            models.clip.embed_images(torch.rand(batch, 3, size, size, device=models.device))
        with meter.part("CLIP, texts"):
            models.clip.embed_texts([PROMPT] * batch)
    return _phase("CLIP, the guard's judge", 0, whole, meter.take(), 0, 0)


def _attempt(models: Models, meter: Meter, steps: int, batch: int, seed: int) -> Phase:
    """As `goodeye ads make` makes it: the picture, and the inspector's verdict."""
    settings = models.model_set.settings
    canvases, seeds = [_canvas(settings)] * batch, [seed + number for number in range(batch)]
    lay_out(models)
    with meter.part("all") as whole:
        images = generate(models, canvases, [PROMPT] * batch, seeds, settings=replace(settings, steps=steps))
        models.rfnet.inspect(eight_bit(images), [Context(product=canvases[0].product, title=TITLE)] * batch)
    for network in (models.unet, models.controlnet, models.vae):
        network.to(memory_format=torch.contiguous_format)  # `align` leaves them so
    return _phase("attempt", steps, whole, meter.take(), settings.steps, settings.steps - steps)


def _rfft(models: Models, meter: Meter, steps: int, batch: int, train: Train, precision: str, seed: int) -> Phase:
    """As `goodeye ads align` does it: rollout, loss, gradient, optimizer."""
    settings = replace(models.model_set.settings, steps=steps)
    config = RFFT(regulariser="cc" if settings.guidance_scale > 1 else "kl")
    studio = Studio(models, settings)
    briefs = [Placed(key=str(one), canvas=_canvas(settings), title=TITLE, prompt=PROMPT) for one in range(batch)]
    trained = adapt(models, train)
    step = RewardStep(studio, models.rfnet, trained, briefs, config)
    with meter.part("all") as whole:
        _one_step(step, briefs, meter, precision, seed)
    full = models.model_set.settings.steps
    last = config.last_of(full)
    return _phase("RFFT step", steps, whole, meter.take(), full, full - (last + 1) / 2 - (steps - 1))


def _one_step(step: RewardStep, briefs: Sequence[Placed], meter: Meter, precision: str, seed: int) -> None:
    studio, networks = step.studio, dict(step.trained.modules)
    learnt = [one for network in networks.values() for one in network.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(learnt, lr=1e-5)
    index = len(studio.schedule) - 1
    seeds = [seed + number for number in range(len(briefs))]
    device = studio.models.device.type
    with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
        with meter.part("prompts and products encoded (kept for a run)"):
            given = studio.conditions(briefs)
        with meter.part("rollout without gradient"):
            latents = studio.roll_out(given, seeds, [index])[index]
        with meter.part("loss, and the judge's gradient"):
            losses = step.losses(latents, studio.schedule.steps[index], given, networks)
    with meter.part("the denoiser's gradient"):
        losses["loss"].backward()
    with meter.part("optimizer"):
        optimizer.step()
        optimizer.zero_grad()


def _phase(name: str, steps: int, whole: Part, parts: dict[str, Part], full: float, more: float) -> Phase:
    """more: steps of the sampler without gradient that were left away."""
    each = sum(parts[part].each for part in DENOISER if part in parts)
    return Phase(
        name=name,
        steps=steps,
        seconds=whole.seconds,
        full_steps=full,
        full_seconds=whole.seconds + more * each,
        peak=whole.peak,
        parts=tuple(part for part in parts.values() if part is not whole),
    )


def _run_seconds(run: Align, attempt: Phase, step: Phase, batch: int) -> float:
    """Training and evaluations, in proportion to the pictures."""
    pictures = _evaluations(run) * run.watched * EACH
    return (run.steps * run.batch * step.full_seconds + pictures * attempt.full_seconds) / batch


def _evaluations(run: Align) -> int:
    """Of the start model too."""
    return 1 + -(-run.steps // run.evaluate_every)


def _canvas(settings: Settings) -> Canvas:
    """A round product."""
    picture = Image.new("RGBA", (settings.size, settings.size))
    ImageDraw.Draw(picture).ellipse([0, 0, settings.size - 1, settings.size - 1], fill="teal")
    return place(picture, settings.size, settings.product_scale, canny=settings.canny)


def _count(number: float, thing: str) -> str:
    return f"{number:g} {thing}{'' if number == 1 else 's'}"
