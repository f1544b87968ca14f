"""Pictures around products: diffusion inpainting with a canny ControlNet, in batches (ads paper, section 3.1).

Each picture has its own seed and noise, so it comes out the same (up to rounding) in whatever batch it is made. At the
end the product itself is pasted over what the VAE made of it: its pixels are exact.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from goodeye.ads.canvas import Canvas, compose
from goodeye.diffusion import vae
from goodeye.diffusion.batch import Prompts, noise_of, on_cores
from goodeye.diffusion.denoiser import guided
from goodeye.diffusion.inpaint import blend
from goodeye.diffusion.predict import Latents
from goodeye.diffusion.samplers import SAMPLERS, Hook, chain, keep
from goodeye.diffusion.schedule import Schedule, Step, from_config

if TYPE_CHECKING:
    from goodeye.modelset import Models, Settings

GREY = 0.5  # what the VAE sees around the product, before there is a background


@dataclass(frozen=True, eq=False, kw_only=True)
class Draft:
    """A picture on its way through the sampler's steps, so that it can wait between two of them.

    done: steps behind it. A draft that begins in the middle of the schedule has `done` > 0 and a picture [3, S, S] in
    [0, 1] to go back from, whose latents get the seed's noise. What is None until it has begun: product, the clean
    latents of the product on grey; latents, where the sampler is; x0, the last step's prediction, the product in it.
    """

    canvas: Canvas
    prompt: str
    seed: int
    done: int = 0
    picture: Float[Tensor, "3 S S"] | None = None
    product: Float[Tensor, "C h w"] | None = None
    latents: Float[Tensor, "C h w"] | None = None
    x0: Float[Tensor, "C h w"] | None = None


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
    drafts = drafts_of(canvases, prompts, seeds)
    drafts = advance(models, drafts, len(settings.starts), settings=settings, embed=embed, after_step=after_step)
    return pictures(models, drafts)


def drafts_of(canvases: Sequence[Canvas], prompts: Sequence[str], seeds: Sequence[int]) -> list[Draft]:
    """Drafts that begin from noise."""
    named = zip(canvases, prompts, seeds, strict=True)
    return [Draft(canvas=canvas, prompt=prompt, seed=seed) for canvas, prompt, seed in named]


def advance(
    models: "Models",
    drafts: Sequence[Draft],
    until: int,
    *,
    settings: "Settings",
    embed: Prompts | None = None,
    after_step: Hook = keep,
) -> list[Draft]:
    """The drafts, all equally far, after `until` steps. Costs each `until - done` evaluations of the denoiser.

    A step is one of those that the settings' stride leaves. The two branches of guidance are one evaluation. In how
    many legs a schedule is run changes nothing.
    """
    schedule = from_config(models.scheduler_config, settings.steps, settings.sampler).joined(settings.starts)
    leg = replace(schedule, steps=schedule.steps[_done(drafts) : until])
    embed = embed or Prompts(models)
    predicted: list[Latents] = []

    def see(latents: Latents, step: Step, x0: Latents) -> Latents:
        if step.index == until - 1:
            predicted.append(x0)
        return latents

    with torch.no_grad():
        latents, product = _begun(models, drafts, schedule)
        noise = _noise(drafts, latents)
        denoise = guided(
            models.unet,
            embed([draft.prompt for draft in drafts]),
            embed([settings.negative_prompt]),
            guidance_scale=settings.guidance_scale,
            controlnet=models.controlnet,
            control=torch.stack([draft.canvas.control for draft in drafts]).to(latents.device),
            control_scale=settings.control_scale,
        )
        mask = latent_mask(torch.stack([draft.canvas.mask for draft in drafts]), latents.shape[-1]).to(latents)
        hook = chain(blend(mask, product, noise, schedule), after_step, see)
        latents = SAMPLERS[settings.sampler](denoise, latents, leg, after_step=hook)
        x0 = latents if until == len(schedule) else (1 - mask) * predicted[0] + mask * product
    rows = zip(drafts, product, latents, x0, strict=True)
    return [
        replace(draft, done=until, product=known, latents=now, x0=clean, picture=None)
        for draft, known, now, clean in rows
    ]


def _done(drafts: Sequence[Draft]) -> int:
    done = {draft.done for draft in drafts}
    if len(done) != 1:
        raise ValueError(f"a batch goes through the same steps, and these drafts stand at {sorted(done)}")
    return done.pop()


def _begun(models: "Models", drafts: Sequence[Draft], schedule: Schedule) -> tuple[Latents, Latents]:
    """Where the sampler starts from, and the product's clean latents, of drafts some of which may have begun."""
    new = [draft for draft in drafts if draft.latents is None]
    begun: Iterator[tuple[Tensor, Tensor]] = iter(())
    if new:
        clean = vae.encode(models.vae, compose(_products(new).to(models.unet.device), GREY))
        begun = iter(zip(_first_latents(models, new, clean, schedule), clean, strict=True))
    rows = [
        next(begun) if draft.latents is None or draft.product is None else (draft.latents, draft.product)
        for draft in drafts
    ]
    latents, product = zip(*rows, strict=True)
    return torch.stack(latents), torch.stack(product)


