"""A row of the proof: trained once on its lessons, and loaded from whatever folder it is in."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_clip import save_picture, small_clip

from goodeye.errors import BadInput
from goodeye.search.adapt import save_adapter
from goodeye.search.lessons import ROW, Learner, Lessons, load_row, train_row
from goodeye.search.towers import save_clip

WORDS = ["red cup", "blue cup", "green lamp", "white lamp"]
SMALL = replace(ROW, rows=3, columns=3, stride=2, batch=4, steps=2, warmup=1, pairs=4, queue=8)


@pytest.fixture(scope="module")
def lessons(tmp_path_factory):
    """20 taught pictures with captions and votes, and 12 plain ones in a table."""
    folder, random = tmp_path_factory.mktemp("lessons"), np.random.default_rng(0)
    for number in range(20):
        path = save_picture(folder / "taught" / f"{number:02}.png", random.integers(0, 255, 3))
        path.with_suffix(".txt").write_text(WORDS[number % 4])
    for number in range(12):
        save_picture(folder / "pictures" / f"{number:02}.png", random.integers(0, 255, 3))
    votes = [f"taught/{number:02}.png,{number % 7},{7 - number % 7}" for number in range(20)]
    (folder / "votes.csv").write_text("\n".join(["image,up,down", *votes, ""]))
    told = [f"pictures/{number:02}.png,{WORDS[number % 4]}" for number in range(12)]
    (folder / "plain.csv").write_text("\n".join(["image,caption", *told, ""]))
    return Lessons(taught=folder / "taught", votes=folder / "votes.csv", plain=folder / "plain.csv")


def test_a_row_is_trained_once_and_its_base_stays(lessons, tmp_path, monkeypatch):
    clip = small_clip(WORDS)
    learner = Learner("base", clip, lessons, tmp_path, "showroom")
    assert len(learner.taught) == 20 and len(learner.plain) == 12 and learner.head.shape == (24,)
    trained = train_row(learner, SMALL, tmp_path / "align" / "dpo")
    assert trained.version != clip.version == small_clip(WORDS).version
    changed = [n for n, v in trained.model.state_dict().items() if not torch.equal(v, clip.model.state_dict()[n])]
    assert sorted(changed) == ["text_projection.weight", "visual_projection.weight"]
    monkeypatch.setattr("goodeye.search.lessons.align", lambda *given, **named: pytest.fail("trained again"))
    assert train_row(learner, SMALL, tmp_path / "align" / "dpo").version == trained.version


def test_a_row_that_was_trained_otherwise_is_not_taken_for_this_one(lessons, tmp_path):
    clip = small_clip(WORDS)
    learner, folder = Learner("base", clip, lessons, tmp_path, "showroom"), tmp_path / "align" / "dpo"
    train_row(learner, SMALL, folder)
    for other, why in ((replace(SMALL, steps=3), "steps 2, now 3"), (replace(SMALL, seed=7), "seed 0, now 7")):
        with pytest.raises(BadInput, match=f"was trained with {why}. Use the old settings"):
            train_row(learner, other, folder)
    (tmp_path / "votes.csv").write_text(lessons.votes.read_text().replace("taught/", f"{lessons.taught}/") + "\n")
    moved = Learner("base", clip, replace(lessons, votes=tmp_path / "votes.csv"), tmp_path, "showroom")
    with pytest.raises(BadInput, match="was trained with lessons"):
        train_row(moved, SMALL, folder)


def test_pictures_and_votes_of_another_place_are_not_taken_for_those_of_the_same_name(lessons, tmp_path):
    clip, random = small_clip(WORDS), np.random.default_rng(1)
    for number in range(20):
        save_picture(tmp_path / "taught" / f"{number:02}.png", random.integers(0, 255, 3))
    votes = [f"taught/{number:02}.png,{6 - number % 7},{1 + number % 7}" for number in range(20)]
    (tmp_path / "votes.csv").write_text("\n".join(["image,up,down", *votes, ""]))
    others = Lessons(taught=tmp_path / "taught", votes=tmp_path / "votes.csv")

    def learned(told, out):
        learner = Learner("base", clip, told, tmp_path / out, "showroom")
        return np.array(learner.taught.vectors), learner.head

    before = learned(lessons, "one")
    for found, alone in zip(learned(others, "one"), learned(others, "fresh"), strict=True):
        assert np.array_equal(found, alone)
    for found, first in zip(learned(lessons, "one"), before, strict=True):
        assert np.array_equal(found, first)
    (tmp_path / "more.csv").write_text(others.votes.read_text().replace(",6,1", ",0,7"))
    assert not np.allclose(learned(replace(others, votes=tmp_path / "more.csv"), "one")[1], learned(others, "one")[1])


def test_a_row_is_a_run_a_model_or_an_adapter(tmp_path):
    base, other = small_clip(WORDS), small_clip(WORDS)
    with torch.no_grad():
        other.model.get_parameter("text_projection.weight").mul_(1.5).add_(0.01)
    save_clip(other, tmp_path / "run" / "clip")
    save_adapter(base, other, tmp_path / "adapter")
    expected = other.embed_texts(WORDS)
    for place in (tmp_path / "run", tmp_path / "run" / "clip", tmp_path / "adapter"):
        assert torch.allclose(load_row(place, base).embed_texts(WORDS), expected, atol=2e-3)
    with pytest.raises(BadInput, match="nothing holds no model"):
        load_row(tmp_path / "nothing", base)
