"""An editor with random weights, small enough to edit a picture in milliseconds."""

import json
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from PIL import Image

from goodeye.edit.module import RewardModule

TEXT = 16  # size of the tiny text encoder's states and of its pooled output


def tiny_unet() -> UNet2DConditionModel:
    """Eight channels in: noisy latents and the picture's."""
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=8,
        out_channels=4,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=TEXT,
        attention_head_dim=4,
        norm_num_groups=4,
    ).eval()


def save_triplets(root: Path, seeds: dict[str, list[int]], size: int = 8) -> Path:
    """InsPix2Pix's folders: of each name and seed an original of that shade and an edited picture 100 lighter."""
    for name, listed in seeds.items():
        (root / name).mkdir(parents=True)
        (root / name / "prompt.json").write_text(json.dumps({"edit": f"make {Path(name).name} blue", "input": "a"}))
        for seed in listed:
            Image.new("RGB", (size, size), (seed, 0, 0)).save(root / name / f"{seed}_0.png")
            Image.new("RGB", (size, size), (100 + seed, 0, 0)).save(root / name / f"{seed}_1.png")
    return root


def save_editor(tiny_set: Path, folder: Path, rewards: bool = True) -> Path:
    """A TOML file that names the tiny set's roles and an editor with random weights, with a reward module that says
    something."""
    unet = tiny_unet()
    unet.save_pretrained(folder / "editor")
    roles = {role: tiny_set.parent / role for role in ("vae", "text_encoder", "tokenizer", "unet", "scheduler")}
    roles["editor"] = folder / "editor"
    if rewards:
        module = RewardModule.beside(unet, TEXT)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
        module.save_pretrained(folder / "rewards")
        roles["rewards"] = folder / "rewards"
    lines = ["[roles]", *(f"{role} = {json.dumps(str(place))}" for role, place in roles.items())]
    toml = folder / "editor.toml"
    toml.write_text("\n".join([*lines, "[edit]", "size = 32", "steps = 3"]) + "\n")
    return toml
