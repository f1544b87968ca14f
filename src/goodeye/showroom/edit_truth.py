"""What an edit of the showroom did, measured against its known truth: followed, the rest preserved, of what quality.

On the annotation's scale (`goodeye.showroom.edits`), 0 to 5 each, but from pictures alone. Place, wall, light and the
thing beside the product are read by the oracle's eye, which nothing was trained with; colours, sharpness and details
are compared pixel by pixel with what was asked for; quality comes from statistics of the edited picture alone. Nothing
here is trained on what an editor made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from goodeye.edit.prove import Asked, Bench
from goodeye.errors import BadInput
from goodeye.judging.protocol import Context
from goodeye.showroom import facts as X
from goodeye.showroom import looks
from goodeye.showroom import scenes as S
from goodeye.showroom.briefs import FRESH
from goodeye.showroom.edits import ARTEFACTS, LOST, Rendered, edits
from goodeye.showroom.oracle import Oracle, Reading
from goodeye.showroom.places import PLACES

READ = {  # what the oracle's eye reads: the names that its probabilities stand for
    "place": tuple(PLACES), "wall": X.WALL_NAMES, "light": X.LIGHT_NAMES, "reference": X.REFERENCE_NAMES,
}  # fmt: skip
ASKED = {"wall": "wall", "light": "light", "place": "place", "remove": "reference", "add": "reference",
         "swap": "reference"}  # fmt: skip
LEGIBLE = 0.5  # a fact that the eye gives less on the ideal picture itself is not judged by it
OTHER_COLOUR = 0.35  # of two products' mean colours: a distance at which one is another
MISREAD = 0.2  # of 1: what a thing on the wrong side is worth, as in the annotation
QUALITY_WORLD, QUALITY_SCENES = 43, 768
MOST_ROUNDS = 6  # of drawing edits anew in the place of those that cannot be told


class EditTruth:
    """Scores pictures made for these edits, each with its own truth."""

    def __init__(self, made: Sequence[Rendered], oracle: Oracle, quality: Quality | None = None) -> None:
        self.made, self.oracle = list(made), oracle
        self.quality = quality or quality_of_pictures()
        self.before = self._read(torch.stack([one.original for one in self.made]), range(len(self.made)))
        self.wanted = self._read(torch.stack([one.ideal for one in self.made]), range(len(self.made)))

    def legible(self) -> list[int]:
        """The edits of which the eye tells from original and ideal that they are not the same, as asked."""
        found = []
        for at, one in enumerate(self.made):
            fact = ASKED.get(one.facts.kind)
            clear = fact is None or (
                _probability(self.wanted, fact, one.facts.after, at) >= LEGIBLE
                and _probability(self.before, fact, one.facts.after, at) < LEGIBLE
            )
            found += [at] if clear else []
        return found

    def scores(self, pictures: Float[Tensor, "N 3 S S"], which: Sequence[int]) -> Float[np.ndarray, "N 3"]:
        """Following, preserving and quality, 0 to 5, of the pictures made for the edits with these numbers."""
        read = self._read(pictures, which)
        quality = self.quality(pictures)
        rows = [
            (5 * self._following(picture, read, row, at), self._preserving(picture, read, row, at), quality[row])
            for row, (picture, at) in enumerate(zip(pictures, which, strict=True))
        ]
        return np.array(rows, dtype=float).clip(0, 5)

    def _read(self, pictures: Tensor, which: Sequence[int]) -> Reading:
        scenes = [self.made[at] for at in which]
        return self.oracle.read(
            pictures, [Context(product=one.product, title=one.facts.before.product.title) for one in scenes]
        )

    def _following(self, picture: Tensor, read: Reading, row: int, at: int) -> float:
        """How far the edit went from the original (0) to what was asked for (1)."""
        one = self.made[at]
        kind, fact = one.facts.kind, ASKED.get(one.facts.kind)
        if kind == "colour":
            return _nearer(*(_colour(img, one.product) for img in (picture, one.original, one.ideal)))
        if fact is None:
            return _way(*(_sharpness(img, one.product) for img in (picture, one.original, one.ideal)))
        given, before, wanted = (
            _probability(reading, fact, one.facts.after, place)
            for reading, place in ((read, row), (self.before, at), (self.wanted, at))
        )
        right = kind != "add" or _on_side(picture, one)
        return _way(given, before, wanted) * (1.0 if right else MISREAD)

    def _preserving(self, picture: Tensor, read: Reading, row: int, at: int) -> float:
        """5 less what each fact costs that nobody asked to change, by how far it changed."""
        one = self.made[at]
        kept = {"details": details_kept(picture, one)}
        if one.facts.kind != "colour":
            apart = float((_colour(picture, one.product) - _colour(one.original, one.product)).norm())
            kept["colour"] = 1 - apart / OTHER_COLOUR
        for fact in ("light", "place"):
            true = _probability(self.wanted, fact, one.facts.after, at)
            if one.facts.kind != fact and true >= LEGIBLE:
                kept[fact] = _probability(read, fact, one.facts.after, row) / true
        return 5 - sum(LOST[fact] * (1 - min(max(share, 0.0), 1.0)) for fact, share in kept.items())


def _probability(read: Reading, fact: str, scene: S.Scene, at: int) -> float:
    """What the eye gives the scene's own value of a fact."""
    return float(getattr(read, fact)[at, READ[fact].index(getattr(scene, fact) or "none")])


