"""A CLIP that tells what a region of a picture shows: an adapter on the showroom's CLIP, by views of rendered layouts.

The showroom's CLIP saw single products in the middle of a scene, so it takes a small thing for anything and does not
know half of the words. Here it sees regions as `goodeye.synth.clis_i` shows them, cut out or marked in their
surroundings, and learns to tell the wanted category from all others and its colour from other colours. A fifth of each
batch are whole pictures with their captions, by the contrastive loss. The CLIP itself stays what it is, for all else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from goodeye.judging.clip import Clip
from goodeye.lora import wrapped
from goodeye.search.towers import contrastive
from goodeye.showroom import layouts as L
from goodeye.showroom.halves import halve
from goodeye.showroom.layout_world import LayoutWorld, layout_world
from goodeye.showroom.perception import NORMALISE
from goodeye.showroom.products import COLOURS
from goodeye.synth.clis_i import cut_out, marked, square
from goodeye.synth.layout import Thing, with_article
from goodeye.training.loop import Loop, Modules, Result, fit, shuffled

SHARDS, HELD_SHARDS = 24, 1
TRAIN, HELD = 21, 22  # the worlds of the layout generator
SIDE = 128
KINDS = [with_article(name) for name in L.CATEGORIES]
LAYERS = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2", "visual_projection", "text_projection"]
RANK, WORDS_RANK, KEPT = 5, 2, 4  # of the picture's tower, of the text's, and of the first as it ships
BATCH, WHOLES = 64, 16  # views of regions, and whole pictures
LOOP = Loop(
    steps=2400,
    lr=3e-3,
    schedule="cosine",
    floor=0.02,
    warmup=50,
    ema=0.99,
    weight_decay=0.0,
    clip=1.0,
    seed=9,
    evaluate_every=200,
    save_seconds=120,
    log_every=100,
)


@dataclass(frozen=True, eq=False)
class Views:
    """Regions: pixels [N, 3, 128, 128] in [0, 1], each one's place in KINDS and in COLOURS."""

    pixels: Tensor
    kind: Tensor
    colour: Tensor


def views(world: LayoutWorld, rows: Sequence[int], rng: np.random.Generator) -> Views:
    """One thing of each layout, cut out or marked; a little lighter or darker, blurred and noisy, as generators are."""
    pixels, things = [], list[Thing]()
    for row, image in zip(rows, world.images(rows), strict=True):
        thing = world.layouts[row].things[int(rng.integers(len(world.layouts[row].things)))]
        shown = torch.from_numpy(image).float() / 255
        view = square(marked(shown, thing.box) if rng.random() < 0.6 else cut_out(shown, thing.box), SIDE)
        if rng.random() < 0.5:
            width = int(rng.integers(1, 3))
            view = F.avg_pool2d(F.pad(view, [width] * 4, mode="replicate"), 2 * width + 1, 1)
        noise = torch.from_numpy(rng.normal(0, rng.uniform(0, 0.05), view.shape).astype(np.float32))
        pixels.append((view * float(rng.uniform(0.8, 1.2)) + noise).clamp(0, 1))
        things.append(thing)
    kinds = [L.CATEGORIES.index(thing.category) for thing in things]
    colours = [list(COLOURS).index(thing.attributes[0]) for thing in things]
    return Views(torch.stack(pixels), torch.tensor(kinds), torch.tensor(colours))


def adapted(clip: Clip) -> Any:
    """The CLIP's model wrapped by peft, in single precision: what is added, to both towers, alone learns."""
    from peft import LoraConfig

    ranks = {".*text.*": WORDS_RANK}
    config = LoraConfig(r=RANK, lora_alpha=RANK, target_modules=LAYERS, rank_pattern=ranks, alpha_pattern=ranks)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # of the down projections; the up projections start at zero
        return wrapped(clip.model.float(), config)


