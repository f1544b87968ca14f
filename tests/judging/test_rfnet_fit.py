"""Training in memory: it learns, is the same for the same seed, and goes on where it was stopped."""

import json
import os
import signal

import numpy as np
import pytest
import torch
from tiny_judges import RESNET, tiny_training, toy_samples
from torch import nn

from goodeye.errors import BadInput
from goodeye.judging import rfnet_fit
from goodeye.judging.baseline import baseline_for
from goodeye.judging.rfnet import RFNet
from goodeye.judging.rfnet_fit import build_rfnet, classes_in, fit_rfnet, predict


def test_it_learns_what_is_in_plain_sight(tmp_path):
    samples, held_out = toy_samples(), toy_samples(20, seed=1)
    before = torch.random.get_rng_state()
    model, tokenizer = build_rfnet(samples.titles, tiny_training(), image_size=32)
    assert torch.equal(before, torch.random.get_rng_state())
    untrained = predict(model, tokenizer, held_out)
    fitted = fit_rfnet(samples, tiny_training(log_every=3), held_out=held_out, run_dir=tmp_path)
    probabilities = predict(fitted.model, fitted.tokenizer, held_out)
    assert probabilities.shape == (20, 5) and np.allclose(probabilities.sum(1), 1)
    labels = held_out.labels.numpy()
    assert (probabilities.argmax(1) == labels).mean() > 0.9 > (untrained.argmax(1) == labels).mean()
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    measured = [row for row in rows if "held_out_ap" in row]
    assert len(measured) >= 6 and measured[-1]["held_out_ap"] > 0.9
    rates = [row["lr"] for row in rows if "lr" in row]
    assert (rates[0], rates[-1]) == pytest.approx((3e-3, 3e-4))  # x 0.1 at half of the epochs
    about = json.loads((tmp_path / "config.json").read_text())["about"]
    assert about["training"]["epochs"] == 6 and about["samples"] == 48


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_the_same_seed_gives_the_same_judge():
    samples, config = toy_samples(32), tiny_training(epochs=1)
    first, again = fit_rfnet(samples, config), fit_rfnet(samples, config)
    other = fit_rfnet(samples, tiny_training(epochs=1, seed=1))
    assert torch.equal(weights(first.model), weights(again.model))
    assert not torch.equal(weights(first.model), weights(other.model))


def test_stopped_and_resumed_is_as_never_stopped(tmp_path, monkeypatch):
    samples, held_out, config = toy_samples(32), toy_samples(8, seed=1), tiny_training(epochs=3, evaluations=6)
    whole = fit_rfnet(samples, config, held_out=held_out, run_dir=tmp_path / "whole")
    quick, calls = rfnet_fit._quick, []

    def stops(probabilities, labels):
        calls.append(1)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return quick(probabilities, labels)

    monkeypatch.setattr(rfnet_fit, "_quick", stops)
    with pytest.raises(KeyboardInterrupt):
        fit_rfnet(samples, config, held_out=held_out, run_dir=tmp_path / "part")
    resumed = fit_rfnet(samples, config, held_out=held_out, run_dir=tmp_path / "part", resume=True)
    assert torch.equal(weights(resumed.model), weights(whole.model)) and len(calls) == 6
    with pytest.raises(BadInput, match="--resume"):
        fit_rfnet(samples, config, run_dir=tmp_path / "part")
    with pytest.raises(BadInput, match="lr was"):
        fit_rfnet(samples, tiny_training(epochs=3, evaluations=6, lr=1e-5), run_dir=tmp_path / "part", resume=True)


def test_a_run_does_not_go_on_with_other_rows_of_the_same_count(tmp_path):
    samples, config = toy_samples(16), tiny_training(epochs=2)
    first = fit_rfnet(samples, config, run_dir=tmp_path)
    others = {
        "labels": (samples.labels + 1) % 2,
        "titles": samples.titles[::-1],
        "images": samples.images.flip(0),
    }
    for name, other in others.items():
        with pytest.raises(BadInput, match="data was"):
            changed = type(samples)(**{**vars(samples), name: other})
            model, tokenizer = build_rfnet(samples.titles, config, classes=5, image_size=32)
            fit_rfnet(changed, config, model=model, tokenizer=tokenizer, run_dir=tmp_path, resume=True)
    same = samples.subset(range(16))  # the same rows, told in another way
    assert torch.equal(weights(fit_rfnet(same, config, run_dir=tmp_path, resume=True).model), weights(first.model))
    with pytest.raises(BadInput, match="data was"):
        fit_rfnet(samples.subset([*range(1, 16), 0]), config, run_dir=tmp_path, resume=True)


def test_a_run_that_was_begun_before_its_data_was_told_goes_on(tmp_path):
    samples, config = toy_samples(16), tiny_training(epochs=2)
    first = fit_rfnet(samples, config, run_dir=tmp_path)
    path = tmp_path / "config.json"
    told = json.loads(path.read_text())
    del told["about"]["data"]
    path.write_text(json.dumps(told))
    again = fit_rfnet(samples, config, run_dir=tmp_path, resume=True)
    assert torch.equal(weights(again.model), weights(first.model))
    fit_rfnet(samples, config, run_dir=tmp_path, resume=True)


def test_titles_reach_the_model_by_row():
    samples = toy_samples(9)
    model, tokenizer = build_rfnet(samples.titles, tiny_training(), image_size=32)
    for block in model.filters:  # let a title weigh
        nn.init.normal_(block.conv_out.weight)
    whole = predict(model, tokenizer, samples, batch_size=4)
    part = predict(model, tokenizer, samples.subset([7, 2, 4]), batch_size=2)
    assert np.allclose(part, whole[[7, 2, 4]], atol=1e-6)
    untitled = type(samples)(**{**vars(samples), "titles": [""] * 9})
    assert not np.allclose(whole[:2], predict(model, tokenizer, untitled)[:2], atol=1e-6)


def test_without_titles_no_tokenizer_is_needed():
    config = tiny_training(epochs=1, rfnet={"width": 16, "heads": 2, "n2": 1, "use_title": False})
    fitted = fit_rfnet(toy_samples(16), config)
    assert fitted.tokenizer is None and isinstance(fitted.model, RFNet) and not fitted.model.config.use_title


def test_averaged_weights_bf16_and_the_baseline_train_too():
    fitted = fit_rfnet(toy_samples(16), tiny_training(epochs=2, ema=0.99, precision="bf16"))
    assert torch.isfinite(weights(fitted.model)).all()
    model = baseline_for(build_rfnet([], tiny_training(), image_size=32)[0].config)
    fitted = fit_rfnet(toy_samples(), tiny_training(epochs=8), model=model)
    held_out = toy_samples(20, seed=1)
    assert (predict(fitted.model, None, held_out).argmax(1) == held_out.labels.numpy()).mean() > 0.9


def test_the_sixth_class_appears_with_its_label():
    samples = toy_samples(8)
    assert classes_in(samples) == 5
    samples.labels[3] = 5
    assert classes_in(samples) == 6 and classes_in(samples.subset([0, 1])) == 5
    assert fit_rfnet(samples, tiny_training(epochs=1)).model.config.classes == 6


def test_nothing_to_train_on_is_bad_input():
    with pytest.raises(BadInput, match="nothing to train on"):
        fit_rfnet(toy_samples(4).subset([]), tiny_training())


def test_small_encoders_are_the_default():
    model, tokenizer = build_rfnet(["a mug"], tiny_training(image_encoder=None, text_encoder=None, rfnet=None))
    assert model.config.width == 128 and model.text_encoder.config.vocab_size == len(tokenizer) == 7
    assert model.config.image_encoder != RESNET
