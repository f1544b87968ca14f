"""What a denoiser's output says: the clean sample and the noise, for epsilon, v and flow prediction."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from goodeye.diffusion.schedule import Schedule, Step

Latents = Float[Tensor, "N C h w"]
Level = Step | float | Int[Tensor, "N"]  # a sampler's step, one timestep, or a training timestep for each sample


def predict_x0(sample: Latents, output: Latents, at: Level, schedule: Schedule) -> Latents:
    """The clean latents that the denoiser's output stands for, at noise level `at`.

    epsilon: (x_t - sigma * eps) / alpha (ads paper, section 3.3: x0_hat). v: alpha * x_t - sigma * v (Salimans and
    Ho 2022). flow: x_t - sigma * velocity, velocity = noise - x0 (Lipman et al. 2023, as diffusers has it).
    """
    alpha, sigma = levels(at, schedule, sample)
    if schedule.prediction == "epsilon":
        return (sample - sigma * output) / alpha
    if schedule.prediction == "v_prediction":
        return alpha * sample - sigma * output
    return sample - sigma * output


def to_epsilon(sample: Latents, output: Latents, at: Level, schedule: Schedule) -> Latents:
    """The noise that the denoiser's output stands for, at noise level `at`."""
    alpha, sigma = levels(at, schedule, sample)
    if schedule.prediction == "epsilon":
        return output
    if schedule.prediction == "v_prediction":
        return alpha * output + sigma * sample
    return sample + alpha * output


def add_noise(clean: Latents, noise: Latents, at: Level, schedule: Schedule) -> Latents:
    """x_t = alpha * clean + sigma * noise."""
    alpha, sigma = levels(at, schedule, clean)
    return alpha * clean + sigma * noise


def target(clean: Latents, noise: Latents, at: Level, schedule: Schedule) -> Latents:
    """What the denoiser should answer at add_noise(clean, noise, at): the regression target of training."""
    if schedule.prediction == "epsilon":
        return noise
    if schedule.prediction == "v_prediction":
        alpha, sigma = levels(at, schedule, clean)
        return alpha * noise - sigma * clean
    return noise - clean


def levels(at: Level, schedule: Schedule, like: Tensor) -> tuple[float | Tensor, float | Tensor]:
    """(alpha, sigma) at `at`: numbers, or [N, 1, 1, 1] tensors like `like` where `at` is a tensor of timesteps.

    A tensor holds indices into alphas_bar, so for flow matching index i is t = i + 1.
    """
    if isinstance(at, Step):
        return at.alpha, at.sigma
    if not isinstance(at, Tensor):
        return schedule.levels(at)
    alphas_bar = schedule.alphas_bar.to(at.device)[at].view(-1, *[1] * (like.ndim - 1))
    alpha = alphas_bar.sqrt()
    sigma = 1 - alpha if schedule.prediction == "flow" else torch.sqrt(1 - alphas_bar)
    return alpha.to(like.dtype), sigma.to(like.dtype)
