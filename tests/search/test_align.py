"""Alignment of a tiny CLIP: its data, its first loss, what each loss does, what is saved, two processes, resumption."""

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_clip import save_picture, small_clip

from goodeye.errors import BadInput
from goodeye.judging.clip import Clip
from goodeye.search.align import Align, align, make_grids
from goodeye.search.build import index_pictures
from goodeye.search.embed import embed_texts
from goodeye.search.index import Index
from goodeye.search.pseudo import captions_of
from goodeye.search.shift import Scale
from goodeye.search.source import open_named
from goodeye.search.towers import Towers
from goodeye.training.loop import read_metrics

pytestmark = pytest.mark.usefixtures("one_thread")
WORDS = ["red cup", "blue cup", "green lamp", "white lamp", "a cup", "a lamp"]
SMALL = Align(
    rows=3, columns=3, stride=2, batch=4, accumulate=1, steps=6, warmup=1, lr=1e-3, rank=2, pairs=8, queue=16,
    evaluate_every=3, guard=False, watched=10,
)  # fmt: skip
HEAD = np.random.default_rng(3).normal(size=24).astype(np.float32)


def clip_of():
    return small_clip(WORDS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An index of 60 plain pictures with captions."""
    place, random = tmp_path_factory.mktemp("align"), np.random.default_rng(0)
    for number in range(60):
        path = save_picture(place / "p" / f"{number}.png", random.integers(0, 255, 3))
        path.with_suffix(".txt").write_text(WORDS[number % 4] + (", a cup" if number % 3 else ""))
    index_pictures(place / "p", place / "i", clip_of(), "showroom", duplicates=0)
    return place / "i"


def run(folder, out, **fields):
    clip = clip_of()
    return clip, align(Index(folder), clip, HEAD, out, queries=WORDS, config=replace(SMALL, **fields), cpu=True)


def test_grids_are_the_rewritten_querys_list_ordered_by_the_query_as_it_was(folder):
    index, clip = Index(folder), clip_of()
    grids = make_grids(index, clip, HEAD, ["red cup", " ".join(["red"] * 40)], lambda query: f"{query}, a lamp", SMALL)
    assert grids.queries == ["red cup"] and grids.rewritten == ["red cup, a lamp"]  # 40 words cannot be read whole
    query, rewritten = embed_texts(["red cup", "red cup, a lamp"], clip)
    listed = np.argsort(-(index.vectors @ rewritten), kind="stable")[:17:2].reshape(3, 3)
    marks = index.vectors @ query + Scale(index.sample, HEAD).lam(1.0, query) * (index.vectors @ HEAD)
    expected = [sorted(row, key=lambda number: -marks[number]) for row in listed.tolist()]
    assert grids.rows.reshape(3, 3).tolist() == expected
    now = clip.embed_images(torch.stack([_pixels(index, row) for row in grids.rows[0]]))
    assert torch.allclose(grids.reference[0], (now @ torch.from_numpy(query)).float(), atol=1e-5)


def _pixels(index, row):
    return torch.from_numpy(np.asarray(open_named(index.row(int(row))[0])).copy()).permute(2, 0, 1) / 255


@pytest.mark.parametrize("train", ["full", "lora", "projection"])
def test_dpo_begins_at_ln_2_and_learns_the_order(folder, tmp_path, train):
    rate = 1e-2 if train == "lora" else 1e-3
    clip, done = run(folder, tmp_path / "run", train=train, steps=12, pretrain=0.0, gain=20.0, lr=rate)
    rows = [row for row in read_metrics(tmp_path / "run") if "ranked" in row]
    first = json.loads((tmp_path / "run" / "queries.json").read_text())
    assert len(first["grids"]) == len(WORDS) and done.queries == len(WORDS)
    _, once = run(folder, tmp_path / "once", train=train, steps=1, pretrain=0.0, gain=20.0)
    assert once.last["ranked"] == pytest.approx(math.log(2), abs=1e-4)  # pictures were embedded in other batches
    assert rows[-1]["ranked"] < 0.6 and rows[-1]["preferred"] > once.last["preferred"]
    start, got = clip_of(), Clip.from_pretrained(done.weights)
    assert torch.allclose(got.embed_texts(WORDS), merged_texts(clip), atol=1e-5)
    assert not torch.allclose(got.embed_texts(WORDS), start.embed_texts(WORDS), atol=1e-4)
    if train == "projection":
        same = [n for n, v in got.model.state_dict().items() if torch.equal(v, start.model.state_dict()[n])]
        assert {n for n, _ in start.model.named_parameters()} - set(same) == {
            "visual_projection.weight", "text_projection.weight"
        }  # fmt: skip


def merged_texts(clip):
    return clip.embed_texts(WORDS).detach()


@pytest.mark.parametrize(("method", "start"), [("ipo", 100.0), ("rrhf", None)])
def test_the_controls_begin_where_their_equations_say(folder, tmp_path, method, start):
    _, done = run(folder, tmp_path / "run", method=method, steps=1, pretrain=0.0)
    assert start is None or done.last["ranked"] == pytest.approx(start, rel=1e-3)  # (1 / (2 beta))^2
    assert done.last["ranked"] >= 0


def test_the_pretraining_term_is_added(folder, tmp_path):
    _, done = run(folder, tmp_path / "run", steps=1, pretrain=0.5)
    assert done.last["loss"] == pytest.approx(done.last["ranked"] + 0.5 * done.last["contrastive"], rel=1e-5)


def test_captions_of_which_the_beginning_alone_is_learned_are_counted(folder, tmp_path):
    for number in range(16):
        words = "a lamp " * (30 if number < 3 else 1)
        save_picture(tmp_path / "p" / f"{number}.png", (9, 9, number)).with_suffix(".txt").write_text(words)
    index_pictures(tmp_path / "p", tmp_path / "i", clip_of(), "showroom", duplicates=0)
    config = replace(SMALL, steps=1, pairs=8, queue=0, watched=0)
    for pretrain, count in ((1.0, 3), (0.0, 0)):
        done = align(
            Index(folder), clip_of(), HEAD, tmp_path / str(pretrain), captioned=Index(tmp_path / "i"), queries=WORDS,
            config=replace(config, pretrain=pretrain), cpu=True,
        )  # fmt: skip
        assert done.cut == count and ("longer than the model reads" in done.summary()) == bool(count)


def test_the_contrastive_term_learns_from_the_captioned_index(folder, tmp_path):
    """Equal pictures under equal captions: both towers' cross-entropies are those of one column in ln N."""
    for number in range(16):
        save_picture(tmp_path / "p" / f"{number}.png", (9, 9, 9)).with_suffix(".txt").write_text("a lamp")
    index_pictures(tmp_path / "p", tmp_path / "i", clip_of(), "showroom", duplicates=0)
    fields = {"steps": 1, "pretrain": 1.0, "pairs": 16, "queue": 0, "watched": 0}
    for train in ("full", "projection"):
        done = align(
            Index(folder), clip_of(), HEAD, tmp_path / train, captioned=Index(tmp_path / "i"), queries=WORDS,
            config=replace(SMALL, train=train, **fields), cpu=True,
        )  # fmt: skip
        assert done.last["contrastive"] == pytest.approx(2 * math.log(16), rel=1e-4)
    index_pictures(tmp_path / "p", tmp_path / "other", small_clip(WORDS, seed=1), "showroom", duplicates=0)
    with pytest.raises(BadInput, match="of another model than"):
        align(Index(folder), clip_of(), HEAD, tmp_path / "x", captioned=Index(tmp_path / "other"), cpu=True)


def test_projections_learn_from_what_the_towers_gave_once(folder, tmp_path, monkeypatch):
    """The same numbers as by encoding each batch anew, with each picture through the tower once."""
    fields = {"train": "projection", "steps": 3, "pretrain": 0.5}
    monkeypatch.setattr("goodeye.search.align.Heads", Towers)
    monkeypatch.setattr("goodeye.search.align.Seen", lambda clip, picture: None)
    slow, _ = run(folder, tmp_path / "slow", **fields)
    monkeypatch.undo()
    clip = clip_of()
    seen = []
    clip.model.vision_model.register_forward_hook(lambda module, given, out: seen.append(len(out.pooler_output)))
    config = replace(SMALL, **fields)
    align(Index(folder), clip, HEAD, tmp_path / "fast", queries=WORDS, config=config, cpu=True)
    assert sum(seen) <= 2 * 60  # as a picture of a grid, and as a captioned one
    for name, value in slow.model.state_dict().items():
        assert torch.allclose(clip.model.state_dict()[name], value, atol=1e-5), name


def test_the_guard_looks_at_captions_that_nothing_is_learned_from(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("goodeye.search.align.NEEDED", 8)
    _, done = run(folder, tmp_path / "run", guard=True)
    rows = [row for row in read_metrics(tmp_path / "run") if "held_out" in row]
    assert [row["step"] for row in rows] == [0, 3, 6] and done.best in (0, 3, 6)
    assert all(0 < row["held_out"] <= 1 and 0 <= row["recall_at_1"] <= row["fidelity"] <= 1 for row in rows)
    assert (tmp_path / "run" / "samples" / "00000006.png").exists()


@pytest.mark.parametrize("train", ["full", "projection"])
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not(folder, tmp_path, monkeypatch, train):
    whole, _ = run(folder, tmp_path / "whole", train=train)
    real = make_grids

    class Stop(Exception):
        pass

    def once(*given):
        monkeypatch.setattr("goodeye.search.align.make_grids", lambda *given: pytest.fail("made anew"))
        return real(*given)

    monkeypatch.setattr("goodeye.search.align.make_grids", once)
    monkeypatch.setattr("goodeye.search.align.save_clip", lambda clip, place: (_ for _ in ()).throw(Stop))
    with pytest.raises(Stop):
        run(folder, tmp_path / "cut", train=train)
    last = sorted((tmp_path / "cut" / "checkpoints").iterdir())[-1]
    (last / "state.json").unlink()  # as if killed between steps 3 and 6
    monkeypatch.undo()
    with pytest.raises(BadInput, match="holds a run that was begun"):
        run(folder, tmp_path / "cut")
    clip, config = clip_of(), replace(SMALL, train=train)
    done = align(Index(folder), clip, HEAD, tmp_path / "cut", queries=WORDS, config=config, resume=True, cpu=True)
    assert done.steps == 6
    assert all(torch.equal(v, clip.model.state_dict()[n]) for n, v in whole.model.state_dict().items())


def test_two_processes_equal_two_accumulated_batches(folder, tmp_path):
    here = Path(__file__).parent
    script = f"""
import sys, torch
sys.path[:0] = [{str(here)!r}, {str(here.parent / "judging")!r}]
torch.set_num_threads(1)
import test_align as t
from dataclasses import replace
t.run({str(folder)!r}, sys.argv[1], pretrain=0.0, batch=2, steps=3)
torch.distributed.destroy_process_group()
"""
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(28500 + os.getpid() % 1000)}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path / "two")],
            env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank), "ACCELERATE_USE_CPU": "true"},
        )
        for rank in range(2)
    ]
    try:
        assert [process.wait(timeout=300) for process in ranks] == [0, 0]
    finally:
        for process in ranks:
            process.kill()
    run(folder, tmp_path / "one", pretrain=0.0, batch=2, steps=3, accumulate=2)
    two, one = (load_file(tmp_path / name / "clip" / "model.safetensors") for name in ("two", "one"))
    for name, value in one.items():
        if not name.endswith("k_proj.bias"):  # cancels in attention: its gradient is rounding, which Adam scales up
            assert torch.allclose(two[name], value, atol=1e-5), name


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"stride": 10}, "holds 60 pictures, and a grid of 3 x 3 at every 10th rank needs 81"),
        ({"batch": 7}, "6 queries are fewer than a batch of 7"),
        ({"pairs": 51}, "too few for batches of 51 pairs"),
        ({"guard": True}, "60 pictures with captions, and the guard needs 128"),
        ({"gain": 0.0}, "gain is 0"),
        ({"gain": float("nan")}, "gain is nan"),
        ({"taste": float("nan")}, "taste is nan"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"decay": 1.1}, "decay is 1.1"),
        ({"rows": 1, "columns": 1}, "has no order"),
    ],
)
def test_what_cannot_be_aligned_is_said_in_a_line(folder, tmp_path, fields, words):
    with pytest.raises(BadInput, match=words):
        run(folder, tmp_path / "run", **fields)
    assert len(captions_of(Index(folder))) == 60
