"""Training the showroom's eyes: depth (GLPN), saliency (SegFormer) and CLIP, each of the standard class, made small."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
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

from goodeye.judging.pixels import IMAGENET_MEAN, IMAGENET_STD, Pixels
from goodeye.showroom.generator import tokens
from goodeye.showroom.words import LENGTH
from goodeye.training.loop import Loop, Modules, Result, fit, shuffled

NORMALISE = Pixels(mean=IMAGENET_MEAN, std=IMAGENET_STD)
FARTHEST = 10.0  # GLPN gives distances up to this; nearness is 1 - distance / FARTHEST
QUEUE = 256  # past embeddings that enlarge CLIP's contrast, once the towers have settled
SETTLED = 400  # steps; earlier ones go stale at once and teach the towers to agree on one point
SMOOTHING = 0.1


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


def contrastive(image: Tensor, text: Tensor, past_image: Tensor, past_text: Tensor, temperature: Tensor) -> Tensor:
    """The sum of image-to-text and text-to-image cross-entropies with smoothed targets (search paper: smoothing 0.1,
    a queue of past embeddings as further columns). image, text: [N,D] unit; past_*: [M,D] unit without gradient."""
    n = len(image)
    rows = image @ torch.cat([text, past_text]).T / temperature
    cols = text @ torch.cat([image, past_image]).T / temperature
    goal = torch.arange(n, device=image.device)
    return F.cross_entropy(rows, goal, label_smoothing=SMOOTHING) + F.cross_entropy(
        cols, goal, label_smoothing=SMOOTHING
    )


class Queue(nn.Module):
    """The last `size` pairs of embeddings, oldest first. They change from step to step, so they are buffers: a run that
    is resumed has them again."""

    image: Tensor
    text: Tensor
    count: Tensor

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.register_buffer("image", torch.zeros(size, width))
        self.register_buffer("text", torch.zeros(size, width))
        self.register_buffer("count", torch.zeros((), dtype=torch.long))

    def past(self) -> tuple[Tensor, Tensor]:
        """The image and the text embeddings, [M,D] each, M from 0 to `size`."""
        first = len(self.image) - int(self.count)
        return self.image[first:], self.text[first:]

    @torch.no_grad()
    def push(self, image: Tensor, text: Tensor) -> None:
        """Appends a batch, [N,D] each; what no longer fits is forgotten."""
        for kept, new in ((self.image, image), (self.text, text)):
            kept.copy_(torch.cat([kept, new])[-len(kept) :])
        self.count.add_(len(image)).clamp_(max=len(self.image))


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
    full, short = tokens(tokenizer, captions[0]), tokens(tokenizer, captions[1])

    def data(index: int) -> tuple[Tensor, Tensor]:
        ids, rng = sorted(items(index)), np.random.default_rng((config.seed, index))
        words = torch.stack([full[i] if rng.random() < 0.6 else short[i] for i in ids])
        return torch.from_numpy(images[ids]).float() / 255, words

    def embed(nets: Modules, x: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        net: Any = nets["clip"]
        mask = (ids != tokenizer.pad_token_id).long()
        image = net.get_image_features(pixel_values=NORMALISE(x)).pooler_output
        text = net.get_text_features(input_ids=ids, attention_mask=mask).pooler_output
        return F.normalize(image, dim=-1), F.normalize(text, dim=-1)

    queue = Queue(QUEUE, clip.config.projection_dim)

    def step(nets: Modules, pair: tuple[Tensor, Tensor], number: int) -> Tensor:
        image, text = embed(nets, *pair)
        temperature = (-clip.logit_scale).exp().clamp(0.01, 1)
        loss = contrastive(image, text, *queue.past(), temperature)
        if number >= SETTLED:
            queue.push(image, text)
        return loss

    def evaluate(number: int) -> dict[str, float]:
        x, ids = torch.from_numpy(held[0]).float() / 255, tokens(tokenizer, held[1])
        image, text = embed({"clip": clip}, x, ids)
        best = (text @ image.T).argsort(descending=True, dim=1)
        goal = torch.arange(len(x))[:, None]
        return {f"recall_at_{k}": float((best[:, :k] == goal).any(1).float().mean()) for k in (1, 5)}

    modules, about = {"clip": clip, "queue": queue}, {"queue": QUEUE}
    return fit(modules, step, data, config, run_dir, about=about, evaluate=evaluate, resume=True, label="CLIP")
