"""Contrastive training on captioned pictures of one's own: what is skipped, what is learned, what is saved."""

import shutil
from dataclasses import replace

import pytest
import torch
from tiny_clip import COLOURS, save_picture, small_clip

from goodeye.errors import BadInput
from goodeye.judging.clip import Clip
from goodeye.search.pretrain import TEMPERATURE, Pretrain, pretrain

pytestmark = pytest.mark.usefixtures("one_thread")
WORDS = [f"a {colour} cup" for colour in COLOURS]
SMALL = Pretrain(fresh=True, steps=30, batch=10, queue=8, settled=5, lr=2e-3, warmup=2, held=10, evaluate_every=30)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Cups of five colours in shades, with captions; one without, and one that is no picture."""
    place = tmp_path_factory.mktemp("captioned")
    for name, colour in COLOURS.items():
        for shade in range(8):
            path = save_picture(place / f"{name}{shade}.png", [max(0, value - 4 * shade) for value in colour])
            path.with_suffix(".txt").write_text(f"a {name} cup")
    save_picture(place / "untold.png", (9, 9, 9))
    (place / "broken.png").write_bytes(b"nothing")
    (place / "broken.txt").write_text("a cup")
    return place


def test_colours_are_learned_from_captions_and_what_cannot_be_used_is_named(folder, tmp_path):
    clip = small_clip(WORDS, seed=5)
    before = clip.version
    done = pretrain([folder], clip, tmp_path / "run", config=SMALL, workers=2, cpu=True)
    assert (done.pictures, done.steps) == (40 - 8, 30)  # a fifth is kept back
    assert sorted(one.name.rsplit("/", 1)[-1] for one in done.skipped) == ["broken.png", "untold.png"]
    trained = Clip.from_pretrained(done.weights)
    assert trained.version != before and 0 <= done.last["recall_at_1"] <= done.last["recall_at_5"] <= 1
    colours = torch.tensor(list(COLOURS.values()), dtype=torch.float32)[:, :, None, None].expand(-1, 3, 64, 64) / 255
    with torch.no_grad():
        similar = trained.embed_texts(WORDS) @ trained.embed_images(colours).T
    assert (similar.argmax(1) == torch.arange(5)).sum() >= 4
    again = pretrain([folder], small_clip(WORDS, seed=6), tmp_path / "run", config=SMALL, resume=True, cpu=True)
    assert again.steps == 30  # fresh weights come from the seed, so that another start is the same run


def test_captions_of_which_the_beginning_alone_is_learned_are_counted(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "pictures")
    for path in (tmp_path / "pictures").glob("red*.txt"):
        path.write_text("a red cup " * 20)
    done = pretrain(
        [tmp_path / "pictures"], small_clip(WORDS), tmp_path / "run", config=replace(SMALL, steps=1), cpu=True
    )
    assert 0 < done.cut <= 8 and done.to_json()["cut"] == done.cut
    assert f"{done.cut} captions are longer than the model reads" in done.summary()


def test_a_run_does_not_go_on_with_other_captions_or_pictures_of_the_same_count(folder, tmp_path):
    config, place = replace(SMALL, steps=2), tmp_path / "pictures"
    shutil.copytree(folder, place)
    pretrain([place], small_clip(WORDS), tmp_path / "run", config=config, cpu=True)
    (place / "red0.txt").write_text("a crimson cup")
    with pytest.raises(BadInput, match="data was"):
        pretrain([place], small_clip(WORDS), tmp_path / "run", config=config, resume=True, cpu=True)
    (place / "red0.txt").write_text("a red cup")
    assert pretrain([place], small_clip(WORDS), tmp_path / "run", config=config, resume=True, cpu=True).steps == 2
    (place / "red0.png").rename(place / "red9.png")
    (place / "red0.txt").rename(place / "red9.txt")
    with pytest.raises(BadInput, match="data was"):
        pretrain([place], small_clip(WORDS), tmp_path / "run", config=config, resume=True, cpu=True)


def test_fresh_weights_begin_at_the_papers_temperature(folder, tmp_path):
    clip = small_clip(WORDS)
    pretrain([folder], clip, tmp_path / "run", config=replace(SMALL, steps=1, lr=1e-9, warmup=0), cpu=True)
    assert float((-clip.model.logit_scale).exp()) == pytest.approx(TEMPERATURE, rel=1e-4)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"batch": 33}, "40 captioned pictures can be read"),
        ({"batch": 1}, "batch is 1"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"lr": -1.0}, "lr is -1"),
        ({"evaluate_every": 0}, "evaluate_every is 0"),
    ],
)
def test_what_cannot_be_trained_on_is_said_in_a_line(folder, tmp_path, fields, words):
    with pytest.raises(BadInput, match=words):
        pretrain([folder], small_clip(WORDS), tmp_path / "run", config=replace(SMALL, **fields), cpu=True)
