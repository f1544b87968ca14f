"""Training the showroom's CLIP; the loss, the queue and resumption are search's (tests/search/test_towers.py)."""

import numpy as np
import torch

from goodeye.judging.clip import Clip
from goodeye.showroom import perception as P
from goodeye.showroom.words import build_tokenizer
from goodeye.training.loop import Loop

CAPTIONS = [f"a {colour} {thing}" for colour in ("red", "blue") for thing in ("shoe", "chair")]


def test_a_clip_learns_which_of_four_pictures_a_caption_tells_of(tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    tokenizer = build_tokenizer(end_last=True)
    clip = P.new_clip(tokenizer)
    images = np.random.default_rng(0).integers(0, 256, (4, 3, 1, 1), dtype=np.uint8).repeat(128, 2).repeat(128, 3)
    config = Loop(steps=12, lr=5e-4, save_seconds=None)
    done = P.train_clip(clip, tokenizer, images, (CAPTIONS, CAPTIONS), (images, CAPTIONS), tmp_path, config, 4)
    torch.set_num_threads(threads)
    assert done.steps == 12 and done.last["recall_at_1"] == 1.0
    assert not any(weight.requires_grad for weight in clip.parameters())


def test_what_stands_behind_a_comma_counts():
    tokenizer = build_tokenizer(end_last=True)
    clip = Clip(P.new_clip(tokenizer), tokenizer, P.NORMALISE)
    texts = ["a red shoe, soft light", "a red shoe, moody light", "a red shoe, moody light, beside a cup"]
    found = clip.embed_texts(texts)
    assert not torch.allclose(found[0], found[1], atol=1e-4) and not torch.allclose(found[1], found[2], atol=1e-4)
