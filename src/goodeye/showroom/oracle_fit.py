"""Trains the oracle's facts reader on a world of its own, and measures the oracle on another.

Seeds: 31 to learn from, 33 to set thresholds by, 32 to measure on. The house's models use 11 and 12, so that no
picture, and no order of pictures, is shared with them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from goodeye.atomic import write_bytes
from goodeye.showroom import facts as X
from goodeye.showroom import scenes as S

SEED = 31
SHARD = 256
PLANES = {"image": (3, X.SIZE), "alpha": (1, X.SIZE), "extension": (1, X.GRID)}


@dataclass(frozen=True)
class ReadingWorld:
    """Pictures and their facts: image [N,3,128,128], alpha of the product [N,1,128,128] and how much of each cell an
    extension covers [N,1,32,32], all uint8 and memory-mapped; truth of N."""

    image: np.ndarray
    alpha: np.ndarray
    extension: np.ndarray
    truth: X.Truth

    def __len__(self) -> int:
        return len(self.image)


def reading_world(folder: Path, seed: int, count: int, say: Callable[[str], None] = print) -> ReadingWorld:
    """The world `seed` from `folder`; renders what is not there yet (a killed run goes on at its last 256 scenes)."""
    folder.mkdir(parents=True, exist_ok=True)
    state = folder / "state.json"
    wanted = {"seed": seed, "count": count}
    done = json.loads(state.read_text()) if state.exists() else {}
    if done.get("wanted") != wanted:
        done = {"wanted": wanted, "scenes": 0}
    scenes = X.draw_scenes(seed, count)
    mode = "r+" if done["scenes"] else "w+"
    maps = {name: np.lib.format.open_memmap(folder / f"{name}.npy", mode, np.uint8, (count, c, size, size))
            for name, (c, size) in PLANES.items()}  # fmt: skip
    while done["scenes"] < count:
        at = done["scenes"]
        for r in S.render_many(scenes[at : at + SHARD]):
            grown = F.adaptive_avg_pool2d((r.obj == S.EXTENSION).float()[:, None], X.GRID)
            for name, plane in (("image", r.image), ("alpha", r.product[:, 3:]), ("extension", grown)):
                maps[name][at : at + len(plane)] = _bytes(plane)
            at += len(r.image)
        for array in maps.values():
            array.flush()
        done["scenes"] = at
        write_bytes(state, json.dumps(done).encode())
        say(f"the oracle's world {seed}: {at}/{count} scenes")
    return ReadingWorld(**maps, truth=X.truth(scenes))


def _bytes(plane: Tensor) -> np.ndarray:
    return (plane * 255).round().byte().numpy()
