"""Picking: each rule by itself, what is promised of all together, and reasons for whatever is left out."""

import numpy as np
import pytest

from goodeye.errors import BadInput
from goodeye.synth.pick import Candidate, Picking, pick, summary


def candidate(key, score=80.0, things=(("dog", 90.0),), group=None, **more):
    return Candidate(key=key, group=group or key, score=score, things=tuple(things), **more)


def kept(choices):
    return [one.key for one in choices if one.kept]


def test_things_below_the_threshold_lose_their_label_and_a_picture_without_any_falls():
    both = candidate("both", things=[("dog", 61.0), ("cat", 59.9)])
    none = candidate("none", things=[("dog", 10.0), ("cat", 59.9)])
    first, second = pick([both, none])
    assert first.kept and first.things == (0,)
    assert not second.kept and second.why == "every thing is below 60" and second.things == ()


def test_the_best_of_a_combination_are_kept():
    tries = [candidate(f"a{i}", score, group="a") for i, score in enumerate((70, 90, 80, 60))] + [candidate("b", 10)]
    assert kept(pick(tries)) == ["a1", "b"]
    assert kept(pick(tries, Picking(best=2))) == ["a1", "a2", "b"]
    assert pick(tries)[0].why == "a1 of the same combination is better"


def test_what_is_unknown_is_never_kept():
    found = pick([candidate("a", None), candidate("b", things=[("dog", 99.0), ("cat", None)])], Picking(thing=0))
    assert [one.why for one in found] == ["its score is unknown"] * 2 and kept(found) == []


def test_layout_and_picture_have_thresholds_of_their_own():
    some = [candidate("a", layout=50.0), candidate("b", layout=49.0), candidate("c"), candidate("d", 20, layout=99.0)]
    assert kept(pick(some, Picking(layout=50, image=30))) == ["a"]
    assert [one.why for one in pick(some, Picking(layout=50, image=30))][1:] == [
        "layout 49, below 50", "layout unknown, below 50", "picture 20, below 30",
    ]  # fmt: skip


def test_of_near_duplicates_the_best_is_kept():
    vectors = np.array([(1, 0), (0.999, 0.0447), (0, 1)], dtype=float)
    some = [candidate("a", 70), candidate("b", 80), candidate("c", 60)]
    found = pick(some, embeddings=vectors)
    assert kept(found) == ["b", "c"] and found[0].why == "nearly the same as b (0.999)"
    assert kept(pick(some, Picking(duplicates=None), vectors)) == ["a", "b", "c"]


def test_no_category_has_more_labels_than_its_quota():
    random = np.random.default_rng(0)
    names = ("dog", "cat", "cup")
    some = []
    for i in range(60):
        things = [(str(random.choice(names)), float(random.uniform(40, 100))) for _ in range(3)]
        some.append(candidate(str(i), float(random.uniform(0, 100)), things))
    choices = pick(some, Picking(quota=10))
    counts = dict.fromkeys(names, 0)
    for one, choice in zip(some, choices, strict=True):
        for at in choice.things:
            counts[one.things[at][0]] += 1
            assert one.things[at][1] >= 60
    assert max(counts.values()) <= 10 and sum(counts.values()) >= 20
    assert any("quota" in one.why for one in choices)


def test_at_most_so_many_pictures_the_best_ones():
    assert kept(pick([candidate(str(i), i) for i in range(9)], Picking(most=3))) == ["6", "7", "8"]


def test_every_rejection_has_its_reason_and_the_summary_counts_them():
    choices = pick([candidate("a", group="g"), candidate("b", 70, group="g"), candidate("c", None)])
    assert all(one.why for one in choices if not one.kept) and not any(one.why for one in choices if one.kept)
    told = summary(choices)
    assert told.startswith("1 of 3 pictures kept (") and "1 of unknown score" in told
    assert "1 another of the combination is better" in told


def test_two_pictures_of_one_name_are_refused():
    with pytest.raises(BadInput, match="have one name"):
        pick([candidate("a"), candidate("a")])


def test_a_summary_says_how_many_scores_are_unknown():
    unknown = [Candidate(key=key, group=key, score=None, things=(("mug", None),)) for key in "ab"]
    assert summary(pick(unknown)) == "0 of 2 pictures kept (2 of unknown score)."
