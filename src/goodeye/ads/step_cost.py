"""What a gradient step of RFFT costs: ours beside the straightforward loop, on the same models, pictures and steps.

The straightforward loop makes a rollout from noise for each gradient step, encodes prompts and products each time,
calls the networks once for each branch of guidance, keeps a second model as the reference, and holds the activations of
denoiser, VAE and judge of the whole batch until the gradient is taken. Its loss is the same. Each way runs in a process
of its own, so that its peak of memory is its own.
"""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from goodeye.ads.adapt import adapt
from goodeye.ads.brief import SETTINGS, with_title
from goodeye.ads.canvas import compose, place
from goodeye.ads.generate import GREY, latent_mask
from goodeye.ads.rfft import RFFT, RewardStep
from goodeye.ads.rollout import Placed, Reward, Studio, drawn_steps
from goodeye.ads.settings import Train
from goodeye.diffusion import text, vae
from goodeye.diffusion.batch import attempt_seed, noise_of
from goodeye.diffusion.denoiser import guided
from goodeye.diffusion.inpaint import blend
from goodeye.diffusion.predict import Latents, predict_x0, to_epsilon
from goodeye.diffusion.samplers import SAMPLERS
from goodeye.errors import BadInput
from goodeye.meter import reset_peak

if TYPE_CHECKING:
    from goodeye.modelset import Models, Settings

Way = Literal["ours", "straightforward"]
WAYS: tuple[Way, Way] = ("straightforward", "ours")
COLOURS = ("firebrick", "teal", "goldenrod", "slateblue", "olive", "coral", "navy", "orchid")


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What is measured. sampler_steps: None for the model set's. steps: gradient steps, a multiple of reuse."""

    models: str = "showroom"
    steps: int = 8
    batch: int = 8
    reuse: int = 4
    part: int = 4
    sampler_steps: int | None = None
    train: Train = "controlnet"
    precision: Literal["fp32", "bf16"] = "fp32"
    device: str = "cpu"
    seed: int = 0

    def check(self) -> None:
        """Raises BadInput for numbers that make no sense."""
        if min(self.steps, self.batch, self.reuse) < 1 or self.steps % self.reuse:
            raise BadInput(f"{self.steps} gradient steps with reuse {self.reuse}: give a multiple of it.")


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one way took. seconds: of a gradient step, its share of the rollout and the optimizer included. peak: bytes
    in use at the highest. loaded: the same before the first step, with what all ways need. loss: of the last step."""

    seconds: float
    peak: int
    loaded: int
    rollouts: int
    loss: float


def compare(trial: Trial) -> dict[str, Any]:
    """Both ways, each in a fresh process; `ratio` is ours to the straightforward loop's. JSON-ready.

    ratio.peak is of all memory; ratio.peak_above_weights of what was added to libraries and frozen models.
    """
    trial.check()
    found = {way: _in_a_process(way, trial) for way in WAYS}
    ours, theirs = found["ours"], found["straightforward"]
    above = {way: max(1, cost.peak - cost.loaded) for way, cost in found.items()}
    return {
        "trial": asdict(trial),
        **{way: asdict(cost) for way, cost in found.items()},
        "ratio": {
            "seconds": round(ours.seconds / theirs.seconds, 4),
            "peak": round(ours.peak / theirs.peak, 4),
            "peak_above_weights": round(above["ours"] / above["straightforward"], 4),
        },
        "machine": {"cores": os.cpu_count(), "threads": torch.get_num_threads(), "cpu": platform.processor()},
    }


def _in_a_process(way: Way, trial: Trial) -> Cost:
    line = [sys.executable, "-m", "goodeye.ads.step_cost", way, json.dumps(asdict(trial))]
    done = subprocess.run(line, capture_output=True, text=True)
    if done.returncode:
        raise BadInput(f"{way}: {(done.stderr.strip().splitlines() or ['the process was killed'])[-1]}")
    return Cost(**json.loads(done.stdout.splitlines()[-1]))


def measure(way: Way, trial: Trial, models: "Models | None" = None) -> Cost:
    """One way, in this process: a first group of steps to warm up, then `trial.steps` that count."""
    from goodeye.modelset import Models, resolve

    loaded = models or Models(resolve(trial.models), device=trial.device)
    settings = replace(loaded.model_set.settings, steps=trial.sampler_steps or loaded.model_set.settings.steps)
    for role in ("vae", "tokenizer", "text_encoder", "unet", "controlnet", "rfnet"):
        getattr(loaded, role)
    _settle(loaded.device)
    at_rest = _in_use(loaded.device)
    step, optimizer = _step_of(way, trial, loaded, settings)
    group(step, optimizer, trial, 0, trial.reuse, settings.steps)
    _settle(loaded.device)
    started = time.perf_counter()
    loss, rollouts = group(step, optimizer, trial, 1, trial.steps, settings.steps)
    _settle(loaded.device, forget=False)
    seconds = (time.perf_counter() - started) / trial.steps
    return Cost(seconds=seconds, peak=reset_peak(loaded.device), loaded=at_rest, rollouts=rollouts, loss=loss)


Step = Callable[[Sequence[Placed], Sequence[int], Sequence[int], int], Tensor]


def group(
    step: Step, optimizer: torch.optim.Optimizer, trial: Trial, number: int, steps: int, sampler_steps: int
) -> tuple[float, int]:
    """Gradient steps with the optimizer's; the last loss and how many rollouts they took."""
    briefs = discs(trial.batch, _size(step))
    last = RFFT().last_of(sampler_steps)
    loss, rollouts = 0.0, 0
    for at in range(steps):
        rollout = number * trial.steps + at // trial.reuse
        seeds = [attempt_seed(trial.seed, brief.key, rollout + 1, 1) for brief in briefs]
        indices = drawn_steps(sampler_steps, last, trial.reuse, attempt_seed(trial.seed, "steps", rollout + 1, 1))
        optimizer.zero_grad()
        with torch.autocast(trial.device.split(":")[0], torch.bfloat16, enabled=trial.precision == "bf16"):
            value = step(briefs, seeds, indices, at % trial.reuse)
        value.backward()
        optimizer.step()
        loss = float(value.detach())
        rollouts += at % trial.reuse == 0 or isinstance(step, Straightforward)
    return loss, rollouts