def _first_latents(models: "Models", new: Sequence[Draft], like: Latents, schedule: Schedule) -> Latents:
    """Noise; in the middle of the schedule, alpha * latents of the pictures + sigma * noise."""
    noise = _noise(new, like)
    if not new[0].done:
        return noise * schedule.start_scale
    step = schedule.steps[new[0].done]
    back = torch.stack([draft.picture for draft in new if draft.picture is not None])
    return step.alpha * vae.encode(models.vae, back.to(like.device)) + step.sigma * noise


def _noise(drafts: Sequence[Draft], like: Latents) -> Latents:
    return torch.stack([noise_of(draft.seed, like.shape[1:]) for draft in drafts]).to(like)


def _products(drafts: Sequence[Draft]) -> Float[Tensor, "N 4 S S"]:
    return torch.stack([draft.canvas.product for draft in drafts])


def pictures(models: "Models", drafts: Sequence[Draft]) -> Float[Tensor, "N 3 S S"]:
    """What the drafts show, in [0, 1], on the CPU, with the product pasted; before the end, that is x0_hat decoded."""
    latents = torch.stack([draft.x0 for draft in drafts if draft.x0 is not None])
    with torch.no_grad():
        product = _products(drafts).to(latents.device)
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
    """`generate`, with the batch split over a CPU's cores."""
    drafts = advance_on_cores(
        models, drafts_of(canvases, prompts, seeds), len(settings.starts), settings=settings, embed=embed
    )
    return pictures_on_cores(models, drafts)


def advance_on_cores(
    models: "Models", drafts: Sequence[Draft], until: int, *, settings: "Settings", embed: Prompts
) -> list[Draft]:
    """`advance`, with the batch split over a CPU's cores."""
    embed([*(draft.prompt for draft in drafts), settings.negative_prompt])  # here, so that the threads only read

    def part(some: Sequence[Draft]) -> list[Draft]:
        return advance(models, some, until, settings=settings, embed=embed)

    return on_cores(part, drafts, models.unet.device.type)


def pictures_on_cores(models: "Models", drafts: Sequence[Draft]) -> Float[Tensor, "N 3 S S"]:
    """`pictures`, with the batch split over a CPU's cores."""
    return torch.stack(on_cores(lambda some: list(pictures(models, some)), drafts, models.unet.device.type))


def latent_mask(mask: Float[Tensor, "N 1 S S"], size: int) -> Float[Tensor, "N 1 h w"]:
    """1 where at least half of a latent's pixels belong to the kept product.

    A product so thin that no latent has half of it is kept where it has the most.
    """
    share = F.adaptive_avg_pool2d(mask, size)
    least = share.amax((1, 2, 3), keepdim=True).clamp(max=0.5)
    return ((share >= least) & (share > 0)).to(mask.dtype)
