"""CLIS-L: how typical a layout is of real pictures, from 0 to 100 (synth paper, equations 4 to 8).

Each related pair of boxes is held against real pairs of the same categories and relation. 50 is as typical as the
median real pair. Six faults of the published code are mended here; docs/synth.md names them.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from goodeye.errors import BadInput
from goodeye.judging.metrics import Interval, resampled_counts
from goodeye.synth.layout import Layout
from goodeye.synth.nearness import BY_LETTERS, Encoder
from goodeye.synth.priors import Level, LookUp, Priors, References
from goodeye.synth.relations import SYMMETRIC, Triplet, related

Array = np.ndarray[Any, Any]
Pairs = Float[Array, "N 2 4"]  # x, y, width, height of subject and object, in shares of the picture

HELD = 0.2  # of the pictures: what scores are ranked among, and never a reference
MOST_HELD = 2000  # pairs of them
FEWEST = 20  # below, there is nothing to rank among
AT_ONCE = 32_768  # pairs x references in one step: what stays in a core's cache
TERMS = ("sizes", "distance", "direction")


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What the paper leaves open; the values are ours."""

    percentile: float = 98.0  # over the references (the published code takes about the top 2 %)
    floor: float = 0.03  # similarities below it fall on a line to -1 at 0 (t of the paper)
    smooth: float = 0.05  # added to both IoUs that are compared


RULES = Rules()


class Features(NamedTuple):
    """What of pairs is compared, float32. way: the unit vector from the subject's centre to the object's; 0 where the
    centres are the same."""

    area: Float[Array, " N"]  # of the subject by that of the object
    iou: Float[Array, " N"]
    apart: Float[Array, " N"]  # distance of the centres by the mean diagonal
    way: Float[Array, "N 2"]


def features(pairs: Pairs) -> Features:
    """The paper's f: Area, IoU, RD, and the direction. Raises ValueError for boxes without an area."""
    subject, other = np.asarray(pairs, dtype=np.float64).transpose(1, 0, 2)
    sides = np.stack([subject[:, 2:], other[:, 2:]])
    if len(subject) and not sides.min() > 0:  # NaN, too
        raise ValueError("a box of a pair has no area")
    areas = sides.prod(-1)
    low, high = np.maximum(subject[:, :2], other[:, :2]), np.minimum(subject[:, :2] + sides[0], other[:, :2] + sides[1])
    shared = (high - low).clip(0).prod(-1)
    step = other[:, :2] + sides[1] / 2 - subject[:, :2] - sides[0] / 2
    length = np.linalg.norm(step, axis=-1)
    values = (
        areas[0] / areas[1],
        shared / (areas.sum(0) - shared),
        length / np.linalg.norm(sides, axis=-1).mean(0),
        step / np.maximum(length, 1e-9)[:, None],
    )
    return Features(*(value.astype(np.float32) for value in values))


def as_asked(references: References) -> Features:
    """The references' features, with the areas' ratio as their pairs would have it if they were of the categories that
    were looked up (ours): a lipstick near a chair says how near, not how large a chair is near a lipstick."""
    found = features(references.boxes)
    return found._replace(area=found.area * references.ratio)


def alike(first: Float[Array, " N"], second: Float[Array, " R"], smooth: float = 0.0) -> Float[Array, "N R"]:
    """S_sim of equation 4: 1 - |a - b| / max(a, b), which is min(a/b, b/a). smooth is added to both, so that 0 and
    nearly 0 are nearly alike; without it, both 0 are alike, too."""
    a, b = (np.maximum(one + np.float32(smooth), np.float32(1e-6)) for one in (first[:, None], second[None]))
    return np.asarray(np.minimum(a * (1 / b), (1 / a) * b))


def penalised(similarity: Array, floor: float) -> Array:
    """Below the floor t, [0, t] is mapped to [-1, t] on a line, which is the lower of two lines. Once: the result is
    never below -1."""
    line = similarity * np.float32((1 + floor) / floor)
    line -= np.float32(1)
    return np.asarray(np.minimum(similarity, line, out=line))


def terms(pairs: Features, references: Features, symmetric: bool, rules: Rules = RULES) -> tuple[Array, Array, Array]:
    """S_size, S_dist and S_dir of each pair by each reference, [N, R] (equations 5 to 7).

    symmetric: the relation holds in the mirror image of a picture just as well, and there alone the better of both
    directions counts.
    """
    area, iou, apart = (
        penalised(alike(pairs[i], references[i], rules.smooth if i == 1 else 0.0), rules.floor) for i in range(3)
    )
    iou += apart
    way, other = (np.abs(one) * (1, 0) + one * (0, 1) if symmetric else one for one in (pairs.way, references.way))
    return area, iou, way.astype(np.float32) @ other.astype(np.float32).T