def _way(given: float, before: float, wanted: float) -> float:
    """How far `given` lies on the way from `before` to `wanted`, 0 to 1."""
    return min(max((given - before) / (wanted - before), 0.0), 1.0) if wanted != before else 0.0


def _nearer(given: Tensor, before: Tensor, wanted: Tensor) -> float:
    """1 at what was wanted, 0 as far from it as before or farther."""
    return max(0.0, 1 - float((given - wanted).norm() / (before - wanted).norm().clamp(min=1e-6)))


def _colour(picture: Tensor, product: Tensor) -> Tensor:
    """The mean colour [3] where the product is solid."""
    return picture[:, product[3] > 0.95].mean(1)


def _sharpness(picture: Tensor, product: Tensor) -> float:
    """Mean size of the Laplacian where the product is not."""
    light = looks.luma(picture[None])
    kernel = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]], device=picture.device)[None, None]
    edges = F.conv2d(light[:, None], kernel, padding=1)[0, 0].abs()
    behind = looks.grow((product[3:] > 0.02).float(), 3)[0] == 0
    behind[[0, -1]] = behind[:, [0, -1]] = False  # the picture's rim is no edge
    return float(edges[behind].mean())


def _on_side(picture: Tensor, one: Rendered) -> bool:
    """Whether most of what changed behind the product is on the side where the thing was asked for."""
    apart = (picture - one.original).square().sum(0) * (one.product[3] < 0.05)
    half = apart.shape[1] // 2
    left, right = float(apart[:, :half].sum()), float(apart[:, -half:].sum())
    return (left >= right) == (one.facts.after.reference_side < 0)


def details_kept(picture: Tensor, one: Rendered) -> float:
    """Likeness of structure to what was asked for, 0 to 1, where nothing but light was to change: the last factor of
    SSIM (Wang et al. 2004), which brightness and colour do not touch."""
    kept = ~one.mask if one.facts.kind != "light" else torch.ones_like(one.mask)
    if one.facts.kind == "place" or not bool(kept.any()):
        kept = one.product[3] > 0.95
    a, b = (looks.luma(img[None])[:, None].double() for img in (picture, one.ideal))
    mean = [looks.box(x, 3) for x in (a, b)]
    var_a, var_b = (looks.box(x * x, 3) - m * m for x, m in zip((a, b), mean, strict=True))
    both = looks.box(a * b, 3) - mean[0] * mean[1]
    alike = (2 * both + 0.0009) / (var_a + var_b + 0.0009)
    return float(alike[0, 0][kept].mean())


def bench(seed: int, count: int, oracle: Oracle | None = None) -> Bench:
    """Edits of a world that no training used, kinds in turn, without those that the oracle's eye cannot tell.

    Raises BadInput for no edits.
    """
    if count < 1:
        raise BadInput(f"n is {count}. Give 1 edit or more.")
    oracle, made = oracle or Oracle.from_pretrained(), list[Rendered]()
    for first in range(0, MOST_ROUNDS * count, count):
        some = list(edits(FRESH + seed, count, faulty=0.0, first=first))
        made += [some[at] for at in EditTruth(some, oracle).legible()]
        if len(made) >= count:
            break
    made = made[:count]
    asked = [
        Asked(key=f"{at:04}-{one.facts.kind}", instruction=one.facts.instruction, original=one.original, mask=one.mask)
        for at, one in enumerate(made)
    ]
    return Bench(asked=asked, score=EditTruth(made, oracle).scores)


# --- quality


@dataclass(frozen=True, eq=False)
class Quality:
    """Kernel ridge regression on statistics of a picture: how strong its artefacts are. Calling it gives 0 to 5."""

    at: Float[np.ndarray, "M D"]
    weights: Float[np.ndarray, " M"]
    mean: Float[np.ndarray, " D"]
    spread: Float[np.ndarray, " D"]
    offset: float
    width: float

    def __call__(self, pictures: Float[Tensor, "N 3 S S"]) -> Float[np.ndarray, " N"]:
        strength = self.offset + _kernel(self._scaled(statistics(pictures)), self.at, self.width) @ self.weights
        return np.asarray(5 * (1 - strength).clip(0, 1))

    def _scaled(self, rows: np.ndarray) -> np.ndarray:
        return np.asarray((rows - self.mean) / self.spread)


