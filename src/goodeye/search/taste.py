"""Taste: an aesthetic head for any backbone, fitted by ridge regression on scores or votes of pictures in an index."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from goodeye.atomic import whole_file
from goodeye.errors import BadInput
from goodeye.judging.aesthetic import AestheticHead
from goodeye.judging.metrics import Interval, bootstrap, spearman
from goodeye.ledger.ledger import Ledger
from goodeye.ledger.training import is_ledger, taste_table
from goodeye.search.index import Card, open_index, own_name, with_own
from goodeye.search.vectors import Vector, Vectors
from goodeye.tables import Row, read_table

if TYPE_CHECKING:
    from goodeye.judging.clip import Clip

ALPHAS = tuple(10.0**power for power in range(-4, 5))
COLUMNS = ("score", "beauty", "rating", "mean", "aesthetic.beauty")  # of scores, the first that is there counts
VOTES = ("up", "down")
FEWEST = 10

Numbers = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Ridge:
    """score = bias + weight . x. held_out: what each picture is given by the fit that leaves it out, [N]."""

    weight: Vector
    bias: float
    alpha: float
    held_out: Numbers


def fit_ridge(
    vectors: Vectors, scores: Numbers, sure: Numbers | None = None, alphas: Sequence[float] = ALPHAS
) -> Ridge:
    """Minimises sum_i sure_i (score_i - b - w . x_i)^2 + alpha |w|^2, b free.

    vectors: [N, D]; scores: [N]; sure: [N], how much each counts (votes, more than 0), 1 if not given. alpha is the one
    of `alphas` with the least squared error when each picture is left out in turn, in closed form: e_i / (1 - h_i).
    """
    sure = np.ones(len(scores)) if sure is None else np.asarray(sure, dtype=float)
    if (sure <= 0).any():
        raise ValueError("a score that does not count is to be left out")
    x, y = np.asarray(vectors, dtype=float), np.asarray(scores, dtype=float)
    share = sure / sure.sum()
    centre, level = share @ x, float(share @ y)
    root = np.sqrt(sure / sure.mean())[:, None]
    left, singular, right = np.linalg.svd((x - centre) * root, full_matrices=False)
    inside = left.T @ ((y - level) * root[:, 0])
    best: Ridge | None = None
    least = np.inf
    for alpha in alphas:
        shrunk = singular**2 / (singular**2 + alpha)
        fitted = level + (left @ (shrunk * inside)) / root[:, 0]
        leverage = (left**2) @ shrunk + share
        held_out = y - (y - fitted) / np.maximum(1 - leverage, 1e-9)
        error = float(share @ (y - held_out) ** 2)
        if error < least:
            weight = right.T @ (singular / (singular**2 + alpha) * inside)
            best, least = Ridge(weight.astype(np.float32), level - float(weight @ centre), alpha, held_out), error
    if best is None:
        raise ValueError("the scores or the embeddings are not finite")
    return best


@dataclass(frozen=True)
class Fitted:
    """What `fit_taste` did. unvoted: pictures of the index on which nobody voted, which are left out. rank: Spearman's
    correlation of scores and held-out predictions."""

    path: Path
    count: int
    missing: list[str]  # pictures with a score that the index does not have
    unvoted: int
    alpha: float
    explained: float  # 1 - held-out squared error / variance
    rank: Interval

    def to_json(self) -> dict[str, Any]:
        """Plain lists and numbers."""
        return {
            "head": str(self.path),
            "count": self.count,
            "missing": self.missing,
            "unvoted": self.unvoted,
            "alpha": self.alpha,
            "explained": self.explained,
            "rank": list(self.rank),
        }


def fit_taste(
    folder: str | Path,
    table: str | Path,
    *,
    column: str = "",
    out: str | Path | None = None,
    images: str | Path | None = None,
) -> Fitted:
    """Fits a head to a table with the columns image and score, or image, up and down (votes), and saves it.

    The embeddings are the index's own: nothing is embedded again. table: or a ledger, by folder or URL, whose people
    compared pictures or rows; images: of a ledger in a database. out: a .safetensors file; without it the head goes
    into the index, where queries take it from. Raises BadInput for tables and ledgers that do not say enough.
    """
    if is_ledger(table):
        with TemporaryDirectory() as scratch, Ledger.open(table, images, create=False) as opened:
            votes = Path(scratch) / "votes.csv"
            taste_table(opened, votes)
            return fit_taste(folder, votes, column=column, out=out)
    index = open_index(folder)
    known = with_own(index.names())
    listed = [(row, known.get(_name(row, known))) for row in read_table(Path(table))]
    rows = np.array([number for _, number in listed if number is not None], dtype=np.int64)
    missing = [_name(row, known) for row, number in listed if number is None]
    if len(rows) < FEWEST:
        raise BadInput(
            f"{table} scores {len(listed)} pictures, of which {folder} has {len(rows)}. Score at least {FEWEST} in it."
        )
    scores, sure = _scores([row for row, number in listed if number is not None], Path(table), column)
    voted = sure > 0
    if voted.sum() < FEWEST:
        raise BadInput(f"{table} has votes on {voted.sum()} pictures of {folder}. Have at least {FEWEST} voted on.")
    rows, scores, sure = rows[voted], scores[voted], sure[voted]
    if np.ptp(scores) == 0:
        raise BadInput(f"{table} gives all pictures the same score, so no taste can be learned. Give different ones.")
    fitted = fit_ridge(index.vectors[rows], scores, sure)
    path = Path(out) if out is not None else index.own_head
    if path is None:
        raise BadInput(f"{folder} has no folder to keep a taste in. Name a file with --out.")
    save_head(path, fitted, index.card)
    pairs = np.stack([scores, fitted.held_out], axis=1)
    explained = 1 - float(np.average((pairs[:, 0] - pairs[:, 1]) ** 2, weights=sure)) / float(
        np.average((scores - np.average(scores, weights=sure)) ** 2, weights=sure)
    )
    return Fitted(
        path,
        len(rows),
        missing,
        int((~voted).sum()),
        fitted.alpha,
        explained,
        bootstrap(pairs, lambda rows: spearman(*rows.T)),
    )


def _name(row: Row, known: dict[str, int]) -> str:
    """The row's picture as the index names it: as the table writes it, by its full path, or as a ledger's own file."""
    cell = row.cells.get("image")
    if cell is None:
        return row.name
    whole = cell.name if cell.path is None else str(cell.path.resolve())
    return next((name for name in (cell.name, whole, own_name(cell.name)) if name in known), whole)


def _scores(rows: Sequence[Row], table: Path, column: str) -> tuple[Numbers, Numbers]:
    """Scores and how much each counts. Votes: (up + 1) / (up + down + 2), counted by their number."""
    columns = rows[0].words
    if not column and all(name in columns for name in VOTES):
        up, down = (np.array([_number(row, name) for row in rows]) for name in VOTES)
        if (up < 0).any() or (down < 0).any() or not (up + down).any():
            raise BadInput(f"{table} has votes below 0 or none at all. Give counts of people in up and down.")
        return (up + 1) / (up + down + 2), up + down
    found = column or next((name for name in COLUMNS if name in columns), "")
    if found not in columns:
        raise BadInput(
            f"{table} has no column {column or 'score'} (it has {', '.join(columns)}). Add one, or name it with "
            "--column; votes go into two columns, up and down."
        )
    return np.array([_number(row, found) for row in rows]), np.ones(len(rows))


def _number(row: Row, column: str) -> float:
    try:
        value = float(row.words[column])
    except (KeyError, ValueError) as error:
        raise BadInput(f"{row.name}: {column} is {row.words.get(column)!r}, not a number. Correct it.") from error
    if not np.isfinite(value):
        raise BadInput(f"{row.name}: {column} is {value}, not a finite number. Correct it.")
    return value


# --- heads as files


def save_head(path: Path, fitted: Ridge, card: Card) -> None:
    """As `AestheticHead.save_pretrained` does, with the model it belongs to in the metadata. Whole or not there."""
    tensors = {"weight": torch.from_numpy(fitted.weight)[None].contiguous(), "bias": torch.tensor([fitted.bias])}
    model = json.dumps({"version": card.version, "models": card.models})
    with whole_file(path) as temporary:
        save_file(tensors, str(temporary), metadata={"goodeye": model})


def load_head(path: str | Path, model: "Card | Clip") -> AestheticHead:
    """The head in a file: of `fit_taste`, LAION's, or any linear one. Raises BadInput where it is of another model than
    an index or a CLIP."""
    path = Path(path)
    try:
        head = AestheticHead.from_pretrained(path)
        version = _version(path)
    except SafetensorError as error:
        raise BadInput(f"{path} is not a whole .safetensors file ({error}). Fit or download it again.") from error
    if len(head.weight) != model.dimensions or version not in ("", model.version):
        other = f"{len(head.weight)} numbers, where this one gives {model.dimensions}"
        if len(head.weight) == model.dimensions:
            other = f"{version}, where this one is {model.version}"
        raise BadInput(f"the head {path} belongs to another CLIP ({other}). Fit one by `goodeye search fit-taste`.")
    return head


def _version(path: Path) -> str:
    if path.suffix != ".safetensors":
        return ""
    with safe_open(str(path), "pt") as file:
        return str(json.loads((file.metadata() or {}).get("goodeye", "{}")).get("version", ""))
