"""Krippendorff's alpha against the examples worked by hand in Krippendorff 2011."""

import math

import numpy as np
import pytest

from goodeye.judging.alpha import krippendorff_alpha

BINARY = ["0100000010", "1110010000"]  # section B: two observers, ten units, alpha 0.095


def counts(people: list[list[str]], labels: str) -> np.ndarray:
    return np.array(
        [[sum(person[unit] == label for person in people) for label in labels] for unit in range(len(people[0]))]
    )


def test_two_observers_as_published() -> None:
    assert krippendorff_alpha(counts([list(row) for row in BINARY], "01")) == pytest.approx(0.095, abs=5e-4)


def test_four_observers_with_gaps_as_published() -> None:
    """Section C, nominal: 0.743, interval: 0.849. The twelfth unit has one value only, so it tells nothing."""
    people = [list(row) for row in ("123321412...", "1233224125.3", ".3332342251.", "12332441251.")]
    assert krippendorff_alpha(counts(people, "12345")) == pytest.approx(0.743, abs=5e-4)

    assert krippendorff_alpha(counts(people, "12345"), np.arange(1.0, 6.0)) == pytest.approx(0.849, abs=5e-4)


def test_numbers_that_are_near_agree_more_than_names_do() -> None:
    near, far = np.array([[1, 1, 0], [0, 1, 1], [2, 0, 0]]), np.array([[1, 0, 1], [0, 1, 1], [2, 0, 0]])
    assert krippendorff_alpha(near, np.arange(3.0)) > krippendorff_alpha(far, np.arange(3.0))


def test_full_agreement_is_one() -> None:
    assert krippendorff_alpha(np.array([[3, 0], [0, 2], [2, 0]])) == 1
    assert krippendorff_alpha(np.array([[3, 0], [0, 2], [2, 0]]), np.array([0.5, 4])) == 1


def test_nothing_to_tell_is_no_number() -> None:
    assert math.isnan(krippendorff_alpha(np.array([[1, 0], [0, 1]])))
    assert math.isnan(krippendorff_alpha(np.array([[3, 0], [2, 0]])))
    assert math.isnan(krippendorff_alpha(np.zeros((0, 5))))
