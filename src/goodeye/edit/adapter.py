"""An editor as a small addition to a U-Net: LoRA on its layers, its first and last convolution whole, as peft saves it.

It stands upon a U-Net, or upon another adapter (see `goodeye.lora`). A U-Net of a text-to-image model is widened first.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from goodeye.errors import BadInput
from goodeye.hub import fetched, split_reference
from goodeye.lora import CONFIG, is_adapter, merged, name_base, stands_upon, wrapped

if TYPE_CHECKING:
    from goodeye.modelset import Models

WHOLE = ("conv_in", "conv_out")
LAYERS = (  # of a diffusers U-Net: attention, its feed-forward part, residual blocks, resampling, time
    *("to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2"),
    *("conv1", "conv2", "conv_shortcut", "time_emb_proj", "conv", "linear_1", "linear_2"),
)
DEEPEST = 4  # adapters upon each other


def adapted(unet: Any, rank: int, seed: int = 0) -> Any:
    """The U-Net wrapped by peft: only the additions, which change nothing at first, and WHOLE require gradient."""
    from peft import LoraConfig

    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=list(LAYERS), modules_to_save=list(WHOLE))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # of the down projections; the up projections start at zero
        return wrapped(unet, config)


def save_adapter(network: Any, folder: Path, base: str) -> None:
    """What `adapted` made, for peft's from_pretrained and for `editor_unet`. base: what it stands upon."""
    network.save_pretrained(str(folder))
    name_base(folder, base)


def widened(unet: Any) -> Any:
    """The U-Net with twice the channels in: the new ones, for the picture, weigh nothing at first, so it answers as
    before whatever the picture shows."""
    channels = unet.config.in_channels
    wide = type(unet).from_config({**unet.config, "in_channels": 2 * channels})
    weights = unet.state_dict()
    old = weights["conv_in.weight"]
    wide.load_state_dict({**weights, "conv_in.weight": torch.cat([old, torch.zeros_like(old)], 1)})
    return wide.to(unet.device)


def editor_unet(models: "Models") -> Any:
    """The U-Net of the set's role editor, whole: an adapter is merged into what it stands upon.

    Raises BadInput where there is no such role, or where it, or what it stands upon, cannot be loaded.
    """
    from diffusers import UNet2DConditionModel

    place = models.model_set.roles.get("editor", "")
    if not is_adapter(place):
        return models.network("editor", UNet2DConditionModel)
    unet = models.load("editor", lambda folder: _merged(Path(folder), models, DEEPEST))
    return unet.to(models.device).eval().requires_grad_(False)


def _merged(folder: Path, models: "Models", deepest: int) -> Any:
    from diffusers import UNet2DConditionModel

    named = stands_upon(folder)
    if not deepest:
        raise BadInput(f"{folder / CONFIG} is one of too many adapters upon each other. Merge some of them.")
    if is_adapter(named):
        unet = _merged(Path(named), models, deepest - 1)
    else:
        place, options = split_reference(named)
        whole = fetched(place, options.get("subfolder", ""), options.get("revision")) if options else place
        unet = UNet2DConditionModel.from_pretrained(whole, use_safetensors=True, torch_dtype=models.dtype)
    if unet.config.in_channels == unet.config.out_channels:
        unet = widened(unet)
    return merged(unet, folder)
