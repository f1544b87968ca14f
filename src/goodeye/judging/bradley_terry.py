"""Ranking by comparisons: the Bradley-Terry model with bootstrap intervals, all resamples fitted at once."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from goodeye.judging.metrics import RESAMPLES, resampled_counts

Array = np.ndarray[Any, Any]
PRIOR = 0.5  # of a similar against a rival of mean strength: finite strengths for who never lost, too (ours)
STEPS, TOLERANCE = 200, 1e-9
FARTHEST = 1.0  # a Newton step moves no strength farther


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Strengths in log odds, of mean 0: A beats B with probability 1 / (1 + exp(strength[B] - strength[A]))."""

    strength: Float[Array, " R"]
    low: Float[Array, " R"]  # percentiles 2.5 and 97.5 of the bootstrap
    high: Float[Array, " R"]
    comparisons: Int[Array, " R"]  # that each took part in


def rank(
    first: Int[Array, " N"],
    second: Int[Array, " N"],
    won: Float[Array, " N"],
    runs: int,
    *,
    briefs: Int[Array, " N"] | None = None,
    prior: float = PRIOR,
    n: int = RESAMPLES,
    seed: int = 0,
) -> Ranking:
    """Bradley-Terry strengths (Bradley and Terry 1952) of the maximum likelihood, with bootstrap intervals.

    first, second: [N] which runs were compared, numbered from 0; won: [N] 1 where the first was chosen, 0 where the
    second was, 0.5 for similar, which counts as half a win each. briefs: [N] any numbers, the same for comparisons of
    one brief, which tell of each other: briefs are resampled whole, with replacement, n times, and where there is only
    one, there is no interval. Without `briefs` each comparison is one of its own.
    prior=0 is the plain maximum likelihood; then a run that never lost, or never won, has no finite strength.
    Raises ValueError for numbers out of range or a run compared with itself.
    """
    first, second, won = np.asarray(first), np.asarray(second), np.asarray(won, dtype=float)
    if len(first) and (min(first.min(), second.min()) < 0 or max(first.max(), second.max()) >= runs):
        raise ValueError(f"runs are numbered 0 to {runs - 1}")
    if (first == second).any() or not np.isin(won, (0, 0.5, 1)).all():
        raise ValueError("a run is compared with another one, and won is 0, 0.5 or 1")
    if not len(first):
        none = np.full(runs, np.nan)
        return Ranking(strength=np.zeros(runs), low=none, high=none, comparisons=np.zeros(runs, dtype=int))
    cell = (first * runs + second) * 3 + (2 * won).astype(int)
    cells = np.bincount(cell, minlength=3 * runs * runs)
    whole = _fit(_wins(cells[None].astype(float), runs), prior, np.zeros((1, runs)))
    taken = np.bincount(first, minlength=runs) + np.bincount(second, minlength=runs)
    if briefs is not None and len(np.unique(briefs)) == 1:
        return Ranking(strength=whole[0], low=np.full(runs, np.nan), high=np.full(runs, np.nan), comparisons=taken)
    drawn = resampled_counts(cell, len(cells), briefs, n, seed)
    fitted = _fit(_wins(drawn, runs), prior, np.repeat(whole, n, axis=0))
    low, high = np.percentile(fitted, [2.5, 97.5], axis=0)
    return Ranking(strength=whole[0], low=low, high=high, comparisons=taken)


def _wins(cells: Float[Array, "B cells"], runs: int) -> Float[Array, "B R R"]:
    """How often the run of a row won over that of a column: [B, 3 R R] counts of (first, second, outcome)."""
    counts = cells.reshape(len(cells), runs, runs, 3)
    halves = counts[..., 1] / 2
    first, second = counts[..., 2] + halves, counts[..., 0] + halves
    return first + second.transpose(0, 2, 1)


def _fit(wins: Float[Array, "B R R"], prior: float, strength: Float[Array, "B R"]) -> Float[Array, "B R"]:
    """Newton's method on the concave log likelihood, for every resample at once, from these strengths on."""
    runs = wins.shape[1]
    games = wins + wins.transpose(0, 2, 1)
    won = wins.sum(2) + prior / 2
    diagonal = np.arange(runs)
    for _step in range(STEPS):
        chance = _sigmoid(strength[:, :, None] - strength[:, None, :])
        alone = _sigmoid(strength)
        gradient = won - (games * chance).sum(2) - prior * alone
        if np.abs(gradient).max() < TOLERANCE * max(1.0, games.max()):
            break
        curvature = games * chance * (1 - chance)
        hessian = -curvature
        hessian[:, diagonal, diagonal] = curvature.sum(2) + prior * alone * (1 - alone)
        if not prior:  # only differences are determined: fix the mean
            hessian += 1.0 / runs
        step = np.linalg.solve(hessian, gradient[..., None])[..., 0]
        step *= np.minimum(1.0, FARTHEST / np.maximum(np.abs(step).max(1, keepdims=True), 1e-300))
        strength = strength + step
    return strength - strength.mean(1, keepdims=True)


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))
