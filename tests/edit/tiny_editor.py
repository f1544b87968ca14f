"""An editor with random weights, small enough to edit a picture in milliseconds."""

import json
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from PIL import Image

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
