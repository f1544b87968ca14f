"""Layouts of several things: facts by seed, relations that are so, boxes and masks that are exact."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from goodeye.errors import BadInput
from goodeye.showroom import layouts as L
from goodeye.synth.layout import layout_of, read_layouts
from goodeye.synth.sources import read_coco

MANY = [L.sample(11, index) for index in range(150)]


@pytest.fixture(scope="module")
def drawn():
    return L.render(MANY[:24])


def test_the_same_seed_gives_the_same_and_another_does_not():
    assert [L.sample(11, index) for index in range(10)] == MANY[:10] != [L.sample(12, index) for index in range(10)]
    again = L.render(MANY[:6])
    assert torch.equal(again.image, L.render(MANY[:6]).image)


def test_a_layout_is_the_same_in_whatever_batch_it_is_drawn(drawn):
    alone = L.render(MANY[9:10])
    assert (alone.image[0] - drawn.image[9]).abs().max() < 1e-5
    assert all(np.array_equal(mask, drawn.masks[9][at]) for at, mask in alone.masks[0].items())


def test_things_stand_as_their_relations_say():
    seen = Counter()
    for one in MANY:
        for subject, relation, other in one.relations:
            first, second = one.items[subject], one.items[other]
            (x, _, w, _), (x2, y2, w2, _) = first.whole(), second.whole()
            seen[relation] += 1
            if relation == "left of":
                assert x + w <= x2 + 1e-6 and abs(first.foot - second.foot) < 0.02
            elif relation == "right of":
                assert x >= x2 + w2 - 1e-6 and abs(first.foot - second.foot) < 0.02
            elif relation == "on":
                assert second.category in L.FURNITURE and abs(first.foot - y2) < 0.03 and x >= x2 and x + w <= x2 + w2
            elif relation == "behind":
                assert first.foot < second.foot and first.depth < second.depth and x < x2 + w2 and x2 < x + w
            else:
                gap = max(x, x2) - min(x + w, x2 + w2)
                assert 0 <= gap < 0.03 and abs(first.foot - second.foot) < 0.07
    assert set(seen) == set(L.RELATIONS) and min(seen.values()) >= 20


def test_every_thing_is_in_the_frame_and_in_sight(drawn):
    for n, one in enumerate(drawn.arrangements):
        boxes = drawn.boxes(n)
        assert set(boxes) == set(range(len(one.items)))
        for at, (x, y, w, h) in boxes.items():
            whole = one.items[at].whole()
            assert x >= whole[0] - 0.02 and y >= whole[1] - 0.02  # nothing is drawn outside of the whole thing
            assert x + w <= whole[0] + whole[2] + 0.02 and y + h <= whole[1] + whole[3] + 0.02
            assert min(x, y) >= 0 and max(x + w, y + h) <= 1


def test_what_nothing_hides_has_its_whole_box(drawn):
    checked = 0
    for n, one in enumerate(drawn.arrangements):
        hidden = {s for s, relation, _ in one.relations if relation == "behind"} | {
            o for _, r, o in one.relations if r == "on"
        }
        for at, box in drawn.boxes(n).items():
            if at not in hidden and len(one.items) == 2 and not any(r == "behind" for _, r, _ in one.relations):
                checked += 1
                assert np.allclose(box, one.items[at].whole(), atol=0.03)
    assert checked >= 5


def test_masks_share_no_pixel_and_show_the_things_colour(drawn):
    for masks in drawn.masks:
        assert sum(mask.astype(int) for mask in masks.values()).max() <= 1
    bar = L.Item(category="bar", colour="red", variant=0.5, x=0.5, foot=0.8, scale=0.3, depth=0.7)
    made = L.render([replace(MANY[0], items=(bar,), relations=(), light="soft light")])
    pixels = made.image[0][:, torch.from_numpy(made.masks[0][0])]
    assert pixels[0].mean() > 2 * pixels[1].mean()


def test_the_tail_is_long_and_can_be_made_even():
    counts = Counter(item.category for one in MANY for item in one.items)
    head = sum(counts[name] for name in L.CATEGORIES[:6])
    assert head > sum(counts.values()) / 2
    even = Counter(item.category for i in range(150) for item in L.sample(3, i, L.long_tail(0)).items)
    assert len(even) == len(L.CATEGORIES) and max(even.values()) < 5 * np.mean(list(even.values()))


def test_captions_name_every_thing_and_relation():
    for one in MANY[:40]:
        assert all(f"{item.colour} {item.category}" in one.caption for item in one.items)
        assert all(relation in one.caption for _, relation, _ in one.relations) and one.light in one.caption


def test_layouts_are_those_of_synth(drawn):
    for n in range(6):
        one = drawn.layout(n, f"{n}")
        assert layout_of(one.to_json(), "here") == one and len(one.things) == len(MANY[n].items)
        assert one.caption == MANY[n].caption
    assert [one.key for one in L.layouts(3, seed=11)] == ["000000", "000001", "000002"]
    assert L.layouts(3, seed=11)[2].things[0].box == MANY[2].items[0].whole()
    assert L.layouts(0) == []
    for wrong in ({"count": -3}, {"count": 3, "seed": -1}):
        with pytest.raises(BadInput, match="Give 0 or more"):
            L.layouts(**wrong)


def test_a_folder_that_other_programs_read(tmp_path):
    L.render_folder(tmp_path, count=3, size=64, seed=11)
    written = read_layouts(tmp_path / "layouts.jsonl")
    pictures = read_coco(tmp_path / "instances.json")
    assert [one.key for one in written] == ["000000", "000001", "000002"]
    for layout, picture in zip(written, pictures, strict=True):
        assert (tmp_path / picture.file).exists() and picture.names == [thing.category for thing in layout.things]
        assert np.allclose(picture.boxes, [thing.box for thing in layout.things], atol=1e-6)
    data = json.loads((tmp_path / "instances.json").read_text())
    for one in data["annotations"]:
        assert sum(one["segmentation"]["counts"]) == 64 * 64 and sum(one["segmentation"]["counts"][1::2]) == one["area"]
    L.render_folder(tmp_path / "more", count=2, size=64, seed=11)
    assert (tmp_path / "more/images/000001.png").read_bytes() == (tmp_path / "images/000001.png").read_bytes()


@pytest.mark.parametrize("asked", [{"count": 0}, {"count": 1, "size": 0}])
def test_no_pictures_and_no_pixels_are_told(tmp_path, asked):
    with pytest.raises(BadInput, match="Give 1 picture or more"):
        L.render_folder(tmp_path / "out", **asked)
    assert not (tmp_path / "out").exists()
