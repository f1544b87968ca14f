"""Metrics against hand computations, brute force, and known properties of the bootstrap."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from goodeye.judging.metrics import (
    Interval,
    agreement,
    average_precision,
    binary_metrics,
    bootstrap,
    confusion_matrix,
    macro_metrics,
    paired_bootstrap,
    precision_recall_f1,
    spearman,
)


def test_average_precision_by_hand():
    # Ranked: hit, miss, hit, miss, hit. Precision at the hits 1/1, 2/3, 3/5; recall rises by 1/3 at each.
    relevant = np.array([0, 1, 1, 0, 1], dtype=bool)
    scores = np.array([0.8, 0.9, 0.7, 0.6, 0.1])
    assert average_precision(relevant, scores) == pytest.approx((1 + 2 / 3 + 3 / 5) / 3)


def test_equal_scores_are_one_threshold():
    # Everything tied: one threshold, where precision is the share of relevant items.
    assert average_precision(np.array([1, 0, 0, 1, 0], dtype=bool), np.zeros(5)) == pytest.approx(0.4)
    # Two tied at the top, one of them relevant: recall 1/2 at precision 1/2; then recall 1 at precision 2/3.
    got = average_precision(np.array([1, 0, 1], dtype=bool), np.array([0.9, 0.9, 0.1]))
    assert got == pytest.approx(0.5 * 1 / 2 + 0.5 * 2 / 3)


def slow_average_precision(relevant, scores):
    total, before = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        taken = [r for r, s in zip(relevant, scores, strict=True) if s >= threshold]
        recall = sum(taken) / sum(relevant)
        total += (recall - before) * sum(taken) / len(taken)
        before = recall
    return total


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=1, max_size=30))
def test_average_precision_is_its_definition(rows):
    relevant, scores = [r for r, _ in rows], [s / 6 for _, s in rows]
    got = average_precision(np.array(relevant), np.array(scores))
    assert math.isnan(got) if not any(relevant) else got == pytest.approx(slow_average_precision(relevant, scores))


def test_precision_recall_f1_by_hand():
    actual = np.array([1, 1, 1, 0, 0, 0, 0, 1], dtype=bool)
    predicted = np.array([1, 1, 0, 1, 0, 0, 0, 0], dtype=bool)
    assert precision_recall_f1(actual, predicted) == pytest.approx((2 / 3, 2 / 4, 4 / 7))
    nothing = np.zeros(8, dtype=bool)
    assert precision_recall_f1(actual, nothing) == (0, 0, 0) == precision_recall_f1(nothing, predicted)


PROBABILITIES = np.array(
    [[0.7, 0.2, 0.1], [0.4, 0.5, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4], [0.2, 0.7, 0.1]]
)
LABELS = np.array([0, 0, 1, 1, 2, 2])


def test_confusion_has_the_truth_in_rows():
    assert confusion_matrix(LABELS, PROBABILITIES.argmax(1), 3).tolist() == [[1, 1, 0], [1, 1, 0], [0, 1, 1]]


def test_binary_and_macro_by_hand():
    # Available is positive, threshold .5: predicted {0, 2}, actual {0, 1}. Ranked .7+ .6- .4+: AP (1 + 2/3) / 2.
    assert binary_metrics(PROBABILITIES, LABELS) == pytest.approx([1 / 2, 1 / 2, 1 / 2, (1 + 2 / 3) / 2])
    assert binary_metrics(PROBABILITIES, LABELS, threshold=0.35)[:3] == pytest.approx([2 / 3, 1, 4 / 5])
    precision, recall, _, ap = macro_metrics(PROBABILITIES, LABELS)
    assert precision == pytest.approx((1 / 2 + 1 / 3 + 1) / 3)
    assert recall == pytest.approx(1 / 2)
    # Class 1 ranked .8+ .7- .5- (.3+ .3-) .2-: hits at 1 and in the tie of places 4, 5. Class 2: .4+, then all tied.
    assert ap == pytest.approx(((1 + 2 / 3) / 2 + (1 + 2 / 5) / 2 + (1 + 2 / 6) / 2) / 3)


def test_a_class_that_does_not_occur_does_not_count():
    wide = np.concatenate([PROBABILITIES, np.zeros((6, 1))], 1)
    assert macro_metrics(wide, LABELS) == pytest.approx(macro_metrics(PROBABILITIES, LABELS))


def test_the_bootstrap_interval_of_a_mean_is_the_known_one():
    values = np.random.default_rng(1).normal(3.0, 2.0, 400)
    got = bootstrap(values, np.mean, n=2000, seed=5)
    assert got.mean == pytest.approx(values.mean())
    error = 1.96 * values.std() / 20
    assert (got.low, got.high) == pytest.approx((got.mean - error, got.mean + error), abs=0.03)
    assert got == bootstrap(values, np.mean, n=2000, seed=5) != bootstrap(values, np.mean, n=2000, seed=6)
    mean, low, high = got
    assert low < mean < high and str(Interval(0.5, 0.4, 0.6)) == "0.500 (0.400 to 0.600)"
    known = Interval(1 / 3, -2 / 3, float("nan"))
    assert known.to_json() == {"mean": 0.3333, "low": -0.6667, "high": None}


def test_resamples_without_a_number_are_left_out_of_the_interval():
    """AP is none where nothing is relevant: of one item in three, (2/3)^3 of the resamples have none of it."""
    table = np.array([[1, 0.9], [0, 0.5], [0, 0.1]])
    some = bootstrap(table, lambda rows: average_precision(rows[:, 0] > 0, rows[:, 1]))
    assert some == (1.0, 1.0, 1.0)
    none = bootstrap(table[1:], lambda rows: average_precision(rows[:, 0] > 0, rows[:, 1]))
    assert none.to_json() == {"mean": None, "low": None, "high": None}


def test_pairing_takes_out_what_both_share():
    random = np.random.default_rng(2)
    hard = random.normal(0, 5, 300)
    first, second = hard + random.normal(0.5, 0.3, 300), hard
    paired = paired_bootstrap(first, second, np.mean)
    assert paired.low > 0.4 and paired.high < 0.6
    alone = bootstrap(first, np.mean)
    assert paired.high - paired.low < (alone.high - alone.low) / 5
    with pytest.raises(ValueError, match="same items"):
        paired_bootstrap(first, second[:5], np.mean)


def test_agreement_holds_all_of_it():
    found = agreement(np.repeat(PROBABILITIES, 30, 0), np.repeat(LABELS, 30), ["a", "b", "c"], n=200)
    assert found.accuracy.mean == pytest.approx(0.5) and found.count == 180
    assert [found.binary[k].mean for k in ("precision", "recall", "f1")] == pytest.approx([0.5, 0.5, 0.5])
    assert found.macro["recall"].mean == pytest.approx(0.5)
    assert all(i.low <= i.mean <= i.high for i in [*found.binary.values(), *found.macro.values()])
    assert found.to_json()["confusion"] == [[30, 30, 0], [30, 30, 0], [0, 30, 30]]
    broken = PROBABILITIES.copy()
    broken[2, 1] = np.nan
    with pytest.raises(ValueError, match="finite"):
        agreement(broken, LABELS, ["a", "b", "c"])
    with pytest.raises(ValueError, match="nothing to resample"):
        bootstrap(np.zeros(0), np.mean)


@pytest.mark.parametrize("values", [[1, 2, 3, 4, 5, 6], [3, 1, 2, 2, 2, 9], [5, 5, 5, 1, 1, 0]])
def test_spearman_is_scipys(values):
    assert spearman(np.arange(6), np.array(values)) == pytest.approx(spearmanr(range(6), values).statistic)


def test_spearman_of_one_value_is_not_a_number():
    assert math.isnan(spearman(np.arange(6), np.ones(6)))
