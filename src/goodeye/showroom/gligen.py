"""Training the showroom's layout generator: GLIGEN (Li et al. 2023) on its frozen U-Net, with rendered layouts.

What is trained are the gated attention to the things' tokens and the position net that makes those: 1.4 million
weights, stored alone (`goodeye.synth.draw.save_added`). One picture in ten has neither text nor things, and
one in ten its text alone, so that guidance has something to go by.

As GLIGEN is begun, gates closed and the rest drawn, nothing was learned here in 1,000 steps: among 286 tokens two or
three things drown, and no token knew its own side (`goodeye.synth.placed`). So three things are ours: a code of the
place; gates that begin open, on outputs that begin at zero; and in the first steps, a loss that draws the attention of
each cell to the things in whose boxes it lies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor2_0
from torch import Tensor, nn
from transformers import CLIPTextModel, PreTrainedTokenizerFast

from goodeye.showroom.generator import new_scheduler, noised, tokens
from goodeye.showroom.layout_world import LayoutWorld, layout_world
from goodeye.synth.draw import MOST, Drawing, grounding, is_added, save_added, widened
from goodeye.synth.layout import Layout
from goodeye.synth.placed import placed
from goodeye.training.loop import Loop, Modules, Result, fit, shuffled

SHARDS, HELD_SHARDS = 24, 1  # of 256 layouts
TRAIN, HELD = 21, 22  # worlds
INSIDE = 3.0  # weight of the loss inside of boxes, which fill little of a picture; ours
DRAWING = Drawing(grounded=1.0, prompt="things")
CODE = 0.4  # of the code of the place at the start; what it is added to has .8; ours
GUIDED, GUIDANCE = 300, 0.2  # first steps in which attention is drawn to boxes, and the weight of that; ours
EARLY = 2.0  # more of the noisy timesteps, in which is decided what is where; ours
LOOP = Loop(
    steps=1100,
    lr=1e-3,
    betas=(0.9, 0.99),
    schedule="cosine",
    floor=0.02,
    warmup=50,
    ema=0.99,
    seed=8,
    evaluate_every=200,
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
        return (*noised(clean, self.alphas_bar, self.seed, index, EARLY), ids, objects, inside)


def begun(gated: Any) -> Any:
    """A GLIGEN U-Net whose gates are open and whose attention's last maps are zero, so that it draws as the plain one
    but for the code of the place, and all of it has a gradient that is not lost in a gate."""
    for fuser in _fusers(gated):
        nn.init.constant_(fuser.alpha_attn, 1.0)
        nn.init.constant_(fuser.alpha_dense, 1.0)
        for last in (fuser.attn.to_out[0], fuser.ff.net[2]):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
    return placed(gated, CODE, LOOP.seed)


def _fusers(gated: Any) -> list[Any]:
    return [module for name, module in gated.named_modules() if name.endswith(".fuser")]


class Watched:
    """GLIGEN's attention as diffusers computes it, which also tells how much of each cell's goes to each thing."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []  # of each layer in turn, [N, cells, things], means over heads

    def __call__(self, attn: Any, hidden_states: Tensor, *args: Any, **more: Any) -> Tensor:
        """[N, cells and things, C] to the same."""
        count, tokens, _ = hidden_states.shape
        query, key, value = (
            to(hidden_states).view(count, tokens, attn.heads, -1).transpose(1, 2)
            for to in (attn.to_q, attn.to_k, attn.to_v)
        )
        share = (query @ key.transpose(-1, -2) * attn.scale).softmax(-1)
        self.seen.append(share[:, :, : tokens - MOST, tokens - MOST :].mean(1))
        found: Tensor = attn.to_out[0]((share @ value).transpose(1, 2).reshape(count, tokens, -1))
        return found


def astray(shares: Tensor, boxes: Tensor, masks: Tensor) -> Tensor:
    """How far attention [N, cells, things] is from the things in whose boxes [N, things, 4] a cell lies: the mean over
    such cells of -log of their share, and over the other cells of -log of what no thing gets."""
    side = round(shares.shape[1] ** 0.5)
    at = (torch.arange(side) + 0.5) / side
    left, top, right, bottom = (edge[..., None] for edge in boxes.unbind(-1))
    across, down = (at >= left) & (at <= right), (at >= top) & (at <= bottom)
    within = (down[..., :, None] & across[..., None, :]).flatten(2).transpose(1, 2) * masks[:, None]
    inside = within.amax(-1)
    on, off = (shares * within).sum(-1).clamp(min=1e-4), (1 - (shares * masks[:, None]).sum(-1)).clamp(min=1e-4)
    return -(on.log() * inside).sum() / inside.sum().clamp(min=1) - (off.log() * (1 - inside)).mean()


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
    watched, usual = Watched(), AttnProcessor2_0()

    def watch(now: bool) -> None:
        watched.seen.clear()
        for fuser in _fusers(unet):
            fuser.attn.set_processor(watched if now else usual)

    def loss_of(net: Any, parts: tuple[Any, ...], outside: float, blind: bool = False) -> Tensor:
        x, t, goal, ids, objects, inside = parts
        seen = objects | ({"masks": torch.zeros_like(objects["masks"])} if blind else {})
        with torch.no_grad():
            text = text_encoder(ids)[0]
        v = net(x, t, text, cross_attention_kwargs={"gligen": dict(seen)}).sample
        weight = outside + (INSIDE - outside) * inside if outside else inside
        return ((v - goal).square() * weight).mean() / weight.mean()

    def step(nets: Modules, parts: tuple[Any, ...], number: int) -> dict[str, Tensor]:
        watch(number < GUIDED)
        loss = loss_of(nets["gligen"], parts, 1.0)
        if not watched.seen:
            return {"loss": loss}
        seen, objects = list(watched.seen), parts[4]
        off = torch.stack([astray(one, objects["boxes"], objects["masks"]) for one in seen]).mean()
        watch(False)
        return {"loss": loss + GUIDANCE * off, "astray": off}

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
    gated = begun(widened(plain))
    done = train_gligen(gated, text, data, held, out / "layout_unet", config, batch)
    save_added(gated, weights("layout_unet"), plain, DRAWING)
    return done
