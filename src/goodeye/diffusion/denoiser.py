"""A U-Net, with text, guidance and ControlNet, as the one callable that samplers want."""

from collections.abc import Callable
from copy import copy
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from goodeye.diffusion.predict import Latents
from goodeye.diffusion.samplers import Denoiser

TextStates = Float[Tensor, "N L D"]
Branches = Callable[[Latents, float], tuple[Latents, Latents]]
Residuals = Callable[[Latents, float, TextStates], dict[str, Any]]


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
    diffusers. Latents of another dtype than the text's are cast to it and back. A frozen ControlNet embeds its picture
    once, for all steps.
    """
    if guidance_scale <= 1:
        return _network(unet, text, _residuals(controlnet, control, control_scale))
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

    residuals = _residuals(controlnet, control, control_scale, times=2)

    def call(latents: Latents, t: float) -> tuple[Latents, Latents]:
        count = len(latents)
        states = torch.cat([_rows(negative, count), _rows(text, count)])
        without, with_text = _network(unet, states, residuals)(torch.cat([latents, latents]), t).chunk(2)
        return without, with_text

    return call


def _network(unet: Any, text: TextStates, residuals: Residuals) -> Denoiser:
    """One call of the ControlNet, if there is one, and one of the U-Net."""

    def denoise(latents: Latents, t: float) -> Latents:
        states = _rows(text, len(latents))
        noisy = latents.to(states.dtype)
        output = unet(noisy, t, encoder_hidden_states=states, return_dict=False, **residuals(noisy, t, states))[0]
        return output.to(latents.dtype)

    return denoise


def _residuals(
    controlnet: Any, control: Float[Tensor, "N 3 H W"] | None, control_scale: float, times: int = 1
) -> Residuals:
    """What the ControlNet adds to the U-Net, as arguments of its call. The pictures are shown `times` times over."""
    if (controlnet is None) != (control is None):
        raise ValueError("a ControlNet and its control picture go together")
    if controlnet is None or control is None:
        return lambda noisy, t, states: {}
    shown = _shown(controlnet, control)

    def call(noisy: Latents, t: float, states: TextStates) -> dict[str, Any]:
        network, picture = shown(states.dtype)
        down, middle = network(
            noisy,
            t,
            encoder_hidden_states=states,
            controlnet_cond=torch.cat([_rows(picture, len(noisy) // times)] * times),
            conditioning_scale=control_scale,
            return_dict=False,
        )
        return {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}

    return call


def _shown(controlnet: Any, control: Float[Tensor, "N 3 H W"]) -> Callable[[torch.dtype], tuple[Any, Tensor]]:
    """For a dtype: the network to call, and what to show it.

    No step changes the picture's embedding, so it is made once, for all steps and both branches, and shown to a twin of
    the ControlNet that embeds nothing. Where the embedding learns, each call makes it anew, with gradient.
    """
    twin, made = _without_embedding(controlnet), {}

    def show(dtype: torch.dtype) -> tuple[Any, Tensor]:
        if twin is None or control.requires_grad or _learns(controlnet.controlnet_cond_embedding):
            return controlnet, control.to(dtype)
        if dtype not in made:
            with torch.no_grad():
                made[dtype] = controlnet.controlnet_cond_embedding(control.to(dtype))
        return twin, made[dtype]

    return show


def _without_embedding(controlnet: Any) -> Any:
    """A copy that shares all weights and takes the picture's embedding for the picture.

    None for anything but a plain ControlNetModel (one that is wrapped, compiled or offloaded is none), and for one that
    turns its picture's channels about.
    """
    from diffusers import ControlNetModel

    if type(controlnet) is not ControlNetModel or {"forward", "_compiled_call_impl"} & vars(controlnet).keys():
        return None
    if controlnet.config.controlnet_conditioning_channel_order != "rgb":
        return None
    twin = copy(controlnet)  # its table of parts is still the other's, as in torch's own replicas
    twin._modules = {**controlnet._modules, "controlnet_cond_embedding": nn.Identity()}
    return twin


def _learns(part: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in part.parameters())


def _rows(tensor: Tensor, count: int) -> Tensor:
    """One row for all, or already a row each."""
    if len(tensor) == count:
        return tensor
    if len(tensor) != 1:
        raise ValueError(f"{len(tensor)} rows of conditioning for {count} latents")
    return tensor.expand(count, *tensor.shape[1:])
