"""Guidance and ControlNet in one batched call, seen from stand-ins that count."""

import pytest
import torch

from goodeye.diffusion.denoiser import branches, guided

TEXT, NEGATIVE = torch.full((2, 3, 5), 2.0), torch.full((1, 3, 5), -1.0)
LATENTS = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
CONTROL = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))


class UNet:
    """Answers latents times the mean of its text, plus the ControlNet's residuals."""

    def __init__(self):
        self.batches = []

    def __call__(self, latents, t, encoder_hidden_states, return_dict, **residuals):
        self.batches.append(len(latents))
        output = latents * encoder_hidden_states.mean((1, 2)).view(-1, 1, 1, 1)
        if residuals:
            output = output + residuals["mid_block_additional_residual"]
            output = output + sum(residuals["down_block_additional_residuals"])
        return (output,)


class ControlNet:
    def __init__(self):
        self.batches = []

    def __call__(self, latents, t, encoder_hidden_states, controlnet_cond, conditioning_scale, return_dict):
        self.batches.append(len(latents))
        middle = controlnet_cond.mean((1, 2, 3)).view(-1, 1, 1, 1) * conditioning_scale
        return [middle, middle], middle


def test_guidance_mixes_both_branches_of_one_call():
    unet = UNet()
    output = guided(unet, TEXT, NEGATIVE, guidance_scale=7.5)(LATENTS, 10)
    assert torch.allclose(output, -LATENTS + 7.5 * (2 * LATENTS + LATENTS))
    assert unet.batches == [4]


def test_both_networks_are_called_once_a_step():
    unet, controlnet = UNet(), ControlNet()
    denoise = guided(
        unet, TEXT, NEGATIVE, guidance_scale=3.0, controlnet=controlnet, control=CONTROL, control_scale=0.5
    )
    output = denoise(LATENTS, 10)
    plain = guided(UNet(), TEXT, NEGATIVE, guidance_scale=3.0)(LATENTS, 10)
    shift = 3 * 0.5 * CONTROL.mean((1, 2, 3)).view(-1, 1, 1, 1)  # the same in both branches: passes guidance once
    assert torch.allclose(output, plain + shift, atol=1e-5)
    denoise(LATENTS, 9)
    assert unet.batches == controlnet.batches == [4, 4]


def test_without_guidance_there_is_no_second_branch():
    unet = UNet()
    assert torch.equal(guided(unet, TEXT)(LATENTS, 10), 2 * LATENTS)
    assert torch.equal(guided(unet, TEXT, NEGATIVE, guidance_scale=1.0)(LATENTS, 10), 2 * LATENTS)
    assert unet.batches == [2, 2]


def test_branches_gives_what_guidance_mixes():
    without, with_text = branches(UNet(), TEXT, NEGATIVE)(LATENTS, 10)
    assert torch.equal(without, -LATENTS) and torch.equal(with_text, 2 * LATENTS)


def test_one_row_of_text_or_control_serves_the_batch():
    unet, controlnet = UNet(), ControlNet()
    options = {"guidance_scale": 2.0, "controlnet": controlnet}
    one = guided(unet, TEXT[:1], NEGATIVE, control=CONTROL[:1], **options)(LATENTS, 10)
    every = guided(unet, TEXT, NEGATIVE.expand(2, -1, -1), control=CONTROL[:1].expand(2, -1, -1, -1), **options)
    assert torch.equal(one, every(LATENTS, 10))


def test_latents_of_another_dtype_are_cast_and_come_back():
    output = guided(UNet(), TEXT.half(), NEGATIVE.half(), guidance_scale=2.0)(LATENTS, 10)
    assert output.dtype == torch.float32


def test_misuse_is_an_error():
    with pytest.raises(ValueError, match="negative"):
        guided(UNet(), TEXT, guidance_scale=2.0)
    with pytest.raises(ValueError, match="ControlNet"):
        guided(UNet(), TEXT, controlnet=ControlNet())(LATENTS, 1)
    with pytest.raises(ValueError, match="3 rows"):
        guided(UNet(), torch.zeros(3, 3, 5))(LATENTS, 1)
