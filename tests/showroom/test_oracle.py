"""The oracle: each rule by itself, on readings made by hand; and the shipped reader on pictures nobody trained on."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from goodeye.errors import BadInput
from goodeye.judging.protocol import Context, Judge, check_scores
from goodeye.showroom import degrade as D
from goodeye.showroom import facts as X
from goodeye.showroom import oracle as Q
from goodeye.showroom import scenes as S
from goodeye.showroom.looks import contrast
from goodeye.showroom.places import LIGHTS, PLACES


def one_hot(length, index, sure=0.97):
    values = torch.full((1, length), (1 - sure) / (length - 1))
    values[0, index] = sure
    return values


def reading(**changes):
    """One picture without a fault: a red mug on a beach, beside an apple of the right size."""
    good = {
        "base": torch.tensor([0.7]), "horizon": torch.tensor([0.5]), "sunk": torch.tensor([0.01]),
        "place": one_hot(8, list(PLACES).index("beach")), "wall": one_hot(7, 1), "light": one_hot(4, 0),
        "reference": one_hot(5, 2), "height": torch.tensor([0.3]), "ratio": torch.tensor([1.0]),
        "misfit": torch.tensor([0.02]), "contrast": torch.tensor([0.5]), "grown": torch.tensor([0.0]),
    }  # fmt: skip
    return Q.Reading(**good | {name: torch.as_tensor(value) for name, value in changes.items()})


@pytest.fixture(scope="module")
def untrained():
    torch.manual_seed(0)
    return Q.Oracle(X.FactsReader(X.FactsConfig()))


def label_of(oracle, found):
    return oracle._verdict(found, oracle.judged(found), {}, 0)


# Rules


@pytest.mark.parametrize(
    ("changes", "label"),
    [
        ({}, "available"),
        ({"sunk": [0.9]}, "space_mismatch"),
        ({"place": torch.full((1, 8), 0.05)}, "space_mismatch"),
        ({"misfit": [0.8]}, "size_mismatch"),
        ({"misfit": [math.nan], "ratio": [math.nan]}, "available"),
        ({"contrast": [0.05]}, "indistinctiveness"),
        ({"grown": [0.5]}, "shape_hallucination"),
        ({"grown": [0.5], "sunk": [0.9], "contrast": [0.05], "misfit": [0.9]}, "indistinctiveness"),
        ({"grown": [0.5], "sunk": [0.9], "misfit": [0.9]}, "space_mismatch"),
        ({"grown": [0.5], "misfit": [0.9]}, "shape_hallucination"),
    ],
)
def test_each_rule_names_its_fault(untrained, changes, label):
    verdict = label_of(untrained, reading(**changes))
    assert verdict.label == label and (label == "available") == (not verdict.failures)
    assert not any(math.isnan(value) for value in verdict.scores.values())


def test_every_failed_rule_is_told_in_the_order_in_which_they_are_named(untrained):
    found = reading(grown=[0.5], sunk=[0.9], contrast=[0.05], misfit=[0.9], ratio=[3.0])
    said = label_of(untrained, found).failures
    assert ["stands out" in said[0], "stands on nothing" in said[1], "grows" in said[2], "3.0 times" in said[3]] == [
        True
    ] * 4


def test_a_score_is_a_half_on_the_line_of_its_rule(untrained):
    rules = untrained.rules
    found = reading(contrast=[rules.contrast], grown=[rules.grown])
    scores = untrained.judged(found)
    assert float(scores["indistinctiveness"]) == float(scores["shape_hallucination"]) == pytest.approx(0.5)
    assert float(scores["available"]) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("title", "length"),
    [
        ("red mug", 11), ("miniature blue chair", 9), ("giant white lipstick", 64), ("Handbags, black", 30),
        ("pair of headphones", 20), ("shampoo", None), ("", None), ("🙂", None),
    ],
)  # fmt: skip
def test_titles_tell_lengths(title, length):
    assert Q.centimetres(title) == (None if length is None else pytest.approx(length))


@pytest.mark.parametrize(("factor", "wrong"), [(1.0, False), (1.25, False), (0.8, False), (2.3, True), (0.43, True)])
def test_size_is_judged_by_the_ratio_to_the_true_height(untrained, factor, wrong):
    per_cm = torch.tensor([0.3 / 11])  # a mug of 11 cm, 0.3 canvas widths high
    true = 8.0 * 0.3 / 11  # an apple beside it
    heights = X.soft_bins(torch.tensor([true * factor]).log(), X.height_bins(24))
    height, ratio, misfit = untrained._size(one_hot(5, 2, 0.99), heights, per_cm)
    assert float(ratio) == pytest.approx(factor, rel=0.08) and float(height) == pytest.approx(true * factor, rel=0.08)
    assert (float(misfit) > 0.5) == wrong


def test_nothing_beside_the_product_and_no_known_title_are_no_fault(untrained):
    heights = torch.full((2, 24), 1 / 24)
    reference = torch.cat([one_hot(5, 0, 0.99), one_hot(5, 2, 0.99)])
    height, ratio, misfit = untrained._size(reference, heights, torch.tensor([0.05, math.nan]))
    assert float(misfit[0]) < 0.02 and height[0].isnan() and ratio[0].isnan() and misfit[1].isnan()


def test_outlines():
    alpha = torch.zeros(2, 100, 100)
    alpha[0, 20:80, 40:60] = 1
    alpha[1, 45:55, 10:90] = 0.8
    base, extent, area = Q.outline(alpha)
    assert base.tolist() == pytest.approx([0.8, 0.55]) and extent.tolist() == pytest.approx([0.6, 0.8])
    assert area.tolist() == pytest.approx([0.12, 0.08])
    with pytest.raises(BadInput, match="fully transparent"):
        Q.outline(torch.zeros(1, 8, 8))


def test_noise_does_not_make_a_product_stand_out(made):
    faint = [n for n, scene in enumerate(made.scenes) if scene.defect == "indistinctiveness"]
    noisy = (
        made.image[faint] + 0.1 * torch.randn(len(faint), 3, 128, 128, generator=torch.Generator().manual_seed(0))
    ).clamp(0, 1)
    product = made.product[faint]
    rules = Q.Rules()
    true = contrast(made.image[faint], product[:, :3], product[:, 3:], (rules.near, rules.far))
    raw = Q.quiet_contrast(noisy, product, replace(rules, smooth=0)) - true
    quiet = Q.quiet_contrast(noisy, product, replace(rules, smooth=2)) - true
    assert quiet.abs().mean() < 0.4 * raw.abs().mean()


# Prompts


@pytest.mark.parametrize(
    ("prompt", "wanted"),
    [
        ("a red mug on the sand at a beach by the sea, soft light", ("beach", "", "soft light")),
        ("a blue shoe in a living room with pink walls, moody light", ("living room", "pink", "moody light")),
        ("a green hat on a table in a photo studio with a grey backdrop", ("studio", "grey", "")),
        ("a yellow ball", ("", "", "")),
    ],
)  # fmt: skip
def test_what_prompts_ask_for(prompt, wanted):
    found = Q.wanted(prompt)
    assert (found.place, found.wall, found.light) == wanted


def test_every_caption_is_understood():
    for i in range(200):
        scene = S.sample(91, i)
        found = Q.wanted(S.caption(scene))
        assert found.place == scene.place and found.light == scene.light
        assert found.wall == ("" if len(PLACES[scene.place].walls) == 1 else scene.wall)


def test_fidelity_is_the_probability_of_what_is_named():
    found = reading(
        place=one_hot(8, list(PLACES).index("beach"), 0.9), light=one_hot(4, list(LIGHTS).index("soft light"), 0.8)
    )
    both, other, nothing = Q.prompt_fidelity(
        Q.Reading(**{k: v.expand(3, *v.shape[1:]) for k, v in vars(found).items()}),
        ["a mug at a beach, soft light", "a mug in a forest", "a mug"],
    )
    assert both == pytest.approx({"place_fidelity": 0.9, "light_fidelity": 0.8, "prompt_fidelity": 0.72})
    assert other["prompt_fidelity"] < 0.05 and nothing == {}


# As a judge


def test_it_is_a_judge_that_needs_products(untrained, made):
    assert isinstance(untrained, Judge)
    with pytest.raises(BadInput, match="none was given"):
        untrained.score(made.image[:1], [Context(title="red mug")])


def test_without_weights_it_says_so(tmp_path):
    with pytest.raises(BadInput, match="holds no facts reader"):
        Q.Oracle.from_pretrained(tmp_path)


# The shipped reader


@pytest.fixture(scope="module")
def oracle():
    return Q.Oracle.from_pretrained()


def contexts_of(made):
    return [Context(p, t, c) for p, t, c in zip(made.product, made.titles, made.captions, strict=True)]


def spoilt(made, lost=False):
    images, alphas = (made.image * 255).byte().numpy(), (made.product[:, 3:] * 255).byte().numpy()
    rngs = (np.random.default_rng((6, n)) for n in range(len(images)))
    return torch.from_numpy(np.stack([D.imitated(i, a, r, lost) for i, a, r in zip(images, alphas, rngs, strict=True)]))


def shares(oracle, made, images):
    labels = [verdict.label for verdict in oracle.inspect(images, contexts_of(made))]
    true = [scene.defect for scene in made.scenes]
    five = np.mean([a == b for a, b in zip(labels, true, strict=True)])
    two = np.mean([(a == "available") == (b == "available") for a, b in zip(labels, true, strict=True)])
    return five, two


def test_it_names_the_faults_of_fresh_renders(oracle, made):
    five, two = shares(oracle, made, made.image)
    assert five >= 0.85 and two >= 0.88


def test_it_names_most_faults_of_spoilt_pictures(oracle, made):
    five, two = shares(oracle, made, spoilt(made))
    assert five >= 0.72 and two >= 0.78


def test_pictures_without_a_place_are_never_available(oracle, made):
    washed = spoilt(made, lost=True)
    labels = [verdict.label for verdict in oracle.inspect(washed, contexts_of(made))]
    assert labels.count("available") <= 1


@pytest.mark.parametrize("wash", [D._mosaic, D._static, D._clouds, D._wash], ids=lambda f: f.__name__)
def test_mosaic_and_noise_are_never_available(oracle, made, wash):
    chosen = [n for n, scene in enumerate(made.scenes) if scene.defect == "available"]
    alpha = made.product[chosen, 3:]
    around = [wash(made.image[n].permute(1, 2, 0).numpy(), np.random.default_rng(n)).clip(0, 1) for n in chosen]
    background = torch.from_numpy(np.stack(around)).permute(0, 3, 1, 2).float()
    images = alpha * made.image[chosen] + (1 - alpha) * background
    contexts = [contexts_of(made)[n] for n in chosen]
    assert "available" not in [verdict.label for verdict in oracle.inspect(images, contexts)]


def test_scores_agree_with_labels_and_do_not_depend_on_the_batch(oracle, made):
    contexts = contexts_of(made)
    scores = check_scores(oracle, oracle.score(made.image, contexts), len(made.image))
    verdicts = oracle.inspect(made.image, contexts)
    for n, verdict in enumerate(verdicts):
        assert (scores["available"][n] > 0.5) == (verdict.label == "available")
        assert verdict.scores["available"] == pytest.approx(float(scores["available"][n]))
    alone = oracle.score(made.image[7:8], contexts[7:8])
    assert all(float(alone[name][0]) == pytest.approx(float(scores[name][7]), abs=1e-4) for name in scores)


def test_larger_pictures_are_judged_alike(oracle, made):
    chosen = list(range(0, 60, 5))
    big = S.render([made.scenes[n] for n in chosen], size=256)
    large = [v.label for v in oracle.inspect(big.image, contexts_of(big))]
    small = oracle.inspect(made.image[chosen], [contexts_of(made)[n] for n in chosen])
    assert sum(a == b.label for a, b in zip(large, small, strict=True)) >= len(chosen) - 1


def test_prompts_that_ask_for_another_place_are_not_met(oracle, made):
    plain = [n for n, scene in enumerate(made.scenes) if scene.defect == "available"]
    contexts = [contexts_of(made)[n] for n in plain]
    right = [v.scores["place_fidelity"] for v in oracle.inspect(made.image[plain], contexts)]
    other = [Context(c.product, c.title, contexts[n - 1].prompt) for n, c in enumerate(contexts)]
    wrong = [v.scores["place_fidelity"] for n, v in enumerate(oracle.inspect(made.image[plain], other))
             if made.scenes[plain[n]].place != made.scenes[plain[n - 1]].place]  # fmt: skip
    assert np.mean(right) > 0.85 and np.mean(wrong) < 0.1


def test_it_saves_and_loads(oracle, made, tmp_path):
    oracle.reader.save_pretrained(tmp_path)
    loaded = Q.Oracle.from_pretrained(tmp_path)
    contexts = contexts_of(made)[:4]
    before, after = oracle.score(made.image[:4], contexts), loaded.score(made.image[:4], contexts)
    assert loaded.version == oracle.version and all(torch.equal(before[name], after[name]) for name in before)


def test_its_weights_are_small_and_safe(oracle):
    files = {file.name: file.stat().st_size for file in Q.WEIGHTS.iterdir()}
    assert files["model.safetensors"] < 2_000_000 and not any(name.endswith((".bin", ".pt")) for name in files)
    card = (Q.WEIGHTS / "README.md").read_text()
    assert oracle.version in card and "nothing is ever trained with it" in card


def test_only_what_touches_the_product_and_comes_away_from_it_grows_from_it():
    """Four products of 8x8 cells in the middle of 32x32: an arm, a spot apart, a seam along the edge, and nothing."""
    alpha = torch.zeros(4, 128, 128)
    alpha[:, 48:80, 48:80] = 1
    found = torch.zeros(4, 32, 32, dtype=torch.bool)
    found[0, 14:16, 20:26] = True  # from the right edge outwards, 6 cells
    found[1, 2:6, 2:6] = True
    found[2, 12:20, 20] = True
    areas = Q.extensions(found, alpha, reach=0.08)
    assert areas.tolist() == pytest.approx([12 / 32**2, 0, 0, 0])


def test_a_mirrored_picture_is_read_alike(untrained):
    """Left and right decide nothing, whatever the reader makes of them; and what it sees grow stays where it is."""
    torch.manual_seed(1)
    images, product = torch.rand(2, 3, 128, 128), torch.ones(4, 128, 128)
    product[3, :, :40] = 0
    contexts = [Context(product, "red mug")] * 2
    mirrored = [Context(product.flip(-1), "red mug")] * 2
    here, there = untrained.read(images, contexts), untrained.read(images.flip(-1), mirrored)
    for name, value in vars(here).items():
        assert torch.allclose(value, getattr(there, name), atol=1e-5, equal_nan=True), name
    alpha = product[None, 3:].expand(2, -1, -1, -1)
    seen = Q.both_ways(untrained.reader, images, alpha)
    again = Q.both_ways(untrained.reader, images.flip(-1), alpha.flip(-1))
    assert torch.allclose(seen.extension, again.extension.flip(-1), atol=1e-5)
    assert not torch.allclose(untrained.reader(images, alpha).reference, seen.reference, atol=1e-3)
