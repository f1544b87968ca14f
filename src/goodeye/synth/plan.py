"""What to draw, without a large model: combinations of concepts and where they stand, sampled from the priors.

Every pair of a plan stands as some real pair does, moved and scaled; a third thing joins by a real pair of which one is
there already. The synth paper samples combinations so (section 3.1); sampling the layouts, too, is ours.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from goodeye.errors import BadInput
from goodeye.synth.layout import Layout, Relation, Thing, keys_of, with_article, wrong_with
from goodeye.synth.priors import Priors

Array = np.ndarray[Any, Any]
TRIES = 12  # places tried for one more thing
SMALLEST = 0.03  # side of a box in a plan
CROWDED = 0.5  # overlap (IoU) from which two boxes are too close


@dataclass(frozen=True, kw_only=True)
class Planning:
    """How plans are sampled. Ours, where the paper says nothing."""

    things: tuple[int, int] = (2, 4)  # in a picture, at least and at most
    tail: float = 0.3  # share of the pictures that begin with a rare concept
    rare: int = 10  # a concept in at most so many pairs of the priors is rare
    jitter: float = 0.1  # how far a real pair is scaled and moved
    seed: int = 0

    def __post_init__(self) -> None:
        if not (1 <= self.things[0] <= self.things[1] <= 20 and 0 <= self.tail <= 1 and 0 <= self.jitter < 1):
            raise BadInput("a plan has 1 to 20 things, a tail from 0 to 1 and a jitter below 1. Correct them.")
        if self.rare < 0 or self.seed < 0:
            raise BadInput(f"rare is {self.rare} and the seed {self.seed}. Give 0 or more.")


Concepts = Mapping[str, Sequence[str]]  # a category and the attributes that it may have


def read_concepts(path: str | Path) -> dict[str, tuple[str, ...]]:
    """A category a line, with attributes to choose from after a colon: `mug: red, blue`. # begins a remark.

    Raises BadInput where there are none, and for one that is listed twice.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read as concepts. Give a text file with one a line.") from error
    found: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(lines, 1):
        name, _, rest = line.partition("#")[0].partition(":")
        if name := " ".join(name.split()):
            if name in found:
                raise BadInput(f"{path} lists {name!r} again on line {number}. Write it once, with all its attributes.")
            found[name] = tuple(" ".join(one.split()) for one in rest.split(",") if one.strip())
    if not found:
        raise BadInput(f"{path} holds no concepts. Write one a line.")
    return found


def begin_with(frequency: Mapping[str, int], count: int, tail: float, rare: int) -> list[str]:
    """The concept that each of `count` pictures begins with: `tail` of them rare ones in equal shares, the others by
    how often they are in the priors. Shares are kept to the whole number, not left to chance.
    """
    few = {name: 1 for name, times in frequency.items() if times <= rare}
    many = {name: times for name, times in frequency.items() if times > rare}
    begun = round(count * (tail if few and many else bool(few)))
    return _shared(few, begun) + _shared(many, count - begun)


def _shared(weights: Mapping[str, float], count: int) -> list[str]:
    """Names as often as their weights say, by largest remainders."""
    total = sum(weights.values())
    exact = {name: count * weight / total for name, weight in weights.items()} if total else {}
    times = {name: math.floor(one) for name, one in exact.items()}
    for name in sorted(exact, key=lambda one: (times[one] - exact[one], one))[: count - sum(times.values())]:
        times[name] += 1
    return [name for name, often in times.items() for _ in range(often)]


def plan(priors: Priors, concepts: Concepts, count: int, planning: Planning | None = None) -> list[Layout]:
    """`count` layouts of the concepts; the same ones for the same seed.

    A concept that stands in no relation to another of them comes alone. Raises BadInput for one that the priors do not
    know, with the nearest that they do.
    """
    planning = planning or Planning()
    if count < 1:
        raise BadInput(f"{count} layouts are asked for. Ask for 1 or more.")
    priors.require(concepts)
    frequency = {name: priors.frequency[name] for name in concepts}
    partners = _partners(priors, set(concepts))
    begun = begin_with(frequency, count, planning.tail, planning.rare)
    order = np.random.default_rng(planning.seed).permutation(len(begun))
    return [
        _one(
            priors,
            concepts,
            begun[at],
            partners,
            f"{number:06d}",
            planning,
            np.random.default_rng((planning.seed, number)),
        )
        for number, at in enumerate(order)
    ]


def _partners(priors: Priors, concepts: set[str]) -> dict[str, list[int]]:
    """For each concept the triplets that relate it to a concept."""
    found: dict[str, list[int]] = {name: [] for name in concepts}
    for t in range(len(priors.triplets)):
        subject, _, other = priors.names(t)
        if subject in concepts and other in concepts:
            for name in {subject, other}:
                found[name].append(t)
    return found


