"""Guidance and ControlNet in one batched call, seen from stand-ins that count."""

from pathlib import Path

import pytest
import torch
from diffusers import ControlNetModel, UNet2DConditionModel

from goodeye.diffusion.denoiser import Condition, branches, guided, mix, mixed

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


def test_guidance_is_mixed_as_it_is_written_to_the_bit():
    without, with_text = LATENTS, LATENTS.flip(0) / 3
    for scale in (1.1, 3.0, 7.5, 0.3):
        assert torch.equal(mix((without, with_text), (1 - scale, scale)), without + scale * (with_text - without))


class Asking(UNet):
    """Takes joined channels and more arguments, and keeps what it was asked."""

    def __call__(self, latents, t, encoder_hidden_states, return_dict, boxes=None, **more):
        self.asked = latents, boxes, more
        (output,) = super().__call__(latents[:, :4], t, encoder_hidden_states, return_dict)
        shift = 0 if latents.shape[1] == 4 else latents[:, 4:].mean((1, 2, 3)).view(-1, 1, 1, 1)
        return (output + shift,)


def test_three_branches_go_in_one_call_each_with_its_own_channels_and_arguments():
    unet, picture = Asking(), torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(2))

    def with_boxes(value):
        row = torch.full((1, 5), value)
        return lambda t: {"boxes": {"positions": row, "at": t}} if t > 5 else {}

    nothing, image = torch.zeros(1, 3, 8, 8), picture
    conditions = [
        Condition(text=NEGATIVE, joined=nothing, more=with_boxes(0.0)),
        Condition(text=NEGATIVE, joined=image, more=with_boxes(1.0)),
        Condition(text=TEXT, joined=image, more=with_boxes(2.0)),
    ]
    s_image, s_text = 1.5, 7.5
    output = mixed(unet, conditions, (1 - s_image, s_image - s_text, s_text))(LATENTS, 10)
    neither, seen, both = -LATENTS, -LATENTS + image.mean((1, 2, 3)).view(-1, 1, 1, 1), 2 * LATENTS
    both = both + image.mean((1, 2, 3)).view(-1, 1, 1, 1)
    assert torch.allclose(output, neither + s_image * (seen - neither) + s_text * (both - seen), atol=1e-4)
    latents, boxes, _ = unet.asked
    assert unet.batches == [6] and latents.shape == (6, 7, 8, 8) and boxes["at"] == 10
    assert boxes["positions"][:, 0].tolist() == [0, 0, 1, 1, 2, 2]
    mixed(unet, conditions, (0.0, 0.0, 1.0))(LATENTS, 3)
    assert unet.asked[1] is None


def test_branches_that_do_not_go_together_are_refused():
    plain, joined = Condition(text=NEGATIVE), Condition(text=TEXT, joined=torch.zeros(1, 3, 8, 8))
    with pytest.raises(ValueError, match="sum to 1"):
        mixed(UNet(), [plain, plain], (1.0, 1.0))
    with pytest.raises(ValueError, match="2 branches need"):
        mixed(UNet(), [plain, plain], (1.0,))
    with pytest.raises(ValueError, match="joined"):
        branches(Asking(), [plain, joined])(LATENTS, 3)
    for more, words in ((lambda t: {}, "same arguments"), (lambda t: {"boxes": 2}, "no tensor")):
        two = [Condition(text=TEXT, more=lambda t: {"boxes": 1}), Condition(text=TEXT, more=more)]
        with pytest.raises(ValueError, match=words):
            branches(Asking(), two)(LATENTS, 3)


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
    without, with_text = branches(UNet(), [Condition(text=NEGATIVE), Condition(text=TEXT)])(LATENTS, 10)
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


# The picture's embedding, which no step changes


@pytest.fixture
def networks(tiny_set: Path) -> tuple[UNet2DConditionModel, ControlNetModel]:
    """Loaded anew for each test, frozen."""
    unet, controlnet = UNet2DConditionModel, ControlNetModel
    return tuple(
        kind.from_pretrained(tiny_set.parent / role).requires_grad_(False)
        for role, kind in (("unet", unet), ("controlnet", controlnet))
    )


