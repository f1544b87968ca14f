"""Training the showroom's generator: text encoder and U-Net together, then the canny ControlNet on the frozen U-Net."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import ControlNetModel, DDIMScheduler, UNet2DConditionModel
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast

from goodeye.ads.canvas import edges
from goodeye.showroom.vae import LATENTS
from goodeye.showroom.words import LENGTH
from goodeye.training.loop import Loop, Modules, Result, fit, shuffled

WIDTHS = (64, 96, 128)
TEXT_WIDTH = 128
CANNY = (100, 200)


def new_scheduler() -> DDIMScheduler:
    """The noise schedule: Stable Diffusion's betas rescaled to end in pure noise (Lin et al. 2023, algorithm 1), since
    at 16x16 latents the unscaled ones leak the picture's mean colour; v-prediction, trailing steps."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=True,
        timestep_spacing="trailing",
        steps_offset=0,
        rescale_betas_zero_snr=True,
    )


def new_text_encoder(tokenizer: PreTrainedTokenizerFast) -> CLIPTextModel:
    """An untrained CLIP text model of the showroom's size."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=LENGTH,
            projection_dim=TEXT_WIDTH,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )


def new_unet() -> UNet2DConditionModel:
    """An untrained U-Net of the showroom's size on 16x16 latents."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=LATENTS,
        out_channels=LATENTS,
        block_out_channels=WIDTHS,
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def tokens(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> Tensor:
    """Token numbers [N, LENGTH] as diffusers' pipelines make them (padded and cut to the full length)."""
    return tokenizer(
        list(texts), padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt"
    ).input_ids


class Captions:
    """Captions of the index-th batch: mostly whole, some short, one in ten empty (for classifier-free guidance)."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerFast, full: Sequence[str], short: Sequence[str], seed: int
    ) -> None:
        self.full, self.short, self.empty = (
            tokens(tokenizer, full),
            tokens(tokenizer, short),
            tokens(tokenizer, [""])[0],
        )
        self.seed = seed

    def __call__(self, ids: Sequence[int], index: int) -> Tensor:
        draw = np.random.default_rng((self.seed, index, 1)).random(len(ids))
        return torch.stack(
            [
                self.empty if d < 0.1 else self.short[i] if d < 0.4 else self.full[i]
                for i, d in zip(ids, draw, strict=True)
            ]
        )


def noised(
    latents: Tensor, alphas_bar: Tensor, seed: int, index: int, early: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    """x_t, t and the v target for latents [N,C,h,w]; noise and t are functions of (seed, index).

    early: above 1, timesteps are not drawn evenly, but more of the early, noisy ones: as 1 - u ** early of an even u.
    """
    gen = torch.Generator().manual_seed(seed * 1_000_003 + index)
    noise = torch.randn(latents.shape, generator=gen)
    t = torch.randint(0, len(alphas_bar), (len(latents),), generator=gen)
    if early != 1:
        t = (
            ((1 - torch.rand(len(latents), generator=gen) ** early) * len(alphas_bar))
            .long()
            .clamp(0, len(alphas_bar) - 1)
        )
    a, s = alphas_bar[t].sqrt()[:, None, None, None], (1 - alphas_bar[t]).sqrt()[:, None, None, None]
    return a * latents + s * noise, t, a * noise - s * latents


def train_unet(
    unet: UNet2DConditionModel,
    text_encoder: CLIPTextModel,
    tokenizer: PreTrainedTokenizerFast,
    latents: np.ndarray,
    captions: tuple[Sequence[str], Sequence[str]],
    held: tuple[np.ndarray, Sequence[str]],
    run_dir: Path,
    config: Loop,
    batch: int,
) -> Result:
    """Text encoder and U-Net from nothing on latents [N,16,16,16]; v-prediction loss, 10 % empty captions."""
    alphas_bar = new_scheduler().alphas_cumprod
    items, words = shuffled(len(latents), batch, config.seed), Captions(tokenizer, *captions, config.seed)

    def data(index: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        ids = sorted(items(index))
        return (*noised(torch.from_numpy(latents[ids]).float(), alphas_bar, config.seed, index), words(ids, index))

    def loss_of(nets: Modules, x: Tensor, t: Tensor, goal: Tensor, ids: Tensor) -> Tensor:
        return F.mse_loss(nets["unet"](x, t, nets["text_encoder"](ids)[0]).sample, goal)

    def step(nets: Modules, parts: tuple[Tensor, Tensor, Tensor, Tensor], number: int) -> Tensor:
        return loss_of(nets, *parts)

    z, held_ids = torch.from_numpy(held[0]).float(), tokens(tokenizer, held[1])

    def evaluate(number: int) -> dict[str, float]:
        nets = {"unet": unet, "text_encoder": text_encoder}
        losses = [
            loss_of(nets, *noised(z[i : i + 64], alphas_bar, 99, i), held_ids[i : i + 64]) for i in range(0, len(z), 64)
        ]
        return {"held_loss": float(torch.stack(losses).mean())}

    return fit(
        {"unet": unet, "text_encoder": text_encoder},
        step,
        data,
        config,
        run_dir,
        evaluate=evaluate,
        resume=True,
        label="U-Net",
    )


def train_controlnet(
    controlnet: ControlNetModel,
    unet: UNet2DConditionModel,
    text_encoder: CLIPTextModel,
    tokenizer: PreTrainedTokenizerFast,
    latents: np.ndarray,
    products: np.ndarray,
    captions: tuple[Sequence[str], Sequence[str]],
    run_dir: Path,
    config: Loop,
    batch: int,
) -> Result:
    """The canny ControlNet (Zhang et al. 2023) on the frozen U-Net; control = edges of the product alone."""
    unet.requires_grad_(False)
    text_encoder.requires_grad_(False)
    alphas_bar = new_scheduler().alphas_cumprod
    items, words = shuffled(len(latents), batch, config.seed), Captions(tokenizer, *captions, config.seed)

    def data(index: int) -> tuple[Tensor, ...]:
        ids = sorted(items(index))
        control = np.stack([edges(products[i].transpose(1, 2, 0), CANNY) for i in ids]).astype(np.float32)
        x, t, goal = noised(torch.from_numpy(latents[ids]).float(), alphas_bar, config.seed, index)
        return x, t, goal, words(ids, index), torch.from_numpy(control)[:, None].expand(-1, 3, -1, -1)

    def step(nets: Modules, parts: tuple[Tensor, ...], number: int) -> Tensor:
        x, t, goal, ids, control = parts
        with torch.no_grad():
            text = text_encoder(ids)[0]
        down, mid = nets["controlnet"](x, t, text, control, return_dict=False)
        v = unet(x, t, text, down_block_additional_residuals=down, mid_block_additional_residual=mid).sample
        return F.mse_loss(v, goal)

    return fit({"controlnet": controlnet}, step, data, config, run_dir, resume=True, label="ControlNet")