def _one(
    priors: Priors,
    concepts: Concepts,
    first: str,
    partners: Mapping[str, Sequence[int]],
    key: str,
    planning: Planning,
    random: np.random.Generator,
) -> Layout:
    wanted = int(random.integers(planning.things[0], planning.things[1] + 1))
    names, boxes = [first], [_begin(priors, first, partners[first], planning, random)]
    related: list[tuple[int, str, int]] = []
    for _ in range(TRIES * wanted):
        if len(names) >= wanted:
            break
        anchor = int(random.integers(len(names)))
        if joined := _join(priors, names[anchor], boxes[anchor], partners[names[anchor]], planning, random):
            name, box, relation, is_subject = joined
            if not wrong_with(box) and min(box[2:]) >= SMALLEST and all(_iou(box, one) < CROWDED for one in boxes):
                related.append((len(names), relation, anchor) if is_subject else (anchor, relation, len(names)))
                names.append(name)
                boxes.append(box)
    keys = keys_of(names)
    things = tuple(
        Thing(key=keys[at], category=name, box=box, attributes=_attribute(concepts[name], random))
        for at, (name, box) in enumerate(zip(names, boxes, strict=True))
    )
    relations = tuple(Relation(keys[s], relation, keys[o]) for s, relation, o in related)
    return Layout(key=key, things=things, relations=relations, caption=caption_of(things, relations))


Corner = tuple[float, float, float, float]


def _begin(
    priors: Priors, name: str, triplets: Sequence[int], planning: Planning, random: np.random.Generator
) -> Corner:
    """The box of the first thing: a real one's, moved and scaled a little and kept in the frame."""
    t, pair = _drawn(priors, triplets or priors.of_category(name).tolist(), random)
    box = pair[0] if priors.names(t)[0] == name else pair[1]
    scale = 1 + planning.jitter * float(random.uniform(-1, 1))
    width, height = (min(1.0, max(SMALLEST, float(side) * scale)) for side in box[2:])
    move = planning.jitter * random.uniform(-1, 1, 2) * (width, height)
    x, y = (float(np.clip(box[i] + move[i], 0, 1 - side)) for i, side in enumerate((width, height)))
    return x, y, width, height


def _join(
    priors: Priors,
    anchor: str,
    there: Corner,
    triplets: Sequence[int],
    planning: Planning,
    random: np.random.Generator,
) -> tuple[str, Corner, str, bool] | None:
    """One more thing beside one that is there, as in a real pair: its name, box, the relation, and whether it is the
    relation's subject."""
    if not triplets:
        return None
    t, pair = _drawn(priors, triplets, random)
    subject, relation, other = priors.names(t)
    is_subject = other == anchor and (subject != anchor or bool(random.integers(2)))
    new, old = (pair[0], pair[1]) if is_subject else (pair[1], pair[0])
    scale = math.sqrt(there[2] * there[3] / float(old[2] * old[3])) * (
        1 + planning.jitter * float(random.uniform(-1, 1))
    )
    middle = [
        there[i] + there[i + 2] / 2 + scale * float(new[i] + new[i + 2] / 2 - old[i] - old[i + 2] / 2) for i in (0, 1)
    ]
    width, height = scale * float(new[2]), scale * float(new[3])
    return (
        subject if is_subject else other,
        (middle[0] - width / 2, middle[1] - height / 2, width, height),
        relation,
        is_subject,
    )


def _drawn(priors: Priors, triplets: Sequence[int], random: np.random.Generator) -> tuple[int, Float[Array, "2 4"]]:
    """A triplet, by the root of how often it occurs, so that no two categories fill all pictures; and a real pair."""
    weights = np.sqrt(priors.counts[list(triplets)])
    t = triplets[int(random.choice(len(triplets), p=weights / weights.sum()))]
    return t, priors.boxes[int(random.integers(priors.starts[t], priors.starts[t + 1]))]


def _iou(first: Corner, second: Corner) -> float:
    across = min(first[0] + first[2], second[0] + second[2]) - max(first[0], second[0])
    down = min(first[1] + first[3], second[1] + second[3]) - max(first[1], second[1])
    shared = max(0.0, across) * max(0.0, down)
    return shared / (first[2] * first[3] + second[2] * second[3] - shared)


def _attribute(known: Sequence[str], random: np.random.Generator) -> tuple[str, ...]:
    return (known[int(random.integers(len(known)))],) if known else ()


def caption_of(things: Sequence[Thing], relations: Sequence[Relation]) -> str:
    """The layout in words, every thing named: "A red mug left of a book, a lamp near the red mug"."""
    by_key, named = {one.key: one for one in things}, set[str]()

    def words(key: str) -> str:
        text = by_key[key].text
        known = key in named
        named.add(key)
        return f"the {text}" if known else with_article(text)

    said = [f"{words(one.subject)} {one.relation} {words(one.object)}" for one in relations]
    said += [words(one.key) for one in things if one.key not in named]
    whole = ", ".join(said)
    return whole[:1].upper() + whole[1:]
