"""The promise against published bounds, exact sums, and simulated calibrations whose truth is known."""

import math
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from goodeye.errors import BadInput
from goodeye.judging.promise import (
    GRID,
    Counts,
    bound,
    check_promise,
    count,
    counts_of,
    loosest,
    needed,
    promise,
    refusal,
    start,
    steps,
    tail,
)
from goodeye.judging.promise_trials import (
    bonferroni,
    first_testable,
    from_strictest,
    hard,
    judge_like,
    piecewise,
    realistic,
    trials,
    weak,
)

REPOSITORY = Path(__file__).resolve().parents[2]


def exact_tail(k: int, n: int, rate: Fraction) -> Fraction:
    return sum((math.comb(n, i) * rate**i * (1 - rate) ** (n - i) for i in range(k + 1)), Fraction())


# The exact test


def test_the_numbers_of_discovery_sampling():
    """Sample sizes of attribute sampling, 95 % confidence: AICPA Audit Sampling Guide, table A-1 and its like."""
    assert steps(200, 0.05, 0.95).tolist() == [59, 93, 124, 153, 181]
    assert steps(100, 0.10, 0.95).tolist() == [29, 46, 61, 76, 89]
    assert steps(300, 0.01, 0.95).tolist() == [299]
    assert steps(58, 0.05, 0.95).size == 0


@pytest.mark.parametrize(("max_bad", "confidence"), [(0.05, 0.95), (0.2, 0.99), (0.5, 0.6), (0.013, 0.8)])
def test_each_step_is_the_first_number_that_is_exactly_enough(max_bad, confidence):
    rate, miss = Fraction(max_bad), 1 - Fraction(confidence)
    for bad, n in enumerate(steps(120, max_bad, confidence).tolist()):
        assert exact_tail(bad, n, rate) <= miss < exact_tail(bad, n - 1, rate)


@given(st.integers(0, 12), st.integers(0, 12), st.integers(0, 64))
@settings(deadline=None)
def test_the_tail_is_the_exact_sum(bad, more, parts):
    exact = exact_tail(bad, bad + more, Fraction(parts, 64))
    assert tail(bad, bad + more, parts / 64) == pytest.approx(float(exact), abs=1e-12)


def test_the_bound_is_clopper_and_pearsons():
    """One-sided 95 % limits: the rule of three's exact form, and the upper limits of the 90 % interval of 10 in 100."""
    assert bound(0, 59, 0.95) == pytest.approx(1 - 0.05 ** (1 / 59))
    assert bound(10, 100, 0.95) == pytest.approx(0.1637, abs=5e-5)
    assert bound(3, 3, 0.95) == 1.0


# The search


