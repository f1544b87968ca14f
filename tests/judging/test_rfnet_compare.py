"""The comparison: every variant sees the same samples, and what is left out is really left out."""

import numpy as np
import pytest
from tiny_judges import tiny_training, toy_samples

from goodeye.errors import BadInput
from goodeye.judging.baseline import SingleImage
from goodeye.judging.metrics import average_precision
from goodeye.judging.rfnet_compare import VARIANTS, build_variant, compare, lost_ap, named
from goodeye.judging.rfnet_fit import predict


def test_each_variant_looks_away_from_what_it_leaves_out():
    samples = toy_samples(6)
    blank = {"product": "products", "depth": "depth", "saliency": "saliency"}
    for variant in VARIANTS:
        model, tokenizer = build_variant(variant, samples, tiny_training(), 5)
        before = predict(model, tokenizer, samples)
        for name, field in blank.items():
            changed = type(samples)(**{**vars(samples), field: 255 - getattr(samples, field)})
            same = np.allclose(before, predict(model, tokenizer, changed), atol=1e-7)
            assert same is (variant in (f"without {name}", "ResNet, image only"))
        untitled = type(samples)(**{**vars(samples), "titles": ["a chair"] * 6})
        same = np.allclose(before, predict(model, tokenizer, untitled), atol=1e-9)
        assert same is (variant in ("without title", "ResNet, image only"))


def test_variants_have_short_names():
    assert named(()) == VARIANTS
    assert named(["title", "image"]) == ("without title", "ResNet, image only")
    with pytest.raises(BadInput, match="smell is no variant.*image, product, depth, saliency, title"):
        named(["smell"])


def test_the_table(tmp_path):
    samples, held_out = toy_samples(32), toy_samples(16, seed=1)
    wanted = ["without depth", "ResNet, image only"]
    rows, fitted, probabilities = compare(
        samples, held_out, tiny_training(epochs=2), wanted, run_dir=tmp_path, device="cpu"
    )
    assert [row.variant for row in rows] == ["RFNet", *wanted]
    assert rows[0].lost is None and rows[1].lost is not None and rows[1].parameters < rows[0].parameters
    ap = average_precision(held_out.labels.numpy() == 0, probabilities[:, 0])
    assert rows[0].agreement.binary["ap"].mean == pytest.approx(ap)
    lost = rows[0].agreement.binary["ap"].mean - rows[2].agreement.binary["ap"].mean
    assert rows[2].lost.mean == pytest.approx(lost)
    assert (tmp_path / "metrics.jsonl").is_file()
    assert sorted(p.name for p in (tmp_path / "ablations").iterdir()) == ["resnet_image_only", "without_depth"]
    again, _, _ = compare(samples, held_out, tiny_training(epochs=2), wanted, run_dir=tmp_path, resume=True)
    assert [row.agreement.to_json() for row in again] == [row.agreement.to_json() for row in rows]
    assert not isinstance(fitted.model, SingleImage)


def test_lost_ap_is_paired():
    random = np.random.default_rng(0)
    labels = np.arange(200) % 2
    good = np.stack([np.where(labels == 0, 0.7, 0.3) + random.normal(0, 0.2, 200), np.zeros(200)], 1)
    noisy = good + random.normal(0, 0.5, good.shape)
    lost = lost_ap(good, noisy, labels)
    assert lost.low > 0 and lost.mean == pytest.approx(
        average_precision(labels == 0, good[:, 0]) - average_precision(labels == 0, noisy[:, 0])
    )
    assert tuple(lost_ap(good, good, labels)) == (0, 0, 0)
