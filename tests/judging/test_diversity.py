"""Diversity within a brief: against closed forms and against pairs taken one by one."""

import math
from itertools import combinations

import pytest
import torch
from tiny_judges import tiny_clip
from torch import Tensor

from goodeye.judging.diversity import Features, colour_entropy, embedding_spread, mean_pairwise, pixel_spread


@pytest.fixture(scope="module")
def clip():
    torch.manual_seed(0)
    return tiny_clip(["a red mug on a table"])


def pictures(count: int, side: int = 64) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(count))


def over_pairs(values: Tensor, distance) -> float:
    return sum(float(distance(a, b)) for a, b in combinations(values, 2)) / math.comb(len(values), 2)


def test_the_mean_over_pairs_is_taken_from_the_variance() -> None:
    vectors = torch.randn(5, 7, generator=torch.Generator().manual_seed(1))
    assert float(mean_pairwise(vectors)) == pytest.approx(over_pairs(vectors, lambda a, b: (a - b).square().sum()))
    with pytest.raises(ValueError, match="two pictures"):
        mean_pairwise(vectors[:1])


def test_pixel_spread_in_closed_form() -> None:
    black, white = torch.zeros(1, 3, 8, 8), torch.ones(1, 3, 8, 8)
    assert float(pixel_spread(torch.cat([black, white]))) == pytest.approx(1)
    assert float(pixel_spread(torch.cat([black, black, white]))) == pytest.approx(math.sqrt(2 / 3))  # 2 of 3 pairs
    assert float(pixel_spread(torch.cat([white, white]))) == 0


def test_embedding_spread_is_the_mean_of_one_minus_cosine(clip) -> None:
    images = pictures(4)
    embedded = clip.embed_images(images)
    expected = over_pairs(embedded, lambda a, b: 1 - torch.cosine_similarity(a, b, dim=0))
    assert float(embedding_spread(clip, images)) == pytest.approx(expected, rel=1e-4)


def test_features_are_compared_token_by_token(clip) -> None:
    images = pictures(3)
    hidden = clip.model.vision_model(pixel_values=clip.pixels(images), output_hidden_states=True).hidden_states[1:]

    def distance(a: int, b: int) -> float:
        layers = [1 - torch.cosine_similarity(layer[a], layer[b], dim=-1).mean() for layer in hidden]
        return float(sum(layers) / len(layers))

    expected = math.sqrt((distance(0, 1) + distance(0, 2) + distance(1, 2)) / 3)
    features = Features(clip)
    assert float(features.diversity(images)) == pytest.approx(expected, rel=1e-4)
    assert float(features.diversity(images[:1].repeat(3, 1, 1, 1))) == pytest.approx(0, abs=1e-3)


def test_features_see_a_collapse_that_leaves_the_briefs_apart(clip) -> None:
    """Half as much variation within each of two briefs: less diverse, while across briefs they stay as unlike."""
    features, briefs = Features(clip), pictures(2)
    noise = 0.2 * torch.randn(2, 4, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    free, collapsed = ((briefs[:, None] + share * noise).clamp(0, 1) for share in (1.0, 0.25))

    def within(made: Tensor) -> float:
        return float(torch.stack([features.diversity(one) for one in made]).mean())

    def across(made: Tensor) -> float:
        return float(features.diversity(made[:, 0]))

    assert within(collapsed) < 0.5 * within(free)
    assert across(collapsed) > 0.7 * across(free)


def test_colour_entropy_in_closed_form() -> None:
    flat = torch.full((1, 3, 8, 8), 0.6)
    halves = torch.cat([torch.zeros(1, 3, 8, 4), torch.ones(1, 3, 8, 4)], -1)
    levels = torch.tensor([0.1, 0.3, 0.6, 0.9])
    every = torch.stack([one.flatten() for one in torch.meshgrid(levels, levels, levels, indexing="ij")]).view(
        1, 3, 8, 8
    )
    assert colour_entropy(torch.cat([flat, halves, every])).tolist() == pytest.approx([0, 1, 6])
    assert colour_entropy(halves, levels=2).tolist() == pytest.approx([1])
