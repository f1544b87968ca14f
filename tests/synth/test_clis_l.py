"""CLIS-L: the paper's terms against its formulas in scalars; a test for each fault of the published code, which fails
on the faulty formula; and what scores mean on real boxes."""

import math

import numpy as np
import pytest

from goodeye.errors import BadInput
from goodeye.synth.clis_l import (
    ClisL,
    Rules,
    Standard,
    alike,
    averaged,
    can_be_swapped,
    features,
    penalised,
    percentile,
    swap_test,
    terms,
    typical,
)
from goodeye.synth.layout import Layout, Relation, Thing
from goodeye.synth.priors import Gather

A = (0.1, 0.4, 0.2, 0.3)
RIGHT, FAR, OVER = (0.5, 0.4, 0.2, 0.3), (0.75, 0.4, 0.2, 0.3), (0.1, 0.02, 0.2, 0.3)


def pair(first, second):
    return features(np.array([[first, second]]))


TALL, WIDE = (0.1, 0.3), (0.3, 0.1)  # of one diagonal and one area


def beside(width, height, step=0.1):
    """Two boxes of one size, one to the right of the other."""
    return (0.2, 0.4, width, height), (0.2 + step, 0.4, width, height)


def held_against(layout, reference, symmetric=False):
    return [float(one[0, 0]) for one in terms(pair(*layout), pair(*reference), symmetric)]


def random_pairs(count, seed=0):
    return np.random.default_rng(seed).uniform(0.05, 0.5, (count, 2, 4))


# The formulas


def test_features_are_the_papers():
    found = pair((0.0, 0.0, 0.4, 0.4), (0.2, 0.2, 0.4, 0.2))
    assert found.area[0] == pytest.approx(0.16 / 0.08)
    assert found.iou[0] == pytest.approx(0.04 / (0.16 + 0.08 - 0.04))
    mean_diagonal = (math.hypot(0.4, 0.4) + math.hypot(0.4, 0.2)) / 2
    assert found.apart[0] == pytest.approx(math.hypot(0.2, 0.1) / mean_diagonal)
    assert found.way[0] == pytest.approx(np.array([0.2, 0.1]) / math.hypot(0.2, 0.1))


def test_similarity_is_equation_4():
    values = np.random.default_rng(0).uniform(0.01, 3, 50).astype(np.float32)
    expected = 1 - abs(values[:, None] - values) / np.maximum(values[:, None], values)
    assert alike(values, values) == pytest.approx(expected, abs=1e-5)


def test_the_penalty_is_the_papers_line():
    found = penalised(np.array([0.0, 0.015, 0.03, 0.5, 1.0], dtype=np.float32), 0.03)
    assert found == pytest.approx([-1, (-1 + 0.03) / 2, 0.03, 0.5, 1.0], abs=1e-6)


def test_the_best_match_is_the_layout_itself():
    assert held_against((A, RIGHT), (A, RIGHT)) == pytest.approx([1, 2, 1], abs=1e-6)


def test_percentiles_are_numpys():
    values = np.random.default_rng(0).normal(size=(7, 101)).astype(np.float32)
    for q in (0, 50, 98, 98.3, 100):
        assert percentile(values.copy(), q) == pytest.approx(np.percentile(values, q, axis=1), abs=1e-5)
    assert percentile(np.array([[3.0]], dtype=np.float32), 98) == pytest.approx([3])


def test_the_vectorised_score_is_the_loops(bench, tmp_path):
    made = bench("clis").main(["--layouts", "400", "--references", "300", "--part", "5", "--out", str(tmp_path / "b")])
    assert made["largest_difference"] < 1e-4 and made["ratio"] > 20 and (tmp_path / "b").exists()


@pytest.mark.prove
def test_ten_thousand_layouts_in_five_seconds_a_hundred_times_faster_than_a_loop(bench):
    made = bench("clis").main([])
    assert made["processor_seconds"] < 5 and made["ratio"] >= 100


# The faults of the published code. Each test holds the faulty formula to the same claim, and there it fails.


