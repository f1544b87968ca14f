"""Training the showroom's CLIP: its queue of past embeddings, and a run that is killed and goes on."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from goodeye.showroom import perception as P
from goodeye.showroom.words import build_tokenizer
from goodeye.training.loop import Loop, read_metrics

CAPTIONS = [f"a {colour} {thing}" for colour in ("red", "blue") for thing in ("shoe", "chair", "mug", "lamp")]
STEPS, SETTLED, QUEUE, BATCH = 6, 1, 8, 4


def train(run_dir: Path, die_at: int = STEPS) -> dict[str, torch.Tensor]:
    """A tiny run to its end, or until it kills itself at the step of that number."""
    P.SETTLED, P.QUEUE = SETTLED, QUEUE
    torch.set_num_threads(1)
    loss, calls = P.contrastive, []

    def dying(*given: torch.Tensor) -> torch.Tensor:
        calls.append(len(given[2]))
        if len(calls) > die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return loss(*given)

    P.contrastive = dying
    tokenizer = build_tokenizer()
    torch.manual_seed(0)
    clip = P.new_clip(tokenizer)
    images = np.random.default_rng(0).integers(0, 256, (8, 3, 128, 128), dtype=np.uint8)
    config = Loop(steps=STEPS, lr=1e-3, ema=0.9, save_steps=2, save_seconds=None, log_every=1)
    try:
        P.train_clip(clip, tokenizer, images, (CAPTIONS, CAPTIONS), (images, CAPTIONS), run_dir, config, BATCH)
    finally:
        P.contrastive = loss
    return clip.state_dict()


@pytest.fixture
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Puts back what `train` changes."""
    for name in ("SETTLED", "QUEUE"):
        monkeypatch.setattr(P, name, getattr(P, name))
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_the_queue_holds_the_last_pairs_oldest_first():
    queue = P.Queue(5, 3)
    assert [tuple(side.shape) for side in queue.past()] == [(0, 3), (0, 3)]
    image, text = torch.rand(8, 3), torch.rand(8, 3)
    for at, count in ((0, 2), (2, 4), (4, 5), (6, 5)):
        queue.push(image[at : at + 2], text[at : at + 2])
        assert torch.equal(queue.past()[0], image[at + 2 - count : at + 2])
        assert torch.equal(queue.past()[1], text[at + 2 - count : at + 2])


def test_past_pairs_are_further_wrong_answers():
    """Written out for one pair and one past pair: two answers, of which smoothing gives the right one 0.95."""
    image, text, past_image, past_text = (F.normalize(torch.randn(1, 4), dim=1) for _ in range(4))
    expected = 0.0
    for own, right, wrong in ((image, text, past_text), (text, image, past_image)):
        logs = (torch.stack([(own * right).sum(), (own * wrong).sum()]) / 0.1).log_softmax(0)
        expected -= float(0.95 * logs[0] + 0.05 * logs[1])
    got = P.contrastive(image, text, past_image, past_text, torch.tensor(0.1))
    assert float(got) == pytest.approx(expected, abs=1e-5)


def test_a_run_that_was_killed_and_resumed_equals_one_that_was_not(tmp_path, as_before):
    """Killed at step 5 of 6, when the checkpoint of step 4 has a full queue."""
    here = str(Path(__file__).parent)
    code = "import sys; sys.path.insert(0, sys.argv[1]); from test_perception import *; train(Path(sys.argv[2]), 5)"
    killed = subprocess.run([sys.executable, "-c", code, here, str(tmp_path / "cut")], capture_output=True, timeout=300)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    names = sorted(path.name for path in (tmp_path / "cut" / "checkpoints").iterdir())
    assert names == ["00000002", "00000004"]
    whole, cut = train(tmp_path / "whole"), train(tmp_path / "cut")
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    losses = [[row["loss"] for row in read_metrics(tmp_path / run) if "loss" in row] for run in ("whole", "cut")]
    assert losses[0] == losses[1] and len(losses[0]) == STEPS
