"""Plans from the priors: the shares asked for, things as in real pictures, and the same for the same seed."""

from collections import Counter

import numpy as np
import pytest

from goodeye.errors import BadInput
from goodeye.synth.clis_l import ClisL
from goodeye.synth.layout import Layout, layout_of
from goodeye.synth.plan import Planning, begin_with, caption_of, plan, read_concepts

CONCEPTS = dict.fromkeys(("person", "skateboard", "dog", "cup", "dining table", "bowl", "car", "chair"), ())


@pytest.fixture(scope="module")
def plans(real_priors):
    return plan(real_priors, CONCEPTS, 150, Planning(seed=3))


def test_shares_are_kept_to_the_whole_number():
    frequency = {"person": 900, "dog": 300, "unicycle": 3, "harp": 1}
    counts = Counter(begin_with(frequency, 100, tail=0.3, rare=10))
    assert counts == {"person": 52, "dog": 18, "unicycle": 15, "harp": 15}  # 70 as 3 to 1, 30 evenly
    assert Counter(begin_with(frequency, 100, 0.0, 10)) == {"person": 75, "dog": 25}
    assert Counter(begin_with({"harp": 1, "unicycle": 3}, 7, 0.3, 10)) == {"harp": 4, "unicycle": 3}
    assert Counter(begin_with({"person": 900}, 7, 0.3, 10)) == {"person": 7}
    assert [len(begin_with(frequency, n, 0.37, 10)) for n in range(20)] == list(range(20))


def test_the_tail_gets_its_share_of_the_plans(real_priors):
    frequency = {name: real_priors.frequency[name] for name in CONCEPTS}
    rare = min(frequency, key=frequency.get)

    few = {name for name, times in frequency.items() if times <= frequency[rare]}

    def share(tail):
        made = plan(real_priors, CONCEPTS, 60, Planning(tail=tail, rare=frequency[rare]))
        return np.mean([not few.isdisjoint(thing.category for thing in one.things) for one in made])

    assert share(0.5) >= 0.5 > 0.25 > share(0.0)


def test_every_plan_is_a_layout_that_can_be_used(plans):
    assert len({one.key for one in plans}) == 150
    for one in plans:
        assert layout_of(one.to_json(), "here") == one
        assert 1 <= len(one.things) <= 4 and len(one.relations) == len(one.things) - 1
        assert {thing.category for thing in one.things} <= set(CONCEPTS)
        assert all(thing.category in one.caption.lower() for thing in one.things)
    assert np.mean([len(one.things) >= 2 for one in plans]) > 0.9


def test_the_same_seed_plans_the_same_and_another_does_not(real_priors, plans):
    assert plan(real_priors, CONCEPTS, 150, Planning(seed=3)) == plans
    assert plan(real_priors, CONCEPTS, 150, Planning(seed=4)) != plans


def test_planned_pairs_are_as_typical_as_real_ones_and_more_than_random_boxes(real_priors, plans):
    judge = ClisL.fit(real_priors)
    random = np.random.default_rng(0)

    def shaken(one):
        things = []
        for thing in one.things:
            width, height = random.uniform(0.05, 0.5, 2)
            box = (random.uniform(0, 1 - width), random.uniform(0, 1 - height), width, height)
            things.append({**vars(thing), "box": list(map(float, box))})
        return layout_of({**one.to_json(), "things": things}, "here")

    related = [one for one in plans if one.relations]
    scores = [score.score for score in judge.score(related)]
    lost = [score.score for score in judge.score([shaken(one) for one in related])]
    assert np.mean(scores) > 45 and np.mean(scores) > np.mean(lost) + 15


def test_a_concept_without_partners_comes_alone(real_priors):
    made = plan(real_priors, {"elephant": ()}, 3, Planning(things=(1, 1)))
    assert [[thing.category for thing in one.things] for one in made] == [["elephant"]] * 3
    assert made[0].caption == "An elephant"


def test_attributes_are_those_of_the_concept(real_priors):
    made = plan(real_priors, {"cup": ("red", "blue"), "bowl": ()}, 40)
    seen = {(thing.category, thing.attributes) for one in made for thing in one.things}
    assert seen == {("cup", ("red",)), ("cup", ("blue",)), ("bowl", ())}


def test_a_caption_names_a_thing_again_with_the():
    layout = layout_of(
        {
            "key": "a",
            "things": [
                {"key": "mug-1", "category": "mug", "box": [0, 0, 0.1, 0.1], "attributes": ["red"]},
                {"key": "orange-1", "category": "orange", "box": [0.2, 0, 0.1, 0.1]},
                {"key": "lamp-1", "category": "lamp", "box": [0.4, 0, 0.1, 0.1]},
            ],
            "relations": [{"subject": "mug-1", "relation": "left of", "object": "orange-1"},
                          {"subject": "lamp-1", "relation": "near", "object": "mug-1"}],
        },
        "here",
    )  # fmt: skip
    assert isinstance(layout, Layout)
    assert caption_of(layout.things, layout.relations) == "A red mug left of an orange, a lamp near the red mug"


def test_concepts_are_read_and_unknown_ones_told(tmp_path, real_priors):
    file = tmp_path / "c.txt"
    file.write_text("# mine\nmug: red,  light blue\n\n dining  table # large\n")
    assert read_concepts(file) == {"mug": ("red", "light blue"), "dining table": ()}
    with pytest.raises(BadInput, match="mug is not in the priors. The nearest that are"):
        plan(real_priors, read_concepts(file), 3)
    file.write_text("# nothing\n")
    with pytest.raises(BadInput, match="holds no concepts"):
        read_concepts(file)
    with pytest.raises(BadInput, match="cannot be read"):
        read_concepts(tmp_path / "none.txt")
    with pytest.raises(BadInput, match="1 to 20 things"):
        Planning(things=(3, 2))


@pytest.mark.parametrize(
    "wrong",
    [{"things": (0, 2)}, {"things": (-3, 2)}, {"tail": float("nan")}, {"tail": -0.1}, {"jitter": float("nan")},
     {"rare": -1}, {"seed": -1}],
)  # fmt: skip
def test_what_no_plan_can_be_is_refused(wrong):
    with pytest.raises(BadInput, match=r"Correct them|Give 0 or more"):
        Planning(**wrong)


def test_a_byte_order_mark_is_no_part_of_a_concept(tmp_path):
    (tmp_path / "c.txt").write_bytes("mug: red\n".encode("utf-8-sig"))
    assert read_concepts(tmp_path / "c.txt") == {"mug": ("red",)}


@pytest.mark.parametrize("count", [0, -5])
def test_no_layouts_are_not_planned(real_priors, count):
    with pytest.raises(BadInput, match=f"{count} layouts are asked for"):
        plan(real_priors, {"person": ()}, count)


def test_a_concept_that_is_listed_twice_is_refused(tmp_path):
    (tmp_path / "c.txt").write_text("mug: red\nvase\nmug: blue  # again\n")
    with pytest.raises(BadInput, match="lists 'mug' again on line 3"):
        read_concepts(tmp_path / "c.txt")
