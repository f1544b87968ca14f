"""Noise levels and the steps of a sampler, read from a diffusers scheduler config.

Everywhere in this package x_t = alpha * x0 + sigma * noise. For diffusion (epsilon and v prediction) alpha is
sqrt(alphas_bar) and sigma is sqrt(1 - alphas_bar); for flow matching alpha is 1 - sigma. One convention for all
samplers, so that a hook written for one serves the others.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from goodeye.errors import BadInput

Prediction = Literal["epsilon", "v_prediction", "flow"]
Sampler = Literal["ddim", "euler"]

CLEAN = -1  # the timestep of a clean sample

_ALMOST_NOTHING = 2.0**-24  # diffusers' alphas_bar[-1] for Euler with zero terminal SNR, so that its ratio stays finite


@dataclass(frozen=True)
class Step:
    """One step of a sampler, from noise level t to t_prev.

    t is what the denoiser is told (fractional in some Euler and all flow schedules). t_prev is the t of the step after
    this one, CLEAN at the last. The sampler goes from level (alpha, sigma) to (alpha_prev, sigma_prev); diffusers' DDIM
    lands a little beside the level of t_prev where its spacing does not divide evenly, and so do we.
    """

    index: int
    t: float
    t_prev: float
    last: bool
    alpha: float
    sigma: float
    alpha_prev: float
    sigma_prev: float


@dataclass(frozen=True)
class Schedule:
    """The steps of one sampling run, and the levels of the timesteps the model was trained on.

    alphas_bar: [T], the squared share of the clean sample at each training timestep; for flow matching
    (1 - t / T) ** 2 for t = 1 ... T. start_scale: what standard normal noise is multiplied by to become the first
    latents: 1, but sigma for Euler schedules that begin at the very last timestep.
    """

    alphas_bar: Float[Tensor, "T"]
    steps: tuple[Step, ...]
    prediction: Prediction
    start_scale: float = 1.0

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)

    def head(self, count: int) -> "Schedule":
        """The first `count` steps: a sampler that runs them stops with latents that are still noisy."""
        return replace(self, steps=self.steps[:count])

    def joined(self, starts: Sequence[int]) -> "Schedule":
        """Fewer, longer steps: each from one of `starts` (rising, from 0) to the next, the last to the end. A part of
        the levels is a sampler of the same process (Song et al. 2021, section 4.2)."""
        ends = [*starts[1:], len(self)]
        joined = [
            replace(
                self.steps[start],
                index=index,
                t_prev=self.steps[end - 1].t_prev,
                last=self.steps[end - 1].last,
                alpha_prev=self.steps[end - 1].alpha_prev,
                sigma_prev=self.steps[end - 1].sigma_prev,
            )
            for index, (start, end) in enumerate(zip(starts, ends, strict=True))
        ]
        return replace(self, steps=tuple(joined))

    def levels(self, t: float) -> tuple[float, float]:
        """(alpha, sigma) at a timestep; negative is clean. Between timesteps, diffusion is interpolated in
        sigma / alpha, as diffusers' Euler does."""
        if t < 0:
            return 1.0, 0.0
        if self.prediction == "flow":
            return 1 - t / len(self.alphas_bar), t / len(self.alphas_bar)
        if t == int(t):
            return _levels(float(self.alphas_bar[int(t)]))
        ratios = _ratio(self.alphas_bar[int(t) : int(t) + 2].double().numpy())
        return _from_ratio(float(ratios[0] + (t - int(t)) * (ratios[1] - ratios[0])))


