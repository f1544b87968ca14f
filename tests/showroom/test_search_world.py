"""The showroom's half of search's proof: faults that leave the content, people, rows of five, and what stands in."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from goodeye.errors import BadInput
from goodeye.judging.wins import outcome
from goodeye.search.hpir import load
from goodeye.search.rephrase import BY_MODEL, rephrase
from goodeye.showroom import looks
from goodeye.showroom import scenes as S
from goodeye.showroom import search_world as W
from goodeye.showroom.words import build_tokenizer


@pytest.fixture(scope="module")
def scene():
    """One scene as rendered: picture, product's mask, number of things about."""
    made = S.render([S.sample(5, 1, S.CLASSES[:1])])
    return made.image[0], made.obj[0] == S.PRODUCT, len(made.names[0]) - 1.0


def beauty_of(scene, faults):
    image, mask = W.spoilt(scene[0], scene[1], faults)
    return {k: float(v) for k, v in looks.beauty_parts(image[None], mask[None], torch.tensor([scene[2]])).items()}


def test_without_faults_a_picture_is_as_rendered(scene):
    image, mask = W.spoilt(scene[0], scene[1], W.Faults())
    assert torch.equal(image, scene[0]) and torch.equal(mask, scene[1])


@pytest.mark.parametrize(
    ("part", "faults"),
    [
        ("exposure", W.Faults(exposure=0.4)),
        ("sharpness", W.Faults(blur=2)),
        ("composition", W.Faults(shift=(0.0, -0.2))),
        ("harmony", W.Faults(lamps=0.8)),
    ],
)
def test_a_fault_lowers_the_part_of_beauty_that_it_is_about(scene, part, faults):
    assert beauty_of(scene, faults)[part] < beauty_of(scene, W.Faults())[part] - 0.02


def test_faults_leave_the_product_in_the_picture(scene):
    for seed in range(8):
        faults = W.draw_faults(np.random.default_rng(seed))
        image, mask = W.spoilt(scene[0], scene[1], faults)
        assert mask.sum() > 0.8 * scene[1].sum() and image.shape == scene[0].shape
        assert float(image.min()) >= 0 and float(image.max()) <= 1
    stained, _ = W.spoilt(scene[0], scene[1], W.Faults(stains=8, seed=3))
    assert torch.equal(stained[:, scene[1]], scene[0][:, scene[1]]) and not torch.equal(stained, scene[0])


def test_contents_have_words_that_the_showroom_knows_and_none_of_beauty():
    contents = W.draw_contents(7, 60)
    assert len({one.query for one in contents}) == 60
    tokenizer = build_tokenizer()
    for one in contents:
        assert tokenizer.unk_token_id not in tokenizer(one.query)["input_ids"]
        assert not re.search(r"light|wall|tile|miniature|giant", one.query)
    first = contents[0]
    assert first.relevance(first) == pytest.approx(1)
    other = replace(first, place=next(place for place in W.PLACES if place != first.place))
    assert first.relevance(other) == pytest.approx(0.65)


def test_people_agree_on_what_is_plain_and_are_divided_on_what_is_even():
    raters = W.Raters(30, seed=1)
    assert raters.votes(1.0, 0.05, (1,)) == [30, 0] and raters.votes(-1.0, 0.05, (1,)) == [0, 30]
    even = np.mean([raters.votes(0.0, 0.05, (turn,))[0] for turn in range(200)])
    assert even == pytest.approx(15, abs=1)
    parts = np.full((3, 5), 0.4)
    assert np.allclose(raters.beauty(parts), 0.4)  # whatever their weights


def shots_of(tmp_path, contents, each=10):
    random = np.random.default_rng(0)
    names = [f"{at:04d}-{shot:02d}.png" for at in range(len(contents)) for shot in range(each)]
    owner = np.repeat(np.arange(len(contents)), each)
    return W.Shots(tmp_path / "gallery", names, owner, random.uniform(0.3, 1, (len(names), 5)))


