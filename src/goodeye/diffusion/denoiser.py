"""A U-Net, with text, guidance and ControlNet, as the one callable that samplers want."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from goodeye.diffusion.predict import Latents
from goodeye.diffusion.samplers import Denoiser

TextStates = Float[Tensor, "N L D"]
Branches = Callable[[Latents, float], tuple[Latents, Latents]]


def guided(
    unet: Any,
    text: TextStates,
    negative: TextStates | None = None,
    *,
    guidance_scale: float = 1.0,
    controlnet: Any = None,
    control: Float[Tensor, "N 3 H W"] | None = None,
    control_scale: float = 1.0,
) -> Denoiser:
    """Classifier-free guidance (Ho and Salimans 2022): negative + guidance_scale * (text - negative).

    unet, controlnet: diffusers models (UNet2DConditionModel, ControlNetModel). text, negative: the text encoder's
    states; one row serves a whole batch. control: the ControlNet's picture in [0, 1], its effect times control_scale.
    Both branches go through the networks in one call. With guidance_scale <= 1 there is no negative branch, as in
    diffusers. Latents of another dtype than the text's are cast to it and back.
    """
    if guidance_scale <= 1:
        return _network(unet, text, controlnet, control, control_scale)
    if negative is None:
        raise ValueError("guidance_scale > 1 needs the negative text states")
    both = branches(unet, text, negative, controlnet=controlnet, control=control, control_scale=control_scale)

    def denoise(latents: Latents, t: float) -> Latents:
        without, with_text = both(latents, t)
        return without + guidance_scale * (with_text - without)

    return denoise


def branches(
    unet: Any,
    text: TextStates,
    negative: TextStates,
    *,
    controlnet: Any = None,
    control: Float[Tensor, "N 3 H W"] | None = None,
    control_scale: float = 1.0,
) -> Branches:
    """The two outputs that guidance mixes, (negative, text), from one batched call. Arguments as of `guided`."""

    def call(latents: Latents, t: float) -> tuple[Latents, Latents]:
        count = len(latents)
        states = torch.cat([_rows(negative, count), _rows(text, count)])
        pictures = None if control is None else torch.cat([_rows(control, count)] * 2)
        network = _network(unet, states, controlnet, pictures, control_scale)
        without, with_text = network(torch.cat([latents, latents]), t).chunk(2)
        return without, with_text

    return call


def _network(
    unet: Any, text: TextStates, controlnet: Any, control: Float[Tensor, "N 3 H W"] | None, control_scale: float
) -> Denoiser:
    """One call of the ControlNet, if there is one, and one of the U-Net."""
    if (controlnet is None) != (control is None):
        raise ValueError("a ControlNet and its control picture go together")

    def denoise(latents: Latents, t: float) -> Latents:
        states = _rows(text, len(latents))
        noisy = latents.to(states.dtype)
        residuals: dict[str, Any] = {}
        if controlnet is not None and control is not None:
            picture = _rows(control, len(latents)).to(states.dtype)
            down, middle = controlnet(
                noisy,
                t,
                encoder_hidden_states=states,
                controlnet_cond=picture,
                conditioning_scale=control_scale,
                return_dict=False,
            )
            residuals = {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}
        output = unet(noisy, t, encoder_hidden_states=states, return_dict=False, **residuals)[0]
        return output.to(latents.dtype)

    return denoise


def _rows(tensor: Tensor, count: int) -> Tensor:
    """One row for all, or already a row each."""
    if len(tensor) == count:
        return tensor
    if len(tensor) != 1:
        raise ValueError(f"{len(tensor)} rows of conditioning for {count} latents")
    return tensor.expand(count, *tensor.shape[1:])
