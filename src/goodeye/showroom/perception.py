"""Training the showroom's eyes: depth (GLPN), saliency (SegFormer) and CLIP, each of the standard class, made small."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import (
    CLIPConfig,
    CLIPModel,
    GLPNConfig,
    GLPNForDepthEstimation,
    PreTrainedTokenizerFast,
    SegformerConfig,
    SegformerForSemanticSegmentation,
)

from goodeye.judging.clip import Clip
from goodeye.judging.pixels import IMAGENET_MEAN, IMAGENET_STD, Pixels
from goodeye.search.towers import Pairs, fit_towers, recall_of
from goodeye.showroom.words import LENGTH
from goodeye.training.loop import Loop, Modules, Result, fit, shuffled

NORMALISE = Pixels(mean=IMAGENET_MEAN, std=IMAGENET_STD)
FARTHEST = 10.0  # GLPN gives distances up to this; nearness is 1 - distance / FARTHEST
QUEUE = 256  # past embeddings that enlarge CLIP's contrast, once the towers have settled
SETTLED = 400  # steps; earlier ones go stale at once and teach the towers to agree on one point


def new_depth() -> GLPNForDepthEstimation:
    """An untrained depth model, half a million weights."""
    return GLPNForDepthEstimation(
        GLPNConfig(
            hidden_sizes=[16, 32, 64, 96],
            depths=[1, 1, 1, 1],
            num_attention_heads=[1, 2, 4, 4],
            decoder_hidden_size=24,
            sr_ratios=[8, 4, 2, 1],
            mlp_ratios=[2, 2, 2, 2],
            max_depth=int(FARTHEST),
            drop_path_rate=0.0,
        )
    )


def new_saliency() -> SegformerForSemanticSegmentation:
    """An untrained saliency model with logits at half the picture's size."""
    return SegformerForSemanticSegmentation(
        SegformerConfig(
            hidden_sizes=[16, 32, 64, 96],
            depths=[1, 1, 1, 1],
            num_attention_heads=[1, 2, 4, 4],
            decoder_hidden_size=48,
            patch_sizes=[5, 3, 3, 3],
            strides=[2, 2, 2, 2],
            sr_ratios=[16, 8, 4, 2],
            mlp_ratios=[2, 2, 2, 2],
            num_labels=1,
            drop_path_rate=0.0,
            classifier_dropout_prob=0.0,
            semantic_loss_ignore_index=255,
        )
    )


def new_clip(tokenizer: PreTrainedTokenizerFast) -> CLIPModel:
    """An untrained CLIP: a ViT of 16-pixel patches and a text model, 96 common dimensions."""
    special = {f"{n}_token_id": getattr(tokenizer, f"{n}_token_id") for n in ("pad", "bos", "eos")}
    tower = {"hidden_size": 128, "intermediate_size": 384, "num_attention_heads": 4}
    return CLIPModel(
        CLIPConfig(
            text_config={
                **tower,
                **special,
                "vocab_size": len(tokenizer),
                "num_hidden_layers": 3,
                "max_position_embeddings": LENGTH,
            },
            vision_config={**tower, "num_hidden_layers": 4, "image_size": 128, "patch_size": 16},
            projection_dim=96,
            logit_scale_init_value=float(np.log(1 / 0.05)),
        )
    )


def train_map(
    model: GLPNForDepthEstimation | SegformerForSemanticSegmentation,
    images: np.ndarray,
    maps: np.ndarray,
    held: tuple[np.ndarray, np.ndarray],
    run_dir: Path,
    config: Loop,
    batch: int,
) -> Result:
    """Depth by L1, saliency by binary cross-entropy, on the renderer's maps (uint8 [N,1,H,W]);
    flips and light changes."""
    items = shuffled(len(images), batch, config.seed)
    depth = isinstance(model, GLPNForDepthEstimation)

    def data(index: int) -> tuple[Tensor, Tensor]:
        ids, rng = sorted(items(index)), np.random.default_rng((config.seed, index))
        x, y = torch.from_numpy(images[ids]).float() / 255, torch.from_numpy(maps[ids]).float() / 255
        if rng.random() < 0.5:
            x, y = x.flip(-1), y.flip(-1)
        gain, noise = (
            torch.from_numpy(rng.uniform(0.75, 1.25, (len(ids), 3, 1, 1)).astype(np.float32)),
            rng.uniform(0, 0.04),
        )
        gen = torch.Generator().manual_seed(index)
        return (x * gain + noise * torch.randn(x.shape, generator=gen)).clamp(0, 1), y

    def prediction(nets: Modules, x: Tensor) -> Tensor:
        if depth:
            return 1 - nets["model"](NORMALISE(x)).predicted_depth[:, None] / FARTHEST
        return F.interpolate(
            nets["model"](NORMALISE(x)).logits, size=x.shape[-2:], mode="bilinear", align_corners=False
        )

    def step(nets: Modules, pair: tuple[Tensor, Tensor], number: int) -> Tensor:
        out, goal = prediction(nets, pair[0]), pair[1]
        return F.l1_loss(out, goal) if depth else F.binary_cross_entropy_with_logits(out, goal)

    def evaluate(number: int) -> dict[str, float]:
        x, y = torch.from_numpy(held[0]).float() / 255, torch.from_numpy(held[1]).float() / 255
        out = torch.cat([prediction({"model": model}, part) for part in x.split(32)])
        return {"held_l1": float(F.l1_loss(out if depth else out.sigmoid(), y))}

    return fit(
        {"model": model},
        step,
        data,
        config,
        run_dir,
        evaluate=evaluate,
        resume=True,
        label="depth" if depth else "saliency",
    )


def train_clip(
    clip: CLIPModel,
    tokenizer: PreTrainedTokenizerFast,
    images: np.ndarray,
    captions: tuple[Sequence[str], Sequence[str]],
    held: tuple[np.ndarray, Sequence[str]],
    run_dir: Path,
    config: Loop,
    batch: int,
) -> Result:
    """CLIP by the contrastive loss on scenes and their captions (whole or short)."""
    items = shuffled(len(images), batch, config.seed)
    whole = Clip(clip, tokenizer, NORMALISE)

    def data(index: int) -> Pairs:
        ids, rng = sorted(items(index)), np.random.default_rng((config.seed, index))
        words = [captions[0][i] if rng.random() < 0.6 else captions[1][i] for i in ids]
        return Pairs(NORMALISE(torch.from_numpy(images[ids]).float() / 255), words)

    def evaluate(number: int) -> dict[str, float]:
        pictures = whole.embed_images(torch.from_numpy(held[0]).float() / 255)
        return recall_of(pictures, whole.embed_texts(held[1]), torch.arange(len(pictures)))

    return fit_towers(
        whole, data, config, run_dir, queue=QUEUE, settled=SETTLED, evaluate=evaluate, resume=True, label="CLIP"
    )
