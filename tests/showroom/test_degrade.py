"""Spoilt pictures: still pictures, the same for the same seed; and backgrounds that are no place."""

import numpy as np
import pytest

from goodeye.showroom import degrade as D


@pytest.fixture
def picture(made):
    return made.image[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize("change", D.CHANGES, ids=lambda f: f.__name__)
def test_each_change_does_more_the_stronger_it_is(picture, change):
    def error(strength):
        return np.mean(
            [np.abs(change(picture, np.random.default_rng(s), strength).clip(0, 1) - picture).mean() for s in range(4)]
        )

    assert 0 < error(0.2) < error(1.0) < 0.25


def test_a_spoilt_picture_is_the_same_for_the_same_seed(picture):
    first, again, other = (D.degrade(picture, np.random.default_rng(s)) for s in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert first.shape == (128, 128, 3) and first.dtype == np.float32 and first.min() >= 0 and first.max() <= 1


@pytest.mark.parametrize("wash", D.WASHES, ids=lambda f: f.__name__)
def test_a_background_that_is_no_place_is_unlike_the_picture(picture, wash, monkeypatch):
    monkeypatch.setattr(D, "WASHES", (wash,))
    made = D.no_place(picture, np.random.default_rng(3))
    assert made.shape == picture.shape and made.min() >= 0 and made.max() <= 1
    assert np.abs(made - picture).mean() > 0.05


def test_the_cosine_transform_is_orthonormal():
    assert np.allclose(D.DCT @ D.DCT.T, np.eye(8), atol=1e-12)