STATES = torch.randn(2, 8, 16, generator=torch.Generator().manual_seed(2))
EMPTY = torch.randn(1, 8, 16, generator=torch.Generator().manual_seed(3))
NOISY = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(4))
PICTURES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(5))


def by_hand(unet, controlnet, t: int, pictures: torch.Tensor, guidance: float) -> torch.Tensor:
    """Guidance as diffusers' pipelines compute it."""
    states, noisy = torch.cat([EMPTY.expand(2, -1, -1), STATES]), torch.cat([NOISY, NOISY])
    down, middle = controlnet(noisy, t, states, torch.cat([pictures, pictures]), 0.7, return_dict=False)
    residuals = {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}
    without, with_text = unet(noisy, t, states, return_dict=False, **residuals)[0].chunk(2)
    return without + guidance * (with_text - without)


def embeddings_made(controlnet: ControlNetModel) -> list[int]:
    """A list that gains the number of pictures at each embedding."""
    made: list[int] = []
    controlnet.controlnet_cond_embedding.register_forward_hook(lambda part, given, output: made.append(len(output)))
    return made


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("guidance", [1.0, 3.0])
@torch.no_grad()
def test_a_frozen_controlnet_embeds_its_picture_once(networks, guidance, rows):
    unet, controlnet = networks
    pictures = PICTURES[:rows]
    expected = [by_hand(unet, controlnet, t, pictures.expand(2, -1, -1, -1), guidance) for t in (700, 300)]
    keys, made = list(controlnet.state_dict()), embeddings_made(controlnet)
    options = {"guidance_scale": guidance, "controlnet": controlnet, "control": pictures, "control_scale": 0.7}
    denoise = guided(unet, STATES, EMPTY, **options)
    for t, output in zip((700, 300), expected, strict=True):
        assert torch.allclose(denoise(NOISY, t), output, atol=1e-5)
    assert made == [rows]
    assert list(controlnet.state_dict()) == keys and controlnet(NOISY, 1, STATES, PICTURES).mid_block_res_sample.any()
    assert made == [rows, 2], "the ControlNet itself is as it was"


def test_a_controlnet_that_learns_embeds_at_each_call_with_gradient(networks):
    unet, controlnet = networks
    controlnet.requires_grad_(True)
    first = controlnet.controlnet_cond_embedding.conv_in.weight
    (expected,) = torch.autograd.grad(by_hand(unet, controlnet, 300, PICTURES, 3.0).square().mean(), first)
    made = embeddings_made(controlnet)
    denoise = guided(
        unet, STATES, EMPTY, guidance_scale=3.0, controlnet=controlnet, control=PICTURES, control_scale=0.7
    )
    with torch.no_grad():
        denoise(NOISY, 700)  # as the early steps of a rollout
    (got,) = torch.autograd.grad(denoise(NOISY, 300).square().mean(), first)
    assert len(made) == 2 and expected.any() and torch.allclose(got, expected, rtol=1e-4, atol=1e-7)
    with torch.no_grad():
        before = denoise(NOISY, 300)
        first.add_(0.1)
        assert not torch.allclose(denoise(NOISY, 300), before), "what was learnt since is seen"


def test_gradient_reaches_the_latents_past_a_kept_embedding(networks):
    unet, controlnet = networks
    noisy = NOISY.clone().requires_grad_(True)
    denoise = guided(unet, STATES, EMPTY, guidance_scale=3.0, controlnet=controlnet, control=PICTURES)
    denoise(noisy, 300).square().mean().backward()
    assert (noisy.grad.abs().sum((1, 2, 3)) > 0).all()


@torch.no_grad()
def test_a_controlnet_that_is_not_a_plain_one_embeds_at_each_call(networks):
    unet, controlnet = networks
    controlnet.register_to_config(controlnet_conditioning_channel_order="bgr")
    expected, made = by_hand(unet, controlnet, 300, PICTURES, 3.0), embeddings_made(controlnet)
    options = {"guidance_scale": 3.0, "control": PICTURES, "control_scale": 0.7}
    for other in (controlnet, torch.nn.parallel.DataParallel(controlnet)):
        assert torch.allclose(guided(unet, STATES, EMPTY, controlnet=other, **options)(NOISY, 300), expected, atol=1e-5)
    assert made == [4, 4]
