"""LPIPS against its equation written out, and diversity against all pairs; its real weights are in tests/real."""

from itertools import combinations

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from goodeye.errors import BadInput
from goodeye.judging.lpips import Blur, Lpips

KINDS = [("alex", False), ("alex", True), ("vgg", False), ("vgg", True)]


def random_state(net, shift_tolerant=False, seed=0):
    """Random weights under the published names."""
    torch.manual_seed(seed)
    model = Lpips(net, shift_tolerant=shift_tolerant)
    heads = {f"lin{n}.model.1.weight": torch.rand(1, len(head), 1, 1) for n, head in enumerate(model.heads)}
    return {f"net.{name}": value for name, value in model.net.state_dict().items()} | heads


@pytest.fixture(scope="module")
def alex():
    return Lpips.from_state(random_state("alex"))


def pictures(count, size=40, seed=1):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def alex_by_hand(state, x):
    """AlexNet's five ReLUs, as the published code numbers its layers."""

    def conv(x, name, **how):
        return F.relu(F.conv2d(x, state[f"net.{name}.weight"], state[f"net.{name}.bias"], **how))

    yield (x := conv(x, "slice1.0", stride=4, padding=2))
    yield (x := conv(F.max_pool2d(x, 3, 2), "slice2.3", padding=2))
    yield (x := conv(F.max_pool2d(x, 3, 2), "slice3.6", padding=1))
    yield (x := conv(x, "slice4.8", padding=1))
    yield conv(x, "slice5.10", padding=1)


def vgg_by_hand(state, x):
    for block, layers in enumerate(((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28)), 1):
        x = F.max_pool2d(x, 2) if block > 1 else x
        for layer in layers:
            name = f"net.slice{block}.{layer}"
            x = F.relu(F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=1))
        yield x


@pytest.mark.parametrize(("net", "trunk"), [("alex", alex_by_hand), ("vgg", vgg_by_hand)])
def test_the_distance_is_equation_1(net, trunk):
    state, a, b = random_state(net), pictures(2), pictures(2, seed=2)
    scaled = [
        ((2 * x - 1) - torch.tensor([-0.030, -0.088, -0.188]).view(3, 1, 1))
        / torch.tensor([0.458, 0.448, 0.450]).view(3, 1, 1)
        for x in (a, b)
    ]
    expected = torch.zeros(2)
    for layer, (one, other) in enumerate(zip(trunk(state, scaled[0]), trunk(state, scaled[1]), strict=True)):
        one, other = (x / x.square().sum(1, keepdim=True).sqrt() for x in (one, other))
        weight = state[f"lin{layer}.model.1.weight"].view(1, -1, 1, 1)
        expected += (weight * (one - other) ** 2).sum(1).mean((1, 2))
    assert torch.allclose(Lpips.from_state(state).distance(a, b), expected, rtol=1e-4)


