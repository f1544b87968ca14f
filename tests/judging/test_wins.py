"""Win rates are those of the paper's tables, and only answers that agree in both orders count."""

import math

import numpy as np
import pytest

from goodeye.judging.wins import count_wins, order_accuracy, outcome, win_and_similar_rate, win_rate

# "Aligning Vision Models with Human Aesthetics in Retrieval": win, similar, lose -> win %, win & similar %
ROWS = [
    (54, 54, 42, 56.25, 72.00),
    (71, 40, 39, 64.55, 74.00),
    (62, 42, 46, 57.41, 69.33),
    (34, 34, 82, 29.31, 45.33),
    (52, 66, 32, 61.90, 78.67),
    (47, 76, 27, 63.51, 82.00),
    (31, 100, 19, 62.00, 87.33),
]


@pytest.mark.parametrize(("win", "similar", "lose", "rate", "with_similar"), ROWS)
def test_the_papers_rows(win, similar, lose, rate, with_similar):
    outcomes = ["win"] * win + ["similar"] * similar + ["lose"] * lose
    assert round(100 * win_rate(outcomes), 2) == rate
    assert round(100 * win_and_similar_rate(outcomes), 2) == with_similar
    found = count_wins(outcomes)
    assert found.win.low < found.win.mean == win_rate(outcomes) < found.win.high
    assert math.isnan(found.consistent.mean)  # nobody said that there were two orders


def test_consistent_is_what_both_orders_agree_on_whatever_it_is():
    found = count_wins(["win", "similar", "similar", None], agreed=[True, True, False, None])
    assert found.consistent.mean == pytest.approx(2 / 3) and found.consistent.low < 2 / 3 < found.consistent.high
    assert count_wins(["win", "similar"]).to_json()["consistent"] == [None] * 3
    briefs = np.array([1, 1, 1, 2])  # of the answered ones all are of one brief, so nothing is known of others
    alone = count_wins(["win", "similar", "similar", None], agreed=[True, True, False, None], briefs=briefs)
    assert alone.consistent.mean == pytest.approx(2 / 3) and math.isnan(alone.consistent.low)


def test_only_answers_that_agree_count():
    assert outcome("first", "second") == "win"
    assert outcome("second", "first") == "lose"
    assert outcome("first", "first") == outcome("second", "second") == "similar"  # it likes a place, not a system
    assert outcome(None, "first") is outcome("first", None) is None


def test_missing_answers_are_counted_and_are_no_number():
    found = count_wins(["win", None, "lose", None])
    assert (found.missing, found.counts) == (2, {"win": 1, "similar": 0, "lose": 1})
    nothing = count_wins([None, None])
    assert nothing.missing == 2 and math.isnan(nothing.win.mean)
    assert nothing.to_json()["win"] == [None] * 3 and nothing.to_json()["counts"] == dict.fromkeys(nothing.counts, 0)
    assert math.isnan(count_wins(["similar"]).win.mean) and count_wins(["similar"]).win_and_similar.mean == 1


def test_consistent_accuracy_covers_a_part_and_all_is_beside_it():
    golden = ["first"] * 5
    plain = ["first", "first", "first", "second", "first"]
    swapped = ["first", "first", "second", "second", None]
    found = order_accuracy(golden, plain, swapped)
    assert (found.answered, found.missing, found.coverage.mean) == (4, 1, 0.75)
    assert found.consistent.mean == pytest.approx(2 / 3)  # of three pairs on which both agree
    assert found.on_all.mean == found.weighted.mean == pytest.approx((2 + 2 + 1 + 0) / 8)
    sure = order_accuracy(golden, plain, swapped, [1.0, 0.5, 0.5, 0.0, 1.0])
    assert sure.weighted.mean == pytest.approx((1 + 0.5 + 0.25) / 2) and sure.on_all == found.on_all
    nothing = order_accuracy(["first"], [None], ["first"]).to_json()
    assert nothing["answered"] == 0 and nothing["on_all"] == dict.fromkeys(("mean", "low", "high"))


def test_intervals_of_order_accuracy_are_about_as_wide_as_their_standard_errors_say():
    """The standard error of a share p of n is sqrt(p (1 - p) / n)."""
    right, wrong = ("first", "first"), ("second", "second")
    asked = [right] * 90 + [wrong] * 30 + [("first", "second")] * 30
    found = order_accuracy(["first"] * 150, [one for one, _ in asked], [two for _, two in asked])
    for interval, share, count in ((found.consistent, 0.75, 120), (found.coverage, 0.8, 150)):
        assert interval.mean == pytest.approx(share)
        assert interval.high - interval.low == pytest.approx(2 * 1.96 * (share * (1 - share) / count) ** 0.5, rel=0.15)
