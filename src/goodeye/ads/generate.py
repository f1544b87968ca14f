"""Pictures around products: diffusion inpainting with a canny ControlNet, in batches (ads paper, section 3.1).

Each picture has its own seed and noise, so it comes out the same (up to rounding) in whatever batch it is made. At the
end the product itself is pasted over what the VAE made of it: its pixels are exact.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from goodeye.ads.canvas import Canvas, compose
from goodeye.diffusion import text, vae
from goodeye.diffusion.denoiser import guided
from goodeye.diffusion.inpaint import blend
from goodeye.diffusion.samplers import SAMPLERS, Hook, chain, keep
from goodeye.diffusion.schedule import from_config

if TYPE_CHECKING:
    from goodeye.modelset import Models, Settings

GREY = 0.5  # what the VAE sees around the product, before there is a background
PROMPTS_HELD = 1024  # embeddings kept at once
PART = 4  # pictures that a core should have at least; below, a core's time goes into small steps


@dataclass
class Prompts:
    """The text encoder's states, each prompt encoded once."""

    models: "Models"
    held: dict[str, Float[Tensor, "L D"]] = field(default_factory=dict)

    def __call__(self, prompts: Sequence[str]) -> Float[Tensor, "N L D"]:
        """The states of the prompts, in order."""
        wanted = list(dict.fromkeys(prompts))
        new = [prompt for prompt in wanted if prompt not in self.held]
        if len(self.held) + len(new) > PROMPTS_HELD:
            self.held = {prompt: self.held[prompt] for prompt in wanted if prompt in self.held}
        if new:
            with torch.no_grad():
                states = text.encode(self.models.tokenizer, self.models.text_encoder, new)
            self.held.update(zip(new, states, strict=True))
        return torch.stack([self.held[prompt] for prompt in prompts])


def generate(
    models: "Models",
    canvases: Sequence[Canvas],
    prompts: Sequence[str],
    seeds: Sequence[int],
    *,
    settings: "Settings",
    embed: Prompts | None = None,
    after_step: Hook = keep,
) -> Float[Tensor, "N 3 S S"]:
    """One picture in [0, 1] for each canvas, prompt and seed, on the CPU, with the product pasted.

    embed: prompts encoded so far, kept between calls. after_step: called at each step after the product's latents are
    blended in, to look at or to change the latents.
    """
    device = models.unet.device
    product = torch.stack([canvas.product for canvas in canvases]).to(device)
    embed = embed or Prompts(models)
    with torch.no_grad():
        clean = vae.encode(models.vae, compose(product, GREY))
        noise = torch.stack([noise_of(seed, clean.shape[1:]) for seed in seeds]).to(clean)
        schedule = from_config(models.scheduler_config, settings.steps, settings.sampler)
        denoise = guided(
            models.unet,
            embed(prompts),
            embed([settings.negative_prompt]),
            guidance_scale=settings.guidance_scale,
            controlnet=models.controlnet,
            control=torch.stack([canvas.control for canvas in canvases]).to(device),
            control_scale=settings.control_scale,
        )
        mask = latent_mask(torch.stack([canvas.mask for canvas in canvases]), clean.shape[-1]).to(clean)
        hook = chain(blend(mask, clean, noise, schedule), after_step)
        latents = SAMPLERS[settings.sampler](denoise, noise * schedule.start_scale, schedule, after_step=hook)
        return compose(product, vae.decode(models.vae, latents, clamp=True)).cpu()


def generate_on_cores(
    models: "Models",
    canvases: Sequence[Canvas],
    prompts: Sequence[str],
    seeds: Sequence[int],
    *,
    settings: "Settings",
    embed: Prompts,
) -> Float[Tensor, "N 3 S S"]:
    """`generate`, with the batch split over a CPU's cores: small networks gain little from several cores on one tensor.

    Elsewhere, with one thread (OMP_NUM_THREADS=1) and for small batches it is `generate` itself.
    """
    threads = torch.get_num_threads()
    count = min(threads, len(seeds) // PART) if models.unet.device.type == "cpu" else 1
    if count <= 1:
        return generate(models, canvases, prompts, seeds, settings=settings, embed=embed)
    embed([*prompts, settings.negative_prompt])  # here, so that the threads only read

    def part(number: int) -> Float[Tensor, "n 3 S S"]:
        torch.set_num_threads(threads // count)  # of this thread
        mine = slice(number * len(seeds) // count, (number + 1) * len(seeds) // count)
        return generate(models, canvases[mine], prompts[mine], seeds[mine], settings=settings, embed=embed)

    try:
        with ThreadPoolExecutor(count) as pool:
            return torch.cat(list(pool.map(part, range(count))))
    finally:
        torch.set_num_threads(threads)


def noise_of(seed: int, shape: Sequence[int]) -> Float[Tensor, "C h w"]:
    """Standard normal noise of one picture, drawn on the CPU: the same on every device and in every batch."""
    return torch.randn(tuple(shape), generator=torch.Generator("cpu").manual_seed(seed))


def latent_mask(mask: Float[Tensor, "N 1 S S"], size: int) -> Float[Tensor, "N 1 h w"]:
    """1 where at least half of a latent's pixels belong to the kept product.

    A product so thin that no latent has half of it is kept where it has the most.
    """
    share = F.adaptive_avg_pool2d(mask, size)
    least = share.amax((1, 2, 3), keepdim=True).clamp(max=0.5)
    return ((share >= least) & (share > 0)).to(mask.dtype)


def eight_bit(images: Float[Tensor, "N 3 H W"]) -> Float[Tensor, "N 3 H W"]:
    """The pictures as a file will hold them, so that the inspector judges what is kept. Raises ValueError for NaN."""
    if bool(images.isnan().any()):
        raise ValueError("the generator made NaN instead of a picture")
    return (images.clamp(0, 1) * 255).round() / 255
