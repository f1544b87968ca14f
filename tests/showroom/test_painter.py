"""The renderer as a generator of layouts: things where they were asked for, faults of known kinds, exact masks."""

from collections import Counter

import numpy as np
import pytest

from goodeye.diffusion.batch import attempt_seed
from goodeye.errors import BadInput
from goodeye.showroom import layouts as L
from goodeye.showroom.painter import FAULTS, Painter, painted, truly_there
from goodeye.synth.layout import Layout, Relation, Thing
from goodeye.synth.masks import box_around

WHOLE = L.layouts(60, seed=4)
TWO = Layout(
    key="a",
    things=(
        Thing(key="ball-1", category="ball", box=(0.1, 0.5, 0.25, 0.25), attributes=("red",)),
        Thing(key="lamp-1", category="lamp", box=(0.6, 0.3, 0.15, 0.4), attributes=("blue",)),
    ),
)


def test_things_are_drawn_where_they_were_asked_for():
    drawn = Painter(size=64).render(WHOLE[:6], range(6))
    for layout, seed in zip(WHOLE[:6], range(6), strict=True):
        for thing, item in zip(layout.things, painted(layout, seed).arrangement.items, strict=True):
            assert (item.category, item.colour) == (thing.category, thing.attributes[0])
            x, y, w, h = item.whole()
            assert (x + w / 2, y + h) == pytest.approx((thing.box[0] + thing.box[2] / 2, thing.box[1] + thing.box[3]))
            assert w * h == pytest.approx(thing.box[2] * thing.box[3])
    assert drawn.image.shape == (6, 3, 64, 64)


def test_a_picture_depends_on_its_seed_alone():
    paint = Painter(faults=0.4, size=64)
    both = paint([TWO, WHOLE[0]], [5, 6])
    assert (both[:1] - paint([TWO], [5])).abs().max() < 1e-6
    assert (both[:1] - paint([TWO], [7])).abs().max() > 0.1


def test_faults_are_as_many_and_of_the_kinds_that_were_asked_for():
    found = [(layout, painted(layout, seed, 0.4)) for seed, layout in enumerate(WHOLE)]
    kinds = Counter(kind for _, one in found for kind in one.faults.values())
    things = sum(len(layout.things) for layout in WHOLE)
    assert set(kinds) == set(FAULTS) and 0.3 < sum(kinds.values()) / things < 0.5
    for seed, (layout, one) in enumerate(found):
        assert truly_there(layout, seed, 0.4).tolist() == [at not in one.faults for at in range(len(layout.things))]
        for place, item in zip(one.places, one.arrangement.items, strict=True):
            thing, fault = layout.things[place], one.faults.get(place)
            assert (item.category != thing.category) == (fault == "category")
            assert (item.colour != thing.attributes[0]) == (fault == "colour")
            if fault == "moved":
                assert abs(item.x - thing.box[0] - thing.box[2] / 2) > 0.01
        assert all(one.faults[at] == "missing" for at in range(len(layout.things)) if at not in one.places)


def test_masks_are_exact():
    painter = Painter(size=64)
    first, second = painter.masker(9)([None, None], [TWO, TWO], ["a-1", "a-2"])
    assert len(first) == len(second) == 2
    for mask, thing in zip(first, TWO.things, strict=True):
        assert mask is not None and mask.shape == (64, 64)
        x, y, w, h = box_around(mask)
        assert abs(x + w / 2 - thing.box[0] - thing.box[2] / 2) < 0.06
        assert abs(y + h - thing.box[1] - thing.box[3]) < 0.06
    image = painter([TWO], [attempt_seed(9, "a", 1, 1)])[0].numpy()
    red = image[:, first[0]].mean(1)
    assert red[0] > 1.5 * red[1:].max() and not np.array_equal(first[0], first[1])


def test_what_stands_on_something_is_in_front_of_it():
    on = Layout(
        key="b",
        things=(
            Thing(key="mug-1", category="mug", box=(0.45, 0.42, 0.1, 0.1)),
            Thing(key="bar-1", category="bar", box=(0.2, 0.5, 0.6, 0.4)),
        ),
        relations=(Relation("mug-1", "on", "bar-1"),),
    )
    mug, bar = painted(on, 1).arrangement.items
    assert mug.depth > bar.depth


def test_a_category_that_the_showroom_has_not_is_told():
    zebra = Layout(key="z", things=(Thing(key="zebra-1", category="zebra", box=(0.1, 0.1, 0.3, 0.3)),))
    with pytest.raises(BadInput, match="the showroom has no zebra to draw. It has bar, couch"):
        Painter()([zebra], [1])


@pytest.mark.parametrize("share", [-0.1, 7, float("nan")])
def test_a_share_of_faults_that_is_none_is_told(share):
    with pytest.raises(BadInput, match="Give 0 to 1"):
        Painter(faults=share)
