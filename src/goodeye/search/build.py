"""Writing an index: adding and removing without a rebuild, near-duplicate groups, and inverted lists once it is large.

Rows are appended and then made to count by index.json, so a kill loses at most the batch in work. An index is written
by one process at a time and may be read meanwhile.
"""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from goodeye.atomic import alone, whole_file
from goodeye.errors import BadInput
from goodeye.progress import progress
from goodeye.search.index import (
    CARD,
    ENDS,
    GROUPS,
    REMOVED,
    ROWS,
    VECTORS,
    Card,
    Index,
    exact,
    in_milvus,
    ivf_path,
    open_index,
    read_card,
)
from goodeye.search.vectors import Vectors, check_unit
from goodeye.tables import Skipped

if TYPE_CHECKING:
    from goodeye.judging.clip import Clip

EXACT = 50_000  # up to so many rows are searched one by one
BLOCK = 16_384  # rows handled together
DUPLICATES = 0.97  # cosine from which two pictures of a new index are near-duplicates, if not told otherwise
NEIGHBOURS = 16  # looked at when groups of near-duplicates are found
TRAIN = 64  # rows a centroid
WANTED = 0.97  # recall@10 from which no more lists are looked at


@dataclass(frozen=True)
class Built:
    """What `index_pictures` or `index_stored` did. known: pictures that the index had already."""

    folder: Path
    added: int
    known: int
    rows: int
    groups: int  # near-duplicate groups of two or more
    skipped: list[Skipped] = field(default_factory=list)

    def summary(self) -> str:
        """One line for a person."""
        parts = [f"{self.rows} pictures in {self.folder}: {self.added} added"]
        parts += [f"{self.known} there already"] * (self.known > 0)
        parts += [f"{len(self.skipped)} could not be read"] * bool(self.skipped)
        parts += [f"{self.groups} groups of near-duplicates"] * (self.groups > 0)
        return ", ".join(parts) + "."