@lru_cache(maxsize=2)
def quality_of_pictures(count: int = QUALITY_SCENES, seed: int = QUALITY_WORLD, size: int = 128) -> Quality:
    """Solved, not trained, on rendered scenes of a world of its own, two thirds of them with an artefact of known
    strength: what no-reference measures do with natural pictures (Mittal et al. 2012, BRISQUE), with truth."""
    pictures, strengths = spoilt(seed, count, size)
    rows = statistics(pictures)
    mean, spread = rows.mean(0), rows.std(0) + 1e-6
    at = (rows - mean) / spread
    width, offset = float(at.shape[1]), float(strengths.mean())
    weights = np.linalg.solve(_kernel(at, at, width) + 0.03 * np.eye(count), strengths - offset)
    return Quality(at, weights, mean, spread, offset, width)


def spoilt(seed: int, count: int, size: int) -> tuple[Float[Tensor, "N 3 S S"], Float[np.ndarray, " N"]]:
    """Scenes, two thirds of them with an artefact, and its strength, 0 to 1."""
    rng = np.random.default_rng((seed, 1))
    scenes = [S.sample(seed, number, S.CLASSES[:1]) for number in range(count)]
    pictures, strengths = [], []
    for made in S.render_many(scenes, size):
        for picture in made.image:
            strength = float(rng.uniform(0.1, 1)) if rng.random() < 2 / 3 else 0.0
            if strength:
                change = ARTEFACTS[str(rng.choice(list(ARTEFACTS)))]
                rows = change(picture.permute(1, 2, 0).numpy().astype(np.float32), rng, strength).clip(0, 1)
                picture = torch.from_numpy(np.ascontiguousarray(rows.transpose(2, 0, 1))).float()
            pictures.append(picture)
            strengths.append(strength)
    return torch.stack(pictures), np.array(strengths)


def _kernel(a: np.ndarray, b: np.ndarray, width: float) -> np.ndarray:
    square = (a * a).sum(1)[:, None] + (b * b).sum(1)[None] - 2 * a @ b.T
    return np.asarray(np.exp(-square.clip(0) / (2 * width)))


def statistics(pictures: Float[Tensor, "N 3 S S"]) -> Float[np.ndarray, "N D"]:
    """Moments of locally normalised brightness and colour at several scales, of their neighbours' products and of the
    local contrast itself, and how much the borders of 8x8 blocks stand out."""
    light = looks.luma(pictures)[:, None]
    warm = (pictures[:, 0] - pictures[:, 1])[:, None]
    cold = ((pictures[:, 0] + pictures[:, 1]) / 2 - pictures[:, 2])[:, None]
    half, quarter = F.avg_pool2d(light, 2), F.avg_pool2d(light, 4)
    maps = [light, half, quarter, F.avg_pool2d(warm, 2), F.avg_pool2d(cold, 2)]
    columns = [column for one in maps for column in _moments(one)] + _blocks(light)
    return torch.stack(columns, 1).double().numpy()


def _moments(x: Tensor) -> list[Tensor]:
    mean = looks.box(x, 3)
    contrast = (looks.box(x * x, 3) - mean * mean).clamp(min=0).sqrt()
    m = ((x - mean) / (contrast + 0.01))[:, 0]
    found = [m.abs().mean((1, 2)), m.square().mean((1, 2)), m.pow(4).mean((1, 2)).pow(0.25)]
    for down, across in ((0, 1), (1, 0), (1, 1), (1, -1)):
        other = torch.roll(m, (down, across), (1, 2))
        found += [(m * other).mean((1, 2)), (m * other).abs().mean((1, 2))]
    level = (contrast + 0.001).log()
    return [*found, level.mean((1, 2, 3)), level.std((1, 2, 3)), (contrast.mean((1, 2, 3)) + 0.001).log()]


def _blocks(light: Tensor) -> list[Tensor]:
    """Steps over the borders of 8x8 blocks against steps elsewhere, down and across, in logarithms."""
    found = []
    for dim in (2, 3):
        steps = light.diff(dim=dim).abs()
        at = torch.arange(steps.shape[dim]) % 8 == 7
        over, within = steps.transpose(dim, 3)[..., at], steps.transpose(dim, 3)[..., ~at]
        found.append(((over.mean((1, 2, 3)) + 1e-3) / (within.mean((1, 2, 3)) + 1e-3)).log())
    return found
