"""Three branches and ancestral steps against diffusers' own InstructPix2Pix pipeline: same weights, same noise."""

import pytest
import torch
from diffusers import (
    EulerAncestralDiscreteScheduler,
    StableDiffusionInstructPix2PixPipeline,
    UNet2DConditionModel,
)

from goodeye.diffusion import text
from goodeye.diffusion.batch import noise_of, step_noise
from goodeye.diffusion.denoiser import Condition, mixed
from goodeye.diffusion.samplers import euler_ancestral
from goodeye.diffusion.schedule import from_config
from goodeye.modelset import Models, resolve

PROMPTS, NEGATIVE = ["a red shoe on the beach", "a blue bag"], "in the kitchen"
STEPS, S_TEXT, S_IMAGE = 5, 7.5, 1.5
SEEDS = (3, 4)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers with NumPy 2
@torch.no_grad()
def test_the_same_edit_as_diffusers(tiny_set, monkeypatch):
    models = Models(resolve(tiny_set))
    torch.manual_seed(0)
    unet = UNet2DConditionModel.from_config(dict(models.unet.config), in_channels=8).eval()
    pictures = torch.randn(2, 4, 16, 16)
    start = torch.stack([noise_of(seed, (4, 16, 16)) for seed in SEEDS])
    schedule = from_config(models.scheduler_config, STEPS, "euler")
    noise = step_noise(SEEDS, start)

    negative = text.encode(models.tokenizer, models.text_encoder, [NEGATIVE])
    asked = text.encode(models.tokenizer, models.text_encoder, PROMPTS)
    nothing = torch.zeros(1, 4, 16, 16)
    conditions = [
        Condition(text=negative, joined=nothing),
        Condition(text=negative, joined=pictures),
        Condition(text=asked, joined=pictures),
    ]
    denoise = mixed(unet, conditions, (1 - S_IMAGE, S_IMAGE - S_TEXT, S_TEXT))
    ours = euler_ancestral(denoise, start * schedule.start_scale, schedule, noise=noise)

    pipe = StableDiffusionInstructPix2PixPipeline(
        vae=models.vae,
        text_encoder=models.text_encoder,
        tokenizer=models.tokenizer,
        unet=unet,
        scheduler=EulerAncestralDiscreteScheduler.from_config(models.scheduler_config),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    drawn = iter([noise(step) for step in schedule])
    where = "diffusers.schedulers.scheduling_euler_ancestral_discrete.randn_tensor"
    monkeypatch.setattr(where, lambda shape, **_: next(drawn))
    theirs = pipe(
        prompt=PROMPTS,
        negative_prompt=[NEGATIVE] * 2,
        image=pictures,  # of four channels, so they are taken as latents
        num_inference_steps=STEPS,
        guidance_scale=S_TEXT,
        image_guidance_scale=S_IMAGE,
        latents=start,
        output_type="latent",
    ).images
    assert torch.allclose(ours, theirs, atol=1e-4 * float(theirs.abs().max()))
    plain = mixed(unet, conditions[1:], (1 - S_TEXT, S_TEXT))  # as if the picture were not guided by
    other = euler_ancestral(plain, start * schedule.start_scale, schedule, noise=noise)
    assert (other - theirs).abs().max() > 1e-2
