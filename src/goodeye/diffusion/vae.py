"""Pictures to latents and back, in the scale that the denoiser was trained on."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from goodeye.diffusion.predict import Latents


def encode(vae: Any, images: Float[Tensor, "N 3 H W"], *, generator: torch.Generator | None = None) -> Latents:
    """Scaled latents of images in [0, 1] by a diffusers AutoencoderKL.

    The mean of the posterior; with a generator, a sample of it, as diffusers' pipelines take.
    """
    posterior = vae.encode((2 * images - 1).to(vae.dtype)).latent_dist
    latents = posterior.mode() if generator is None else posterior.sample(generator=generator)
    return ((latents - _shift(vae)) * vae.config.scaling_factor).to(images.dtype)


def decode(vae: Any, latents: Latents, *, clamp: bool = False) -> Float[Tensor, "N 3 H W"]:
    """Images in about [0, 1]; exactly so with `clamp`, which stops gradient where it bites."""
    unscaled = (latents / vae.config.scaling_factor + _shift(vae)).to(vae.dtype)
    images = (vae.decode(unscaled, return_dict=False)[0] / 2 + 0.5).to(latents.dtype)
    return images.clamp(0, 1) if clamp else images


def _shift(vae: Any) -> float:
    return getattr(vae.config, "shift_factor", None) or 0.0
