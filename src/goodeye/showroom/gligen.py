"""Training the showroom's layout generator: GLIGEN (Li et al. 2023) on its frozen U-Net, with rendered layouts.

What is trained are the gated attention to the things' tokens and the position net that makes those: 1.4 million
weights, stored alone (`goodeye.synth.draw.save_added`). One picture in ten has neither text nor things, and
one in ten its text alone, so that guidance has something to go by.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, PreTrainedTokenizerFast

from goodeye.showroom.generator import new_scheduler, noised, tokens
from goodeye.showroom.layout_world import LayoutWorld, layout_world
from goodeye.synth.draw import Drawing, grounding, is_added, save_added, widened
from goodeye.synth.layout import Layout
from goodeye.training.loop import Loop, Modules, Result, fit, shuffled

SHARDS, HELD_SHARDS = 24, 1  # of 256 layouts
TRAIN, HELD = 21, 22  # worlds
INSIDE = 3.0  # weight of the loss inside of boxes, which fill little of a picture; ours
DRAWING = Drawing(grounded=1.0, prompt="things")
LOOP = Loop(
    steps=2500,
    lr=5e-4,
    betas=(0.9, 0.99),
    schedule="cosine",
    floor=0.02,
    warmup=100,
    ema=0.995,
    seed=8,
    evaluate_every=500,
    save_seconds=120,
    log_every=20,
)


class Grounded:
    """Batches of a world of layouts: latents, texts, boxes; a function of the seed and the batch's number."""

    def __init__(
        self,
        world: LayoutWorld,
        latents: np.ndarray,
        text_encoder: CLIPTextModel,
        tokenizer: PreTrainedTokenizerFast,
        seed: int,
    ) -> None:
        self.world, self.latents, self.seed = world, latents, seed
        self.prompts = tokens(tokenizer, [world.prompt(row) for row in range(len(world))])
        self.empty = tokens(tokenizer, [""])[0]
        self.alphas_bar = new_scheduler().alphas_cumprod
        words = sorted({thing.text for one in world.layouts for thing in one.things})
        with torch.no_grad():
            encoded = tokenizer(words, padding=True, return_tensors="pt")
            self.pooled = dict(zip(words, text_encoder(encoded.input_ids).pooler_output, strict=True))

    def objects(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """What the position net takes."""
        return grounding([self.world.layouts[row] for row in rows], self._embed)

    def _embed(self, texts: Sequence[str]) -> Tensor:
        return torch.stack([self.pooled[text] for text in texts])

    def batch(self, rows: Sequence[int], index: int, drop: bool = True) -> tuple[Any, ...]:
        """Noisy latents, timesteps, the v target, token numbers, objects, and where things are [N, 1, h, w]."""
        draw = np.random.default_rng((self.seed, index, 2)).random(len(rows)) if drop else np.ones(len(rows))
        objects = self.objects(rows)
        objects["masks"] = objects["masks"] * torch.from_numpy(draw >= 0.2).float()[:, None]
        ids = torch.stack([self.empty if d < 0.1 else self.prompts[row] for row, d in zip(rows, draw, strict=True)])
        clean = torch.from_numpy(np.stack([self.latents[row] for row in rows])).float()
        inside = torch.stack([_inside(self.world.layouts[row], clean.shape[-1]) for row in rows])
        return (*noised(clean, self.alphas_bar, self.seed, index), ids, objects, inside)


def _inside(layout: Layout, side: int) -> Tensor:
    """[1, side, side]: 1 where a box of the layout is."""
    found = torch.zeros(1, side, side)
    for thing in layout.things:
        x, y, width, height = (side * value for value in thing.box)
        found[0, int(y) : max(int(y) + 1, round(y + height)), int(x) : max(int(x) + 1, round(x + width))] = 1
    return found


def train_gligen(
    unet: UNet2DConditionModel,
    text_encoder: CLIPTextModel,
    data: Grounded,
    held: Grounded,
    run_dir: Path,
    config: Loop = LOOP,
    batch: int = 32,
) -> Result:
    """Trains what `widened` added to the U-Net, by the v-prediction loss; the rest stays frozen.

    Held-out losses are those inside of boxes: `held_loss`, and `held_blind`, of the same U-Net that sees no things.
    """
    unet.requires_grad_(False)
    text_encoder.requires_grad_(False)
    for name, parameter in unet.named_parameters():
        parameter.requires_grad_(is_added(name))
    items = shuffled(len(data.world), batch, config.seed)

    def loss_of(net: Any, parts: tuple[Any, ...], outside: float, blind: bool = False) -> Tensor:
        x, t, goal, ids, objects, inside = parts
        seen = objects | ({"masks": torch.zeros_like(objects["masks"])} if blind else {})
        with torch.no_grad():
            text = text_encoder(ids)[0]
        v = net(x, t, text, cross_attention_kwargs={"gligen": dict(seen)}).sample
        weight = outside + (INSIDE - outside) * inside if outside else inside
        return ((v - goal).square() * weight).mean() / weight.mean()

    def step(nets: Modules, parts: tuple[Any, ...], number: int) -> Tensor:
        return loss_of(nets["gligen"], parts, 1.0)

    def evaluate(number: int) -> dict[str, float]:
        rows = range(0, len(held.world), 2)
        parts = [held.batch(rows[at : at + 32], at, drop=False) for at in range(0, len(rows), 32)]
        found = {
            name: [loss_of(unet, one, 0.0, blind) for one in parts]
            for name, blind in (("held_loss", False), ("held_blind", True))
        }
        return {name: float(torch.stack(values).mean()) for name, values in found.items()}

    return fit(
        {"gligen": unet}, step, lambda index: data.batch(sorted(items(index)), index), config, run_dir,
        evaluate=evaluate, resume=True, label="GLIGEN",
    )  # fmt: skip


def make(
    weights: Callable[[str], Path],
    out: Path,
    fit_on: np.ndarray,
    say: Callable[[str], None] = print,
    config: Loop = LOOP,
    shards: int = SHARDS,
    batch: int = 32,
) -> Result:
    """The role layout_unet of a build, from its finished unet, text_encoder and tokenizer; goes on after a stop.

    weights: the folder of a role. fit_on: pictures [N, 3, 128, 128] uint8 that the VAE's encoder was solved on.
    """
    plain = UNet2DConditionModel.from_pretrained(weights("unet"), torch_dtype=torch.float32)
    text = CLIPTextModel.from_pretrained(weights("text_encoder"), dtype=torch.float32)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(weights("tokenizer"))
    worlds = [
        layout_world(out / "layouts" / str(seed), seed, count, say)
        for seed, count in ((TRAIN, shards), (HELD, HELD_SHARDS))
    ]
    data, held = (
        Grounded(one, one.latents(fit_on), text, tokenizer, config.seed + at) for at, one in enumerate(worlds)
    )
    torch.manual_seed(config.seed)
    gated = widened(plain)
    done = train_gligen(gated, text, data, held, out / "layout_unet", config, batch)
    save_added(gated, weights("layout_unet"), plain, DRAWING)
    return done
