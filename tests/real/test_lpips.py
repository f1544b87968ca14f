"""LPIPS with published weights (shift-tolerant AlexNet and VGG-16): against the published code, and in its order."""

import io
import sys
import types

import pytest
import torch
from PIL import Image, ImageFilter, ImageOps

from goodeye.images import to_tensor
from goodeye.judging.lpips import Lpips

pytestmark = pytest.mark.real

SIZE, MARGIN = 128, 16


@pytest.fixture(scope="module")
def lpips(stlpips) -> dict[str, Lpips]:
    """AlexNet and VGG-16, each from its published state dict."""
    return {
        net: Lpips.from_state(torch.load(stlpips / f"{net}_shift_tolerant.pth", map_location="cpu", weights_only=True))
        for net in ("alex", "vgg")
    }


@pytest.fixture(scope="module")
def large(photographs) -> list[Image.Image]:
    """The photographs with a margin, so that they can be shifted without an edge."""
    return [ImageOps.fit(photograph, (SIZE + 2 * MARGIN, SIZE + 2 * MARGIN)) for photograph in photographs]


@pytest.fixture(scope="module")
def originals(large) -> list[Image.Image]:
    return [shifted(picture, 0) for picture in large]


def shifted(picture: Image.Image, by: int) -> Image.Image:
    return picture.crop((MARGIN + by, MARGIN, MARGIN + by + SIZE, MARGIN + SIZE))


def blurred(picture: Image.Image, radius: float) -> Image.Image:
    return picture.filter(ImageFilter.GaussianBlur(radius))


def jpeg(picture: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def noisy(picture: Image.Image, deviation: int) -> torch.Tensor:
    noise = torch.randn(3, *picture.size, generator=torch.Generator().manual_seed(0))
    return (to_tensor(picture) + noise * deviation / 255).clamp(0, 1)


def batch(pictures) -> torch.Tensor:
    return torch.stack([one if isinstance(one, torch.Tensor) else to_tensor(one) for one in pictures])


@pytest.fixture
def published(monkeypatch):
    """The published code. What it imports and does not use here need not be installed."""
    for name in ("torchvision", "IPython", "torchsummary"):
        module = types.ModuleType(name)
        module.models = module.embed = module.summary = None
        monkeypatch.setitem(sys.modules, name, module)
    before = set(sys.modules)
    from stlpips_pytorch import stlpips

    yield lambda net: stlpips.LPIPS(net=net, variant="shift_tolerant", verbose=False)
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize("net", ["alex", "vgg"])
@torch.no_grad()
def test_it_gives_what_the_published_code_gives(lpips, published, originals, net):
    theirs = published(net)
    a = batch(originals[:3])
    for b in (a.roll(1, 0), batch(blurred(picture, 2) for picture in originals[:3])):
        for cut in (slice(None), slice(0, 75)):
            a_part, b_part = a[..., cut], b[..., cut]
            expected = theirs(a_part, b_part, normalize=True).flatten()
            assert torch.allclose(lpips[net].distance(a_part, b_part), expected, rtol=1e-4, atol=1e-6)


SEVERITIES = {
    "noise": (noisy, (5, 13, 26, 51)),  # deviation in levels of 255
    "blur": (blurred, (0.7, 1.5, 3, 6)),  # radius in pixels
    "jpeg": (jpeg, (90, 50, 20, 5)),  # quality
    "shift": (shifted, (1, 2, 4, 8)),  # pixels
}


@pytest.mark.parametrize("kind", SEVERITIES)
@torch.no_grad()
def test_the_worse_a_picture_is_made_the_farther_it_is(lpips, large, originals, kind):
    spoil, severities = SEVERITIES[kind]
    sources = large if kind == "shift" else originals
    start = lpips["alex"].embed(batch(originals))
    spoilt = [lpips["alex"].embed(batch(spoil(one, severity) for one in sources)) for severity in severities]
    distances = torch.stack([(one - start).square().sum(1) for one in spoilt])
    assert (distances[0] > 0).all() and (distances.diff(dim=0) > 0).all(), distances


@pytest.mark.parametrize("net", ["alex", "vgg"])
@torch.no_grad()
def test_a_picture_is_itself_nearly_its_jpeg_and_no_other_picture(lpips, originals, net):
    chosen, model = originals[: 12 if net == "alex" else 4], lpips[net]
    vectors = model.embed(batch(chosen))
    assert (model.distance(batch(chosen[:2]), batch(chosen[:2])) == 0).all()
    slight = (model.embed(batch(jpeg(picture, 90) for picture in chosen)) - vectors).square().sum(1)
    others = torch.cdist(vectors, vectors).square().fill_diagonal_(float("inf")).amin(1)
    assert (slight > 0).all() and (slight < 0.05).all() and (others > 10 * slight).all(), (slight, others)


@torch.no_grad()
def test_it_takes_a_shift_for_slight_and_a_blur_for_grave_where_pixels_say_the_opposite(lpips, large, originals):
    """The example with which LPIPS was introduced (Zhang et al. 2018, figure 1): people side with it."""
    start = batch(originals)
    blur = batch(blurred(picture, 3) for picture in originals)
    shift = batch(shifted(picture, 2) for picture in large)
    by_pixels = [(start - one).square().mean((1, 2, 3)) for one in (blur, shift)]
    by_lpips = [lpips["alex"].distance(start, one) for one in (blur, shift)]
    assert (by_pixels[0] < by_pixels[1]).sum() >= 10, by_pixels
    assert (by_lpips[0] > 5 * by_lpips[1]).all(), by_lpips


@torch.no_grad()
def test_diversity_tells_variety_from_variations_of_one_picture(lpips, large, originals):
    one = large[0]
    variations = [shifted(one, by) for by in (0, 1, 2)] + [jpeg(shifted(one, 0), quality) for quality in (90, 70, 50)]
    alike = lpips["alex"].diversity(batch(variations))
    varied = lpips["alex"].diversity(batch(originals[:6]))
    half = lpips["alex"].diversity(batch([*originals[:3], *variations[:3]]))
    assert alike < 0.05 * varied and alike < half < varied


@torch.no_grad()
def test_diversity_of_twelve_photographs_is_the_mean_over_their_66_pairs(lpips, originals):
    vectors = lpips["alex"].embed(batch(originals))
    pairs = torch.pdist(vectors.double()).square()
    assert len(pairs) == 66
    assert float(lpips["alex"].diversity(batch(originals), 5)) == pytest.approx(float(pairs.mean()), rel=1e-4)


def test_a_blurred_picture_finds_back_by_its_gradient(lpips, originals):
    target = batch(originals[:2])
    picture = batch(blurred(one, 3) for one in originals[:2]).requires_grad_(True)
    optimizer, distances = torch.optim.Adam([picture], lr=0.01), []
    for _ in range(12):
        distance = lpips["alex"].distance(picture, target).mean()
        optimizer.zero_grad()
        distance.backward()
        optimizer.step()
        distances.append(distance.item())
    assert distances[-1] < 0.5 * distances[0], distances
    assert torch.isfinite(picture).all()


@torch.no_grad()
def test_saved_as_safetensors_it_is_the_same(lpips, originals, tmp_path):
    lpips["alex"].save_pretrained(tmp_path / "alex.safetensors")
    again = Lpips.from_pretrained(tmp_path / "alex.safetensors")
    a, b = batch(originals[:2]), batch(originals[2:4])
    assert torch.equal(again.distance(a, b), lpips["alex"].distance(a, b)) and again.version == lpips["alex"].version
