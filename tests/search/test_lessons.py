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