def from_config(config: Mapping[str, Any], steps: int, sampler: Sampler = "ddim") -> Schedule:
    """The schedule that diffusers' DDIMScheduler or EulerDiscreteScheduler makes of this config, whatever scheduler
    class wrote it; a FlowMatchEulerDiscreteScheduler config gives a flow schedule for either sampler.

    Latents are not bounded, so a config without clip_sample means no clipping, as in diffusers' latent pipelines.
    Raises BadInput for a number of steps that is out of range and for options that are not supported.
    """
    trained = int(config.get("num_train_timesteps", 1000))
    if not 1 <= steps <= trained:
        raise BadInput(f"steps is {steps}, but the model was trained on {trained} noise levels. Use 1 to {trained}.")
    _refuse(config, ["use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "clip_sample", "thresholding"])
    if "FlowMatch" in str(config.get("_class_name", "")):
        return _flow(config, steps, trained)
    prediction = config.get("prediction_type", "epsilon")
    if prediction not in ("epsilon", "v_prediction"):
        raise BadInput(f"the scheduler's prediction_type {prediction!r} is not supported. Use epsilon or v_prediction.")
    alphas_bar = _alphas_bar(config, trained)
    if sampler == "euler":
        return _euler(config, steps, alphas_bar, prediction)
    return _ddim(config, steps, alphas_bar, prediction)


def _ddim(config: Mapping[str, Any], steps: int, alphas_bar: Float[Tensor, "T"], prediction: Prediction) -> Schedule:
    trained = len(alphas_bar)
    times = [int(t) for t in _timesteps(config, steps, trained, "leading").round()]
    if times[0] >= trained:
        raise BadInput(f"{steps} steps with the scheduler's steps_offset pass its {trained} noise levels. Use fewer.")
    final = 1.0 if config.get("set_alpha_to_one", True) else float(alphas_bar[0])

    def after(t: int) -> float:
        return float(alphas_bar[t - trained // steps]) if t >= trained // steps else final

    levels = [(_levels(float(alphas_bar[t])), _levels(after(t))) for t in times]
    return Schedule(alphas_bar, _steps(times, levels), prediction)


def _euler(config: Mapping[str, Any], steps: int, alphas_bar: Float[Tensor, "T"], prediction: Prediction) -> Schedule:
    """EulerDiscreteScheduler's steps: sigma / alpha is interpolated at fractional timesteps and ends at zero."""
    _refuse(config, ["timestep_type", "interpolation_type", "final_sigmas_type"], {"discrete", "linear", "zero"})
    if config.get("rescale_betas_zero_snr", False):
        alphas_bar = alphas_bar.clone()
        alphas_bar[-1] = _ALMOST_NOTHING
    times = _timesteps(config, steps, len(alphas_bar), "linspace")
    ratios = np.interp(times, np.arange(len(alphas_bar)), _ratio(alphas_bar.double().numpy()))
    level = [_from_ratio(float(ratio)) for ratio in [*ratios, 0.0]]
    scaled = config.get("timestep_spacing", "linspace") in ("linspace", "trailing")
    plain = [int(t) if t == int(t) else float(t) for t in times]
    pairs = list(zip(level[:-1], level[1:], strict=True))
    return Schedule(alphas_bar, _steps(plain, pairs), prediction, level[0][1] if scaled else 1.0)


def _flow(config: Mapping[str, Any], steps: int, trained: int) -> Schedule:
    """FlowMatchEulerDiscreteScheduler's steps: sigma from 1 towards 0, shifted towards noise."""
    _refuse(config, ["use_dynamic_shifting", "invert_sigmas", "stochastic_sampling"])
    shift = float(config.get("shift", 1.0))

    def shifted(sigma: np.ndarray) -> np.ndarray:
        return shift * sigma / (1 + (shift - 1) * sigma)

    ends = shifted(np.array([1.0, 1 / trained]))
    sigmas = shifted(np.linspace(ends[0], ends[1], steps))
    if terminal := config.get("shift_terminal"):
        sigmas = 1 - (1 - sigmas) * (1 - terminal) / (1 - sigmas[-1])
    level = [(1 - sigma, sigma) for sigma in [*sigmas.tolist(), 0.0]]
    times = [sigma * trained for sigma in sigmas.tolist()]
    alphas_bar = (1 - torch.arange(1, trained + 1) / trained) ** 2
    return Schedule(alphas_bar, _steps(times, list(zip(level[:-1], level[1:], strict=True))), "flow")


def _timesteps(config: Mapping[str, Any], steps: int, trained: int, default: str) -> np.ndarray:
    """Falling timesteps by the config's spacing (Lin et al. 2023, table 2)."""
    spacing = config.get("timestep_spacing", default)
    if spacing == "leading":
        return (np.arange(steps) * (trained // steps))[::-1] + float(config.get("steps_offset", 0))
    if spacing == "trailing":
        return np.arange(trained, 0, -trained / steps).round() - 1
    if spacing == "linspace":
        return np.linspace(0, trained - 1, steps, dtype=np.float32)[::-1].astype(np.float64)
    raise BadInput(f"the scheduler's timestep_spacing {spacing!r} is not known. Use leading, trailing or linspace.")


def _steps(
    times: list[int] | list[float], levels: list[tuple[tuple[float, float], tuple[float, float]]]
) -> tuple[Step, ...]:
    following = [*times[1:], CLEAN]
    return tuple(
        Step(index, t, t_prev, t_prev == CLEAN, *before, *after)
        for index, (t, t_prev, (before, after)) in enumerate(zip(times, following, levels, strict=True))
    )


def _alphas_bar(config: Mapping[str, Any], trained: int) -> Float[Tensor, "T"]:
    """The cumulative products of 1 - beta, in float32 as diffusers computes them."""
    first, last = float(config.get("beta_start", 0.0001)), float(config.get("beta_end", 0.02))
    kind = config.get("beta_schedule", "linear")
    if config.get("trained_betas") is not None:
        betas = torch.tensor(config["trained_betas"], dtype=torch.float32)
    elif kind == "linear":
        betas = torch.linspace(first, last, trained, dtype=torch.float32)
    elif kind == "scaled_linear":
        betas = torch.linspace(first**0.5, last**0.5, trained, dtype=torch.float32) ** 2
    elif kind == "squaredcos_cap_v2":
        betas = _cosine_betas(trained)
    else:
        raise BadInput(f"the scheduler's beta_schedule {kind!r} is not known. Use linear, scaled_linear or cosine.")
    alphas_bar = (1 - betas).cumprod(0)
    return _zero_terminal(alphas_bar) if config.get("rescale_betas_zero_snr", False) else alphas_bar


def _cosine_betas(trained: int) -> Float[Tensor, "T"]:
    """Nichol and Dhariwal 2021, eq. 17, betas capped at 0.999."""
    bar = [math.cos((i / trained + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(trained + 1)]
    return torch.tensor([min(1 - after / before, 0.999) for before, after in zip(bar, bar[1:], strict=False)])


def _zero_terminal(alphas_bar: Float[Tensor, "T"]) -> Float[Tensor, "T"]:
    """Shifts and scales sqrt(alphas_bar) so that the last timestep is pure noise (Lin et al. 2023, algorithm 1)."""
    root = alphas_bar.sqrt()
    return ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2


def _levels(alpha_bar: float) -> tuple[float, float]:
    return math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar)


def _ratio(alphas_bar: np.ndarray) -> np.ndarray:
    """sigma / alpha, the noise level of Karras et al. 2022."""
    return np.sqrt((1 - alphas_bar) / alphas_bar)


def _from_ratio(ratio: float) -> tuple[float, float]:
    return 1 / math.sqrt(1 + ratio**2), ratio / math.sqrt(1 + ratio**2)


def _refuse(config: Mapping[str, Any], options: list[str], allowed: frozenset[str] | set[str] = frozenset()) -> None:
    for option in options:
        value = config.get(option)
        if value and value not in allowed:
            raise BadInput(f"the scheduler's {option}={value} is not supported here. Remove it from its config.")