def test_near_and_far_pairs_do_not_score_alike():
    def faulty(layout, reference):  # the relative distance is computed and thrown away
        size, _, direction = held_against(layout, reference)
        return size + float(alike(pair(*layout).iou, pair(*reference).iou, 0.05)[0, 0]) + direction

    def ours(layout, reference):
        return sum(held_against(layout, reference))

    def claim(score):
        return score((A, RIGHT), (A, RIGHT)) > score((A, FAR), (A, RIGHT)) + 0.1

    assert claim(ours) and not claim(faulty)


def test_every_term_holds_the_layout_against_the_reference():
    def faulty(layout, reference):  # the predicted boxes stand on both sides of the IoU term
        apart = penalised(alike(pair(*layout).apart, pair(*reference).apart), 0.03)
        return float((penalised(alike(pair(*layout).iou, pair(*layout).iou, 0.05), 0.03) + apart)[0, 0])

    def ours(layout, reference):
        return held_against(layout, reference)[1]

    def claim(score):  # both stand .1 apart, but only wide ones overlap, by a third
        return score(beside(*WIDE), beside(*TALL)) < 1.2 < 1.99 < score(beside(*TALL), beside(*TALL))

    assert claim(ours) and not claim(faulty)
    assert ours(beside(*WIDE), beside(*TALL)) == pytest.approx(ours(beside(*TALL), beside(*WIDE)))  # eq 4: both ways


def test_the_penalty_is_given_once_and_is_bounded():
    bare = Rules(smooth=0.0)  # with it IoUs are never so unlike that they are penalised

    def faulty(layout, reference):  # the penalty of the IoU is given twice
        once = penalised(alike(pair(*layout).iou, pair(*reference).iou), bare.floor)
        apart = penalised(alike(pair(*layout).apart, pair(*reference).apart), bare.floor)
        return float((penalised(once, bare.floor) + apart)[0, 0])

    def ours(layout, reference):
        return float(terms(pair(*layout), pair(*reference), False, bare)[1][0, 0])

    def claim(score):  # never together against all but in one place: both parts are as unlike as can be
        return score((A, FAR), (A, A)) >= -2

    assert claim(ours) and not claim(faulty)
    for rules in (Rules(), bare):
        size, distance, direction = terms(features(random_pairs(50)), features(random_pairs(60, 1)), False, rules)
        assert size.min() >= -1 and distance.min() >= -2 and abs(direction).max() <= 1 + 1e-5
        assert size.max() <= 1 + 1e-5 and distance.max() <= 2 + 1e-5


def test_left_of_is_not_right_of():
    def faulty(layout, reference, symmetric=False):  # the better of the picture and its mirror image, always
        return held_against(layout, reference, True)[2]

    def ours(layout, reference, symmetric=False):
        return held_against(layout, reference, symmetric)[2]

    def claim(score):
        return score((RIGHT, A), (A, RIGHT)) == pytest.approx(-1)

    assert claim(ours) and not claim(faulty)
    assert ours((RIGHT, A), (A, RIGHT), True) == pytest.approx(1)  # near is near from either side
    assert ours((A, OVER), (A, RIGHT), True) == pytest.approx(0)  # but above is not beside


def test_no_overlap_and_hardly_any_are_nearly_alike():
    def faulty(layout, reference):  # equation 4 as it stands
        return float(terms(pair(*layout), pair(*reference), False, Rules(smooth=0.0))[1][0, 0])

    def ours(layout, reference):
        return held_against(layout, reference)[1]

    hardly = beside(*TALL, 0.0998)
    assert pair(*beside(*TALL)).iou[0] < 1e-6 and pair(*hardly).iou[0] == pytest.approx(0.001, abs=1e-5)

    def claim(score):
        return score(beside(*TALL), hardly) > 1.9 > 1.2 > score(beside(*TALL), beside(*WIDE))

    assert claim(ours) and not claim(faulty)


