"""Samplers as functions over a denoiser callable, with a hook after each step and a rule for where gradient flows."""

import math
from collections.abc import Callable

import torch

from goodeye.diffusion.predict import Latents, predict_x0, to_epsilon
from goodeye.diffusion.schedule import Schedule, Step

Denoiser = Callable[[Latents, float], Latents]  # latents and t -> the model's output, after guidance
Hook = Callable[[Latents, Step, Latents], Latents]  # latents after the step, the step, its x0 -> latents to go on with
GradRule = Callable[[Step], bool]
StepNoise = Callable[[Step], Latents]
StepRule = Callable[[Latents, Latents, Step, Schedule, Latents], Latents]


def keep(latents: Latents, step: Step, x0: Latents) -> Latents:
    """The hook that changes nothing."""
    return latents


def no_grad(step: Step) -> bool:
    """The rule for plain sampling."""
    return False


def chain(*hooks: Hook) -> Hook:
    """One hook that calls several in order, each on what the one before returned."""

    def call(latents: Latents, step: Step, x0: Latents) -> Latents:
        for hook in hooks:
            latents = hook(latents, step, x0)
        return latents

    return call


def ddim(
    denoise: Denoiser, latents: Latents, schedule: Schedule, *, after_step: Hook = keep, grad: GradRule = no_grad
) -> Latents:
    """Runs the schedule by deterministic DDIM steps (ads paper eq. 1; Song et al. 2021, eq. 12 with eta = 0).

    latents: [N, C, h, w], noise times schedule.start_scale. Returns the latents after the last step. A step for which
    `grad(step)` is false runs without gradient, its hook included, so gradient reaches back to the first step of an
    unbroken run of true ones. Whatever the denoiser or the hook raises ends the run.
    """
    return _sample(_ddim_step, denoise, latents, schedule, after_step, grad)


def euler(
    denoise: Denoiser, latents: Latents, schedule: Schedule, *, after_step: Hook = keep, grad: GradRule = no_grad
) -> Latents:
    """Runs the schedule by Euler steps of the probability-flow ODE (Karras et al. 2022, algorithm 2 without churn;
    for flow schedules the ODE of Lipman et al. 2023). Otherwise like `ddim`.

    Latents are in the model's own scale throughout, where diffusers keeps them divided by alpha.
    """
    return _sample(_euler_step, denoise, latents, schedule, after_step, grad)


def euler_ancestral(
    denoise: Denoiser,
    latents: Latents,
    schedule: Schedule,
    *,
    noise: StepNoise,
    after_step: Hook = keep,
    grad: GradRule = no_grad,
) -> Latents:
    """Runs the schedule of `euler` by Euler steps that go too far down and add noise up to the next level again
    (k-diffusion's ancestral sampling with eta = 1). Otherwise like `ddim`.

    noise: standard normal, like the latents, for each step but the last; `goodeye.diffusion.batch.step_noise` draws it
    so that batches and resumption change nothing. Raises ValueError for flow schedules, whose noise is another.
    """
    if schedule.prediction == "flow":
        raise ValueError("euler_ancestral is for diffusion; flow schedules have no ancestral step here")

    def advance(sample: Latents, output: Latents, step: Step, schedule: Schedule, x0: Latents) -> Latents:
        return _ancestral_step(sample, step, x0, noise)

    return _sample(advance, denoise, latents, schedule, after_step, grad)


SAMPLERS = {"ddim": ddim, "euler": euler}


def _sample(
    advance: StepRule, denoise: Denoiser, latents: Latents, schedule: Schedule, after_step: Hook, grad: GradRule
) -> Latents:
    for step in schedule:
        with torch.set_grad_enabled(grad(step)):
            output = denoise(latents, step.t)
            x0 = predict_x0(latents, output, step, schedule)
            latents = after_step(advance(latents, output, step, schedule, x0), step, x0)
    return latents


def _ddim_step(sample: Latents, output: Latents, step: Step, schedule: Schedule, x0: Latents) -> Latents:
    return step.alpha_prev * x0 + step.sigma_prev * to_epsilon(sample, output, step, schedule)


def _euler_step(sample: Latents, output: Latents, step: Step, schedule: Schedule, x0: Latents) -> Latents:
    if schedule.prediction == "flow":
        return sample + (step.sigma_prev - step.sigma) * output
    ratio, ratio_prev = step.sigma / step.alpha, step.sigma_prev / step.alpha_prev
    scaled = sample / step.alpha
    slope = (scaled - x0) / ratio
    return step.alpha_prev * (scaled + (ratio_prev - ratio) * slope)


def _ancestral_step(sample: Latents, step: Step, x0: Latents, noise: StepNoise) -> Latents:
    ratio, ratio_prev = step.sigma / step.alpha, step.sigma_prev / step.alpha_prev
    up = ratio_prev * math.sqrt(1 - (ratio_prev / ratio) ** 2)
    down = math.sqrt(ratio_prev**2 - up**2)
    scaled = sample / step.alpha
    moved = scaled + (down - ratio) * (scaled - x0) / ratio
    return step.alpha_prev * (moved if step.last else moved + up * noise(step))
