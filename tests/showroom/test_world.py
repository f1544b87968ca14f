"""Worlds on disk: the same whether they were rendered in one go or after kills."""

import json
import signal
import subprocess
import sys
import time

import numpy as np

from goodeye.showroom import scenes as S
from goodeye.showroom import world as W

COUNT, SHARD = 40, 8
SCRIPT = f"""
import sys, torch
from pathlib import Path
torch.set_num_threads(1)
from goodeye.showroom import world as W
W.SHARD = {SHARD}
W.world(Path(sys.argv[1]), 501, {COUNT})
"""


def rendered(folder):
    state = folder / "state.json"
    return json.loads(state.read_text())["scenes"] if state.exists() else 0


def test_a_killed_world_goes_on_and_is_the_same(tmp_path, monkeypatch):
    torn = tmp_path / "torn"
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(torn)], stdout=subprocess.DEVNULL)
    while rendered(torn) < SHARD:
        assert process.poll() is None, "rendered all of it before it could be killed"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 0 < rendered(torn) < COUNT

    monkeypatch.setattr(W, "SHARD", SHARD)
    said = []
    resumed = W.world(torn, 501, COUNT, say=said.append)
    whole = W.world(tmp_path / "whole", 501, COUNT, say=lambda line: None)
    assert len(said) < COUNT / SHARD and len(resumed) == COUNT
    for name in (*W.PLANES, "label", "beauty"):
        assert np.array_equal(getattr(resumed, name), getattr(whole, name)), name
    assert resumed.captions == whole.captions and resumed.titles == whole.titles


def test_a_world_holds_what_was_rendered(tmp_path):
    world = W.world(tmp_path, 502, 6, available=0.5, say=lambda line: None)
    made = S.render(W.draw_scenes(502, 6, 0.5))
    assert np.abs(world.image - (made.image * 255).round().numpy()).max() <= 1
    assert [S.CLASSES[i] for i in world.label] == [scene.defect for scene in made.scenes]
    said = []
    W.world(tmp_path, 502, 6, available=0.5, say=said.append)
    assert not said  # nothing is left to render


def test_the_share_of_available_scenes_is_as_asked():
    labels = [scene.label for scene in W.draw_scenes(503, 600, 0.5)]
    counts = np.bincount(labels, minlength=5) / 600
    assert abs(counts[0] - 0.5) < 0.07 and np.abs(counts[1:] - 0.125).max() < 0.05
