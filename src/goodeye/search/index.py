"""The index: a folder of memory-mapped files, and search in it by inner product.

    index.json     which model made the embeddings, how many rows count, how they are searched
    vectors.f32    the embeddings, float32 [rows, D]
    rows.jsonl     a line a row: name and caption; rows.i64 says where each line ends
    groups.i64     for each row the first row of its near-duplicate group
    removed.npy    rows that were removed, in order
    ivf-ROWS.faiss once there are many rows: the first ROWS of them by faiss, inverted lists of 8-bit numbers
    taste.safetensors  the head of `goodeye search fit-taste`, if there is one

Files only grow at their ends, and index.json says how many rows count: whoever stops in the middle of writing leaves an
index as it was before. Rows behind ROWS are searched exactly; so is the whole index while it is small.
"""

import json
import mmap
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from goodeye.atomic import write_bytes
from goodeye.errors import BadInput
from goodeye.search.vectors import Vectors

CARD, VECTORS, ROWS, ENDS = "index.json", "vectors.f32", "rows.jsonl", "rows.i64"
GROUPS, REMOVED, HEAD = "groups.i64", "removed.npy", "taste.safetensors"
SAMPLE = 1024  # rows by which the spread of similarities and beauty over the index is judged
FEW = 20  # queries; of more, faiss takes many together
AT_ONCE = 16_384  # rows that are copied together where some between them were removed
FEWEST = 10  # rows asked of inverted lists: of very few, too few would be looked at again

HASHED = re.compile(r"[0-9a-f]{64}")  # a file of a ledger's own, without its ending

Ints = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True)
class Card:
    """What index.json says. models: the model set; version: of its CLIP's weights."""

    models: str
    version: str
    dimensions: int
    rows: int = 0
    sealed: int = 0  # rows from the start that are in the faiss file
    nprobe: int = 0  # how many inverted lists a query looks at
    recall: float = 0.0  # recall@10 against exact search, measured when nprobe was chosen
    duplicates: float = 0.0  # cosine from which two pictures are near-duplicates; 0: not looked for

    def write(self, folder: Path) -> None:
        """Writes index.json, whole or not at all."""
        write_bytes(folder / CARD, (json.dumps(asdict(self), indent=1) + "\n").encode())


def own_name(name: str) -> str:
    """A ledger's own file by its last part, a hash: a ledger may be moved or copied. Any other as it is."""
    path = PurePath(name)
    return path.name if HASHED.fullmatch(path.stem) else name


def with_own(names: Mapping[str, int]) -> dict[str, int]:
    """An index's names, and beside them a ledger's files by their own names alone."""
    return {own_name(name): row for name, row in names.items()} | dict(names)


