"""Query shift ranks a whole index by relevance and beauty, as scoring every image does."""

import numpy as np
import pytest
import torch

from goodeye.judging.aesthetic import AestheticHead
from goodeye.search.shift import Scale, shift
from goodeye.search.vectors import normalised


def units(count, size, seed=0):
    return normalised(np.random.default_rng(seed).normal(size=(count, size)))


@pytest.mark.parametrize("lam", [-1.0, 0.0, 0.0125, 2.0])
def test_one_shifted_query_orders_like_scoring_every_image(lam):
    images, query = units(500, 32), units(1, 32, seed=1)[0]
    head = AestheticHead(torch.from_numpy(units(1, 32, seed=2)[0] * 18), torch.tensor(5.2))
    beauty = head(torch.from_numpy(images)).double().numpy()  # b + w . e, image by image
    expected = np.argsort(-(images.astype(float) @ query.astype(float) + lam * beauty))
    got = np.argsort(-(images.astype(float) @ shift(query, head.weight.numpy(), lam).astype(float)))
    assert (got == expected).all()


def test_the_laion_head_shifts_as_the_paper_weighs_it(shared_data):
    """100 cos + 1.25 IAP, the re-ranker of the paper, is lambda = 0.0125."""
    head = AestheticHead.from_pretrained(shared_data / "laion_aesthetic" / "sac+logos+ava1-l14-linearMSE.pth")
    images, query = units(300, 768), units(1, 768, seed=1)[0]
    stage = 100 * images @ query + 1.25 * head(torch.from_numpy(images)).numpy()
    shifted = images @ shift(query, head.weight.numpy(), 0.0125)
    offset = stage - 100 * shifted
    assert np.ptp(offset) < 1e-4 and offset.mean() == pytest.approx(1.25 * 5.2366, abs=1e-3)


def test_what_is_kept_away_is_taken_from_the_score():
    images, query, away = units(50, 8), units(1, 8, 1)[0], units(2, 8, 2)
    expected = images @ query - 0.5 * (images @ away[0] + images @ away[1])
    assert np.allclose(images @ shift(query, away=0.5 * away), expected, atol=1e-6)


def test_taste_one_weighs_a_deviation_of_beauty_like_one_of_similarity():
    sample, query, head = units(2000, 16), units(1, 16, 1)[0], units(1, 16, 2)[0] * 18
    lam = Scale(sample, head).lam(1.0, query)
    assert (lam * (sample @ head)).std() == pytest.approx((sample @ query).std(), rel=1e-4)
    assert Scale(sample, head).lam(-0.5, query) == pytest.approx(-lam / 2)
    assert Scale(sample, head * 0).lam(1.0, query) == 0.0 == Scale(sample).lam(1.0, query)


@pytest.mark.parametrize("spoilt", [np.full(8, np.nan, np.float32), np.ones(7, np.float32)])
def test_other_sizes_and_nan_are_refused(spoilt):
    with pytest.raises(ValueError, match="numbers"):
        shift(units(1, 8)[0], spoilt, 1.0)
