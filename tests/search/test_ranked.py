"""The ordered grid and its losses, beside slow loops written from the paper's equations."""

import math
from itertools import combinations

import numpy as np
import pytest
import torch
from torch.nn.functional import log_softmax

from goodeye.search.ranked import dpo, ipo, margins, ordered_grid, preferences, reach, rrhf

U, V, STRIDE = 3, 4, 2


def test_a_grid_of_five_by_five_has_100_pairs_and_reaches_rank_241():
    assert int(preferences(5, 5).sum()) == 100 and reach(5, 5, 10) == 241
    for u, v in ((1, 4), (3, 1), (3, 4)):
        assert int(preferences(u, v).sum()) == u * math.comb(v, 2) + v * math.comb(u, 2)


def test_rows_are_ranks_and_each_is_sorted_by_the_re_ranker():
    listed, scores = np.arange(100, 160), np.random.default_rng(0).normal(size=60)
    grid = ordered_grid(listed, scores, U, V, STRIDE)
    for row in range(U):
        ranks = [STRIDE * (row * V + column) for column in range(V)]
        assert grid[row].tolist() == [100 + rank for rank in sorted(ranks, key=lambda rank: -scores[rank])]
    with pytest.raises(ValueError, match="22 entries and the grid needs 23"):
        ordered_grid(listed[:22], scores[:22], U, V, STRIDE)


def sequences():
    """Rows (aesthetic) and columns (semantic), each best first, as places in the flat grid."""
    grid = np.arange(U * V).reshape(U, V).tolist()
    return [*grid, *map(list, zip(*grid, strict=True))]


def slow(loss, similar, reference):
    """Over every ordered pair (w before l) of every sequence of every query; the mean."""
    found = [
        loss(similar[query][first] - similar[query][later], reference[query][first] - reference[query][later])
        for query in range(len(similar))
        for sequence in sequences()
        for first, later in combinations(sequence, 2)
    ]
    return sum(found) / len(found)


BETA, TAU = 0.05, 0.02
LOSSES = {
    "dpo": (
        lambda s, r: -math.log(1 / (1 + math.exp(-(BETA / TAU) * (s - r)))),
        lambda s, r, p: dpo(s, r, p, BETA / TAU),
    ),
    "ipo": (lambda s, r: ((s - r) / TAU - 1 / (2 * BETA)) ** 2, lambda s, r, p: ipo(s, r, p, BETA / TAU, BETA)),
    "rrhf": (lambda s, r: max(0.0, -s), lambda s, r, p: rrhf(s, p)),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_equal_a_slow_loop_over_the_equations(name):
    torch.manual_seed(0)
    similar, reference = torch.rand(2, 6, U * V, dtype=torch.float64) * 2 - 1
    equation, ours = LOSSES[name]
    expected = slow(equation, similar.tolist(), reference.tolist())
    assert float(ours(similar, reference, preferences(U, V))) == pytest.approx(expected, rel=1e-10)


def test_the_start_model_has_a_loss_of_ln_2():
    similar = torch.rand(4, U * V)
    for gain in (1.0, 5.0, 20.0):
        assert float(dpo(similar, similar.clone(), preferences(U, V), gain)) == pytest.approx(math.log(2), abs=1e-7)


def test_denominators_over_the_database_cancel():
    """log pi over a database of 50 pictures, of which the grid is a part, gives the same loss as similarities alone."""
    torch.manual_seed(0)
    now, before = torch.rand(2, 3, 50, dtype=torch.float64) * 2 - 1
    policy, reference = log_softmax(now / TAU, dim=1), log_softmax(before / TAU, dim=1)
    pairs, grid = preferences(U, V), slice(7, 7 + U * V)
    whole = -torch.nn.functional.logsigmoid(BETA * margins((policy - reference)[:, grid], pairs)).mean()
    assert float(dpo(now[:, grid], before[:, grid], pairs, BETA / TAU)) == pytest.approx(float(whole), rel=1e-10)
