"""A CLIP that tells what a region of a picture shows: the showroom's CLIP trained on with views of rendered layouts.

The showroom's CLIP saw single products in the middle of a scene, and so takes a correct small thing for anything. Here
it sees regions as `goodeye.synth.clis_i` shows them, cut out or marked in their surroundings, and learns to tell the
wanted category from all others and its colour from other colours. Half of each batch are scenes with their captions,
by the loss that it was trained with, so that what it knew is not lost.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from goodeye.judging.clip import Clip
from goodeye.search.towers import contrastive, recall_of, save_clip
from goodeye.showroom import layouts as L
from goodeye.showroom.layout_world import LayoutWorld, layout_world
from goodeye.showroom.perception import NORMALISE
from goodeye.showroom.products import COLOURS
from goodeye.showroom.world import World
from goodeye.synth.clis_i import cut_out, marked, square
from goodeye.synth.layout import Thing, with_article
from goodeye.training.loop import Loop, Modules, Result, fit, shuffled

SHARDS, HELD_SHARDS = 24, 1
TRAIN, HELD = 21, 22  # the worlds of the layout generator
SIDE = 128
KINDS = [with_article(name) for name in L.CATEGORIES]
LOOP = Loop(
    steps=800,
    lr=3e-4,
    schedule="cosine",
    floor=0.02,
    warmup=100,
    ema=0.99,
    weight_decay=0.1,
    seed=9,
    evaluate_every=300,
    save_seconds=120,
    log_every=20,
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


class Towers(torch.nn.Module):
    """A Clip behind one forward. views, scenes: pixels as the model wants them."""

    def __init__(self, clip: Clip) -> None:
        super().__init__()
        self.clip, self.model = clip, clip.model
        self.colours = [with_article(f"{colour} {name}") for name in L.CATEGORIES for colour in COLOURS]

    def forward(self, seen: Views, scenes: Tensor, captions: Sequence[str]) -> dict[str, Tensor]:
        """The losses, and how often category and colour are right."""
        pixels = torch.cat([NORMALISE(seen.pixels), scenes])
        units = F.normalize(self.model.get_image_features(pixel_values=pixels).pooler_output.float(), dim=-1)
        texts = self.clip.embed_texts([*KINDS, *self.colours, *captions])
        scale = self.model.logit_scale.exp().clamp(max=100).squeeze()
        region, scene = units[: len(seen.kind)], units[len(seen.kind) :]
        kinds, colours = texts[: len(KINDS)], texts[len(KINDS) : len(KINDS) + len(self.colours)]
        of_kind = scale * region @ kinds.T
        own = colours.reshape(len(KINDS), len(COLOURS), -1)[seen.kind]  # of each view's own category
        of_colour = scale * torch.einsum("nd,ncd->nc", region, own)
        none = texts[:0]
        return {
            "kind": F.cross_entropy(of_kind, seen.kind),
            "colour": F.cross_entropy(of_colour, seen.colour),
            "scenes": contrastive(scene, texts[len(texts) - len(captions) :], none, none, 1 / scale),
            "kind_right": (of_kind.argmax(1) == seen.kind).float().mean(),
            "colour_right": (of_colour.argmax(1) == seen.colour).float().mean(),
        }


def train_regions(
    clip: Clip,
    world: LayoutWorld,
    held: LayoutWorld,
    scenes: World,
    held_scenes: World,
    run_dir: Path,
    config: Loop = LOOP,
    batch: int = 32,
) -> Result:
    """Trains every weight of a copy that is the caller's, in place. batch: of views, and as many scenes.

    Measured on held-out views (`held_kind`, `held_colour`) and by recall on held-out scenes, which is not to fall.
    """
    clip.model.requires_grad_(True)
    rows, of_scenes = shuffled(len(world), batch, config.seed), shuffled(len(scenes), batch, config.seed + 1)
    towers = Towers(clip)

    def data(index: int) -> tuple[Any, ...]:
        rng = np.random.default_rng((config.seed, index))
        ids = sorted(of_scenes(index))
        words = [scenes.captions[i] if rng.random() < 0.6 else scenes.short_captions[i] for i in ids]
        seen = views(world, rows(index), rng)
        return seen.pixels, seen.kind, seen.colour, NORMALISE(torch.from_numpy(scenes.image[ids]).float() / 255), words

    def step(nets: Modules, parts: tuple[Any, ...], number: int) -> dict[str, Tensor]:
        found: dict[str, Tensor] = nets["clip"](Views(*parts[:3]), *parts[3:])
        return found | {"loss": found["kind"] + found["colour"] + 0.5 * found["scenes"]}

    def evaluate(number: int) -> dict[str, float]:
        found = [
            towers(views(held, range(at, min(at + 64, len(held))), np.random.default_rng(at)), *_few(held_scenes))
            for at in range(0, len(held), 64)
        ]
        right = {f"held_{name}": float(torch.stack([one[f"{name}_right"] for one in found]).mean())
                 for name in ("kind", "colour")}  # fmt: skip
        pictures = clip.embed_images(torch.from_numpy(np.asarray(held_scenes.image[:256])).float() / 255)
        texts = clip.embed_texts(held_scenes.captions[:256])
        return right | recall_of(pictures, texts, torch.arange(len(pictures)))

    done = fit({"clip": towers}, step, data, config, run_dir, evaluate=evaluate, resume=True, label="regions")
    clip.model.requires_grad_(False)
    return done


def _few(scenes: World) -> tuple[Tensor, list[str]]:
    return NORMALISE(torch.from_numpy(np.asarray(scenes.image[:2])).float() / 255), scenes.captions[:2]


def make(
    weights: Callable[[str], Path],
    out: Path,
    scenes: World,
    held_scenes: World,
    say: Callable[[str], None] = print,
    config: Loop = LOOP,
    shards: int = SHARDS,
    batch: int = 32,
) -> Result:
    """The role region of a build, from its finished clip; goes on after a stop. weights: the folder of a role."""
    clip = Clip.from_pretrained(weights("clip"))
    world, held = (
        layout_world(out / "layouts" / str(seed), seed, count, say)
        for seed, count in ((TRAIN, shards), (HELD, HELD_SHARDS))
    )
    done = train_regions(clip, world, held, scenes, held_scenes, out / "region", config, batch)
    half = copy.deepcopy(clip.model).half()
    save_clip(Clip(half, clip.tokenizer, clip.pixels), weights("region"))
    return done
