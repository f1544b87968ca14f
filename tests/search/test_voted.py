"""What people chose becomes pairs: a row is as similar as the mean of its pictures, and the losses say so."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from sqlalchemy import insert
from tiny_clip import small_clip

from goodeye.cli import main
from goodeye.errors import BadInput
from goodeye.ledger import schema
from goodeye.ledger.asks import Person
from goodeye.ledger.ledger import Ledger
from goodeye.ledger.training import Preference
from goodeye.search.align import _Step, align
from goodeye.search.build import index_pictures
from goodeye.search.embed import embed_texts
from goodeye.search.index import Index
from goodeye.search.voted import read_preferences, voted_pairs
from goodeye.training.loop import read_metrics
from search.test_align import SMALL

pytestmark = pytest.mark.usefixtures("one_thread")
WORDS = ["a cup", "a lamp", "red", "blue"]
HEAD = np.ones(24, dtype=np.float32)
FEW = replace(SMALL, steps=1, batch=6, pretrain=0.0, watched=0)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A ledger on which two systems answered, one with three pictures, one with two, and an index of the pictures."""
    folder, random = tmp_path_factory.mktemp("voted"), np.random.default_rng(0)
    with Ledger.open(folder / "ledger") as ledger:
        runs = [ledger.start_run("search", {}, seed) for seed in (0, 1)]
        for query in ("a cup", "a lamp"):
            sides = []
            for run, count in zip(runs, (3, 2), strict=True):
                shown = [Image.fromarray(random.integers(0, 255, (16, 16, 3), dtype=np.uint8)) for _ in range(count)]
                brief = ledger.add_brief(run, query, {"prompt": query})
                sides.append(ledger.record_attempt(brief, 0, 1, 0, None, shown=shown))
            for person, choice in (("ann", "left"), ("bo", "left"), ("cy", "right")):
                ledger.compare(*sides, person, "aesthetic", choice)
            ledger.compare(*sides, "cy", "accuracy", "similar")
    index_pictures(folder / "ledger" / "images", folder / "index", small_clip(WORDS), "showroom", duplicates=0)
    return folder


def sides_by_hand(place, index):
    """By query the rows of the index of the first and the second system's answer."""
    with Ledger.open(place / "ledger") as ledger:
        known = index.names()
        found = {}
        for run in (1, 2):
            for row in ledger.attempts(run):
                files = [str(ledger.image_path(sha).resolve()) for sha in row.shown]
                found.setdefault(row.brief_key, []).append([known[file] for file in files])
    return found


def test_a_row_is_as_similar_as_the_mean_of_its_pictures(place):
    index, clip = Index(place / "index"), small_clip(WORDS)
    asked = read_preferences(place / "ledger")
    assert (len(asked.said), asked.similar) == (6, 2)
    grids = voted_pairs(index, clip, asked.said)
    sides = sides_by_hand(place, index)
    pictures, shares = grids.laid_out()
    for at, one in enumerate(asked.said):
        first, second = sides[one.query] if one.person != "cy" else sides[one.query][::-1]
        text = embed_texts([one.query], clip)[0]
        means = [float(np.mean([index.vectors[row] @ text for row in side])) for side in (first, second)]
        assert grids.reference[at].tolist() == pytest.approx(means, abs=1e-6)
        assert [pictures[at, which, : len(side)].tolist() for which, side in enumerate((first, second))] == [
            first,
            second,
        ]
        assert [row.tolist() for row in shares[at]] == [
            pytest.approx([1 / len(side)] * len(side) + [0] * (3 - len(side))) for side in (first, second)
        ]


def run(place, out, **fields):
    clip, index = small_clip(WORDS), Index(place / "index")
    said = read_preferences(place / "ledger").said
    return align(index, clip, HEAD, out, preferred=said, config=replace(FEW, **fields), cpu=True)


@pytest.mark.parametrize("train", ["full", "projection"])
def test_the_losses_begin_where_their_equations_say(place, tmp_path, train):
    """RRHF of the start model, by hand from the index; DPO ln 2; IPO (1 / (2 beta))^2."""
    index, clip = Index(place / "index"), small_clip(WORDS)
    expected = []
    for query, (first, second) in sides_by_hand(place, index).items():
        means = [float((index.vectors[side] @ embed_texts([query], clip)[0]).mean()) for side in (first, second)]
        ahead = means[0] - means[1]
        expected += [max(0.0, -ahead)] * 2 + [max(0.0, ahead)]  # two chose the first, one the second
    for method, loss in (("rrhf", float(np.mean(expected))), ("dpo", np.log(2)), ("ipo", 100.0)):
        done = run(place, tmp_path / method, method=method, train=train)
        assert done.last["ranked"] == pytest.approx(loss, rel=1e-3, abs=1e-5), method
        assert (done.queries, done.left_out) == (6, 0)
    assert "1 steps on 6 choices of people" in done.summary()


