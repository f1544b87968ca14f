"""Batches of triplets: both pictures alike, mirrored unless the words say sides, and the controls' rewards."""

import random

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_editor import save_triplets

from goodeye.edit.pairs import Cut, Pairs, alike, may_flip, with_rewards
from goodeye.edit.rewards import Rewards
from goodeye.edit.triplets import Triplet, read_triplets
from goodeye.errors import BadInput


@pytest.fixture
def triplets(tmp_path):
    """Six, in which the edited picture is the original, a little lighter; rewards known of all but the last."""
    found = list(read_triplets(save_triplets(tmp_path, {name: [at] for at, name in enumerate("abcdef")})))
    ramp = np.add.outer(np.arange(24), 3 * np.arange(32))[:, :, None].repeat(3, 2).astype(np.uint8)
    for at, one in enumerate(found):
        Image.fromarray(ramp).save(tmp_path / one.key / f"{at}_0.png")
        Image.fromarray(ramp + 51).save(tmp_path / one.key / f"{at}_1.png")
    rewards = [Rewards((float(at), 1.0, 2.0), (f"fault {at}", "", "")) for at in range(5)]
    return [with_(one, said) for one, said in zip(found, [*rewards, Rewards((5.0, None, 5.0))], strict=True)]


def with_(triplet, rewards):
    return Triplet(**{**vars(triplet), "rewards": rewards})


def test_both_pictures_are_cut_and_mirrored_alike(triplets):
    pairs = Pairs(triplets=triplets, size=16, batch=2, zoom=1.4)
    turned = set()
    for index in range(8):
        batch = pairs(index)
        apart = batch["edited"] - batch["original"]
        assert torch.allclose(apart, torch.full_like(apart, 0.2), atol=0.03)  # resampling may ring at the sides
        turned |= {bool(row[0, 8, -1] < row[0, 8, 0]) for row in batch["original"]}
    assert turned == {True, False}  # the ramp rises to the right, or falls
    again = pairs(7)
    assert torch.equal(again["original"], batch["original"])
    assert batch["original"].shape == (2, 3, 16, 16) and len(batch["instruction"]) == 2


def test_words_that_say_sides_forbid_to_mirror(triplets):
    for words in ("Move it to the LEFT.", "the right-hand lamp", "turn rightwards", "the leftmost cup"):
        assert not may_flip(words)
    assert may_flip("make it bright, and add leftover light")
    sided = [Triplet(**{**vars(one), "instruction": "put it on the left"}) for one in triplets]
    for index in range(6):
        assert all(row[0, 8, -1] > row[0, 8, 0] for row in Pairs(triplets=sided, size=16, batch=2)(index)["original"])
    assert all(
        row[0, 8, -1] > row[0, 8, 0] for row in Pairs(triplets=triplets, size=16, batch=4, flip=False)(0)["original"]
    )


def test_the_cut_by_hand():
    ramp = Image.fromarray(np.arange(40, dtype=np.uint8)[None, :, None].repeat(20, 0).repeat(3, 2))
    first, second = alike(ramp, ramp.resize((80, 40)), 20, Cut(1.0, 0.25, 0.0, True))
    assert np.asarray(first)[3, :, 0].tolist() == list(range(24, 4, -1))  # columns 5 to 24, mirrored
    assert first.size == second.size == (20, 20)


def test_rewards_and_failure_texts_of_a_batch(triplets):
    batch = Pairs(triplets=triplets[:5], size=16, batch=5).rows(range(5), random.Random(0))
    assert batch["rewards"].tolist() == [[float(at), 1.0, 2.0] for at in range(5)]
    assert batch["feedback"][3] == "fault 3; none; none"
    plain = [with_(one, None) for one in triplets]
    assert "rewards" not in Pairs(triplets=plain, size=16, batch=2)(0)


def test_what_the_controls_train_on(triplets):
    def scores(given="rewards", best=1.0):
        return [one.rewards.scores for one in with_rewards(triplets, given, best, 0)]

    own = [(float(at), 1.0, 2.0) for at in range(5)]
    assert scores() == own  # the last one lacks a score
    assert scores(best=0.4) == own[3:]
    assert scores("averaged") == [pytest.approx(((at + 3) / 3,) * 3) for at in range(5)]
    shuffled = with_rewards(triplets, "shuffled", 1.0, 0)
    assert sorted(one.rewards.scores for one in shuffled) == own and scores("shuffled") != own
    assert all(one.rewards.failures[0] == f"fault {one.rewards.scores[0]:.0f}" for one in shuffled)  # texts go along
    with pytest.raises(BadInput, match="no triplet has three rewards"):
        with_rewards(triplets[-1:], "rewards", 1.0, 0)


def test_a_broken_picture_is_named_and_the_next_takes_its_place(triplets):
    triplets[1].edited.at.write_bytes(b"no picture")
    pairs = Pairs(triplets=triplets, size=16, batch=2)
    batch = pairs.rows([0, 1], random.Random(0))
    assert batch["instruction"] == ["make a blue", "make c blue"]
    assert list(pairs.unread) == ["b"] and "not a picture" in pairs.unread["b"]
    for one in triplets:
        one.original.at.unlink()
    with pytest.raises(BadInput, match="no triplet can be opened"):
        pairs(0)
