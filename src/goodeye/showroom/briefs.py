"""Briefs of the showroom: its own products in its own settings, to measure on and, apart from those, to train on."""

from __future__ import annotations

from goodeye.ads.rollout import Placed
from goodeye.showroom import scenes as S
from goodeye.showroom.inspected import canvas_of

FRESH = 1_000_000  # worlds from here on are measured on; all training has worlds below 100
WORLDS = range(50, 100)  # of those, the ones that no other training uses


def fresh_briefs(seed: int, count: int) -> list[Placed]:
    """Briefs for a proof: products on their canvas, with titles and prompts (see `briefs_of`), of a world no training
    used."""
    return briefs_of(FRESH + seed, count)


def training_briefs(seed: int, count: int) -> list[Placed]:
    """The same from a training world chosen by the seed, which no proof measures on."""
    return briefs_of(WORLDS[seed % len(WORLDS)], count)


def briefs_of(world: int, count: int) -> list[Placed]:
    """The first `count` briefs of a world. Prompts name place and light; nothing beside the product is asked for."""
    scenes = [S.sample(world, i, S.CLASSES[:1]) for i in range(count)]
    out: list[Placed] = []
    for r in S.render_many(scenes):
        products = (r.product * 255).round().byte().numpy()
        for scene, product in zip(r.scenes, products, strict=True):
            out.append(
                Placed(
                    key=f"{len(out):04d}",
                    canvas=canvas_of(product),
                    title=scene.product.title,
                    prompt=S.caption(scene, full=False),
                )
            )
    return out