def test_rows_of_five_and_votes_that_follow_the_truth(tmp_path):
    contents = W.draw_contents(3, 40)
    shots = shots_of(tmp_path, contents)
    W.write_hpir(tmp_path / "hpir.json", contents, shots, W.Raters(30, 3))
    pairs = load(tmp_path / "hpir.json")
    weights = np.array(list(looks.WEIGHTS.values()))
    right = []
    for pair, content in zip(pairs, contents, strict=True):
        rows = [[shots.names.index(path.name) for path in pair.groups[group]] for group in ("A", "B")]
        assert [len(set(row)) for row in rows] == [5, 5] and not set(rows[0]) & set(rows[1])
        lead = np.subtract(*[(shots.parts[row] @ weights).mean() for row in rows])
        votes = pair.votes["aesthetic"]
        assert votes.a + votes.b == 30
        if abs(lead) > 0.08:
            right.append(votes.golden == ("A" if lead > 0 else "B"))
        shown = [np.mean([content.relevance(contents[shots.content[one]]) for one in row]) for row in rows]
        assert min(shown) >= 0.6
    assert len(right) >= 5 and np.mean(right) > 0.9


def test_the_judge_of_rows_is_consistent_where_the_lead_is_clear(tmp_path):
    contents = W.draw_contents(3, 6)
    shots = shots_of(tmp_path, contents)
    judge = W.RowJudge(contents, shots, seed=0)
    names = [str((shots.folder / name).resolve()) for name in shots.names]
    own, others = names[:5], names[20:25]
    above, below = judge.prefer(0, own, others), judge.prefer(0, others, own)
    assert outcome(above["accuracy"], below["accuracy"]) == "win"


def test_what_stands_in_for_a_large_model_answers_every_method():
    from goodeye.search.ask import load_clip

    clip = load_clip("showroom")
    for method in BY_MODEL:
        made = rephrase("a red shoe on the sand at a beach by the sea", method, clip, W.StandIn())
        assert made.text != "a red shoe on the sand at a beach by the sea" and "red shoe" in made.text
        assert clip.tokenizer.unk_token_id not in clip.tokenizer(made.text)["input_ids"]


def test_another_seed_in_the_same_folder_finds_what_it_finds_in_a_fresh_one(tmp_path):
    def made(out, seed):
        ground = W.ground(tmp_path / out, seed=seed, queries=2, taught=1, recall=2, plain=2)
        tables = [path.read_text() for path in (ground.hpir, ground.captions, ground.votes, ground.plain)]
        shown = [*ground.gallery.rglob("*.png"), *ground.taught.rglob("*.png")]
        return ground, tables, {f"{path.parent.name}/{path.name}": path.read_bytes() for path in shown}

    first, tables, pictures = made("one", 1)
    _, other_tables, other_pictures = made("one", 2)
    assert (other_tables, other_pictures) == made("fresh", 2)[1:]
    written = {path: path.stat().st_mtime_ns for path in first.gallery.rglob("*.png")}
    again, same_tables, same_pictures = made("one", 1)
    assert (again.gallery, same_tables, same_pictures) == (first.gallery, tables, pictures)
    assert written == {path: path.stat().st_mtime_ns for path in first.gallery.rglob("*.png")}  # nothing is made again


def test_photographs_are_taken_once(tmp_path):
    contents = W.draw_contents(9, 1)
    shots = W.shoot(tmp_path / "p", contents, 2, seed=9, captions=True)
    assert (tmp_path / "p" / "0000-01.png").exists() and (tmp_path / "p" / "0000-01.txt").read_text().startswith("a")
    (tmp_path / "p" / "0000-01.png").unlink()
    again = W.shoot(tmp_path / "p", contents, 2, seed=9, captions=True)
    assert again.names == shots.names and np.array_equal(again.parts, shots.parts) and shots.parts.shape == (2, 5)
    assert not (tmp_path / "p" / "0000-01.png").exists()
    W.rate(shots, W.Raters(9, 1), tmp_path / "votes.csv")
    lines = (tmp_path / "votes.csv").read_text().splitlines()
    assert lines[0] == "image,up,down" and len(lines) == 3 and lines[1].startswith("p/0000-00.png,")


@pytest.mark.parametrize("counts", [{"queries": 0}, {"queries": -1}, {"taught": 0}, {"recall": 0}, {"plain": -1}])
def test_counts_that_make_no_sense_are_refused_before_anything_is_written(tmp_path, counts):
    with pytest.raises(BadInput, match=r"is (0|-1)\. Give [01] or more"):
        W.ground(tmp_path / "world", **counts)
    assert not (tmp_path / "world").exists()
