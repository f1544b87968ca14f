"""Depth and saliency estimators: range, direction, size and gradient, on tiny folders of the standard layout."""

import pytest
import torch
from transformers import (
    BeitConfig,
    DPTConfig,
    DPTForDepthEstimation,
    GLPNConfig,
    GLPNForDepthEstimation,
    SegformerConfig,
    SegformerForSemanticSegmentation,
)

from goodeye.errors import BadInput
from goodeye.judging.maps import DepthEstimator, OnnxSaliency, SaliencyEstimator, farthest_depth, stretch
from goodeye.judging.pixels import Pixels

TINY = {
    "depths": [1, 1, 1, 1],
    "hidden_sizes": [8, 16, 16, 24],
    "num_attention_heads": [1, 1, 2, 2],
    "decoder_hidden_size": 16,
}
IMAGENET = Pixels(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), size=(64, 64), resample="bilinear")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("maps")
    GLPNForDepthEstimation(GLPNConfig(**TINY, max_depth=10)).save_pretrained(root / "glpn")
    Pixels(divisor=32).save_pretrained(root / "glpn")
    dpt = DPTConfig(
        hidden_size=32, num_hidden_layers=4, num_attention_heads=2, intermediate_size=64, image_size=64, patch_size=16,
        backbone_out_indices=[0, 1, 2, 3], neck_hidden_sizes=[8, 8, 8, 8], fusion_hidden_size=16,
    )  # fmt: skip
    DPTForDepthEstimation(dpt).save_pretrained(root / "dpt")
    IMAGENET.save_pretrained(root / "dpt")
    GLPNForDepthEstimation(GLPNConfig(**TINY, max_depth=10)).save_pretrained(root / "glpn-any")
    Pixels().save_pretrained(root / "glpn-any")
    SegformerForSemanticSegmentation(SegformerConfig(**TINY, num_labels=1)).save_pretrained(root / "segformer-any")
    Pixels().save_pretrained(root / "segformer-any")
    for labels in (1, 2, 3):
        config = SegformerConfig(**TINY, num_labels=labels, semantic_loss_ignore_index=-100)
        SegformerForSemanticSegmentation(config).save_pretrained(root / f"segformer{labels}")
        IMAGENET.save_pretrained(root / f"segformer{labels}")
    return root


@pytest.fixture
def images():
    return torch.rand(2, 3, 96, 64, generator=torch.Generator().manual_seed(1))


def estimator(folders, name):
    kind = SaliencyEstimator if name.startswith("segformer") else DepthEstimator
    return kind.from_pretrained(folders / name)


@pytest.mark.parametrize("name", ["glpn", "dpt", "segformer1", "segformer2"])
def test_maps_are_in_range_sized_like_the_image_and_let_gradient_through(folders, images, name):
    estimate = estimator(folders, name)
    images.requires_grad_(True)
    maps = estimate(images)
    assert maps.shape == (2, 1, 96, 64)
    assert maps.min() >= 0 and maps.max() <= 1 and maps.std() > 0
    (maps * torch.rand_like(maps)).sum().backward()
    assert (images.grad.abs().sum((1, 2, 3)) > 0).all()
    assert estimate.differentiable
    assert not any(weight.requires_grad for weight in estimate.model.parameters())
    assert torch.equal(estimate(images), maps)  # dropout and drop path are off


def test_a_metric_model_gives_distance_and_a_relative_one_nearness(folders, images):
    metric, relative = estimator(folders, "glpn"), estimator(folders, "dpt")
    assert metric.farthest == 10 and relative.farthest is None
    distance = metric.model(pixel_values=images).predicted_depth
    assert torch.allclose(metric(images)[:, 0], 1 - distance / 10, atol=1e-6)
    for convolution in (relative.model.head.head[0], relative.model.head.head[2], relative.model.head.head[4]):
        torch.nn.init.kaiming_normal_(convolution.weight)  # as started by transformers, it gives a nearly flat map
    maps = relative(images)
    assert torch.allclose(maps.amax((1, 2, 3)), torch.ones(2)) and torch.equal(maps.amin((1, 2, 3)), torch.zeros(2))
    nearness = relative.model(pixel_values=relative.pixels(images)).predicted_depth
    small = torch.nn.functional.interpolate(maps, size=nearness.shape[-2:], mode="bilinear")[:, 0]
    for ours, theirs in zip(small, nearness, strict=True):
        assert torch.corrcoef(torch.stack([ours.flatten(), theirs.flatten()]))[0, 1] > 0.9