def rows(*pairs: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Counts by threshold, loosest first, as (passed, bad)."""
    passed, bad = zip(*pairs, strict=True)
    return np.array(passed), np.array(bad)


def test_the_sequence_goes_on_until_a_threshold_fails():
    # 0 of 59, 1 of 93, 2 of 124 are tolerated; a fifth of 200 is 40, so it starts where 59 pass
    assert loosest(*rows((200, 40), (130, 2), (93, 1), (60, 0), (30, 0)), 0.05, 0.95) == 1
    assert loosest(*rows((200, 40), (130, 2), (93, 2), (60, 0), (30, 0)), 0.05, 0.95) == 3, "a failure ends it"
    assert loosest(*rows((200, 0), (130, 2), (93, 1), (60, 1), (30, 0)), 0.05, 0.95) == -1
    assert loosest(*rows((58, 0), (58, 0), (20, 0)), 0.05, 0.95) == -1


def test_the_start_is_by_counts_alone():
    at = steps(1000, 0.05, 0.95)
    assert [start(votes, at) for votes in (59, 290, 296, 400, 600)] == [59, 59, 93, 93, 124]
    assert start(5000, steps(58, 0.05, 0.95)) == 5001
    strict = (124, 2), (92, 1)  # of 600 votes 92 are too few to start with, so the bad one among them does not matter
    assert loosest(*rows((600, 200), *strict, (40, 1)), 0.05, 0.95) == 1


def test_below_the_lowest_score_nothing_is_promised():
    scores = np.linspace(0.505, 0.995, 300)
    assert promise(counts_of(scores, np.zeros(300, bool)), 0.05, 0.95).threshold == 0.5


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=30))
@settings(deadline=None, max_examples=30)
def test_counting_is_comparing(votes):
    scores, bad = np.array([s for s, _ in votes]), np.array([b for _, b in votes])
    passed, wrong = count(np.stack([scores, scores[::-1]]), np.stack([bad, bad[::-1]]))
    by_hand = [[sum(scores >= t) for t in GRID], [sum(bad[scores >= t]) for t in GRID]]
    assert passed.tolist() == [by_hand[0]] * 2 and wrong.tolist() == [by_hand[1]] * 2


def test_a_score_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="no number"):
        count(np.array([0.5, np.nan]), np.zeros(2, bool))


@pytest.mark.parametrize(("max_bad", "confidence"), [(0, 0.95), (0.6, 0.95), (0.05, 1), (0.05, 0.3), (math.nan, 0.9)])
def test_a_promise_that_makes_no_sense_is_said(max_bad, confidence):
    with pytest.raises(BadInput, match=r"^(max-bad|confidence) is "):
        check_promise(max_bad, confidence)


# What is said where there is none


def of(*pairs: tuple[int, int]) -> Counts:
    passed, bad = zip(*pairs, strict=True)
    grid = tuple(n / 10 for n in range(len(pairs)))
    return Counts(votes=passed[0], grid=grid, passed=passed, bad=bad)


def test_how_many_votes_are_needed():
    clean = needed(of((40, 20), (20, 0)), 0.05, 0.95)
    assert (clean.votes, clean.threshold) == (118, 0.1), "59 passed votes, and half of the votes pass"
    some = needed(of((200, 100), (100, 2)), 0.05, 0.95)
    # 2 % bad: the first step that holds four times in five is 5 of 208 (0.75 at 4 of 181), and half pass
    chances = [float(exact_tail(k, n, Fraction(1, 50))) for k, n in enumerate((59, 93, 124, 153, 181, 208, 234))]
    first = next(n for n, chance in zip((59, 93, 124, 153, 181, 208, 234), chances, strict=True) if chance >= 0.8)
    assert some.votes == 2 * first
    assert needed(of((200, 100), (100, 6)), 0.05, 0.95) is None


def test_a_refusal_says_how_many_and_what_could_be_held():
    few = refusal(of((12, 0), (6, 0)), 0.05, 0.95)
    assert "at least 59 passed votes, none of them bad" in few and "nearest that they hold is --max-bad 0.23" in few
    assert "takes about 118 votes" in refusal(of((40, 20), (20, 0)), 0.05, 0.95)
    hopeless = refusal(of((400, 300), (200, 80)), 0.05, 0.95)
    assert "more votes won't" in hopeless and "They hold no other promise." not in hopeless
    assert "They hold no other promise." in refusal(of((400, 390), (200, 195)), 0.05, 0.95)
    assert all("\n" not in words for words in (few, hopeless))


def test_the_nearest_promise_is_one_that_the_same_votes_hold():
    votes = counts_of(np.linspace(0, 1, 300), np.arange(300) % 12 == 0)
    words = refusal(votes, 0.05, 0.95)
    share = float(words.split("--max-bad ")[1].rstrip("."))
    assert promise(votes, share, 0.95) and promise(votes, share - 0.01, 0.95) is None


# The proof: simulated calibrations

RUNS = 1000


def within(rate: float, allowed: float, runs: int = RUNS) -> bool:
    """At most the rate allowed, but for two standard errors of the simulation."""
    return rate <= allowed + 2 * math.sqrt(allowed * (1 - allowed) / runs)


@pytest.mark.parametrize("votes", [250, 400, 600])
def test_a_promise_is_broken_no_oftener_than_said(votes):
    for trial in trials(votes=votes, runs=RUNS, seed=1):
        assert within(trial.broken, 0.05), trial


@pytest.mark.parametrize(("max_bad", "confidence"), [(0.1, 0.9), (0.2, 0.95), (0.03, 0.8)])
def test_so_it_is_for_other_promises(max_bad, confidence):
    for trial in trials(hard(max_bad), votes=300, runs=RUNS, seed=2, max_bad=max_bad, confidence=confidence):
        assert within(trial.broken, 1 - confidence), trial


def test_the_errors_allowed_are_nearly_used_up_at_the_boundary():
    """Over 6,000 runs: at most 5 %, and not so few that votes are wasted."""
    (trial,) = trials(hard(0.05)[:1], votes=300, runs=6_000, seed=3)
    assert trial.broken > 0.04 and within(trial.broken, 0.05, 6_000)


def test_the_yield_is_at_least_four_fifths_of_the_best_possible():
    for trial in trials(realistic(), votes=400, runs=RUNS, seed=4):
        assert trial.best > 0.9 and trial.of_best >= 0.8, trial


def test_no_alternative_that_keeps_the_promise_passes_more_good_pictures():
    def yields(rule):
        return np.mean([trial.of_best for trial in trials(realistic(), votes=400, runs=RUNS, seed=5, rule=rule)])

    ours = yields(loosest)
    assert all(ours > yields(other) + 0.03 for other in (bonferroni, first_testable, from_strictest))


def test_weak_judges_get_more_with_more_votes():
    few, many = (trials(weak(), votes=votes, runs=300, seed=6) for votes in (400, 2000))
    assert all(more.of_best > less.of_best + 0.2 for less, more in zip(few, many, strict=True))
    assert all(trial.of_best > 0.8 for trial in many)


# The truths are what they are said to be


def test_the_truth_of_a_normal_judge_is_the_closed_form():
    """p >= t where the log odds 2 m (z + m) are: P(z >= cut - m | good) = Phi(m - cut), Phi(-m - cut) for bad ones."""

    def phi(x):
        return (1 + math.erf(x / math.sqrt(2))) / 2

    separation, good, threshold = 1.3, 0.7, 0.8
    bad_share, good_share = judge_like(separation, good, "x").curve([0.0, threshold])
    cut = (math.log(threshold / (1 - threshold)) - math.log(good / (1 - good))) / (2 * separation)
    right, wrong = good * phi(separation - cut), (1 - good) * phi(-separation - cut)
    assert bad_share[1] == pytest.approx(wrong / (right + wrong), abs=2e-4)
    assert good_share[1] == pytest.approx(phi(separation - cut), abs=2e-4) and good_share[0] == 1
    assert bad_share[0] == pytest.approx(1 - good, abs=1e-9)


def test_the_truth_of_pieces_is_their_average():
    bad_share, _ = piecewise("x", (0, 0.5), (0.5, 0.1), (0.75, 0.3)).curve([0.0, 0.5, 0.75])
    assert bad_share == pytest.approx([0.35, 0.2, 0.3])


# What the page says


def test_the_page_shows_these_trials():
    """Its figures are of more runs or other seeds; these are of 1,000, so within four standard errors."""
    page = (REPOSITORY / "docs" / "ads.md").read_text("utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("|")]
    shown = {cells[0]: cells[1:] for cells in rows}
    for trial in trials(votes=400, runs=RUNS, seed=7):
        best, _, at_400, _ = shown[trial.truth]
        broken, of_best = (cell.strip().removesuffix(" %") for cell in at_400.split(","))
        assert float(broken) / 100 == pytest.approx(trial.broken, abs=4 * 0.007)
        if best == "none":
            assert trial.best == 0 and of_best == "–"
        else:
            assert best == f"{100 * trial.best:.0f} %" and float(of_best) / 100 == pytest.approx(
                trial.of_best, abs=0.05
            )


def test_the_page_names_the_counts_that_are_tolerated():
    page = (REPOSITORY / "docs" / "ads.md").read_text("utf-8")
    (line,) = [line for line in page.splitlines() if "0 bad of 59" in line]
    found = re.findall(r"(\d)(?: bad)? of (\d+)", line)
    at = steps(300, 0.05, 0.95)
    assert len(found) == 6 and all(at[int(bad)] == int(votes) for bad, votes in found)