def read_card(folder: str | Path) -> Card:
    """Raises BadInput where the folder holds no index, or a damaged one."""
    path = Path(folder) / CARD
    try:
        return Card(**json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise BadInput(f"{folder} is no index. Make one by `goodeye search index FOLDER --out {folder}`.") from error
    except (ValueError, TypeError) as error:
        raise BadInput(f"{path} is damaged ({error}). Make the index again.") from error


def ivf_path(folder: Path, card: Card) -> Path:
    return folder / f"ivf-{card.sealed}.faiss"


class Index:
    """An index to read. Opening it maps its files and reads none of them."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.card = read_card(folder)
        self.vectors: Vectors = _mapped(self.folder / VECTORS, np.float32, self.card.rows * self.card.dimensions)
        self.vectors = self.vectors.reshape(self.card.rows, self.card.dimensions)
        self._ends = _mapped(self.folder / ENDS, np.int64, self.card.rows)
        path = self.folder / REMOVED
        try:
            self.removed: Ints = np.load(path) if path.exists() else np.zeros(0, np.int64)
        except (OSError, ValueError, EOFError) as error:
            raise BadInput(f"{path} is damaged. Make the index again.") from error

    def __len__(self) -> int:
        """How many pictures can be found: rows that were not removed."""
        return self.card.rows - len(self.removed)

    @cached_property
    def _text(self) -> Any:
        with (self.folder / ROWS).open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    @property
    def own_head(self) -> Path | None:
        """Where its taste lies, or would lie; None where it has no folder of its own."""
        return self.folder / HEAD

    def row(self, number: int) -> tuple[str, str]:
        """Name and caption."""
        start = int(self._ends[number - 1]) if number else 0
        try:
            name, caption = json.loads(self._text[start : int(self._ends[number])])
        except (OSError, ValueError) as error:
            raise BadInput(f"{self.folder / ROWS} is damaged. Make the index again.") from error
        return name, caption

    def names(self) -> dict[str, int]:
        """Every name that was not removed, with its row."""
        gone = set(self.removed.tolist())
        return {self.row(number)[0]: number for number in range(self.card.rows) if number not in gone}

    @cached_property
    def groups(self) -> Ints:
        """For each row the first row of its near-duplicate group; its own number where it is alone."""
        path = self.folder / GROUPS
        known = min(path.stat().st_size // 8 if path.exists() else 0, self.card.rows)
        alone = np.arange(known, self.card.rows)
        return np.concatenate([_mapped(path, np.int64, known), alone]) if len(alone) else _mapped(path, np.int64, known)

    @cached_property
    def group_sizes(self) -> Ints:
        """Indexed by the first row of a group: how many pictures it has that were not removed."""
        left = np.delete(self.groups, self.removed) if len(self.removed) else self.groups
        return np.bincount(left, minlength=self.card.rows)

    @property
    def bursts(self) -> int:
        """How many near-duplicate groups have two pictures or more."""
        return int((self.group_sizes > 1).sum()) if self.card.rows else 0

    @cached_property
    def sample(self) -> Vectors:
        """Up to 1,024 rows, evenly spread over those that were not removed, [S, D]."""
        rows = np.unique(np.linspace(0, self.card.rows - 1, min(SAMPLE, self.card.rows)).astype(np.int64))
        return np.asarray(self.vectors[np.setdiff1d(rows, self.removed)])

    def search(self, queries: Vectors, k: int, nprobe: int | None = None) -> tuple[Vectors, Ints]:
        """queries: [Q, D], of any length. Returns inner products [Q, k], highest first, and their rows [Q, k].

        Exact where the index is small, else over `nprobe` inverted lists, with the exact product of what they give.
        Where fewer than k are found, the last rows are -1 with a product of -inf.
        """
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        if queries.ndim != 2 or queries.shape[1] != self.card.dimensions or not np.isfinite(queries).all():
            raise ValueError(f"queries are finite numbers [Q, {self.card.dimensions}], not {list(queries.shape)}")
        if not self.card.sealed:
            return exact(self.vectors, queries, k, 0, self.removed)
        found = self._in_lists(queries, k, nprobe)
        if self.card.sealed == self.card.rows:
            return found
        behind = exact(self.vectors, queries, k, self.card.sealed, self.removed)
        scores, rows = (np.concatenate(both, axis=1) for both in zip(found, behind, strict=True))
        return highest(scores, rows, k)

    @cached_property
    def lists(self) -> Any:
        """The inverted lists, by faiss, memory-mapped."""
        import faiss

        path = ivf_path(self.folder, self.card)
        try:
            lists = faiss.read_index(str(path), faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY)
        except RuntimeError as error:
            if read_card(self.folder).sealed != self.card.sealed:
                raise BadInput(f"{self.folder} has grown since it was opened. Open it again.") from error
            raise BadInput(f"{path} is missing or damaged. Make the index again.") from error
        # faiss starts up to 32 threads a query to read ahead what is mapped, which takes longer than the search
        faiss.downcast_InvertedLists(lists.invlists).prefetch_nthread = 0
        return lists

    @cached_property
    def _flat(self) -> Any:
        """The mapped embeddings of the lists' rows as an index of faiss, which copies nothing."""
        import faiss

        flat = faiss.IndexFlatIP(self.card.dimensions)
        data = faiss.swig_ptr(self.vectors.reshape(-1).view(np.uint8))
        size = self.card.sealed * self.card.dimensions * 4
        flat.codes = faiss.MaybeOwnedVectorUInt8.create_view(data, size, flat.codes.owner)
        flat.ntotal = self.lists.ntotal  # as faiss wants it; lists may lack rows that were removed
        return flat

    @cached_property
    def _refined(self) -> Any:
        """The lists, and the embeddings behind them: 8 bits a number misplace a few rows, and faiss puts those right by
        the exact products."""
        import faiss

        return faiss.IndexRefine(self.lists, self._flat)

    @cached_property
    def _usual(self) -> Any:
        return self._looking_at(self.card.nprobe)

    def _looking_at(self, nprobe: int) -> Any:
        """Parameters of a search over so many lists, which takes the exact products of half as many rows again."""
        import faiss

        lists = faiss.SearchParametersIVF(nprobe=nprobe, sel=self.selector)
        return faiss.IndexRefineSearchParameters(k_factor=1.5, base_index_params=lists)

    @cached_property
    def selector(self) -> Any:
        """For faiss: the rows that were not removed; None where all may be found."""
        import faiss

        return faiss.IDSelectorNot(faiss.IDSelectorBatch(self.removed)) if len(self.removed) else None

    def _in_lists(self, queries: Vectors, k: int, nprobe: int | None) -> tuple[Vectors, Ints]:
        """The k rows with the highest exact products, highest first."""
        parameters = self._looking_at(nprobe) if nprobe else self._usual
        scores, rows = self._refined.search(queries, max(k, FEWEST), params=parameters)
        if rows[:, -1].min() < 0:
            scores[rows < 0] = -np.inf
        return scores[:, :k], rows[:, :k]


def in_milvus(where: str | Path) -> bool:
    """Whether an index is named that lies in Milvus: by URL, or by a file of Milvus Lite."""
    return str(where).startswith(("http:/", "https:/")) or str(where).endswith(".db")


def open_index(where: str | Path) -> Index:
    """An index to read: in a folder, or in Milvus. Raises BadInput where there is none."""
    if not in_milvus(where):
        return Index(where)
    from goodeye.search.milvus import MilvusIndex

    return MilvusIndex(str(where))


def exact(vectors: Vectors, queries: Vectors, k: int, start: int, removed: Ints) -> tuple[Vectors, Ints]:
    """The k highest inner products among the rows from `start` that were not removed, by faiss, and their rows, highest
    first."""
    import faiss

    gone = removed[np.searchsorted(removed, start) :]
    left = np.delete(np.arange(start, len(vectors)), gone - start)
    if not len(left):
        return padded(np.zeros((len(queries), 0), np.float32), np.zeros((len(queries), 0), np.int64), k)
    if not len(gone):
        scores, rows = faiss.knn(queries, vectors[start:], min(k, len(left)), faiss.METRIC_INNER_PRODUCT)
        return padded(scores, rows + start, k)
    if len(queries) < FEW:  # to sort all products is quicker than to copy the rows
        scores = (queries @ vectors[start:].T)[:, left - start]
        return highest(scores, np.broadcast_to(left, scores.shape), k)
    found: list[tuple[Vectors, Ints]] = []
    for block in np.array_split(left, -(-len(left) // AT_ONCE)):
        scores, places = faiss.knn(queries, vectors[block], min(k, len(block)), faiss.METRIC_INNER_PRODUCT)
        found.append((scores, block[places]))
    scores, rows = (np.concatenate(parts, axis=1) for parts in zip(*found, strict=True))
    return highest(scores, rows, k)


def highest(scores: Vectors, rows: Ints, k: int) -> tuple[Vectors, Ints]:
    """The k highest of each line of scores, highest first, and their rows."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    lines = np.arange(len(scores))[:, None]
    return padded(scores[lines, order], rows[lines, order], k)


def padded(scores: Vectors, rows: Ints, k: int) -> tuple[Vectors, Ints]:
    """At least k columns; those that were lacking have a row of -1 and a product of -inf."""
    more = k - scores.shape[1]
    if more <= 0:
        return scores, rows
    scores = np.pad(scores, ((0, 0), (0, more)), constant_values=-np.inf)
    return scores, np.pad(rows, ((0, 0), (0, more)), constant_values=-1)


def _mapped(path: Path, kind: Any, count: int) -> np.ndarray[Any, Any]:
    """The first `count` numbers of a file, memory-mapped."""
    if not count:
        return np.zeros(0, kind)
    try:
        return np.asarray(
            np.memmap(path, dtype=kind, mode="r", shape=(count,))
        )  # a plain array is quicker to take from
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} is missing or too short. Make the index again.") from error
