"""Bradley-Terry against its closed form and against a general optimiser; its intervals, and its speed."""

import time

import numpy as np
import pytest
import torch
from torch.nn.functional import softplus

from goodeye.judging.bradley_terry import rank


def simulated(strength: np.ndarray, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    first = random.integers(0, len(strength), count)
    second = (first + random.integers(1, len(strength), count)) % len(strength)
    won = random.random(count) < 1 / (1 + np.exp(strength[second] - strength[first]))
    return first, second, won.astype(float)


def test_two_runs_have_the_log_odds_of_their_wins() -> None:
    found = rank(np.zeros(10, int), np.ones(10, int), np.array([1.0] * 7 + [0.0] * 3), 2, prior=0)
    assert found.strength[0] - found.strength[1] == pytest.approx(np.log(7 / 3))
    assert list(found.comparisons) == [10, 10]


def test_similar_is_half_a_win_each() -> None:
    found = rank(np.array([0, 0, 1, 0]), np.array([1, 1, 0, 1]), np.array([1, 0.5, 0.5, 0.0]), 2, prior=0)
    assert found.strength == pytest.approx([0, 0])


@pytest.mark.parametrize("prior", [0.0, 0.5])
def test_strengths_are_of_the_greatest_likelihood(prior: float) -> None:
    first, second, won = simulated(np.array([1.0, 0.3, -0.2, -1.1]), 400)
    left, right, wins = torch.from_numpy(first), torch.from_numpy(second), torch.from_numpy(won)
    strength = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS([strength], max_iter=200, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

    def cost() -> torch.Tensor:
        search.zero_grad()
        gap = strength[left] - strength[right]
        value = (softplus(gap) - wins * gap).sum() + prior * (softplus(strength) - 0.5 * strength).sum()
        value.backward()
        return value

    search.step(cost)
    best = strength.detach().numpy()
    found = rank(first, second, won, 4, prior=prior, n=10).strength
    assert found - found[0] == pytest.approx(best - best[0], abs=1e-4)


def test_who_never_lost_is_strong_but_not_without_end() -> None:
    found = rank(np.zeros(5, int), np.ones(5, int), np.ones(5), 2)
    assert 1 < found.strength[0] < 10 and np.isfinite([found.low, found.high]).all()


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    truth = np.array([0.8, 0.1, -0.3, -0.6])
    inside = []
    for seed in range(30):
        found = rank(*simulated(truth, 600, seed), 4, n=200, seed=seed)
        inside += list((found.low <= truth) & (truth <= found.high))
    assert np.mean(inside) > 0.87


def test_a_brief_that_is_said_again_and_again_tells_no_more() -> None:
    """Twenty copies of each comparison are twenty of one brief: the intervals of the comparisons said once."""
    first, second, won = simulated(np.array([0.5, 0.0, -0.5]), 150)
    once = rank(first, second, won, 3, prior=0.05)
    copies = [np.repeat(one, 20) for one in (first, second, won)]
    briefs = np.repeat(np.arange(150), 20)
    shuffled = np.random.default_rng(1).permutation(3000)
    again = rank(*(one[shuffled] for one in copies), 3, briefs=7 * briefs[shuffled] - 5, prior=1.0)
    assert again.strength == pytest.approx(once.strength)
    assert again.low == pytest.approx(once.low, abs=0.06) and again.high == pytest.approx(once.high, abs=0.06)
    alone = rank(*copies, 3, prior=1.0)
    narrower = (alone.high - alone.low) / (again.high - again.low)
    assert narrower == pytest.approx(1 / np.sqrt(20), rel=0.15)


def test_intervals_of_briefs_are_those_of_resampling_one_by_one() -> None:
    random = np.random.default_rng(3)
    briefs = random.integers(0, 25, 120)
    leaning = random.normal(size=25)[briefs]  # who is better depends on the brief
    won = (random.random(120) < 1 / (1 + np.exp(-2 * leaning))).astype(float)
    first, second = np.zeros(120, int), np.ones(120, int)
    found = rank(first, second, won, 2, briefs=briefs, n=2000)
    replicates = []
    for _ in range(2000):
        rows = np.concatenate([np.flatnonzero(briefs == one) for one in random.choice(np.unique(briefs), 25)])
        replicates.append(rank(first[rows], second[rows], won[rows], 2, n=1).strength[0])
    assert [found.low[0], found.high[0]] == pytest.approx(np.percentile(replicates, [2.5, 97.5]), abs=0.05)
    assert found.high[0] - found.low[0] > 1.2 * np.ptp(
        [getattr(rank(first, second, won, 2), s)[0] for s in ("low", "high")]
    )


def test_nothing_compared_is_all_alike() -> None:
    found = rank(np.zeros(0, int), np.zeros(0, int), np.zeros(0), 3)
    assert list(found.strength) == [0, 0, 0] and np.isnan(found.low).all()


@pytest.mark.parametrize(
    ("first", "second", "won"), [([0], [2], [1]), ([-1], [0], [1]), ([1], [1], [1]), ([0], [1], [float("nan")])]
)
def test_what_cannot_be_is_refused(first: list[int], second: list[int], won: list[float]) -> None:
    with pytest.raises(ValueError, match="runs are numbered|compared with another"):
        rank(np.array(first), np.array(second), np.array(won), 2)


@pytest.mark.parametrize("briefs", [None, 500, 60_000])
def test_a_hundred_thousand_comparisons_of_twenty_runs_in_under_ten_seconds(briefs: int | None) -> None:
    """In processor time, which a busy machine doesn't stretch."""
    truth = np.linspace(-1, 1, 20)
    compared = simulated(truth, 100_000)
    of = None if briefs is None else np.random.default_rng(0).integers(0, briefs, 100_000)
    start = time.process_time()
    found = rank(*compared, 20, briefs=of)
    assert time.process_time() - start < 10
    assert found.strength == pytest.approx(truth, abs=0.1)