@dataclass(frozen=True)
class Standard:
    """Mean and standard deviation of the three terms over real pairs, by which they become Z-scores."""

    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]

    def total(self, size: Array, distance: Array, direction: Array) -> Array:
        """The sum of the three Z-scores (equation 8)."""
        shift = np.float32(sum(mean / one for mean, one in zip(self.mean, self.deviation, strict=True)))
        found = size * np.float32(1 / self.deviation[0]) - shift
        found += distance * np.float32(1 / self.deviation[1])
        found += direction * np.float32(1 / self.deviation[2])
        return np.asarray(found)


def percentile(values: Float[Array, "N R"], q: float) -> Float[Array, " N"]:
    """numpy's percentile (linear) along the references, faster. Changes the order of `values`."""
    place = q / 100 * (values.shape[1] - 1)
    low, high = int(np.floor(place)), int(np.ceil(place))
    values.partition([low, high] if high > low else [low], axis=1)
    return np.asarray(values[:, low] + (values[:, high] - values[:, low]) * np.float32(place - low))


def typical(
    pairs: Features, references: Features, symmetric: bool, standard: Standard, rules: Rules = RULES
) -> Float[Array, " N"]:
    """Of each pair the percentile over the references of the three Z-scores' sum; without bounds."""
    step = max(1, AT_ONCE // max(1, len(references.area)))
    found = [
        percentile(
            standard.total(*terms(_some(pairs, slice(at, at + step)), references, symmetric, rules)), rules.percentile
        )
        for at in range(0, len(pairs.area), step)
    ]
    return np.concatenate(found) if found else np.zeros(0, dtype=np.float32)


def averaged(pairs: Features, references: Features, symmetric: bool, rules: Rules = RULES) -> Float[Array, " N"]:
    """The paper's other reading: the mean over the references of the plain sum. For comparison alone."""
    return np.asarray(sum(terms(pairs, references, symmetric, rules)).mean(1))  # type: ignore[union-attr]


def _some(pairs: Features, rows: Any) -> Features:
    return Features(*(one[rows] for one in pairs))


@dataclass(frozen=True)
class PairScore:
    """One relation of a layout. score: 0 to 100. level: where the references were found. parts: the three terms, as
    Z-scores, by the reference that stands at the percentile. reason: "" from 50 on."""

    subject: str
    relation: str
    object: str
    score: float
    level: Level
    references: int
    parts: dict[str, float]
    reason: str


@dataclass(frozen=True)
class LayoutScore:
    """score: the mean over the pairs; None where no two things are related, which says nothing of the layout."""

    score: float | None
    pairs: tuple[PairScore, ...]

    @property
    def reasons(self) -> list[str]:
        """What is unlike real pictures, in words."""
        return [pair.reason for pair in self.pairs if pair.reason] or (
            [] if self.pairs else ["no two things are related"]
        )


@dataclass(frozen=True, eq=False)
class ClisL:
    """Fitted on priors: references of most pictures; Z statistics and ranks of the others, which are held out.

    held: pairs of those pictures. pictures: the number of each one's picture.
    """

    look_up: LookUp
    standard: Standard
    ranks: dict[Level, Float[Array, " n"]]  # what real pairs get at each level, sorted
    held: tuple[list[Triplet], Pairs]
    pictures: Int[Array, " N"]
    rules: Rules = RULES

    @classmethod
    def fit(cls, priors: Priors, encoder: Encoder = BY_LETTERS, rules: Rules = RULES, seed: int = 0) -> "ClisL":
        """Raises BadInput where there are too few pictures to hold some out."""
        random = np.random.default_rng(seed)
        pictures = np.unique(priors.pictures)
        out = np.isin(priors.pictures, random.permutation(pictures)[: max(1, round(HELD * len(pictures)))])
        rows = random.permutation(np.flatnonzero(out))[:MOST_HELD]
        if len(rows) < FEWEST or out.all():
            raise BadInput(
                f"the priors hold out {len(rows)} pairs where {FEWEST} are the least to rank by. Add pictures to them."
            )
        each = priors.triplet_of_rows()
        held = [priors.names(int(each[row])) for row in rows], priors.boxes[rows]
        look_up = LookUp(priors.part(~out), encoder)
        judge = cls(look_up, _standard(look_up, *held, rules), {}, held, priors.pictures[rows], rules)
        levels, raw = judge.raw(*held)
        near = raw[[level in ("exact", "similar") for level in levels]]
        starts: tuple[Level, ...] = ("side", "relation", "all")
        ranks = {level: np.sort(judge.raw(*held, start=level)[1]) for level in starts}
        close = np.sort(near) if len(near) >= FEWEST else ranks["side"]
        return replace(judge, ranks={"exact": close, "similar": close, **ranks})

    @property
    def version(self) -> str:
        """Changes with the references, the pairs held out, the encoder and the rules."""
        known = self.look_up.priors
        arrays = (known.triplets, known.starts, known.boxes, self.held[1])
        words = (known.categories, known.relations, self.held[0], self.look_up.encoder.name, self.rules)
        digest = hashlib.sha256(repr(words).encode())
        for one in arrays:
            digest.update(one.tobytes())
        return digest.hexdigest()[:12]

    def raw(self, triplets: Sequence[Triplet], pairs: Pairs, start: Level = "exact") -> tuple[list[Level], Array]:
        """Of each pair the level of its references, and its value before ranking, [N]."""
        all_, found = features(pairs), np.zeros(len(pairs), dtype=np.float32)
        levels: list[Level] = ["all"] * len(pairs)
        for triplet, rows in _grouped(triplets).items():
            references = self.look_up(triplet, start)
            against = as_asked(references)
            found[rows] = typical(_some(all_, rows), against, triplet[1] in SYMMETRIC, self.standard, self.rules)
            for row in rows:
                levels[row] = references.level
        return levels, found

    def ranked(self, levels: Sequence[Level], raw: Float[Array, " N"]) -> Float[Array, " N"]:
        """0 to 100: the share of real pairs at the same level that are less typical; of equal ones the half."""
        found = np.zeros(len(raw))
        for level in set(levels):
            rows = [at for at, one in enumerate(levels) if one == level]
            among = self.ranks[level]
            sides = [np.searchsorted(among, raw[rows], side) for side in ("left", "right")]
            found[rows] = 50 * (sides[0] + sides[1]) / len(among)
        return found

    def score(self, layouts: Sequence[Layout]) -> list[LayoutScore]:
        """Relations are those that a layout names, or those of its boxes where it names none."""
        pairs = [_pairs(one) for one in layouts]
        triplets = [triplet for found, _, _ in pairs for triplet in found]
        boxes = np.concatenate([np.zeros((0, 2, 4), dtype=np.float32), *(boxes for _, boxes, _ in pairs)])
        levels, raw = self.raw(triplets, boxes)
        scores = self.ranked(levels, raw)
        scored, at = [], 0
        for found, box, keys in pairs:
            parts = [
                self._told(triplet, keys[i], box[i], float(scores[at + i]), float(raw[at + i]), levels[at + i])
                for i, triplet in enumerate(found)
            ]
            at += len(found)
            mean = float(np.mean([one.score for one in parts])) if parts else None
            scored.append(LayoutScore(mean, tuple(parts)))
        return scored

    def _told(
        self, triplet: Triplet, keys: tuple[str, str], boxes: Array, score: float, raw: float, level: Level
    ) -> PairScore:
        references = self.look_up(triplet)
        found = terms(features(boxes[None]), as_asked(references), triplet[1] in SYMMETRIC, self.rules)
        at = int(np.abs(self.standard.total(*found)[0] - raw).argmin())
        values = [float(one[0, at]) for one in found]
        z = [(v - mean) / sd for v, mean, sd in zip(values, self.standard.mean, self.standard.deviation, strict=True)]
        parts = {name: round(one, 3) for name, one in zip(TERMS, z, strict=True)}
        worst = min(parts, key=parts.__getitem__)
        count = len(references.boxes)
        reason = (
            f"{keys[0]} {triplet[1]} {keys[1]}: their {worst} {'are' if worst == 'sizes' else 'is'} unlike real ones"
        )
        return PairScore(
            keys[0], triplet[1], keys[1], round(score, 2), level, count, parts, reason if score < 50 else ""
        )


def _standard(look_up: LookUp, triplets: Sequence[Triplet], pairs: Pairs, rules: Rules) -> Standard:
    """Over real pairs, each by its own references; every pair weighs the same."""
    all_, sums, squares = features(pairs), np.zeros(3), np.zeros(3)
    for triplet, rows in _grouped(triplets).items():
        found = terms(_some(all_, rows), as_asked(look_up(triplet)), triplet[1] in SYMMETRIC, rules)
        for at, one in enumerate(found):
            sums[at] += one.mean(1).sum()
            squares[at] += (one.astype(np.float64) ** 2).mean(1).sum()
    mean = sums / len(pairs)
    deviation = np.sqrt(np.maximum(squares / len(pairs) - mean**2, 1e-6))
    return Standard(tuple(mean.tolist()), tuple(deviation.tolist()))


def _grouped(triplets: Sequence[Triplet]) -> dict[Triplet, list[int]]:
    groups: dict[Triplet, list[int]] = {}
    for row, triplet in enumerate(triplets):
        groups.setdefault(triplet, []).append(row)
    return groups


def _pairs(layout: Layout) -> tuple[list[Triplet], Pairs, list[tuple[str, str]]]:
    if layout.relations:
        found = layout.triplets()
        boxes = np.array([[s.box, o.box] for s, _, o in found], dtype=np.float32)
        return (
            [(s.category, relation, o.category) for s, relation, o in found],
            boxes,
            [(s.key, o.key) for s, _, o in found],
        )
    category = {one.key: one.category for one in layout.things}
    triplets, boxes = related(list(category), np.array([one.box for one in layout.things]))
    named = [(category[s], relation, category[o]) for s, relation, o in triplets]
    return named, boxes, [(s, o) for s, _, o in triplets]


def can_be_swapped(triplet: Triplet) -> bool:
    """Whether the boxes of a pair can be the wrong way round: not if both things are of one category and their relation
    is symmetric, since then the swapped layout says the same."""
    return triplet[0] != triplet[2] or triplet[1] not in SYMMETRIC


def swap_test(
    judge: ClisL, triplets: Sequence[Triplet], pairs: Pairs, pictures: Int[Array, " N"] | None = None
) -> dict[str, Interval]:
    """How often a real pair scores higher than with its boxes swapped, a draw being a half; of pairs that can be
    swapped. Paper: 61.0 % by CLIS-L and 58.8 % by averaging, chance 50 %.

    clis_l: against references as CLIS-L takes them: by back-off, and in the sizes that are asked for. The others are
    plain averages over references (`averaged`). average: over those same references as they were found, in their own
    sizes. average_exact: as published, over references of the same categories and relation alone, a draw where there
    are none. average_as_asked: over the very references of clis_l, in the sizes asked for: what is between it and
    clis_l is the scoring alone, and what is between it and average the sizes alone. clis_l_minus_average and
    clis_l_minus_average_as_asked: the paired differences.

    pictures: [N] the number of each pair's picture. Intervals are 95 %, of a bootstrap over pictures, since the pairs
    of one tell of each other (left of and right of are the same two boxes); without them, over pairs. Raises ValueError
    where no pair can be swapped.
    """
    rows_ = [row for row, one in enumerate(triplets) if can_be_swapped(one)]
    triplets, pairs = [triplets[row] for row in rows_], np.asarray(pairs)[rows_]
    swapped = pairs[:, ::-1]
    ways = {"clis_l": [judge.raw(triplets, some)[1] for some in (pairs, swapped)]}
    averages = ("average", "average_exact", "average_as_asked")
    ways |= {name: [np.zeros(len(pairs)) for _ in range(2)] for name in averages}
    for triplet, rows in _grouped(triplets).items():
        known, references = judge.look_up.priors, judge.look_up(triplet)
        exact = known.boxes[known.rows(triplet)]
        sources = (features(references.boxes), features(exact), as_asked(references))
        for name, against in zip(averages, sources, strict=True):
            for out, some in zip(ways[name], (pairs, swapped), strict=True):
                if len(against.area):
                    out[rows] = averaged(features(some[rows]), against, triplet[1] in SYMMETRIC, judge.rules)
    right = {name: (first > second) + 0.5 * (first == second) for name, (first, second) in ways.items()}
    right |= {f"clis_l_minus_{name}": right["clis_l"] - right[name] for name in ("average", "average_as_asked")}
    of = None if pictures is None else np.asarray(pictures)[rows_]
    return {name: _over_pictures(values, of) for name, values in right.items()}


def _over_pictures(values: Float[Array, " N"], pictures: Int[Array, " N"] | None) -> Interval:
    """The mean with its bootstrap interval, pictures resampled whole."""
    if not len(values):
        raise ValueError("no pair can be swapped")
    each, cell = np.unique(values, return_inverse=True)
    counts = resampled_counts(cell, len(each), pictures)
    low, high = np.percentile(counts @ each / counts.sum(1), [2.5, 97.5])
    return Interval(float(values.mean()), float(low), float(high))
