"""An editor as a small addition to a U-Net: LoRA on its layers, its first and last convolution whole, as peft saves it.

The adapter's own adapter_config.json names what it stands upon (base_model_name_or_path): a U-Net, or another adapter,
by a path from the adapter's folder, a full path or a hub id. A U-Net of a text-to-image model is widened first.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from goodeye.atomic import write_bytes
from goodeye.errors import BadInput
from goodeye.hub import fetched, split_reference

if TYPE_CHECKING:
    from goodeye.modelset import Models

CONFIG, BASE = "adapter_config.json", "base_model_name_or_path"
WHOLE = ("conv_in", "conv_out")
LAYERS = (  # of a diffusers U-Net: attention, its feed-forward part, residual blocks, resampling, time
    *("to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2"),
    *("conv1", "conv2", "conv_shortcut", "time_emb_proj", "conv", "linear_1", "linear_2"),
)
DEEPEST = 4  # adapters upon each other


def adapted(unet: Any, rank: int, seed: int = 0) -> Any:
    """The U-Net wrapped by peft: only the additions, which change nothing at first, and WHOLE require gradient."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=list(LAYERS), modules_to_save=list(WHOLE))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # of the down projections; the up projections start at zero
        return get_peft_model(unet, config)


def save_adapter(network: Any, folder: Path, base: str) -> None:
    """What `adapted` made, for peft's from_pretrained and for `editor_unet`. base: what it stands upon."""
    network.save_pretrained(str(folder))
    name_base(folder, base)


def name_base(folder: Path, base: str) -> None:
    """Writes into an adapter's folder what it stands upon."""
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    write_bytes(folder / CONFIG, (json.dumps({**config, BASE: base}, indent=1) + "\n").encode())


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
    if not (Path(place) / CONFIG).is_file():
        return models.network("editor", UNet2DConditionModel)
    unet = models.load("editor", lambda folder: _merged(Path(folder), models, DEEPEST))
    return unet.to(models.device).eval().requires_grad_(False)


def _merged(folder: Path, models: "Models", deepest: int) -> Any:
    from diffusers import UNet2DConditionModel
    from peft import PeftModel

    named = json.loads((folder / CONFIG).read_text(encoding="utf-8")).get(BASE)
    if not named or not deepest:
        raise BadInput(f"{folder / CONFIG} does not say by {BASE} what the adapter stands upon. Name a U-Net there.")
    base = (folder / named).resolve() if (folder / named).exists() else None
    if base is not None and (base / CONFIG).is_file():
        unet = _merged(base, models, deepest - 1)
    else:
        place, options = (str(base), {}) if base else split_reference(named)
        whole = fetched(place, options.get("subfolder", ""), options.get("revision")) if options else place
        unet = UNet2DConditionModel.from_pretrained(whole, use_safetensors=True, torch_dtype=models.dtype)
    if unet.config.in_channels == unet.config.out_channels:
        unet = widened(unet)
    return PeftModel.from_pretrained(unet, str(folder)).merge_and_unload()