@pytest.mark.parametrize("name", ["glpn-any", "segformer-any"])
@pytest.mark.parametrize("size", [(1, 1), (2, 200), (33, 65), (96, 64)])
def test_pictures_of_any_size_have_a_map_where_the_folder_asks_for_none(folders, name, size):
    estimate = estimator(folders, name)
    picture = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(2))
    maps = estimate(picture)
    assert maps.shape == (1, 1, *size) and bool(maps.isfinite().all())
    if size == (96, 64):  # a size that the network takes is not touched
        said = estimate.model(pixel_values=picture)
        if name == "glpn-any":
            assert torch.allclose(maps, 1 - said.predicted_depth[:, None] / 10, atol=1e-6)
        else:
            whole = torch.nn.functional.interpolate(said.logits, size=size, mode="bilinear")
            assert torch.allclose(maps, whole.sigmoid(), atol=1e-6)


def test_the_last_label_is_the_salient_one(folders, images):
    estimate = estimator(folders, "segformer2")
    bias = torch.tensor([0.0, 9.0])
    estimate.model.decode_head.classifier.bias.data.copy_(bias)
    assert estimate(images).min() > 0.99
    estimate.model.decode_head.classifier.bias.data.copy_(bias.flip(0))
    assert estimate(images).max() < 0.01


def test_pixels_are_prepared_as_the_folder_says(folders, images):
    estimate = estimator(folders, "segformer2")
    mean, std = torch.tensor(IMAGENET.mean).view(3, 1, 1), torch.tensor(IMAGENET.std).view(3, 1, 1)
    square = images[..., :64, :]
    logits = estimate.model(pixel_values=(square - mean) / std).logits
    logits = torch.nn.functional.interpolate(logits, size=(64, 64), mode="bilinear")
    assert torch.allclose(estimate(square), logits.softmax(1)[:, 1:], atol=1e-6)


def test_more_labels_are_refused(folders):
    with pytest.raises(BadInput, match="3 labels"):
        estimator(folders, "segformer3")


def test_farthest_depth():
    assert farthest_depth(BeitConfig()) is None
    assert farthest_depth(GLPNConfig(max_depth=80)) == 80


def test_a_flat_map_becomes_zero():
    assert torch.equal(stretch(torch.full((1, 1, 4, 4), 0.3)), torch.zeros(1, 1, 4, 4))


def test_a_missing_onnx_file_is_bad_input(tmp_path):
    with pytest.raises(BadInput, match="does not exist"):
        SaliencyEstimator.from_pretrained(tmp_path / "u2net.onnx")


def test_an_onnx_model_is_known_by_its_bytes(tmp_path):
    versions = set()
    for content in (b"one", b"two", b"one"):  # of one name and one length
        estimate = OnnxSaliency.__new__(OnnxSaliency)
        estimate.path, estimate._version = tmp_path / "u2net.onnx", ""
        estimate.path.write_bytes(content)
        versions.add(estimate.version)
    assert len(versions) == 2


class FakeSession:
    """Stands in for an onnxruntime session with a fixed batch of two: its map is the red channel."""

    def run(self, outputs, feed):
        pixels = feed["in"]
        assert pixels.shape == (2, 3, 32, 32)
        return [pixels[:, :1], pixels[:, 1:2]]


def test_onnx_runs_in_parts_and_gives_stretched_maps(images):
    estimate = OnnxSaliency.__new__(OnnxSaliency)
    estimate.session, estimate.input, estimate.batch, estimate.size = FakeSession(), "in", 2, (32, 32)
    ramp = torch.linspace(0, 1, 64).expand(3, 3, 64, 64)
    maps = estimate(ramp)
    assert maps.shape == (3, 1, 64, 64) and not estimate.differentiable
    assert (maps[..., 0] < 0.02).all() and (maps[..., -1] > 0.98).all()
