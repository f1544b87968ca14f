"""Labelled pictures as the generator makes them, for training RFNet.

A judge trained on clean renders fails on generated pictures: their edges, textures and estimated maps are different. So
each rendered scene, whose label is exact, goes through the house's own machinery: into latents, up to a middle noise
level, down again by the sampler with text, ControlNet and product, through the decoder, and the product is pasted. The
level is low enough that what is wrong with the scene stays wrong. Beside them stand scenes on both sides of the
guideline's lines, degraded by plain arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from goodeye.ads.canvas import Canvas, compose, edges, kept
from goodeye.ads.generate import GREY, latent_mask
from goodeye.diffusion import vae
from goodeye.diffusion.batch import Prompts, noise_of
from goodeye.diffusion.denoiser import guided
from goodeye.diffusion.inpaint import blend
from goodeye.diffusion.samplers import ddim
from goodeye.diffusion.schedule import from_config
from goodeye.judging.samples import Samples
from goodeye.showroom import scenes as S
from goodeye.showroom.degrade import imitated
from goodeye.showroom.guideline import Facts, borderline, facts_of, labels
from goodeye.showroom.world import World

if TYPE_CHECKING:
    from goodeye.modelset import Models

STRENGTHS = (0.2, 0.15, 0.1, 0.2)  # how much of the schedule is run again; from 0.3 on growing parts get mended
DEGRADED, LOST = 0.65, 0.05  # shares of the borderline pictures that are degraded, and that also lose their place


def canvas_of(product: np.ndarray, thresholds: tuple[int, int] = (100, 200)) -> Canvas:
    """The canvas of a product that stands on it already: uint8 [4,S,S], straight alpha."""
    pixels = np.ascontiguousarray(product.transpose(1, 2, 0))
    return Canvas(
        product=torch.from_numpy(product.copy()).float() / 255,
        mask=torch.from_numpy(kept(pixels[..., 3]))[None].float(),
        control=torch.from_numpy(edges(pixels, thresholds)).float().expand(3, *pixels.shape[:2]).clone(),
    )


@torch.no_grad()
def remade(
    models: Models, images: Tensor, canvases: list[Canvas], prompts: list[str], seeds: list[int], strength: float
) -> Tensor:
    """Images [N,3,S,S] in [0,1] after a part of the schedule, product pasted; strength 0 only encodes and decodes."""
    settings = models.model_set.settings
    product = torch.stack([c.product for c in canvases])
    latents = vae.encode(models.vae, images)
    schedule = from_config(models.scheduler_config, settings.steps, settings.sampler)
    count = round(strength * len(schedule))
    if count:
        steps = schedule.steps[-count:]
        noise = torch.stack([noise_of(seed, latents.shape[1:]) for seed in seeds])
        clean = vae.encode(models.vae, compose(product, GREY))
        mask = latent_mask(torch.stack([c.mask for c in canvases]), clean.shape[-1])
        embed = Prompts(models)
        denoise = guided(
            models.unet,
            embed(prompts),
            embed([settings.negative_prompt]),
            guidance_scale=settings.guidance_scale,
            controlnet=models.controlnet,
            control=torch.stack([c.control for c in canvases]),
            control_scale=settings.control_scale,
        )
        start = steps[0].alpha * latents + steps[0].sigma * noise
        latents = ddim(denoise, start, replace(schedule, steps=steps), after_step=blend(mask, clean, noise, schedule))
    return compose(product, vae.decode(models.vae, latents, clamp=True))


def remade_world(
    models: Models, world: World, folder: Path, seed: int, batch: int = 16, say: Callable[[str], None] = print
) -> Samples:
    """The world's scenes as the generator makes them, with estimated depth and saliency, as RFNet's samples.

    Each batch takes its strength in turn from STRENGTHS. Kept in `folder` batch by batch: a killed run goes on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    count = len(world)
    for at in range(0, count, batch):
        path = folder / f"{at:06d}.npy"
        if path.exists():
            continue
        ids = list(range(at, min(at + batch, count)))
        canvases = [canvas_of(world.product[i]) for i in ids]
        strength = STRENGTHS[(at // batch) % len(STRENGTHS)]
        pictures = torch.from_numpy(world.image[ids]).float() / 255
        prompts = [world.captions[i] if i % 2 else world.short_captions[i] for i in ids]
        made = remade(models, pictures, canvases, prompts, [seed * 1_000_003 + i for i in ids], strength)
        _keep(path, _with_maps(models, made))
        say(f"pictures for RFNet: {ids[-1] + 1}/{count}")
    planes = np.concatenate([np.load(folder / f"{at:06d}.npy") for at in range(0, count, batch)])
    assert planes.shape == (count, 5, *world.image.shape[-2:])
    facts = [facts_of(made) for made in S.render_many(world.scenes)]
    return _samples(planes, np.asarray(world.product), world.titles, torch.from_numpy(world.label), facts)


def borderline_world(
    models: Models,
    folder: Path,
    seed: int,
    count: int,
    batch: int = 64,
    say: Callable[[str], None] = print,
    own: float = 0.0,
) -> Samples:
    """`guideline.borderline` scenes with the guideline's labels, most of them degraded by plain arithmetic, and some
    without their place, with estimated depth and saliency. Kept in `folder` batch by batch: a killed run goes on."""
    folder.mkdir(parents=True, exist_ok=True)
    scenes, planes, products, facts = borderline(seed, count, own), [], [], []
    for at, made in enumerate(S.render_many(scenes, batch=batch)):
        first = at * batch
        path = folder / f"{first:06d}.npy"
        draws = [np.random.default_rng((seed, first + i, 12)) for i in range(len(made.image))]
        kinds = torch.tensor([draw.random() for draw in draws])
        lost = kinds < LOST
        product = (made.product * 255).round().byte().numpy()
        if not path.exists():
            clean = (made.image * 255).round().byte().numpy()
            pictures = [
                imitated(c, p[3:], draw, bool(gone)) if kind < DEGRADED else c.astype(np.float32) / 255
                for c, p, draw, gone, kind in zip(clean, product, draws, lost, kinds, strict=True)
            ]
            _keep(path, _with_maps(models, torch.from_numpy(np.stack(pictures))))
            say(f"borderline pictures for RFNet: {first + len(product)}/{count}")
        planes.append(np.load(path))
        products.append(product)
        facts.append(facts_of(made, lost))
    titles = [scene.product.title for scene in scenes]
    return _samples(np.concatenate(planes), np.concatenate(products), titles, None, facts)


@torch.no_grad()
def _with_maps(models: Models, pictures: Tensor) -> np.ndarray:
    """Pictures [N,3,S,S] in [0,1] -> bytes [N,5,S,S]: them, their estimated depth and saliency."""
    maps = [models.depth(pictures), models.saliency(pictures)]
    planes: np.ndarray = (torch.cat([pictures, *maps], 1) * 255).round().byte().numpy()
    return planes


def _keep(path: Path, planes: np.ndarray) -> None:
    scratch = path.with_suffix(".tmp")
    with scratch.open("wb") as file:
        np.save(file, planes)
    scratch.replace(path)


def _samples(
    planes: np.ndarray, products: np.ndarray, titles: list[str], label: Tensor | None, facts: list[Facts]
) -> Samples:
    """Pictures with maps as RFNet's samples; the guideline labels them where no label is given."""
    joint = Facts(**{name: torch.cat([getattr(f, name) for f in facts]) for name in vars(facts[0])})
    return Samples(
        products=torch.from_numpy(products),
        images=torch.from_numpy(planes[:, :3].copy()),
        depth=torch.from_numpy(planes[:, 3:4].copy()),
        saliency=torch.from_numpy(planes[:, 4:].copy()),
        titles=titles,
        labels=labels(joint) if label is None else label,
        facts=joint.tensors(),
    )


def joined(first: Samples, second: Samples) -> Samples:
    """The samples of both, one after the other."""
    names = ("products", "images", "depth", "saliency", "labels")
    products, images, depth, saliency, numbers = (torch.cat([getattr(first, n), getattr(second, n)]) for n in names)
    facts = {name: torch.cat([first.facts[name], second.facts[name]]) for name in first.facts}
    return Samples(products, images, depth, saliency, [*first.titles, *second.titles], numbers, facts)
