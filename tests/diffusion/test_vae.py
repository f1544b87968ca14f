import pytest
import torch
from diffusers import AutoencoderKL

from goodeye.diffusion.vae import decode, encode


def tiny_vae(**options: object) -> AutoencoderKL:
    torch.manual_seed(0)
    types = {"down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2}
    return AutoencoderKL(block_out_channels=(8, 16), norm_num_groups=4, layers_per_block=1, **types, **options).eval()


IMAGES = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("options", [{}, {"scaling_factor": 0.5, "shift_factor": 0.25}])
@torch.no_grad()
def test_scaling_is_that_of_diffusers_pipelines(options):
    vae = tiny_vae(**options)
    latents = encode(vae, IMAGES)
    raw = vae.encode(IMAGES * 2 - 1).latent_dist.mode()
    assert torch.allclose(latents, (raw - options.get("shift_factor", 0)) * vae.config.scaling_factor)
    assert torch.allclose(decode(vae, latents), vae.decode(raw).sample / 2 + 0.5, atol=1e-5)


@torch.no_grad()
def test_a_generator_samples_the_posterior_and_no_generator_is_its_mean():
    vae = tiny_vae()
    sampled = encode(vae, IMAGES, generator=torch.Generator().manual_seed(1))
    theirs = vae.encode(IMAGES * 2 - 1).latent_dist.sample(torch.Generator().manual_seed(1))
    assert torch.equal(sampled, theirs * vae.config.scaling_factor)
    assert torch.equal(encode(vae, IMAGES), encode(vae, IMAGES))


def test_decode_clamps_only_when_asked_and_passes_gradient():
    vae = tiny_vae()
    latents = (50 * torch.randn(1, 4, 8, 8)).requires_grad_()
    images = decode(vae, latents)
    assert images.min() < 0 or images.max() > 1
    clamped = decode(vae, latents, clamp=True)
    assert clamped.min() >= 0 and clamped.max() <= 1
    images.sum().backward()
    assert latents.grad is not None and latents.grad.abs().sum() > 0


@torch.no_grad()
def test_images_keep_their_dtype_whatever_the_vae_has():
    vae = tiny_vae().bfloat16()
    assert encode(vae, IMAGES).dtype == torch.float32
    assert decode(vae, torch.zeros(1, 4, 8, 8)).dtype == torch.float32