def test_the_model_learns_what_most_chose(place, tmp_path):
    """Two of three preferred the first row: the best DPO loss is the entropy of 2 : 1, at a margin of ln 2 / gain."""
    done = run(place, tmp_path / "run", train="projection", steps=150, gain=20.0, lr=1e-2, evaluate_every=150)
    entropy = -(2 / 3) * np.log(2 / 3) - (1 / 3) * np.log(1 / 3)
    assert done.last["ranked"] == pytest.approx(entropy, abs=0.01)
    rows = [row["ranked"] for row in read_metrics(tmp_path / "run") if "ranked" in row]
    assert rows[0] > rows[-1]
    grids = json.loads((tmp_path / "run" / "queries.json").read_text())
    assert grids["asked"] == 6 and {one["queries"] for one in grids["grids"]} == {"a cup", "a lamp"}


def test_the_command_goes_on_to_the_bit_on_the_choices_it_began_with(place, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("goodeye.search.ask.load_clip", lambda models, device="cpu": small_clip(WORDS))
    shutil.copytree(place / "ledger", tmp_path / "ledger")
    plain = ["--pretrain", "0", "--no-guard", "--watched", "0", "--batch", "6", "--accumulate", "1"]
    line = ["search", "align", str(place / "index"), "--votes", str(tmp_path / "ledger"), *plain]
    line += ["--steps", "4", "--evaluate-every", "1", "--lr", "1e-2"]
    assert main([*line, "--out", str(tmp_path / "whole")]) == 0
    assert "2 times someone found both similar" in capsys.readouterr().out
    real, calls = _Step.__call__, []

    def third(*given):
        calls.append(given)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*given)

    with monkeypatch.context() as now:
        now.setattr(_Step, "__call__", third)
        assert main([*line, "--out", str(tmp_path / "cut")]) == 1
    assert "Go on with: goodeye search align" in capsys.readouterr().err
    with Ledger.open(tmp_path / "ledger") as ledger:  # someone votes, and someone is set aside
        ledger.compare(1, 3, "dora", "aesthetic", "right")
        set_aside(ledger, "ann")
    assert main([*line, "--out", str(tmp_path / "cut"), "--resume"]) == 0
    whole, cut = (load_file(tmp_path / name / "clip" / "model.safetensors") for name in ("whole", "cut"))
    start = small_clip(WORDS).model.state_dict()
    assert all(torch.equal(value, cut[name]) for name, value in whole.items())
    assert not all(torch.equal(value, start[name]) for name, value in whole.items())


def set_aside(ledger, *people):
    with ledger.transaction() as connection:
        for name in people:
            aside = {"name": name, "aside": True, "why": "", "decided_by": "x", "decided": schema.now()}
            connection.execute(insert(Person).values(**aside))


def test_people_who_are_set_aside_teach_nothing(place, tmp_path, capsys):
    shutil.copytree(place / "ledger", tmp_path / "ledger")
    with Ledger.open(tmp_path / "ledger") as ledger:
        set_aside(ledger, "bo")
        assert {one.person for one in read_preferences(tmp_path / "ledger").said} == {"ann", "cy"}
        set_aside(ledger, "ann", "cy")
    with pytest.raises(BadInput, match="holds no choice of people between two answers of search"):
        read_preferences(tmp_path / "ledger")


def test_what_cannot_be_used_is_left_out_or_said(place, tmp_path):
    index, clip = Index(place / "index"), small_clip(WORDS)
    name = next(iter(index.names()))

    def one(query, *better):
        return Preference(query=query, axis="overall", person="ann", better=better, worse=((name,),))

    long, strange = one(" ".join(["cup"] * 40), (name,)), one("a cup", ("elsewhere.png",))
    kept = one("a cup", ("elsewhere.png", name))  # known by its second name
    assert voted_pairs(index, clip, [long, strange, kept]).queries == ["a cup"]
    with pytest.raises(BadInput, match="none of the 2 choices of people"):
        voted_pairs(index, clip, [long, strange])
    with pytest.raises(BadInput, match="6 choices of people are fewer than a batch of 7"):
        run(place, tmp_path / "run", batch=7)
    assert not list((tmp_path / "run").rglob("*.json"))  # with more choices the same line works
    said, index = read_preferences(place / "ledger").said, Index(place / "index")
    assert align(index, clip, None, tmp_path / "no", preferred=said, config=FEW, cpu=True).queries == 6
    with pytest.raises(BadInput, match="has no taste"):
        align(
            index, clip, None, tmp_path / "x", queries=WORDS, config=replace(FEW, stride=1, rows=1, columns=2), cpu=True
        )
    with pytest.raises(BadInput, match="no ledger"):
        read_preferences(tmp_path / "none")
