"""A U-Net, with text, guidance and ControlNet, as the one callable that samplers want."""

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from goodeye.diffusion.predict import Latents
from goodeye.diffusion.samplers import Denoiser

TextStates = Float[Tensor, "N L D"]
Branches = Callable[[Latents, float], tuple[Latents, ...]]
Residuals = Callable[[Latents, float, TextStates], dict[str, Any]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Condition:
    """What one branch of guidance goes by; one row serves a whole batch.

    text: the text encoder's states. joined: [N, c, h, w], put beside the noisy latents on the channel axis, for U-Nets
    that take a picture so. more: at a timestep, what else the U-Net's call takes: tensors of a row for each picture, or
    tables of them; anything that is no tensor must be the same in all branches.
    """

    text: TextStates
    joined: Latents | None = None
    more: Callable[[float], Mapping[str, Any]] | None = None


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
    once, for all steps: for another picture, make another callable.
    """
    shown: dict[str, Any] = {"controlnet": controlnet, "control": control, "control_scale": control_scale}
    if guidance_scale <= 1:
        return mixed(unet, [Condition(text=text)], [1.0], **shown)
    if negative is None:
        raise ValueError("guidance_scale > 1 needs the negative text states")
    both = [Condition(text=negative), Condition(text=text)]
    return mixed(unet, both, [1 - guidance_scale, guidance_scale], **shown)


def mixed(
    unet: Any,
    conditions: Sequence[Condition],
    weights: Sequence[float],
    *,
    controlnet: Any = None,
    control: Float[Tensor, "N 3 H W"] | None = None,
    control_scale: float = 1.0,
) -> Denoiser:
    """Guidance of any number of branches: the sum of weight * output, from one batched call. The weights sum to one.

    (1 - s, s) of (negative, text) is classifier-free guidance; (1 - s_I, s_I - s_T, s_T) of (neither, image, image and
    text) is that of InstructPix2Pix (Brooks et al. 2023, eq. 3). Other arguments as of `guided`.
    """
    if len(weights) != len(conditions) or abs(sum(weights) - 1) > 1e-6:
        raise ValueError(f"{len(conditions)} branches need as many weights that sum to 1, not {list(weights)}")
    call = branches(unet, conditions, controlnet=controlnet, control=control, control_scale=control_scale)
    return lambda latents, t: mix(call(latents, t), weights)


def mix(outputs: Sequence[Latents], weights: Sequence[float]) -> Latents:
    """The sum of weight * output for weights that sum to one, as the first output and steps from each to the next.

    So two branches are mixed as guidance is written, without + scale * (with - without), to the bit.
    """
    found = outputs[0]
    for at in range(1, len(outputs)):
        found = found + sum(weights[at:]) * (outputs[at] - outputs[at - 1])
    return found


def branches(
    unet: Any,
    conditions: Sequence[Condition],
    *,
    controlnet: Any = None,
    control: Float[Tensor, "N 3 H W"] | None = None,
    control_scale: float = 1.0,
) -> Branches:
    """The outputs that guidance mixes, one for each condition, from one batched call. Arguments as of `mixed`.

    One call of the ControlNet, if there is one, which sees the noisy latents alone, and one of the U-Net.
    """
    times = len(conditions)
    residuals = _residuals(controlnet, control, control_scale, times)

    def call(latents: Latents, t: float) -> tuple[Latents, ...]:
        count = len(latents)
        states = torch.cat([_rows(one.text, count) for one in conditions])
        noisy = torch.cat([latents] * times).to(states.dtype)
        joined = [_rows(one.joined, count) for one in conditions if one.joined is not None]
        if joined and len(joined) != times:
            raise ValueError("either all branches have joined latents or none has")
        sample = torch.cat([noisy, torch.cat(joined).to(noisy)], 1) if joined else noisy
        more = _together([dict(one.more(t)) if one.more else {} for one in conditions], count)
        more |= residuals(noisy, t, states)
        output = unet(sample, t, encoder_hidden_states=states, return_dict=False, **more)[0]
        return output.to(latents.dtype).chunk(times)

    return call


def _together(given: Sequence[Mapping[str, Any]], count: int) -> dict[str, Any]:
    """The branches' arguments as those of one call: tensors one after the other, tables part by part."""
    first = given[0]
    if any(one.keys() != first.keys() for one in given):
        raise ValueError(f"all branches need the same arguments, not {[sorted(one) for one in given]}")
    found: dict[str, Any] = {}
    for name, value in first.items():
        values = [one[name] for one in given]
        if isinstance(value, Mapping):
            found[name] = _together(values, count)
        elif isinstance(value, Tensor):
            found[name] = torch.cat([_rows(one, count) for one in values])
        elif all(one == value for one in values):
            found[name] = value
        else:
            raise ValueError(f"{name} is no tensor, so it must be the same in all branches")
    return found


def _residuals(
    controlnet: Any, control: Float[Tensor, "N 3 H W"] | None, control_scale: float, times: int
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

    No step changes the picture's embedding, so it is made once, for all steps and branches, and shown to a twin of
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
