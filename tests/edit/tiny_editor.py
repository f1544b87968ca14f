"""An editor with random weights, small enough to edit a picture in milliseconds."""

import torch
from diffusers import UNet2DConditionModel

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
