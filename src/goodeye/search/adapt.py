"""What alignment trains of a two-tower model: every weight, low-rank additions to the attention, or the projections."""

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from goodeye.atomic import whole_file
from goodeye.errors import BadInput

if TYPE_CHECKING:
    from goodeye.judging.clip import Clip

Train = Literal["full", "lora", "projection"]

ATTENTION = ["q_proj", "k_proj", "v_proj", "out_proj"]
PROJECTIONS = ("visual_projection", "text_projection")
TEMPERATURE = "logit_scale"
ADAPTER = "adapter_model.safetensors"


def make_trainable(clip: "Clip", train: Train, rank: int = 16, temperature: bool = True) -> int:
    """Makes the model ready to be trained, in place, in single precision; returns how many numbers will learn.

    rank: of LoRA (Hu et al. 2021), whose alpha is the same. temperature: whether it learns, too, where all do.
    Raises BadInput where the model has no projections to train alone.
    """
    model = clip.model.float().requires_grad_(False)
    if train == "lora":
        from peft import LoraConfig, inject_adapter_in_model

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # of the down projections; the up projections start at zero
            inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=ATTENTION), model)
    elif train == "projection":
        wanted = [one for name, one in model.named_parameters() if name.split(".")[0] in PROJECTIONS]
        if len(wanted) < len(PROJECTIONS):
            raise BadInput(f"a {model.config.model_type} has no projections of its own. Train it full, or by lora.")
        for one in wanted:
            one.requires_grad_(True)
    else:
        model.requires_grad_(True)
        for name, one in model.named_parameters():
            if name in (TEMPERATURE, "logit_bias"):
                one.requires_grad_(temperature and name == TEMPERATURE)
    return sum(one.numel() for one in model.parameters() if one.requires_grad)


def layer_shares(clip: "Clip", decay: float) -> Callable[[str], float]:
    """Layer decay (Clark et al. 2020, ELECTRA; search paper, 0.9): of a tower of n layers, layer i (from 0) learns at
    decay^(n - i) of the rate, the embeddings at decay^(n + 1), what comes after the layers at all of it.

    Returns the share by a parameter's name.
    """
    config = clip.model.config
    layers = {
        "vision_model": config.vision_config.num_hidden_layers,
        "text_model": config.text_config.num_hidden_layers,
    }

    def share(name: str) -> float:
        tower = next((tower for tower in layers if f"{tower}." in name), "")
        layer = re.search(r"\.layers\.(\d+)\.", name)
        if tower and layer:
            return decay ** (layers[tower] - int(layer[1]))
        early = tower and (".embeddings." in name or ".pre_layrnorm." in name)
        return decay ** (layers[tower] + 1) if early else 1.0

    return share


def merged(clip: "Clip") -> "Clip":
    """The trained model as a Clip of its own, frozen, with LoRA's additions in the weights they belong to."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    from goodeye.judging.clip import Clip

    for name, module in list(clip.model.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge()
            parent, _, last = name.rpartition(".")
            setattr(clip.model.get_submodule(parent), last, module.get_base_layer())
    clip.model.__dict__.pop("peft_config", None)
    return Clip(clip.model, clip.tokenizer, clip.pixels, licence=clip.licence)


# --- adapters: what was learned, apart from the model


def save_adapter(start: "Clip", trained: "Clip", folder: Path) -> Path:
    """Writes what the projections of `trained` have learned since `start` as a LoRA adapter in peft's layout, in half
    precision: W' - W = B A by its singular values. It loads by `adapted` and in plain peft.

    Raises ValueError where more than the projections has changed.
    """
    from peft import LoraConfig
    from safetensors.torch import save_file

    before, after = start.model.state_dict(), trained.model.state_dict()
    weights = [f"{name}.weight" for name in PROJECTIONS]
    others = [name for name in after if name not in weights and not torch.equal(after[name], before[name])]
    if others:
        raise ValueError(f"{others[0]} has changed, and an adapter holds the projections alone")
    tensors: dict[str, Tensor] = {}
    for name in PROJECTIONS:
        change = (after[f"{name}.weight"] - before[f"{name}.weight"]).double()
        left, size, right = torch.linalg.svd(change, full_matrices=False)
        root = size.sqrt()
        where = f"base_model.model.{name}"
        tensors[f"{where}.lora_A.weight"] = (root[:, None] * right).half().contiguous()
        tensors[f"{where}.lora_B.weight"] = (left * root).half().contiguous()
    ranks = {name: tensors[f"base_model.model.{name}.lora_A.weight"].shape[0] for name in PROJECTIONS}
    rank = max(ranks.values())
    config = LoraConfig(
        r=rank,
        lora_alpha=rank,
        rank_pattern=ranks,
        alpha_pattern=ranks,
        target_modules=list(PROJECTIONS),
        base_model_name_or_path=start.version,
        inference_mode=True,
    )
    folder.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(folder)
    with whole_file(folder / ADAPTER) as temporary:
        save_file(tensors, str(temporary))
    return folder


def adapted(clip: "Clip", folder: Path) -> "Clip":
    """A model with an adapter of `save_adapter` in its weights; `clip` stays as it is. Raises BadInput where the
    adapter is damaged or belongs to another model."""
    from peft import PeftConfig, inject_adapter_in_model, load_peft_weights, set_peft_model_state_dict
    from safetensors import SafetensorError

    from goodeye.judging.clip import Clip

    model = copy.deepcopy(clip.model)
    try:
        config = PeftConfig.from_pretrained(str(folder))
        weights = load_peft_weights(str(folder), device="cpu")
    except (OSError, ValueError, SafetensorError) as error:
        raise BadInput(f"{folder} is no adapter that can be read ({error}). Train it anew.") from error
    if config.base_model_name_or_path != clip.version:
        raise BadInput(
            f"{folder} was trained on another CLIP ({config.base_model_name_or_path}, here is {clip.version}). Name "
            "that one's model set, or train it anew."
        )
    inject_adapter_in_model(config, model)
    named = {name.removeprefix("base_model.model."): value.float() for name, value in weights.items()}
    set_peft_model_state_dict(model, named)
    return merged(Clip(model, clip.tokenizer, clip.pixels, licence=clip.licence))