def test_a_relation_without_a_reference_is_judged_by_the_nearest_and_says_so():
    gather = Gather()
    random = np.random.default_rng(0)
    for number in range(300):  # things stand to the left of things of their size
        x, y, gap = random.uniform(0, 0.3), random.uniform(0.3, 0.5), random.uniform(0.02, 0.1)
        boxes = np.array([[(x, y, 0.2, 0.3), (x + 0.2 + gap, y, 0.2, 0.3)]])
        gather.add("test", number, [("cup", "left of", "plate")], boxes)
    judge = ClisL.fit(gather.priors())

    def layout(key, first, second):
        things = Thing(key="a", category="zebra", box=first), Thing(key="b", category="quilt", box=second)
        return Layout(key=key, things=things, relations=(Relation("a", "left of", "b"),))

    good, bad = judge.score([layout("good", A, (0.35, 0.4, 0.2, 0.3)), layout("bad", (0.35, 0.4, 0.2, 0.3), A)])
    assert {one.level for scored in (good, bad) for one in scored.pairs} == {"relation"}
    assert good.score > 50 > 10 > bad.score  # the published code gives both 0
    assert not good.reasons and "a left of b: their direction is unlike real ones" in bad.reasons
    assert bad.pairs[0].parts["direction"] < bad.pairs[0].parts["sizes"]


# On real boxes


@pytest.fixture(scope="module")
def judge(real_priors):
    return ClisL.fit(real_priors)


def test_fifty_is_the_median_real_pair(judge):
    levels, raw = judge.raw(*judge.held)
    near = [at for at, level in enumerate(levels) if level in ("exact", "similar")]
    scores = judge.ranked([levels[at] for at in near], raw[near])
    assert np.median(scores) == pytest.approx(50, abs=1) and scores.mean() == pytest.approx(50, abs=0.5)
    assert scores.min() >= 0 and scores.max() <= 100


def test_pictures_that_are_held_out_are_never_references(judge, real_priors):
    known = {pair.tobytes() for pair in judge.look_up.priors.boxes}
    assert not any(pair.tobytes() in known for pair in judge.held[1])
    assert len(judge.look_up.priors) < len(real_priors)


def test_real_pairs_score_above_random_boxes_and_above_themselves_swapped(judge):
    triplets, boxes = judge.held
    levels, raw = judge.raw(triplets, boxes)
    assert (raw > judge.raw(triplets, random_pairs(len(boxes)))[1]).mean() > 0.8
    swap = swap_test(judge, triplets, boxes)
    assert swap["clis_l"].mean > 0.75 and swap["clis_l"].low > 0.7 and swap["average"].mean > 0.5
    assert swap["clis_l"].mean <= 1
    plain = averaged(features(boxes[:3]), features(boxes[3:40]), False)
    assert plain == pytest.approx(sum(terms(features(boxes[:3]), features(boxes[3:40]), False)).mean(1), abs=1e-5)


def test_the_swap_tests_intervals_are_over_pictures(judge):
    """The same pairs twice tell nothing new; taken for others, they would make the intervals narrower."""
    (triplets, boxes), pictures = judge.held, judge.pictures
    assert len(pictures) == len(boxes) and not set(pictures) & set(judge.look_up.priors.pictures)
    alone = np.arange(len(boxes))
    once, twice, wrong = (
        swap_test(judge, [*triplets] * times, np.concatenate([boxes] * times), of)
        for times, of in ((1, alone), (2, np.tile(alone, 2)), (2, None))
    )
    for name in ("clis_l", "average", "average_exact", "clis_l_minus_average"):
        wide, same, narrow = (one[name].high - one[name].low for one in (once, twice, wrong))
        assert twice[name].mean == pytest.approx(once[name].mean)
        assert same == pytest.approx(wide, rel=0.15) and narrow == pytest.approx(wide / 2**0.5, rel=0.15)
    honest = swap_test(judge, triplets, boxes, pictures)["average_exact"]
    assert honest.high - honest.low > 1.5 * (once["average_exact"].high - once["average_exact"].low)
    with pytest.raises(ValueError, match="no pair can be swapped"):
        swap_test(judge, [("cup", "near", "cup")], boxes[:1])


