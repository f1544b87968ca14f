"""The linear aesthetic head equals the LAION chain of layers and takes nothing that is not a unit embedding."""

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from goodeye.errors import BadInput
from goodeye.judging.aesthetic import AestheticHead, AestheticJudge
from goodeye.judging.protocol import Context, Judge, check_scores


@pytest.fixture(scope="module")
def laion(shared_data):
    return shared_data / "laion_aesthetic" / "sac+logos+ava1-l14-linearMSE.pth"


def units(count, size, seed=0):
    return F.normalize(torch.randn(count, size, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_equal_to_the_layer_chain(laion):
    state = torch.load(laion, map_location="cpu", weights_only=True)
    embeddings = units(500, 768)
    expected = embeddings
    for layer in (0, 2, 4, 6, 7):  # as published: linear, dropout, linear, ... without a non-linearity
        expected = F.linear(expected, state[f"layers.{layer}.weight"], state[f"layers.{layer}.bias"])
    got = AestheticHead.from_pretrained(laion)(embeddings)
    assert got.shape == (500,)
    assert (got - expected[:, 0]).abs().max() < 1e-5


def test_the_affine_collapse(laion):
    bias, weight = AestheticHead.from_pretrained(laion).affine()
    assert float(bias) == pytest.approx(5.2366, abs=1e-4)
    assert float(weight.norm()) == pytest.approx(17.996, abs=1e-3)


def test_the_bounds_are_reached(laion):
    head = AestheticHead.from_pretrained(laion)
    best = F.normalize(head.affine()[1], dim=0)
    low, high = head.bounds
    assert head(torch.stack([best, -best])).tolist() == pytest.approx([high, low], abs=1e-4)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda e: e * 10.3, "length 1"),
        (lambda e: e * 1.01, "length 1"),
        (lambda e: e.index_fill(0, torch.tensor([1]), float("nan")), "NaN"),
        (lambda e: e.index_fill(0, torch.tensor([1]), float("inf")), "length 1"),
        (lambda e: e[:, :5], "not \\[3, 5\\]"),
        (lambda e: e[0], "not \\[8\\]"),
    ],
)
def test_what_is_no_unit_embedding_is_refused(spoil, words):
    head = AestheticHead(torch.ones(8), torch.tensor(5.0))
    with pytest.raises(ValueError, match=words):
        head(spoil(units(3, 8)))


def test_saved_as_safetensors_and_loaded_again(laion, tmp_path):
    head = AestheticHead.from_pretrained(laion)
    head.save_pretrained(tmp_path / "head.safetensors")
    again = AestheticHead.from_pretrained(tmp_path / "head.safetensors")
    assert torch.equal(again(units(9, 768)), head(units(9, 768)))


def test_a_chain_in_safetensors_is_read_in_the_order_of_its_numbers(tmp_path):
    torch.manual_seed(0)
    layers = {2: torch.nn.Linear(8, 6), 9: torch.nn.Linear(6, 4), 10: torch.nn.Linear(4, 1)}
    state = {f"layers.{n}.{k}": v.detach() for n, layer in layers.items() for k, v in layer.named_parameters()}
    save_file(state, tmp_path / "chain.safetensors")
    embeddings = units(7, 8)
    expected = layers[10](layers[9](layers[2](embeddings)))[:, 0]
    assert torch.allclose(
        AestheticHead.from_pretrained(tmp_path / "chain.safetensors")(embeddings), expected, atol=1e-6
    )


def test_other_files_are_refused(tmp_path):
    torch.save({"weight": torch.ones(1, 8), "bias": torch.ones(1)}, tmp_path / "other.pth")
    with pytest.raises(BadInput, match="safetensors"):
        AestheticHead.from_pretrained(tmp_path / "other.pth")
    with pytest.raises(BadInput, match="does not exist"):
        AestheticHead.from_pretrained(tmp_path / "none.pth")
    bad = {
        "two_scores": {"weight": torch.ones(2, 8), "bias": torch.ones(2)},
        "not_finite": {"weight": torch.full((1, 8), float("nan")), "bias": torch.ones(1)},
        "other_net": {"conv": torch.ones(1, 8)},
    }
    for name, state in bad.items():
        save_file(state, tmp_path / f"{name}.safetensors")
        with pytest.raises(BadInput, match=name):
            AestheticHead.from_pretrained(tmp_path / f"{name}.safetensors")


class FakeClip:
    """Stands in for CLIP: the mean colour, as a unit vector."""

    dimensions, licence, version = 3, "mit", "1"
    model = torch.nn.Identity()
    model.device = torch.device("cpu")

    def embed_images(self, images):
        return F.normalize(images.mean((2, 3)), dim=1)


def test_the_judge_scores_with_gradient_inside_its_bounds():
    judge = AestheticJudge(FakeClip(), AestheticHead(torch.tensor([3.0, 0.0, 0.0]), torch.tensor(5.0)))
    images = torch.zeros(2, 3, 4, 4)
    images[0, 0] = 1
    images[1, 1] = 1
    images.requires_grad_(True)
    scores = check_scores(judge, judge.score(images, [Context()] * 2), 2)
    assert scores["beauty"].tolist() == pytest.approx([8.0, 5.0])  # b + w . e by hand
    scores["beauty"].sum().backward()
    assert images.grad.abs().sum() > 0
    assert isinstance(judge, Judge) and (judge.axes[0].low, judge.axes[0].high) == (2.0, 8.0)
    assert judge.licence == "Apache-2.0 AND mit"


def test_a_head_for_another_clip_is_bad_input(laion):
    with pytest.raises(BadInput, match="768 numbers and the CLIP model gives 3"):
        AestheticJudge(FakeClip(), AestheticHead.from_pretrained(laion))