class Towers(torch.nn.Module):
    """A Clip behind one forward. seen, pictures: pixels in [0, 1]; captions: of the pictures."""

    def __init__(self, clip: Clip) -> None:
        super().__init__()
        self.clip, self.model = clip, clip.model
        self.colours = [with_article(f"{colour} {name}") for name in L.CATEGORIES for colour in COLOURS]

    def forward(self, seen: Views, pictures: Tensor, captions: Sequence[str]) -> dict[str, Tensor]:
        """The losses, and how often category, colour and caption are right."""
        pixels = NORMALISE(torch.cat([seen.pixels, pictures]))
        units = F.normalize(self.model.get_image_features(pixel_values=pixels).pooler_output.float(), dim=-1)
        region, whole = units[: len(seen.kind)], units[len(seen.kind) :]
        texts, said = self.clip.embed_texts([*KINDS, *self.colours]), self.clip.embed_texts(captions)
        scale = self.model.logit_scale.exp().clamp(max=100).squeeze()
        of_kind = scale * region @ texts[: len(KINDS)].T
        own = texts[len(KINDS) :].reshape(len(KINDS), len(COLOURS), -1)[seen.kind]  # of each view's own category
        of_colour = scale * torch.einsum("nd,ncd->nc", region, own)
        none, right = texts[:0], torch.arange(len(whole))
        return {
            "kind": F.cross_entropy(of_kind, seen.kind),
            "colour": F.cross_entropy(of_colour, seen.colour),
            "whole": contrastive(whole, said, none, none, 1 / scale, smoothing=0) / 2,
            "kind_right": (of_kind.argmax(1) == seen.kind).float().mean(),
            "colour_right": (of_colour.argmax(1) == seen.colour).float().mean(),
            "whole_right": ((whole @ said.T).argmax(1) == right).float().mean(),
        }


def train_regions(
    clip: Clip, world: LayoutWorld, held: LayoutWorld, run_dir: Path, config: Loop = LOOP, batch: int = BATCH
) -> Result:
    """Trains what `adapted` has put into the clip, in place. batch: of views; a quarter as many whole pictures.

    Measured on held-out views (`held_kind`, `held_colour`) and on captions of held-out pictures among 63 others
    (`held_whole`).
    """
    wholes = max(2, batch * WHOLES // BATCH)
    rows, towers = shuffled(len(world), batch + wholes, config.seed), Towers(clip)

    def data(index: int) -> tuple[Any, ...]:
        ids, rng = rows(index), np.random.default_rng((config.seed, index))
        seen = views(world, ids[:batch], rng)
        return seen.pixels, seen.kind, seen.colour, *_whole(world, ids[batch:])

    def step(nets: Modules, parts: tuple[Any, ...], number: int) -> dict[str, Tensor]:
        found: dict[str, Tensor] = nets["clip"](Views(*parts[:3]), *parts[3:])
        return found | {"loss": found["kind"] + found["colour"] + 0.5 * found["whole"]}

    @torch.no_grad()
    def evaluate(number: int) -> dict[str, float]:
        found = []
        for first in range(0, len(held), 64):
            some = range(first, min(first + 64, len(held)))
            found.append(towers(views(held, some, np.random.default_rng(first)), *_whole(held, some)))
        return {f"held_{name}": float(torch.stack([one[f"{name}_right"] for one in found]).mean())
                for name in ("kind", "colour", "whole")}  # fmt: skip

    return fit({"clip": towers}, step, data, config, run_dir, evaluate=evaluate, resume=True, label="regions")


def _whole(world: LayoutWorld, rows: Sequence[int]) -> tuple[Tensor, list[str]]:
    return torch.from_numpy(world.images(rows)).float() / 255, [world.layouts[row].caption for row in rows]


def make(
    weights: Callable[[str], Path],
    out: Path,
    say: Callable[[str], None] = print,
    config: Loop = LOOP,
    shards: int = SHARDS,
    batch: int = BATCH,
) -> Result:
    """The role region of a build, an adapter on its finished clip; goes on after a stop. weights: a role's folder."""
    clip = Clip.from_pretrained(weights("clip"))
    world, held = (
        layout_world(out / "layouts" / str(seed), seed, count, say)
        for seed, count in ((TRAIN, shards), (HELD, HELD_SHARDS))
    )
    network = adapted(clip)
    done = train_regions(clip, world, held, out / "region", config, batch)
    network.save_pretrained(str(out / "region" / "adapter"))
    halve(out / "region" / "adapter", weights("region"), "../clip", KEPT)
    return done
