"""Rendered layouts kept on disk, for training what draws layouts and what looks at regions."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from goodeye.atomic import whole_file, write_bytes
from goodeye.showroom import layouts as L
from goodeye.showroom import vae
from goodeye.showroom.places import PLACES
from goodeye.synth.layout import Layout, layout_of, with_article

SHARD = 256
POWER = 0.5  # of the long tail: rare kinds are to be learned, too


@dataclass(frozen=True, eq=False)
class LayoutWorld:
    """Pictures [256, 3, 128, 128] a shard, uint8 and memory-mapped; layouts with the boxes of what is in sight;
    and each one's place and light in words."""

    folder: Path
    shards: list[np.ndarray]
    layouts: list[Layout]
    scenes: list[str]

    def __len__(self) -> int:
        return len(self.layouts)

    def images(self, rows: Sequence[int]) -> np.ndarray:
        """[n, 3, 128, 128] uint8."""
        return np.stack([self.shards[row // SHARD][row % SHARD] for row in rows])

    def prompt(self, row: int) -> str:
        """The things, and where they are, in words that the generator was trained on: none of how they stand."""
        things = ", ".join(with_article(thing.text) for thing in self.layouts[row].things)
        return f"{things} {self.scenes[row]}"

    def latents(self, fit_on: np.ndarray) -> np.ndarray:
        """The solved encoder's latents of all pictures, float16 [N, 16, 16, 16], made once."""
        file = self.folder / "latents.npy"
        if not file.exists():
            with whole_file(file) as scratch, scratch.open("wb") as out:
                np.save(out, np.concatenate([vae.latents_of(shard, fit_on) for shard in self.shards]))
        found: np.ndarray = np.load(file, mmap_mode="r")
        return found


def layout_world(folder: Path, seed: int, shards: int, say: Callable[[str], None] = print) -> LayoutWorld:
    """Layouts of the world `seed`, SHARD of them a shard; a killed call goes on with the shard that it was at."""
    for number in range(shards):
        name = folder / f"{number:05d}"
        if name.with_suffix(".jsonl").exists():
            continue
        made = [L.sample(seed, index, L.long_tail(POWER)) for index in range(number * SHARD, (number + 1) * SHARD)]
        pictures, lines = list[np.ndarray](), list[str]()
        for drawn in L.render_many(made):
            pictures.append((drawn.image * 255).round().byte().numpy())
            for n, one in enumerate(drawn.arrangements):
                scene = f"{PLACES[one.place].phrase.format(wall=one.wall)}, {one.light}"
                layout = drawn.layout(n, f"{number * SHARD + len(lines):06d}")
                lines.append(json.dumps({"layout": layout.to_json(), "scene": scene}) + "\n")
        with whole_file(name.with_suffix(".npy")) as scratch, scratch.open("wb") as out:
            np.save(out, np.concatenate(pictures))
        write_bytes(name.with_suffix(".jsonl"), "".join(lines).encode())  # last: where it is, the pictures are
        say(f"layouts {seed}: {(number + 1) * SHARD}/{shards * SHARD}")
    rows = [
        json.loads(line)
        for number in range(shards)
        for line in (folder / f"{number:05d}.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    return LayoutWorld(
        folder,
        [np.load(folder / f"{number:05d}.npy", mmap_mode="r") for number in range(shards)],
        [layout_of(row["layout"], str(folder)) for row in rows],
        [row["scene"] for row in rows],
    )