def _size(step: Any) -> int:
    return int(step.settings.size)


def _step_of(way: Way, trial: Trial, models: "Models", settings: "Settings") -> tuple[Step, torch.optim.Optimizer]:
    if way == "straightforward":
        step: Step = Straightforward(models, settings, models.rfnet, trial.train)
    else:
        step = Ours(models, settings, models.rfnet, trial.train, trial.part)
    learns = models.controlnet if trial.train == "controlnet" else models.unet
    return step, torch.optim.AdamW([one for one in learns.parameters() if one.requires_grad], lr=1e-5)


class Ours:
    """`RewardStep` as a run of `align` calls it."""

    def __init__(self, models: "Models", settings: "Settings", judge: Reward, train: Train, part: int) -> None:
        self.settings, self.studio = settings, Studio(models, settings)
        self.step = RewardStep(self.studio, judge, adapt(models, train), [], RFFT(part=part))
        self.begun: dict[int, Latents] = {}

    def __call__(self, briefs: Sequence[Placed], seeds: Sequence[int], indices: Sequence[int], turn: int) -> Tensor:
        """The loss of the turn-th gradient step of a rollout."""
        given = self.studio.conditions(briefs)
        if turn == 0:
            self.begun = {}
            self.begun = self.studio.roll_out(given, seeds, indices)
        index = indices[turn]
        return self.step.losses(self.begun[index], self.studio.schedule.steps[index], given)["loss"]


