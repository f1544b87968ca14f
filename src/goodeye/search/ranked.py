"""The ordered grid of pictures behind a query, and the losses that learn its order.

"Aligning Vision Models with Human Aesthetics in Retrieval", section 3.3. The policy is pi(y | q) = exp(cos(y, q) / tau)
over its sum over the database; in a difference of two logarithms that sum cancels, so that a loss needs similarities
of the grid's own pictures alone. Rows of the grid are ordered by a re-ranker (aesthetic sequences), columns by the rank
in the list (semantic sequences).
"""

from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

Ranks = Int[np.ndarray[Any, Any], " K"]
Grid = Int[np.ndarray[Any, Any], "u v"]
Similar = Float[Tensor, "B G"]  # of B queries to the G = u v pictures of their grids, row by row


class Grids(NamedTuple):
    """For each query rows of the index, [Q, N L], and the start model's similarities, [Q, N].

    N: what is ordered, the G = u v pictures of a grid (L = 1), or two rows of pictures that people chose between, the
    better one first. A row is as similar as the mean of its pictures; rows of fewer than L end in -1.
    """

    queries: list[str]
    rewritten: list[str]
    rows: np.ndarray[Any, Any]
    reference: Tensor

    def laid_out(self) -> tuple[Int[np.ndarray[Any, Any], "Q N L"], Float[Tensor, "Q N L"]]:
        """The pictures, the first of a row standing for those that it lacks, and their shares in its mean."""
        rows = self.rows.reshape(*self.reference.shape, -1)
        there = rows >= 0
        shares = there / there.sum(-1, keepdims=True)
        return np.where(there, rows, rows[..., :1]), torch.from_numpy(shares.astype(np.float32))


def reach(rows: int, columns: int, stride: int) -> int:
    """How long a list a grid needs: 241 for 5 x 5 at every 10th rank."""
    return (rows * columns - 1) * stride + 1


def ordered_grid(
    listed: Ranks, scores: Float[np.ndarray[Any, Any], " K"], rows: int, columns: int, stride: int
) -> Grid:
    """Ranks 0, stride, 2 stride, ... of a list, laid out row by row, each row sorted by score, best first.

    listed: what was found for the (rephrased) query, best first; scores: the re-ranker's. Raises ValueError where the
    list is shorter than `reach`.
    """
    if len(listed) < reach(rows, columns, stride):
        raise ValueError(f"the list has {len(listed)} entries and the grid needs {reach(rows, columns, stride)}")
    taken = np.arange(rows * columns) * stride
    cells, marks = (np.asarray(values)[taken].reshape(rows, columns) for values in (listed, scores))
    return np.take_along_axis(cells, np.argsort(-marks, axis=1, kind="stable"), axis=1)


def preferences(rows: int, columns: int) -> Bool[Tensor, "G G"]:
    """[w, l] is True where picture w stands before l in a row or a column: u C(v, 2) + v C(u, 2) pairs."""
    row, column = torch.arange(rows * columns) // columns, torch.arange(rows * columns) % columns
    same_row, same_column = row[:, None] == row, column[:, None] == column
    return (same_row & (column[:, None] < column)) | (same_column & (row[:, None] < row))


def margins(similar: Similar, pairs: Bool[Tensor, "G G"]) -> Float[Tensor, "B P"]:
    """s_w - s_l of every preferred pair, one masked tensor for all of them."""
    return (similar[:, :, None] - similar[:, None, :])[:, pairs]


def dpo(similar: Similar, reference: Similar, pairs: Bool[Tensor, "G G"], gain: float) -> Float[Tensor, ""]:
    """Ranked DPO: -log sigmoid(gain [(s_w - s_l) - (s_w_ref - s_l_ref)]), the mean over pairs. gain = beta / tau.

    ln 2 where the model is still its reference.
    """
    return F.softplus(-gain * margins(similar - reference, pairs)).mean()


def ipo(
    similar: Similar, reference: Similar, pairs: Bool[Tensor, "G G"], gain: float, beta: float
) -> Float[Tensor, ""]:
    """Ranked IPO: (h - 1 / (2 beta))^2 with h = [(s_w - s_l) - (s_w_ref - s_l_ref)] / tau, tau = beta / gain."""
    return (margins(similar - reference, pairs) * (gain / beta) - 1 / (2 * beta)).square().mean()


def rrhf(similar: Similar, pairs: Bool[Tensor, "G G"]) -> Float[Tensor, ""]:
    """RRHF (Yuan et al. 2023): max(0, s_l - s_w). Without a reference it collapses: the control."""
    return F.relu(-margins(similar, pairs)).mean()