class Writer:
    """Appends to an index and removes from it. Use `writing`, which locks it. longest: bytes of a name or a caption."""

    longest: int | None = None

    def __init__(self, folder: Path, card: Card) -> None:
        self.folder, self.card = folder, card

    def append(self, names: Sequence[str], captions: Sequence[str], vectors: Vectors) -> None:
        """Adds rows; they count when this returns. vectors: [N, D]. Raises BadInput for what is no unit embedding."""
        if not names:
            return
        check_unit(vectors, "what was embedded", self.card.dimensions)
        lines = [json.dumps(pair).encode() for pair in zip(names, captions, strict=True)]
        rows, start = self.card.rows, self._text_end()
        ends = start + np.cumsum([len(line) for line in lines], dtype=np.int64)
        with _writable(self.folder):
            _append(self.folder / VECTORS, rows * self.card.dimensions * 4, np.asarray(vectors, np.float32).tobytes())
            _append(self.folder / ROWS, start, b"".join(lines))
            _append(self.folder / ENDS, rows * 8, ends.tobytes())
            self._commit(replace(self.card, rows=rows + len(names)))

    def remove(self, names: Sequence[str]) -> list[str]:
        """Takes rows out by name; returns the names that the index does not have."""
        index = Index(self.folder)
        known = index.names()
        rows = [known[name] for name in names if name in known]
        removed = np.unique(np.concatenate([index.removed, np.array(rows, np.int64)]))
        with whole_file(self.folder / REMOVED) as temporary, temporary.open("wb") as file:
            np.save(file, removed)
        return [name for name in names if name not in known]

    def finish(self) -> None:
        """Finds near-duplicates among the rows that are new, and makes inverted lists where the index has grown large.

        Whatever of it a kill cut off is done by the next call.
        """
        if self.card.rows - self.card.sealed >= EXACT:
            self._seal()
        if self.card.duplicates:
            self._group()

    def _commit(self, card: Card) -> None:
        card.write(self.folder)
        self.card = card

    def _text_end(self) -> int:
        if not self.card.rows:
            return 0
        with (self.folder / ENDS).open("rb") as file:
            file.seek((self.card.rows - 1) * 8)
            return int(np.frombuffer(file.read(8), np.int64)[0])

    # Near-duplicates

    def _group(self) -> None:
        """Each new row joins the nearest first row of a group that is near enough, or starts a group of its own.

        All of a group are near its first row: groups do not grow into chains.
        """
        index = Index(self.folder)
        path = self.folder / GROUPS
        known = min(path.stat().st_size // 8 if path.exists() else 0, self.card.rows)
        first, threshold = _numbers(path, known), self.card.duplicates
        with progress("looking for near-duplicates", self.card.rows - known, "pictures") as advance:
            for start in range(known, self.card.rows, BLOCK // 4):
                stop = min(start + BLOCK // 4, self.card.rows)
                near = _near(index, start, stop, threshold)
                for number in range(start, stop):
                    close = near[number - start]
                    first.append(_first_of(index, number, {first[row] for row in close if row < number}, threshold))
                with _writable(self.folder):
                    _append(path, start * 8, np.array(first[start:stop], np.int64).tobytes())
                advance(stop - start)

    # Inverted lists

    def _seal(self) -> None:
        """Puts all rows into inverted lists. Their centroids stay as they are until the index is eight times larger."""
        import faiss

        index = Index(self.folder)
        old = ivf_path(self.folder, self.card)
        lists = faiss.read_index(str(old)) if self.card.sealed else None
        if lists is None or self.card.rows > 8 * (lists.nlist / 2) ** 2:
            lists, start = _trained(index), 0
        else:
            start = self.card.sealed
        left = np.setdiff1d(np.arange(start, self.card.rows), index.removed)
        with progress("making inverted lists", len(left), "rows") as advance:
            for block in np.array_split(left, max(1, -(-len(left) // BLOCK))):
                lists.add_with_ids(np.ascontiguousarray(index.vectors[block]), block)
                advance(len(block))
        sealed = replace(self.card, sealed=self.card.rows)
        with whole_file(ivf_path(self.folder, sealed)) as temporary:
            faiss.write_index(lists, str(temporary))
        nprobe, recall = _lists_to_look_at(index, lists)
        self._commit(replace(sealed, nprobe=nprobe, recall=recall))
        for other in self.folder.glob("ivf-*.faiss"):
            if other != ivf_path(self.folder, self.card):
                other.unlink()


def _near(index: Index, start: int, stop: int, threshold: float) -> list[list[int]]:
    """For each row from start to stop, the rows near enough; a row with many of them is asked for more."""
    queries = np.asarray(index.vectors[start:stop])
    scores, rows = index.search(queries, NEIGHBOURS, nprobe=4)
    near = [row[score >= threshold].tolist() for row, score in zip(rows, scores, strict=True)]
    full = np.flatnonzero(scores[:, -1] >= threshold)
    if len(full):
        scores, rows = index.search(queries[full], 64 * NEIGHBOURS, nprobe=4)
        for one, row, score in zip(full.tolist(), rows, scores, strict=True):
            near[one] = row[score >= threshold].tolist()
    return near


def _first_of(index: Index, number: int, firsts: set[int], threshold: float) -> int:
    """Of the first rows of groups, the nearest that is near enough; else the row's own number."""
    rows = sorted(firsts)
    near = [float(index.vectors[row] @ index.vectors[number]) for row in rows]
    return rows[int(np.argmax(near))] if near and max(near) >= threshold else number


def _trained(index: Index) -> Any:
    """Empty inverted lists, about 2 sqrt(rows) of them, with centroids and 8-bit ranges learned from a sample."""
    import faiss

    dimensions, nlist = index.card.dimensions, max(16, int(2 * index.card.rows**0.5))
    lists = faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatIP(dimensions), dimensions, nlist, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
    )
    rows = np.unique(np.linspace(0, index.card.rows - 1, min(TRAIN * nlist, index.card.rows)).astype(np.int64))
    print(f"learning {nlist} centroids from {len(rows)} rows", file=sys.stderr, flush=True)
    lists.cp.niter, lists.cp.seed = 10, 0
    lists.train(np.ascontiguousarray(index.vectors[rows]))
    return lists


def _lists_to_look_at(index: Index, lists: Any, queries: int = 64) -> tuple[int, float]:
    """The smallest power of two with recall@10 >= .97 on rows moved by noise to a cosine of about .7, or all lists, and
    its recall. Rows that were removed are neither asked for nor found.

    Texts lie farther from pictures than that, so the recall of texts may be lower (ours).
    """
    import faiss

    random = np.random.default_rng(0)
    left = np.setdiff1d(np.arange(index.card.rows), index.removed)
    if not len(left):
        return 1, 1.0
    rows = random.choice(left, min(queries, len(left)), replace=False)
    noise = random.normal(size=(len(rows), index.card.dimensions)) / index.card.dimensions**0.5
    asked = (np.asarray(index.vectors[np.sort(rows)]) + noise).astype(np.float32)
    truth = exact(index.vectors, asked, 10, 0, index.removed)[1][:, :10]
    nprobe, recall = 1, 0.0
    while True:
        parameters = faiss.SearchParametersIVF(nprobe=nprobe, sel=index.selector)
        found = lists.search(asked, 20, params=parameters)[1]
        scores = np.einsum("qcd,qd->qc", index.vectors[found], asked)
        scores[found < 0] = -np.inf
        best = np.take_along_axis(found, np.argsort(-scores, axis=1)[:, :10], 1)
        recall = float(np.mean([len(set(a) & set(b)) / 10 for a, b in zip(truth.tolist(), best.tolist(), strict=True)]))
        if recall >= WANTED or nprobe >= lists.nlist:
            return nprobe, round(recall, 4)
        nprobe = min(2 * nprobe, lists.nlist)


# --- the commands


@contextmanager
def writing(folder: str | Path, card: Card | None = None) -> Iterator[Writer]:
    """Locks an index for writing; with `card`, makes it where there is none. Raises BadInput where the folder holds
    something else, an index of another model, or one that another process writes."""
    if in_milvus(folder):
        from goodeye.search import milvus

        with milvus.writing(str(folder), card) as writer:
            yield writer
        return
    folder = Path(folder)
    if not (folder / CARD).exists():
        if card is None:
            read_card(folder)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise BadInput(f"{folder} exists and is no index. Name a new folder with --out.")
    with alone(folder):
        if card is not None and not (folder / CARD).exists():
            card.write(folder)
        there = read_card(folder)
        if card is not None:
            require_same_model(folder, there, card.version, card.models)
            there = replace(there, duplicates=card.duplicates)
        yield Writer(folder, there)


def require_same_model(folder: Path, card: Card, version: str, models: str) -> None:
    """Raises BadInput where the index was made by other weights."""
    if card.version != version:
        raise BadInput(
            f"{folder} was made by the CLIP of {card.models} ({card.version}), and {models} has another ({version}). "
            "Name that model set with --models, or make a new index."
        )


def new_card(models: str, clip: "Clip", duplicates: float) -> Card:
    """The card of an empty index. Raises BadInput for a threshold of near-duplicates that is none."""
    if not 0 <= duplicates <= 1:
        raise BadInput(f"near-duplicates from a cosine of {duplicates} are not possible. Use 0 (off) to 1.")
    return Card(models=models, version=clip.version, dimensions=clip.dimensions, duplicates=duplicates)


def _threshold(out: str | Path, asked: float | None) -> float:
    """Of near-duplicates: what was asked for, else the index's own, else that of a new one."""
    if asked is not None:
        return asked
    try:
        return open_index(out).card.duplicates
    except BadInput:  # there is none yet, or it cannot be read, which is told where it is opened to be written
        return DUPLICATES


def index_pictures(
    source: str | Path,
    out: str | Path,
    clip: "Clip",
    models: str,
    *,
    batch: int = 64,
    workers: int = 4,
    duplicates: float | None = None,
) -> Built:
    """Embeds the pictures of a folder, a table or WebDataset shards into the index `out`, or adds those it lacks.

    duplicates: cosine from which two are near-duplicates, 0 for none; None: the index's own, of a new one DUPLICATES.
    The same call goes on where another was stopped. Pictures that cannot be read are skipped and named.
    """
    from goodeye.search.embed import embed_items, require_batch
    from goodeye.search.source import Item, count_new, find_items

    require_batch(batch)
    found = find_items(source)
    begun = list(islice(found, 1))  # a source that is none is told before an index is made
    with writing(out, new_card(models, clip, _threshold(out, duplicates))) as writer:
        known = set(open_index(out).names())
        again = added = 0
        skipped: list[Skipped] = []

        def new() -> Iterator[Item | Skipped]:
            nonlocal again
            for item in chain(begun, found):
                if item.name in known:
                    again += 1
                    continue
                known.add(item.name)
                yield (_too_long(writer, item.name, item.caption) if isinstance(item, Item) else None) or item

        with progress("embedding", count_new(source, known), "pictures") as advance:
            for done in embed_items(new(), clip, batch=batch, workers=workers):
                writer.append([item.name for item in done.items], [item.caption for item in done.items], done.vectors)
                skipped += done.skipped
                added += len(done.items)
                advance(len(done.items) + len(done.skipped))
        writer.finish()
    return _built(out, added, again, skipped)


def index_stored(
    source: str | Path,
    out: str | Path,
    clip: "Clip",
    models: str,
    *,
    names: str | Path | None = None,
    duplicates: float | None = None,
) -> Built:
    """Takes stored embeddings (.npy or .parquet) into the index `out`; what it has already by name is left out.

    duplicates: as `index_pictures` has it.
    Where the names are pictures that can be opened, three of them are embedded and compared, so that embeddings of
    another model of equal size are refused.
    """
    from goodeye.search.source import read_stored

    stored = read_stored(source, clip.dimensions, names)
    _compare(stored, clip, models)
    with writing(out, new_card(models, clip, _threshold(out, duplicates))) as writer:
        known = set(open_index(out).names())
        added = again = 0
        skipped: list[Skipped] = []
        with progress("reading embeddings", len(stored.names), "rows") as advance:
            for listed, captions, vectors in stored.blocks(BLOCK):
                new = [row for row, name in enumerate(listed) if name not in known]
                again += len(listed) - len(new)
                long = {row: _too_long(writer, listed[row], captions[row]) for row in new}
                skipped += [one for one in long.values() if one]
                new = [row for row in new if not long[row]]
                writer.append([listed[row] for row in new], [captions[row] for row in new], vectors[new])
                added += len(new)
                advance(len(listed))
        writer.finish()
    return _built(out, added, again, skipped)


def _too_long(writer: Writer, name: str, caption: str) -> Skipped | None:
    """What the index has no room for."""
    if writer.longest is None:
        return None
    try:
        size = max(len(name.encode()), len(caption.encode()))
    except UnicodeEncodeError:  # a file's name may be bytes that are no text
        return Skipped(name, f"the name {name!r} is no text, which Milvus needs. Rename it.")
    if size <= writer.longest:
        return None
    which = f"the caption of {name}" if len(caption) > len(name) else f"the name {name[:80]}…"
    return Skipped(name, f"{which} is longer than {writer.longest:,} bytes, the most Milvus takes. Shorten it.")


def _compare(stored: Any, clip: "Clip", models: str) -> None:
    from goodeye.search.embed import embed_image
    from goodeye.search.source import open_named

    compared = 0
    for row in np.linspace(0, len(stored.names) - 1, min(20, len(stored.names))).astype(int).tolist():
        try:
            img = open_named(stored.names[row])
        except BadInput:
            continue
        vector = np.asarray(stored.vectors[row], dtype=np.float32)
        if float(embed_image(img, clip) @ vector) < 0.9:
            raise BadInput(
                f"{stored.path}: the embedding of {stored.names[row]} is not what the CLIP of {models} gives. "
                "Name the model set that made the embeddings with --models."
            )
        compared += 1
        if compared == 3:
            return


def remove(folder: str | Path, names: Sequence[str]) -> tuple[int, list[str]]:
    """Removes pictures by name (a path is also found by its full path). Returns how many, and the names not found."""
    with writing(folder) as writer:
        known = open_index(folder).names()
        full = [name if name in known else str(Path(name).resolve()) for name in names]
        missing = set(writer.remove(full))
    return len(set(full) - missing), [name for name, path in zip(names, full, strict=True) if path in missing]


def _built(out: str | Path, added: int, known: int, skipped: list[Skipped]) -> Built:
    index = open_index(out)
    return Built(Path(out), added, known, len(index), index.bursts, skipped)


# --- files that grow


def _append(path: Path, at: int, data: bytes) -> None:
    """Writes at a place, behind which nothing counts, and flushes to disk."""
    with path.open("r+b" if path.exists() else "w+b") as file:
        _cut(file, at)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _cut(file: BinaryIO, at: int) -> None:
    file.truncate(at)
    file.seek(at)


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error)
        raise BadInput(
            f"{folder} cannot be written: {why}. Choose a folder that can be written and has room."
        ) from error


def _numbers(path: Path, count: int) -> list[int]:
    return np.fromfile(path, np.int64, count).tolist() if count else []
