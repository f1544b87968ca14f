"""What alignment trains of a two-tower model: every weight, low-rank additions to the attention, or the projections."""

from typing import TYPE_CHECKING, Literal

import torch

from goodeye.errors import BadInput

if TYPE_CHECKING:
    from goodeye.judging.clip import Clip

Train = Literal["full", "lora", "projection"]

ATTENTION = ["q_proj", "k_proj", "v_proj", "out_proj"]
PROJECTIONS = ("visual_projection", "text_projection")
TEMPERATURE = "logit_scale"


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
