"""Pixel preparation in torch gives what transformers' own image processor gives, with gradient."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessorPil, SiglipImageProcessorPil

from goodeye.errors import BadInput
from goodeye.judging.pixels import Pixels, centre_crop, on_white, resize


@pytest.fixture(scope="module")
def photograph(shared_data):
    with Image.open(sorted((shared_data / "coco128" / "images").glob("*.jpg"))[0]) as file:
        image = file.convert("RGB")
    tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255
    return image, tensor


@pytest.mark.parametrize("processor", [CLIPImageProcessorPil(), SiglipImageProcessorPil()])
def test_equal_to_transformers_on_a_photograph(processor, photograph, tmp_path):
    image, tensor = photograph
    processor.save_pretrained(tmp_path)
    expected = processor(image, return_tensors="pt")["pixel_values"]
    got = Pixels.from_pretrained(tmp_path)(tensor)
    assert got.shape == expected.shape
    assert (got - expected).abs().mean() < 0.01  # theirs rounds to 8 bits on the way
    assert (got - expected).abs().max() < 0.15


@pytest.mark.parametrize(
    "pixels",
    [
        Pixels(mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.2), size=(32, 48), resample="bilinear"),
        Pixels(mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.2), shortest_edge=32, crop=(32, 32)),
        Pixels(divisor=32, resample="bilinear"),
        Pixels(),
    ],
)
def test_saved_and_read_again(pixels, tmp_path):
    pixels.save_pretrained(tmp_path)
    assert Pixels.from_pretrained(tmp_path) == pixels


def test_gradient_reaches_the_image():
    images = torch.rand(1, 3, 40, 50, requires_grad=True)
    Pixels(shortest_edge=32, crop=(32, 32))(images).square().sum().backward()
    assert images.grad.abs().sum() > 0


def test_sizes():
    images = torch.rand(2, 3, 70, 100)
    assert Pixels(divisor=32)(images).shape == (2, 3, 64, 96)
    assert Pixels(shortest_edge=35)(images).shape == (2, 3, 35, 50)
    assert Pixels()(images).shape == images.shape
    assert centre_crop(images, (80, 80)).shape == (2, 3, 80, 80)  # padded where too short
    assert resize(images, (70, 100)) is images
    sliver = torch.rand(1, 3, 1, 4000)
    assert Pixels(shortest_edge=64, crop=(64, 64))(sliver).shape == (1, 3, 64, 64)
    assert Pixels(shortest_edge=64)(sliver).shape == (1, 3, 64, 512)  # and not 256,000 wide


def test_a_folder_that_does_not_say_is_refused(tmp_path):
    with pytest.raises(BadInput, match="preprocessor_config.json"):
        Pixels.from_pretrained(tmp_path)


def test_on_white():
    product = torch.tensor([0.2, 0.4, 0.6, 0.25]).view(1, 4, 1, 1)
    assert torch.allclose(on_white(product).flatten(), torch.tensor([0.8, 0.85, 0.9]))
