"""Relations that boxes show, each on boxes whose relation a person sees at once; and what captions say."""

import json
from collections import Counter

import numpy as np
import pytest

from goodeye.synth.relations import NONE, RELATIONS, nearest_pair, related, relations_between, said_in

TABLE = (0.1, 0.5, 0.8, 0.4)


def between(first, second):
    found = relations_between(np.array([first, second]))
    return tuple("" if found[i, j] == NONE else RELATIONS[found[i, j]] for i, j in ((0, 1), (1, 0)))


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((0.3, 0.6, 0.1, 0.1), TABLE, ("inside", "")),
        ((0.3, 0.3, 0.1, 0.22), TABLE, ("on", "")),  # its foot stands just below the table's far edge
        ((0.3, 0.1, 0.1, 0.2), TABLE, ("above", "below")),  # a lamp hangs over it
        ((0.1, 0.4, 0.2, 0.3), (0.6, 0.45, 0.2, 0.3), ("left of", "right of")),
        ((0.1, 0.4, 0.3, 0.3), (0.3, 0.4, 0.3, 0.3), ("near", "near")),  # they overlap by a third
        ((0.0, 0.0, 0.1, 0.1), (0.9, 0.9, 0.1, 0.1), ("", "")),  # in two corners
    ],
)
def test_two_boxes_show_what_a_person_sees(first, second, expected):
    assert between(first, second) == expected
    assert between(second, first) == expected[::-1]


def test_many_boxes_at_once_are_as_each_two_alone():
    boxes = np.random.default_rng(0).uniform(0.05, 0.5, (12, 4))
    whole = relations_between(boxes)
    assert (whole.diagonal() == NONE).all()
    for i in range(12):
        for j in range(i + 1, 12):
            assert between(boxes[i], boxes[j]) == tuple(
                "" if whole[a, b] == NONE else RELATIONS[whole[a, b]] for a, b in ((i, j), (j, i))
            )


def test_a_mirrored_picture_shows_the_mirrored_relations():
    boxes = np.random.default_rng(1).uniform(0.05, 0.5, (20, 4))
    mirrored = boxes.copy()
    mirrored[:, 0] = 1 - boxes[:, 0] - boxes[:, 2]
    swapped = {"left of": "right of", "right of": "left of"}
    names = [*RELATIONS, ""]
    seen, there = relations_between(boxes), relations_between(mirrored)
    assert [swapped.get(names[r], names[r]) for r in seen.ravel()] == [names[r] for r in there.ravel()]


def test_real_boxes(coco128):
    """Facts of the world, in photographs: a surfer stands on the board more often than the other way round."""
    data = json.loads(coco128.read_text())
    names = {one["id"]: one["name"] for one in data["categories"]}
    counts = Counter()
    for image in data["images"]:
        boxes = [(names[a["category_id"]], a["bbox"]) for a in data["annotations"] if a["image_id"] == image["id"]]
        if len(boxes) > 1:
            counts.update(related([name for name, _ in boxes], np.array([box for _, box in boxes]))[0])
    assert counts["tie", "inside", "person"] > counts["person", "inside", "tie"] == 0
    assert counts["tie", "inside", "person"] >= 3
    left, right = (
        sum(n for (_, relation, _), n in counts.items() if relation == way) for way in ("left of", "right of")
    )
    assert left == right > 1000


def test_a_caption_says_relations_of_known_things():
    known = ["person", "dog", "hot dog", "surfboard", "bench", "cat"]
    assert said_in("A man riding on a surfboard.", known) == [("person", "riding", "surfboard")]
    assert said_in("Two dogs on top of a bench next to a cat", known) == [
        ("dog", "on", "bench"),
        ("bench", "near", "cat"),
    ]
    assert said_in("A cat to the left of a hot dog", known) == [("cat", "left of", "hot dog")]
    assert said_in("A dog sleeps. On the bench is a cat", known) == []
    assert said_in("A dog with its head held high and proud looks on towards the cat", known) == []
    assert said_in("A dog and a cat", known) == [] == said_in("anything", [])


def test_of_many_things_the_nearest_two_are_meant():
    boxes = {"dog": [(0, 0, 0.1, 0.1), (0.5, 0.5, 0.1, 0.1)], "cat": [(0.6, 0.5, 0.1, 0.1)]}
    assert np.allclose(nearest_pair(boxes, "dog", "cat"), [(0.5, 0.5, 0.1, 0.1), (0.6, 0.5, 0.1, 0.1)])
    assert nearest_pair(boxes, "dog", "bird") is None
