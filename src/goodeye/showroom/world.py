"""Rendered scenes kept on disk, for training and for held-out measurement."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from goodeye.showroom import scenes as S

PLANES = {"image": 3, "product": 4, "depth": 1, "saliency": 1}
SHARD = 512


@dataclass(frozen=True)
class World:
    """Scenes as bytes: image [N,3,H,W], product [N,4,H,W] (straight alpha), depth and saliency [N,1,H,W], all uint8
    memory-mapped; label [N] (index into scenes.CLASSES); captions (full and short) and titles; and their facts."""

    image: np.ndarray
    product: np.ndarray
    depth: np.ndarray
    saliency: np.ndarray
    label: np.ndarray
    beauty: np.ndarray
    captions: list[str]
    short_captions: list[str]
    titles: list[str]
    scenes: list[S.Scene]

    def __len__(self) -> int:
        return len(self.label)


def draw_scenes(seed: int, count: int, available: float) -> list[S.Scene]:
    """Scenes of which a share of `available` is good; the defects share the rest evenly."""
    out = []
    for i in range(count):
        good = np.random.default_rng((seed, i, 9)).random() < available
        out.append(S.sample(seed, i, S.CLASSES[:1] if good else S.CLASSES[1:]))
    return out


def world(
    folder: Path, seed: int, count: int, size: int = 128, available: float = 0.5, say: Callable[[str], None] = print
) -> World:
    """The world `seed` from `folder`, rendering what is not there yet (a killed run goes on at its last 512 scenes)."""
    folder.mkdir(parents=True, exist_ok=True)
    facts = {"seed": seed, "count": count, "size": size, "available": available}
    state = folder / "state.json"
    done = json.loads(state.read_text()) if state.exists() else {}
    if done.get("facts") != facts:
        done = {"facts": facts, "scenes": 0}
    scenes = draw_scenes(seed, count, available)
    mode = "r+" if done["scenes"] else "w+"
    maps = {
        n: np.lib.format.open_memmap(folder / f"{n}.npy", mode, np.uint8, (count, c, size, size))
        for n, c in PLANES.items()
    }
    beauty = np.lib.format.open_memmap(folder / "beauty.npy", mode, np.float32, (count,))
    while done["scenes"] < count:
        at = done["scenes"]
        for r in S.render_many(scenes[at : at + SHARD], size):
            n = len(r.image)
            for name in PLANES:
                maps[name][at : at + n] = (getattr(r, name) * 255).round().byte().numpy()
            beauty[at : at + n] = r.beauty.numpy()
            at += n
        for array in maps.values():
            array.flush()
        beauty.flush()
        done["scenes"] = at
        scratch = state.with_suffix(".tmp")
        scratch.write_text(json.dumps(done))
        scratch.replace(state)
        say(f"world {seed}: {at}/{count} scenes")
    return World(
        **maps,
        label=np.array([s.label for s in scenes]),
        beauty=beauty,
        captions=[S.caption(s) for s in scenes],
        short_captions=[S.caption(s, full=False) for s in scenes],
        titles=[s.product.title for s in scenes],
        scenes=scenes,
    )
