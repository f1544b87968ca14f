"""Samples are views of their tensors, and their pictures become what RFNet takes."""

import dataclasses

import pytest
import torch
from tiny_judges import toy_samples

from goodeye.judging.samples import as_inputs, mirrored


def test_subsets_are_rows_of_the_same_tensors():
    samples = toy_samples(12)
    part = samples.subset([5, 3, 9]).subset([2, 0])
    assert len(part) == 2 and part.label_tensor().tolist() == samples.labels[[9, 5]].tolist()
    assert part.images.data_ptr() == samples.images.data_ptr()
    batch = part.batch([0, 1])
    assert torch.equal(batch["images"], samples.images[[9, 5]]) and batch["row"].tolist() == [9, 5]


def test_inputs_are_floats_and_the_product_lies_on_white():
    batch = toy_samples(4).batch([0, 1])
    batch["products"][0] = torch.tensor([255, 0, 51, 0]).view(4, 1, 1)
    batch["products"][1] = torch.tensor([255, 0, 51, 51]).view(4, 1, 1)
    inputs = as_inputs(batch)
    assert torch.equal(inputs["product"][0], torch.ones(3, 32, 32))
    assert torch.allclose(inputs["product"][1, :, 0, 0], torch.tensor([1.0, 0.8, 0.84]))
    assert inputs["image"].max() <= 1 and inputs["depth"].shape == (2, 1, 32, 32)


def test_mirroring_turns_every_picture_of_a_sample():
    batch = toy_samples(4).batch([0, 1])
    turned = mirrored(batch, torch.tensor([True, False]))
    for name in ("products", "images", "depth", "saliency"):
        assert torch.equal(turned[name][0], batch[name][0].flip(-1))
        assert torch.equal(turned[name][1], batch[name][1])
    assert torch.equal(turned["labels"], batch["labels"])


def test_tensors_that_do_not_belong_together_are_refused():
    samples = toy_samples(4)
    with pytest.raises(ValueError, match="depth must be uint8"):
        dataclasses.replace(samples, depth=samples.depth[:, :, :5])
    with pytest.raises(ValueError, match="images must be uint8"):
        dataclasses.replace(samples, images=samples.images.float())
    with pytest.raises(ValueError, match="titles"):
        dataclasses.replace(samples, titles=["x"])
