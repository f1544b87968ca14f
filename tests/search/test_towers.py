"""The contrastive loss and its queue, and a run that was killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_clip import small_clip
from torch.nn import functional as F

from goodeye.search import towers as T
from goodeye.training.loop import Loop, read_metrics

CAPTIONS = [f"a {colour} {thing}" for colour in ("red", "blue") for thing in ("shoe", "chair", "mug", "lamp")]
STEPS, BATCH = 6, 4


def train(run_dir: Path, die_at: int = STEPS) -> dict[str, torch.Tensor]:
    """A tiny run to its end, or until it kills itself at the step of that number."""
    torch.set_num_threads(1)
    clip = small_clip(CAPTIONS)
    pictures = torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    calls = []

    def data(index: int) -> T.Pairs:
        calls.append(index)
        if len(calls) > die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        chosen = [(index * BATCH + at) % 8 for at in range(BATCH)]
        return T.Pairs(pictures[chosen], [CAPTIONS[one] for one in chosen])

    config = Loop(steps=STEPS, lr=1e-3, ema=0.9, save_steps=2, save_seconds=None, log_every=1)
    T.fit_towers(clip, data, config, run_dir, queue=8, settled=1, resume=True, cpu=True)
    return clip.model.state_dict()


def test_the_queue_holds_the_last_pairs_oldest_first():
    queue = T.Queue(5, 3)
    assert [tuple(side.shape) for side in queue.past()] == [(0, 3), (0, 3)]
    image, text = torch.rand(8, 3), torch.rand(8, 3)
    for at, count in ((0, 2), (2, 4), (4, 5), (6, 5)):
        queue.push(image[at : at + 2], text[at : at + 2])
        assert torch.equal(queue.past()[0], image[at + 2 - count : at + 2])
        assert torch.equal(queue.past()[1], text[at + 2 - count : at + 2])
    none = T.Queue(0, 3)
    none.push(image, text)
    assert len(none.past()[0]) == 0


def test_past_pairs_are_further_wrong_answers():
    """Written out for one pair and one past pair: two answers, of which smoothing gives the right one 0.95."""
    image, text, past_image, past_text = (F.normalize(torch.randn(1, 4), dim=1) for _ in range(4))
    expected = 0.0
    for own, right, wrong in ((image, text, past_text), (text, image, past_image)):
        logs = (torch.stack([(own * right).sum(), (own * wrong).sum()]) / 0.1).log_softmax(0)
        expected -= float(0.95 * logs[0] + 0.05 * logs[1])
    got = T.contrastive(image, text, past_image, past_text, torch.tensor(0.1))
    assert float(got) == pytest.approx(expected, abs=1e-5)


def test_a_run_that_was_killed_and_resumed_equals_one_that_was_not(tmp_path):
    """Killed at step 5 of 6, when the checkpoint of step 4 has a full queue."""
    here = str(Path(__file__).parent)
    code = (
        "import sys; sys.path[:0] = [sys.argv[1], sys.argv[1] + '/../judging']; "
        "from test_towers import *; train(Path(sys.argv[2]), 5)"
    )
    killed = subprocess.run([sys.executable, "-c", code, here, str(tmp_path / "cut")], capture_output=True, timeout=300)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    names = sorted(path.name for path in (tmp_path / "cut" / "checkpoints").iterdir())
    assert names == ["00000002", "00000004"]
    threads = torch.get_num_threads()
    whole, cut = train(tmp_path / "whole"), train(tmp_path / "cut")
    torch.set_num_threads(threads)
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    losses = [[row["loss"] for row in read_metrics(tmp_path / run) if "loss" in row] for run in ("whole", "cut")]
    assert losses[0] == losses[1] and len(losses[0]) == STEPS


def test_what_is_saved_loads_in_plain_transformers(tmp_path):
    from transformers import AutoModel, AutoTokenizer

    clip = small_clip(CAPTIONS)
    T.save_clip(clip, tmp_path / "clip")
    model, tokenizer = AutoModel.from_pretrained(tmp_path / "clip"), AutoTokenizer.from_pretrained(tmp_path / "clip")
    inputs = tokenizer([CAPTIONS[0]], return_tensors="pt")
    ids = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    text = F.normalize(model.get_text_features(**ids).pooler_output, dim=-1)
    assert torch.allclose(text, clip.embed_texts([CAPTIONS[0]]), atol=1e-6)