class Straightforward:
    """The same loss as one writes it down."""

    def __init__(self, models: "Models", settings: "Settings", judge: Reward, train: Train) -> None:
        self.models, self.settings, self.judge, self.config = models, settings, judge, RFFT()
        self.unet, self.controlnet = deepcopy(models.unet), deepcopy(models.controlnet)  # the reference
        adapt(models, train)
        self.schedule = Studio(models, settings).schedule

    def __call__(self, briefs: Sequence[Placed], seeds: Sequence[int], indices: Sequence[int], turn: int) -> Tensor:
        """The loss at one step of a rollout of its own."""
        models, index = self.models, indices[turn]
        device = models.unet.device
        product = torch.stack([brief.canvas.product for brief in briefs]).to(device)
        control = torch.stack([brief.canvas.control for brief in briefs]).to(device)
        with torch.no_grad():
            clean = vae.encode(models.vae, compose(product, GREY)).float()
            noise = torch.stack([noise_of(seed, clean.shape[1:]) for seed in seeds]).to(clean)
            mask = latent_mask(torch.stack([brief.canvas.mask for brief in briefs]), clean.shape[-1]).to(clean)
            latents = SAMPLERS[self.settings.sampler](
                lambda x, t: self._mixed(self._branches(x, t, briefs, control, models.unet, models.controlnet)),
                noise * self.schedule.start_scale,
                self.schedule.head(index),
                after_step=blend(mask, clean, noise, self.schedule),
            )
        step = self.schedule.steps[index]
        with torch.no_grad():
            before = self._branches(latents, step.t, briefs, control, self.unet, self.controlnet)
        now = self._branches(latents, step.t, briefs, control, models.unet, models.controlnet)
        x0 = predict_x0(latents, self._mixed(now), step, self.schedule)
        pictures = compose(product, vae.decode(models.vae, (1 - mask) * x0 + mask * clean, clamp=True))
        logits = self.judge.logits(pictures, [brief.context for brief in briefs])
        directions = [
            [to_epsilon(latents, output, step, self.schedule) for output in branches] for branches in (now, before)
        ]
        turned = (directions[0][1] - directions[0][0]) - (directions[1][1] - directions[1][0])
        kept = torch.linalg.vector_norm(turned.flatten(1) / step.sigma, dim=1).mean()
        return -logits.log_softmax(-1)[:, 0].mean() + self.config.beta * kept

    def _branches(
        self, latents: Latents, t: float, briefs: Sequence[Placed], control: Tensor, unet: Any, controlnet: Any
    ) -> tuple[Latents, Latents]:
        """Without and with the prompt, each by a call of its own, the texts encoded for it."""
        outputs = []
        for prompts in ([self.settings.negative_prompt] * len(briefs), [brief.prompt for brief in briefs]):
            with torch.no_grad():
                states = text.encode(self.models.tokenizer, self.models.text_encoder, prompts)
            denoise = guided(
                unet, states, controlnet=controlnet, control=control, control_scale=self.settings.control_scale
            )
            outputs.append(denoise(latents, t))
        return outputs[0], outputs[1]

    def _mixed(self, branches: tuple[Latents, Latents]) -> Latents:
        return branches[0] + self.settings.guidance_scale * (branches[1] - branches[0])


def discs(count: int, size: int) -> list[Placed]:
    """Round products of several colours on their canvas."""
    briefs = []
    for number in range(count):
        picture = Image.new("RGBA", (size, size))
        ImageDraw.Draw(picture).ellipse([0, 0, size - 1, size - 1], fill=COLOURS[number % len(COLOURS)])
        prompt = with_title(SETTINGS[number % len(SETTINGS)], "product")
        canvas = place(picture, size, 0.5)
        briefs.append(Placed(key=f"disc-{number}", canvas=canvas, title="product", prompt=prompt))
    return briefs


def _settle(device: torch.device, forget: bool = True) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    if forget:
        reset_peak(device)


def _in_use(device: torch.device) -> int:
    """Bytes in use now: the peak since it was forgotten."""
    return reset_peak(device)


if __name__ == "__main__":
    print(json.dumps(asdict(measure(sys.argv[1], Trial(**json.loads(sys.argv[2]))))))  # type: ignore[arg-type]