def test_a_blur_is_its_formula_at_every_second_pixel():
    x = pictures(1, 9)
    border = F.pad(x, (2, 2, 2, 2), mode="reflect")
    got = Blur(3)(x)
    assert got.shape == (1, 3, 6, 6)
    kernel = torch.tensor([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16
    for row, column in [(0, 0), (2, 3), (5, 5)]:
        patch = border[0, 1, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3]
        assert got[0, 1, row, column] == pytest.approx(float((patch * kernel).sum()))


@pytest.mark.parametrize(("net", "shift_tolerant"), KINDS)
def test_saved_and_loaded_it_is_the_same(net, shift_tolerant, tmp_path):
    state = random_state(net, shift_tolerant)
    randomness = torch.random.get_rng_state()
    model = Lpips.from_state(state)
    assert torch.equal(torch.random.get_rng_state(), randomness)
    a, b = pictures(2, 33), pictures(2, 33, seed=2)
    model.save_pretrained(tmp_path / "lpips.safetensors")
    assert load_file(tmp_path / "lpips.safetensors").keys() == state.keys()
    again = Lpips.from_pretrained(tmp_path / "lpips.safetensors")
    assert torch.equal(again.distance(a, b), model.distance(a, b)) and again.version == model.version
    assert model.distance(a, b).min() > 0 and torch.equal(model.distance(a, a), torch.zeros(2))
    assert torch.allclose(model.distance(a, b), model.distance(b, a))
    assert not any(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("batch", [1, 2, 5, 16])
def test_diversity_is_the_mean_over_all_pairs(alex, batch):
    images = pictures(7)
    pairs = [float(alex.distance(images[i : i + 1], images[j : j + 1])) for i, j in combinations(range(7), 2)]
    assert float(alex.diversity(images, batch)) == pytest.approx(sum(pairs) / 21, rel=1e-4)


def test_equal_pictures_have_no_diversity_and_copies_have_less(alex):
    images = pictures(4)
    assert float(alex.diversity(images[:1].repeat(5, 1, 1, 1), 2)) == pytest.approx(0, abs=1e-10)
    assert float(alex.diversity(images[:2].repeat(2, 1, 1, 1))) < float(alex.diversity(images))


def test_gradient_reaches_the_pictures_and_is_that_of_the_distance(alex):
    a, b = pictures(1).requires_grad_(True), pictures(1, seed=2)
    (slope,) = torch.autograd.grad(alex.distance(a, b).sum(), a)
    step = torch.zeros_like(a)
    step[0, :, 10:20, 10:20] = 1e-3
    with torch.no_grad():
        risen = float(alex.distance(a + step, b) - alex.distance(a - step, b)) / 2
    assert float((slope * step).sum()) == pytest.approx(risen, rel=0.05)
    images = pictures(3).requires_grad_(True)
    alex.diversity(images, 2).backward()
    assert (images.grad.abs().amax((1, 2, 3)) > 0).all()


def test_gradient_is_finite_where_no_feature_is_active():
    state = random_state("alex")
    state["net.slice1.0.bias"] = torch.full((64,), -100.0)
    a = pictures(1).requires_grad_(True)
    distance = Lpips.from_state(state).distance(a, pictures(1, seed=2))
    distance.sum().backward()
    assert distance.item() == 0 and torch.isfinite(a.grad).all()


def test_what_the_published_modules_hold_besides_is_left_aside():
    state = random_state("alex")
    more = {"scaling_layer.shift": torch.zeros(1, 3, 1, 1), "lins.0.model.1.weight": state["lin0.model.1.weight"]}
    a, b = pictures(1), pictures(1, seed=2)
    assert torch.equal(Lpips.from_state(state | more).distance(a, b), Lpips.from_state(state).distance(a, b))


def test_other_weights_are_refused(tmp_path):
    state = random_state("alex")
    lacking = {name: value for name, value in state.items() if name != "lin3.model.1.weight"}
    for bad, words in [
        (lacking, "lin3.model.1.weight is not there"),
        (state | {"net.slice2.3.bias": torch.zeros(5)}, r"net.slice2.3.bias is \[5\] and should be \[192\]"),
        (state | {"lin0.model.1.weight": -torch.ones(1, 64, 1, 1)}, "lin0.model.1.weight that give no distance"),
        (state | {"net.slice5.10.bias": torch.full((256,), float("nan"))}, "net.slice5.10.bias that give no distance"),
        (nn.Conv2d(3, 64, 11).state_dict(), "not LPIPS with its trunk"),
        (state | {"net.slice1.0.weight": torch.zeros(64, 3, 7, 7)}, "not LPIPS with its trunk"),
    ]:
        with pytest.raises(BadInput, match=words):
            Lpips.from_state(bad)
    torch.save(state, tmp_path / "alex.pth")
    with pytest.raises(BadInput, match=r"alex\.pth: it is not a \.safetensors file"):
        Lpips.from_pretrained(tmp_path / "alex.pth")
    with pytest.raises(BadInput, match="does not exist"):
        Lpips.from_pretrained(tmp_path / "none.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\0\0\0")
    with pytest.raises(BadInput, match=r"cut\.safetensors cannot be read"):
        Lpips.from_pretrained(tmp_path / "cut.safetensors")
    save_file({"net.slice1.0.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "part.safetensors")
    with pytest.raises(BadInput, match="not whole"):
        Lpips.from_pretrained(tmp_path / "part.safetensors")


def test_other_pictures_are_refused(alex):
    for images, words in [
        (pictures(2, 31), "at least 32 pixels"),
        (pictures(2)[:, :1], r"not \[2, 1, 40, 40\]"),
        (pictures(2)[0], r"not \[3, 40, 40\]"),
    ]:
        with pytest.raises(ValueError, match=words):
            alex.distance(images, images)
    with pytest.raises(ValueError, match="of one shape"):
        alex.distance(pictures(2), pictures(1))
    with pytest.raises(ValueError, match="two images or more, not 1"):
        alex.diversity(pictures(1))
