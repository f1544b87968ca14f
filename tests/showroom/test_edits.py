"""Rendered triplets: the pair differs in what was asked for alone, and each fault costs its own score."""

import json

import pytest
import torch
from PIL import Image

from goodeye.cli import main
from goodeye.edit.preserve import preserved
from goodeye.edit.triplets import read_triplets
from goodeye.errors import BadInput
from goodeye.showroom import scenes as S
from goodeye.showroom.edits import KINDS, by_true_facts, changed, edits, one_edit, write_edits

SIZE = 64


@pytest.fixture(scope="module")
def clean():
    """Two of each kind without faults."""
    return list(edits(3, 2 * len(KINDS), SIZE, faulty=0.0))


@pytest.fixture(scope="module")
def faulty():
    return list(edits(4, 4 * len(KINDS), SIZE, faulty=0.6))


def test_there_are_eight_kinds_with_words_of_their_own(clean):
    assert [one.facts.kind for one in clean] == list(KINDS) * 2
    said = {one.facts.kind: one.facts.instruction for one in clean}
    assert said["remove"].endswith(tuple(S.REFERENCES)) and "background" in said["blur"]
    assert len(set(said.values())) == len(KINDS)


def test_without_faults_the_edit_is_the_ideal_and_all_scores_are_5(clean):
    for one in clean:
        assert torch.equal(one.edited, one.ideal)
        assert one.facts.rewards().scores == (5, 5, 5) and one.facts.rewards().failures == ("", "", "")


def test_nothing_outside_the_mask_changes(clean):
    for one in clean:
        assert 0 < one.mask.float().mean() < 1, one.facts.kind
        found = preserved(one.original, one.ideal, one.mask)
        assert found.l1 < 2 / 255 and found.ssim > 0.99, one.facts.kind


def test_a_new_colour_leaves_the_background_as_it_was():
    """The trap: a product that would be lost gets another background, and its colour decides on that."""
    for index in range(6):
        made = one_edit(7, index, "colour", SIZE, 0.0)
        alpha = S.render([made.facts.before], SIZE).product[0, 3]
        assert (made.original - made.ideal)[:, alpha == 0].abs().max() < 1 / 255


def test_the_same_seed_gives_the_same_and_another_another(clean):
    again = one_edit(3, 5, list(KINDS)[5], SIZE, 0.0)
    assert torch.equal(again.edited, clean[5].edited) and again.facts == clean[5].facts
    assert not torch.equal(one_edit(5, 5, list(KINDS)[5], SIZE, 0.0).original, again.original)


def test_faults_are_of_three_sorts_and_each_costs_its_own_score(faulty):
    seen = set()
    for one in faulty:
        facts, said = one.facts, one.facts.rewards()
        assert all(score % 0.5 == 0 and 0 <= score <= 5 for score in said.scores)
        assert [score < 5 and not facts.silent for score in said.scores] == [bool(text) for text in said.failures]
        assert (said.scores[1] < 5) == bool(facts.lost) and (said.scores[2] < 5) == bool(facts.artefact)
        assert (said.scores[0] < 5) == (facts.misread or facts.done < 1)
        seen |= {at for at, score in enumerate(said.scores) if score < 5}
        if facts.done == 0 and not facts.lost and not facts.artefact:
            assert torch.equal(one.edited, one.original)
        if facts.lost and not facts.artefact and facts.kind in ("remove", "add", "swap"):
            assert preserved(one.original, one.edited, one.mask).l1 > 0.01
    assert seen == {0, 1, 2}


def test_half_an_edit_lies_between(faulty):
    half = [one for one in edits(9, 120, SIZE, kinds=("wall",), faulty=0.5)
            if 0 < one.facts.done < 1 and not one.facts.lost and not one.facts.artefact]  # fmt: skip
    assert half
    for one in half:
        share = (one.edited - one.original)[:, one.mask].abs().mean() / (one.ideal - one.original)[
            :, one.mask
        ].abs().mean()
        assert float(share) == pytest.approx(one.facts.done, abs=1e-3)
        assert one.facts.rewards().scores[0] == round(10 * one.facts.done) / 2


def test_the_mask_is_what_differs_and_a_little_more():
    before, after = torch.zeros(3, 64, 64), torch.zeros(3, 64, 64)
    after[1, 30:34, 10] = 0.5
    mask = changed(before, after)
    assert mask[29:35, 9:12].all() and int(mask.sum()) == 6 * 3


def test_the_folder_is_read_as_triplets_with_rewards_and_masks(tmp_path):
    write_edits(tmp_path, count=3, seed=2, size=32)
    found = list(read_triplets(tmp_path))
    facts = json.loads((tmp_path / "facts.json").read_text())
    assert [one.key for one in found] == list(facts) and [one["kind"] for one in facts.values()] == list(KINDS)[:3]
    for number, one in enumerate(found):
        made = one_edit(2, number, list(KINDS)[number], 32)
        assert one.instruction == made.facts.instruction and one.rewards == made.facts.rewards()
        assert one.mask is not None and one.edited.open().size == (32, 32)
    with pytest.raises(BadInput, match="0 triplets"):
        write_edits(tmp_path, count=0)


def test_triplets_of_another_world_or_another_hand_are_not_written_over(tmp_path):
    write_edits(tmp_path, count=2, seed=2, size=32)
    with pytest.raises(BadInput, match="0000000 is a triplet that this command did not write so"):
        write_edits(tmp_path, count=2, seed=3, size=32)
    with pytest.raises(BadInput, match="holds more than 1 such triplets"):
        write_edits(tmp_path, count=1, seed=2, size=32)
    write_edits(tmp_path, count=3, seed=2, size=32)  # more of the same world are added
    assert all(one.rewards for one in read_triplets(tmp_path)) and len(list(read_triplets(tmp_path))) == 3
    others = tmp_path / "others"
    (others / "0000000").mkdir(parents=True)
    (others / "0000000" / "prompt.json").write_text('{"edit": "make it blue"}')
    with pytest.raises(BadInput, match="did not write so"):
        write_edits(others, count=1, size=32)
    assert (others / "0000000" / "prompt.json").read_text() == '{"edit": "make it blue"}'


def test_annotated_without_a_server_by_true_facts(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("GOODEYE_SERVER", raising=False)
    line = ["edit", "triplets", str(tmp_path / "world"), "--count", "3", "--size", "32", "--seed", "4", "--faulty", "1"]
    assert main(line) == 0
    assert main(["edit", "annotate", str(tmp_path / "world"), "--out", str(tmp_path / "out")]) == 0
    found = json.loads((tmp_path / "out" / "rewards.json").read_text())
    assert (
        found == json.loads((tmp_path / "world" / "rewards.json").read_text())
        and "requests" not in capsys.readouterr().out
    )
    with pytest.raises(BadInput, match="does not tell the facts"):
        by_true_facts(tmp_path / "world")("make it blue", Image.new("RGB", (8, 8)), Image.new("RGB", (8, 8)))
