"""Embeddings as plain arrays: what counts as one, and the check that it is."""

from typing import Any

import numpy as np
from jaxtyping import Float

from goodeye.errors import BadInput

Vectors = Float[np.ndarray[Any, Any], "N D"]  # float32, each row of length 1
Vector = Float[np.ndarray[Any, Any], " D"]

LENGTH_TOLERANCE = 1e-2  # half precision leaves lengths this near to 1
ROWS = 65_536  # looked at together


def check_unit(vectors: np.ndarray[Any, Any], where: str, dimensions: int | None = None) -> None:
    """Raises BadInput, naming `where` and the first bad row, unless `vectors` is [N, dimensions], finite, of length 1.

    Looks at the rows in blocks, so that a memory-mapped array stays on disk.
    """
    if vectors.ndim != 2 or not np.issubdtype(vectors.dtype, np.floating):
        kind = f"{vectors.dtype} {list(vectors.shape)}"
        raise BadInput(f"{where} holds {kind}, where embeddings are numbers [N, D]. Give one row a picture.")
    if dimensions is not None and vectors.shape[1] != dimensions:
        raise BadInput(
            f"{where} holds embeddings of {vectors.shape[1]} numbers, and the index's model gives {dimensions}. "
            "Name the model set that made them."
        )
    for start in range(0, len(vectors), ROWS):
        block = np.asarray(vectors[start : start + ROWS], dtype=np.float32)
        with np.errstate(invalid="ignore", over="ignore"):
            lengths = np.sqrt(np.einsum("nd,nd->n", block, block))
        bad = ~np.isfinite(lengths)
        if bad.any():
            row = start + int(bad.argmax())
            raise BadInput(f"{where} holds NaN or infinity in row {row}. Embed that picture again, or leave it out.")
        bad = np.abs(lengths - 1) > LENGTH_TOLERANCE
        if bad.any():
            row = start + int(bad.argmax())
            raise BadInput(
                f"{where} holds embeddings that are not of length 1 (row {row} has {lengths[bad.argmax()]:.4g}). "
                "Divide each row by its length."
            )


def normalised(vectors: np.ndarray[Any, Any]) -> Vectors:
    """vectors: [N, D], none of length 0. Returns them in float32, each divided by its length."""
    vectors = np.asarray(vectors, dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
