"""What alignment trains: the ControlNet whole, or LoRA on the U-Net. The start is kept aside, not as a second model.

What is saved loads with diffusers and peft alone: `ControlNetModel.from_pretrained(folder)`, or
`pipeline.load_lora_weights(folder)`.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from goodeye.ads.settings import Train
from goodeye.atomic import whole_folder
from goodeye.errors import BadInput

if TYPE_CHECKING:
    from goodeye.modelset import Models

NAME = "align"  # of the adapter in peft
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")  # where diffusers' own LoRA training puts it


class Trained(Protocol):
    """The networks that learn, and their start."""

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """By role: those with parameters that require gradient."""

    def at_start(self) -> Any:
        """A context in which the networks are those of the start; afterwards as before, to the bit. For passes without
        gradient: a graph made before must not be used within."""

    def save(self, folder: Path) -> Path:
        """Writes what was trained below `folder`; returns its place there."""


def adapt(models: "Models", train: Train, rank: int = 64) -> Trained:
    """Makes the model set's networks ready to be trained, in place. rank: of LoRA, alpha is the same."""
    if train == "controlnet":
        return WholeControlNet(models.controlnet)
    return LoRA(models.unet, rank)


@dataclass
class WholeControlNet:
    """Every weight of the ControlNet learns; the start weights lie beside them and are swapped in."""

    network: Any

    def __post_init__(self) -> None:
        self.network.requires_grad_(True)
        self.start: list[Tensor] = []
        for parameter in self.network.parameters():
            self.start.append(parameter.detach().clone())
            parameter.data = parameter.detach().clone()  # both aligned alike: equal weights then give equal bits

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """The ControlNet."""
        return {"controlnet": self.network}

    @contextmanager
    def at_start(self) -> Iterator[None]:
        """The start weights in the network: pointers change places, nothing is copied."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        torch.clear_autocast_cache()  # it holds copies by parameter, and would go on with those from before the swap
        for number, parameter in enumerate(self.network.parameters()):
            parameter.data, self.start[number] = self.start[number], parameter.data

    def save(self, folder: Path) -> Path:
        """folder/controlnet, for ControlNetModel.from_pretrained."""
        with whole_folder(folder / "controlnet") as partial:
            self.network.save_pretrained(partial)
        return folder / "controlnet"


@dataclass
class LoRA:
    """Low-rank additions to the U-Net's attention learn (Hu et al. 2021); the start is the U-Net with them off."""

    network: Any
    rank: int

    def __post_init__(self) -> None:
        from peft import LoraConfig

        if NAME in getattr(self.network, "peft_config", {}):
            self.network.delete_adapters(NAME)
        config = LoraConfig(r=self.rank, lora_alpha=self.rank, target_modules=list(ATTENTION))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # of the down projections; the up projections start at zero
            self.network.add_adapter(config, adapter_name=NAME)

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """The U-Net, of which only the additions require gradient."""
        return {"unet": self.network}

    @contextmanager
    def at_start(self) -> Iterator[None]:
        """The U-Net without the additions."""
        self.network.disable_adapters()
        try:
            yield
        finally:
            self.network.enable_adapters()

    def save(self, folder: Path) -> Path:
        """folder/lora, for a Stable Diffusion pipeline's load_lora_weights."""
        from diffusers import StableDiffusionPipeline
        from peft.utils import get_peft_model_state_dict

        with whole_folder(folder / "lora") as partial:
            layers = get_peft_model_state_dict(self.network, adapter_name=NAME)
            StableDiffusionPipeline.save_lora_weights(partial, unet_lora_layers=layers)
        return folder / "lora"


def put_on(models: "Models", folder: str | Path) -> None:
    """Puts what `align` trained on a model set, in place: its run folder, or the controlnet or lora folder in it.

    Raises BadInput where the folder holds neither.
    """
    place = Path(folder)
    for name in ("controlnet", "lora"):
        if (place / name).is_dir():
            place = place / name
    if (place / "pytorch_lora_weights.safetensors").is_file():
        if NAME in getattr(models.unet, "peft_config", {}):
            models.unet.delete_adapters(NAME)
        models.unet.load_lora_adapter(str(place), prefix="unet", adapter_name=NAME, use_safetensors=True)
        models.unet.requires_grad_(False)
        return
    if not (place / "config.json").is_file() or not list(place.glob("*.safetensors")):
        raise BadInput(f"{folder} holds neither a controlnet nor a lora. Name the run folder of `goodeye ads align`.")
    from diffusers import ControlNetModel

    network = ControlNetModel.from_pretrained(place, use_safetensors=True, torch_dtype=models.dtype)
    models.controlnet = network.to(models.device).eval().requires_grad_(False)