def test_averaging_in_the_sizes_asked_for_differs_from_the_other_by_the_sizes_alone():
    """A cat is small beside whales, which is all that is known of "cat beside", and large beside a mouse."""
    gather, random, side = Gather(), np.random.default_rng(0), {"whale": 0.4, "cat": 0.15, "mouse": 0.05}

    def two(first, second, x=0.1, y=0.1):
        return [(x, y, side[first], side[first]), (x + side[first] + 0.02, y, side[second], side[second])]

    for number in range(800):
        first, relation, second = (
            ("cat", "beside", "whale"), ("whale", "beside", "cat"), ("mouse", "by", "whale"), ("whale", "by", "mouse")
        )[number % 4]  # fmt: skip
        pair = two(first, second, *random.uniform(0.05, 0.2, 2))
        gather.add("test", number, [(first, relation, second)], np.array([pair]))
    judge = ClisL.fit(gather.priors())
    found = swap_test(judge, [("cat", "beside", "mouse")], np.array([two("cat", "mouse")]), np.array([0]))
    assert found["clis_l"].mean == found["average_as_asked"].mean == 1
    assert found["average"].mean == 0 and found["average_exact"].mean == 0.5  # there are none of the very triplet
    assert found["clis_l_minus_average"].mean == 1 and found["clis_l_minus_average_as_asked"].mean == 0


def test_sizes_count_where_the_very_categories_never_met():
    """Whales and mice are each near cats; a whale by a mouse is judged by how large both are beside a cat."""
    gather, random = Gather(), np.random.default_rng(0)
    for number in range(600):
        large, (x, y) = bool(number % 2), random.uniform(0.1, 0.3, 2)
        side = (0.4 if large else 0.05) * random.uniform(0.9, 1.1)
        pair = np.array([[(x, y, side, side), (x + side + 0.02, y, 0.15, 0.15)]])
        gather.add("test", number, [("whale" if large else "mouse", "near", "cat")], pair)
    judge = ClisL.fit(gather.priors())
    whale, mouse = (0.1, 0.1, 0.4, 0.4), (0.52, 0.1, 0.05, 0.05)
    right, wrong = (
        judge.raw([("whale", "near", "mouse")], np.array([one]))[1] for one in ([whale, mouse], [mouse, whale])
    )
    assert right > wrong + 0.5


def test_boxes_are_only_swapped_where_that_is_another_layout():
    assert can_be_swapped(("cup", "near", "dog")) and can_be_swapped(("cup", "on", "cup"))
    assert not can_be_swapped(("cup", "near", "cup"))


def test_layouts_without_relations_take_those_of_their_boxes_and_alone_nothing_is_said(judge):
    person = Thing(key="p", category="person", box=(0.1, 0.2, 0.2, 0.7))
    other = Thing(key="q", category="person", box=(0.5, 0.2, 0.2, 0.7))
    two, one = judge.score([Layout(key="two", things=(person, other)), Layout(key="one", things=(person,))])
    assert [pair.relation for pair in two.pairs] == ["left of", "right of"] and two.pairs[0].level == "exact"
    assert two.score > 30
    assert one.score is None and one.reasons == ["no two things are related"]


def test_scores_do_not_depend_on_what_else_is_scored(judge):
    triplets, boxes = judge.held[0][:40], judge.held[1][:40]
    whole = judge.raw(triplets, boxes)[1]
    assert np.concatenate(
        [judge.raw(triplets[i : i + 7], boxes[i : i + 7])[1] for i in range(0, 40, 7)]
    ) == pytest.approx(whole, abs=1e-5)


def test_boxes_without_an_area_and_priors_too_small_are_refused():
    with pytest.raises(ValueError, match="no area"):
        pair(A, (0.1, 0.1, 0.0, 0.2))
    with pytest.raises(ValueError, match="no area"):
        pair(A, (0.1, 0.1, float("nan"), 0.2))
    gather = Gather()
    gather.add("test", 0, [("a", "on", "b")] * 30, random_pairs(30))
    with pytest.raises(BadInput, match="Add pictures"):
        ClisL.fit(gather.priors())


def test_nothing_to_score_is_no_score(judge):
    assert judge.score([]) == []
    assert len(typical(features(np.zeros((0, 2, 4))), pair(A, RIGHT), False, Standard((0, 0, 0), (1, 1, 1)))) == 0


def test_a_judge_of_other_priors_or_rules_has_another_version(real_priors):
    judge = ClisL.fit(real_priors)
    assert judge.version == ClisL.fit(real_priors).version
    others = [
        ClisL.fit(real_priors, seed=1),
        ClisL.fit(real_priors, rules=Rules(floor=0.04)),
        ClisL.fit(real_priors.part(np.arange(len(real_priors)) % 9 > 0)),
    ]
    assert len({judge.version, *(one.version for one in others)}) == 4
