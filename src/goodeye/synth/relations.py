"""How things stand to each other: relations that two boxes show by themselves, and those that a caption says.

The rules of `relations_between` are ours; docs/synth.md has them as a table.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

Array = np.ndarray[Any, Any]
Boxes = Float[Array, "... 4"]  # x, y, width, height
Triplet = tuple[str, str, str]  # subject, relation, object

RELATIONS = ("inside", "on", "above", "below", "left of", "right of", "near")
NONE = -1
# A picture of these and its mirror image show the same: only for them may a direction be mirrored.
SYMMETRIC = frozenset({"near", "next to", "beside", "by", "with", "and", "touching"})

# What a caption says between two things, by the relation that it is; the longest phrase that fits counts.
SAID: dict[str, tuple[str, ...]] = {
    "on": ("on", "on top of", "onto", "atop", "sitting on", "standing on", "lying on", "laying on"),
    "riding": ("riding", "riding on", "rides"),
    "holding": ("holding", "carrying", "holds"),
    "wearing": ("wearing", "wears"),
    "inside": ("in", "inside", "inside of", "sitting in", "into"),
    "above": ("above", "over", "hanging over"),
    "below": ("below", "under", "underneath", "beneath"),
    "left of": ("left of", "to the left of", "on the left of"),
    "right of": ("right of", "to the right of", "on the right of"),
    "near": ("near", "next to", "beside", "by", "close to", "alongside"),
    "behind": ("behind", "in back of"),
    "in front of": ("in front of",),
}
PHRASES = {phrase: relation for relation, phrases in SAID.items() for phrase in phrases}
PEOPLE = ("man", "woman", "boy", "girl", "child", "men", "women", "children", "people", "lady", "guy", "player")
BETWEEN = 6  # words between two things of a caption, at most
_SAID = re.compile(r"\b(" + "|".join(sorted(map(re.escape, PHRASES), key=len, reverse=True)) + r")\b")
_BREAK = re.compile(r"[.;!?]")


def relations_between(boxes: Float[Array, "N 4"]) -> Int[Array, "N N"]:
    """The relation of each thing (row) to each other one (column), an index into RELATIONS or NONE.

    Of those that hold, the first in the order of RELATIONS is taken; `near` only where neither way has another.
    """
    x, y, width, height = np.asarray(boxes, dtype=float).T
    right, bottom = x + width, y + height
    across = np.minimum.outer(right, right) - np.maximum.outer(x, x)  # overlap, negative for a gap
    down = np.minimum.outer(bottom, bottom) - np.maximum.outer(y, y)
    area = width * height
    shared = across.clip(0) * down.clip(0)
    inside = (shared >= 0.9 * area[:, None]) & (area[:, None] <= 0.5 * area[None])
    over = across >= 0.5 * width[:, None]
    foot, top = bottom[:, None], y[None]
    on = over & (foot >= top - 0.05 * height) & (foot <= top + 0.5 * height) & ((y + height / 2)[:, None] < top)
    above = (across >= 0.5 * np.minimum.outer(width, width)) & (foot <= top)
    left = (
        (right[:, None] <= x[None] + 0.25 * np.minimum.outer(width, width))
        & (down >= 0.25 * np.minimum.outer(height, height))
        & (x[:, None] < x[None])
    )
    found = np.full((len(area), len(area)), NONE)
    for holds, name in reversed(
        [(inside, "inside"), (on, "on"), (above, "above"), (above.T, "below"), (left, "left of"), (left.T, "right of")]
    ):
        found[holds] = RELATIONS.index(name)
    close = (
        _distances(x + width / 2, y + height / 2) <= np.add.outer(np.hypot(width, height), np.hypot(width, height)) / 2
    )
    found[close & (found == NONE) & (found.T == NONE)] = RELATIONS.index("near")
    np.fill_diagonal(found, NONE)
    return found


def _distances(x: Array, y: Array) -> Array:
    return np.asarray(np.hypot(np.subtract.outer(x, x), np.subtract.outer(y, y)))


def related(names: Sequence[str], boxes: Float[Array, "N 4"]) -> tuple[list[Triplet], Float[Array, "P 2 4"]]:
    """The triplets that the boxes of these things show, with the boxes of subject and object."""
    boxes = np.asarray(boxes, dtype=np.float32).reshape(-1, 4)
    found = relations_between(boxes)
    subjects, objects = np.nonzero(found != NONE)
    triplets = [
        (names[s], RELATIONS[found[s, o]], names[o]) for s, o in zip(subjects.tolist(), objects.tolist(), strict=True)
    ]
    return triplets, np.stack([boxes[subjects], boxes[objects]], 1)


def said_in(caption: str, categories: Sequence[str]) -> list[Triplet]:
    """The triplets that a caption says: two categories one after the other, and a phrase of PHRASES between them."""
    text = caption.lower()
    mentions = _mentions(text, categories)
    triplets = []
    for (_, end, subject), (start, _, other) in zip(mentions, mentions[1:], strict=False):
        between = text[end:start]
        said = _SAID.findall(between)
        if said and subject != other and len(between.split()) <= BETWEEN and not _BREAK.search(between):
            triplets.append((subject, PHRASES[said[0]], other))
    return triplets


def _mentions(text: str, categories: Sequence[str]) -> list[tuple[int, int, str]]:
    """Where categories are named, in order: start, end, category. The longest name counts: hot dog is no dog."""
    words = {name.lower(): name for name in categories} | {f"{name.lower()}s": name for name in categories}
    if "person" in categories:
        words |= dict.fromkeys(PEOPLE, "person")
    pattern = "|".join(sorted(map(re.escape, words), key=len, reverse=True))
    return [(m.start(), m.end(), words[m.group()]) for m in re.finditer(rf"\b(?:{pattern})\b", text)] if words else []


def nearest_pair(
    boxes: Mapping[str, Sequence[Sequence[float]]], subject: str, other: str
) -> Float[Array, "2 4"] | None:
    """Of the things of two categories the two whose centres are nearest; None where one is absent."""
    if not boxes.get(subject) or not boxes.get(other):
        return None
    first, second = (np.asarray(boxes[name], dtype=np.float32) for name in (subject, other))
    apart = (first[:, None, :2] + first[:, None, 2:] / 2) - (second[None, :, :2] + second[None, :, 2:] / 2)
    one, two = np.unravel_index((apart**2).sum(-1).argmin(), apart.shape[:2])
    return np.stack([first[one], second[two]])
