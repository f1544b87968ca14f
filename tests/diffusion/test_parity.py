"""The sampler seam against diffusers' own inpainting pipeline: same weights, same noise, same picture."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, EulerDiscreteScheduler

from goodeye.diffusion import text, vae
from goodeye.diffusion.denoiser import guided
from goodeye.diffusion.inpaint import blend
from goodeye.diffusion.samplers import SAMPLERS
from goodeye.diffusion.schedule import from_config
from goodeye.modelset import SHOWROOM, Models, resolve

PROMPTS = ["a red shoe on the beach", "a blue bag in a green kitchen"]
NEGATIVE = "in the kitchen"
STEPS, GUIDANCE, CONTROL_SCALE = 6, 3.0, 0.7
SCHEDULERS = {"ddim": DDIMScheduler, "euler": EulerDiscreteScheduler}


def inputs() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    keep = torch.zeros(2, 1, 32, 32)
    keep[0, :, 8:24, 8:24] = 1
    keep[1, :, 4:12, 10:30] = 1
    return {
        "image": torch.rand(2, 3, 32, 32, generator=generator),
        "control": (torch.rand(2, 3, 32, 32, generator=generator) > 0.8).float(),
        "keep": keep,
        "noise": torch.randn(2, 4, 16, 16, generator=generator),
    }


def ours(
    models: Models, prediction: str, picture: dict[str, torch.Tensor], sampler: str, guidance: float, latent: bool
) -> torch.Tensor:
    schedule = from_config(models.scheduler_config | {"prediction_type": prediction}, STEPS, sampler)
    product = vae.encode(models.vae, picture["image"], generator=torch.Generator().manual_seed(2))
    denoise = guided(
        models.unet,
        text.encode(models.tokenizer, models.text_encoder, PROMPTS),
        text.encode(models.tokenizer, models.text_encoder, [NEGATIVE]),
        guidance_scale=guidance,
        controlnet=models.controlnet,
        control=picture["control"],
        control_scale=CONTROL_SCALE,
    )
    hook = blend(F.interpolate(picture["keep"], size=(16, 16)), product, picture["noise"], schedule)
    latents = SAMPLERS[sampler](denoise, picture["noise"] * schedule.start_scale, schedule, after_step=hook)
    return latents if latent else vae.decode(models.vae, latents, clamp=True)


def theirs(pipe, picture: dict[str, torch.Tensor], guidance: float, output: str) -> torch.Tensor:
    return pipe(
        prompt=PROMPTS,
        negative_prompt=[NEGATIVE] * 2,
        image=picture["image"],
        mask_image=1 - picture["keep"],  # theirs is 1 where to repaint
        control_image=picture["control"],
        height=32,
        width=32,
        num_inference_steps=STEPS,
        guidance_scale=guidance,
        controlnet_conditioning_scale=CONTROL_SCALE,
        strength=1.0,
        latents=picture["noise"],
        generator=torch.Generator().manual_seed(2),
        output_type=output,
    ).images


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers' Euler with NumPy 2
@pytest.mark.parametrize("guidance", [GUIDANCE, 1.0])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("sampler", ["ddim", "euler"])
@torch.no_grad()
def test_the_same_picture_as_diffusers(
    tiny_set: Path, sampler: str, prediction: str, guidance: float, diffusers_pipeline: Callable[..., Any]
):
    models, picture = Models(resolve(tiny_set)), inputs()
    scheduler = SCHEDULERS[sampler].from_pretrained(tiny_set.parent / "scheduler", prediction_type=prediction)
    pipe = diffusers_pipeline(tiny_set.parent, scheduler=scheduler)
    latents = theirs(pipe, picture, guidance, "latent")
    assert torch.allclose(ours(models, prediction, picture, sampler, guidance, latent=True), latents, atol=1e-4)
    pixels = theirs(pipe, picture, guidance, "pt")
    assert torch.allclose(ours(models, prediction, picture, sampler, guidance, latent=False), pixels, atol=1e-4)
    unblended = {**picture, "keep": torch.zeros_like(picture["keep"])}
    uncontrolled = {**picture, "control": torch.zeros_like(picture["control"])}
    for other in (unblended, uncontrolled):  # the comparison sees mask and ControlNet at all
        assert (ours(models, prediction, other, sampler, guidance, latent=True) - latents).abs().max() > 1e-2


@torch.no_grad()
def test_the_shipped_generator_is_the_same_in_diffusers(diffusers_pipeline: Callable[..., Any]):
    """From the showroom's own folders. For latents of other than 4 channels their pipeline blends nothing in by itself,
    so its callback does, with the noise of its own scheduler."""
    models, generator = Models(resolve("showroom")), torch.Generator().manual_seed(1)
    scale, side = models.model_set.settings.guidance_scale, models.model_set.settings.size
    prompt = "a red shoe on the grass in a forest, soft light"
    image = torch.rand(1, 3, side, side, generator=generator)
    control = (torch.rand(1, 1, side, side, generator=generator) > 0.9).float().expand(1, 3, side, side)
    noise = torch.randn(1, models.unet.config.in_channels, 16, 16, generator=generator)
    keep = torch.zeros(1, 1, 16, 16)
    keep[..., 4:12, 6:10] = 1

    pipe = diffusers_pipeline(SHOWROOM).to(torch.float32)
    known = pipe.vae.encode(2 * image - 1).latent_dist.mode() * pipe.vae.config.scaling_factor

    def blended(pipe: Any, index: int, t: int, given: dict[str, Any]) -> dict[str, Any]:
        following = pipe.scheduler.timesteps[index + 1 : index + 2]
        product = pipe.scheduler.add_noise(known, noise, following) if len(following) else known
        return {"latents": (1 - keep) * given["latents"] + keep * product}

    expected = pipe(
        prompt=[prompt],
        negative_prompt=[""],
        image=image,
        mask_image=torch.ones(1, 1, side, side),
        control_image=control,
        height=side,
        width=side,
        num_inference_steps=4,
        guidance_scale=scale,
        controlnet_conditioning_scale=CONTROL_SCALE,
        strength=1.0,
        latents=noise,
        output_type="latent",
        callback_on_step_end=blended,
    ).images

    schedule = from_config(models.scheduler_config, 4)
    denoise = guided(
        models.unet,
        text.encode(models.tokenizer, models.text_encoder, [prompt]),
        text.encode(models.tokenizer, models.text_encoder, [""]),
        guidance_scale=scale,
        controlnet=models.controlnet,
        control=control,
        control_scale=CONTROL_SCALE,
    )
    hook = blend(keep, vae.encode(models.vae, image), noise, schedule)
    latents = SAMPLERS["ddim"](denoise, noise * schedule.start_scale, schedule, after_step=hook)
    assert latents.std() > 0.1 and torch.allclose(latents, expected, atol=1e-4, rtol=1e-4)
