"""What an index is made of: pictures in folders, tables and WebDataset shards, or embeddings that are stored already.

A picture's name is where it lies: a full path; of a picture inside a Parquet table or a tar, that file's full path,
then # and the row or the member. By its name alone a picture can be opened again.
"""

import re
import tarfile
import zlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from goodeye.archives import Member, members
from goodeye.errors import BadInput
from goodeye.search.vectors import Vectors, check_unit, normalised
from goodeye.tables import PICTURES, TABLES, Cell, Skipped, read_table

CAPTIONS = ("caption", "text", "title", "prompt")  # columns that say what a picture shows, the first of them counts
NAMES = ("image", "file_name", "name", "path", "image_path", "url", "key")
EMBEDDINGS = ("embedding", "image_embedding", "vector", "emb")
KEPT = 256 * 2**20  # bytes of a table's row group up to which its pictures stay in memory
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")


@dataclass(frozen=True)
class Item:
    """A picture to embed: its name, where its bytes are, and its caption if it has one."""

    name: str
    cell: Cell
    caption: str = ""


def find_items(path: str | Path) -> Iterator[Item | Skipped]:
    """The pictures of a folder (with all folders in it), a .csv, .tsv or .parquet table, or a WebDataset .tar, in
    order. Files of a folder are not opened here. Raises BadInput where there is nothing of the kind.
    """
    path = Path(path)
    if path.is_dir():
        yield from _folder(path)
    elif not path.is_file():
        raise BadInput(f"{path} does not exist. Name a folder of pictures, a table or a WebDataset .tar.")
    elif path.suffix.lower() == ".tar":
        shard = _shard(path)
        first = next(shard, None)
        if not isinstance(first, Item):
            raise BadInput(first.message if first else f"{path} holds no pictures. Name a .tar with some.")
        yield first
        yield from shard
    elif path.suffix.lower() in TABLES:
        yield from _table(path)
    elif path.suffix.lower() in PICTURES:
        yield Item(str(path.resolve()), Cell(str(path), path=path))
    else:
        raise BadInput(f"{path} is no source of pictures. Name a folder, a .csv or .parquet table, or a .tar.")


def _folder(folder: Path) -> Iterator[Item | Skipped]:
    """Pictures, each with the text file of the same stem as its caption, and shards."""
    found = False
    for path in sorted(folder.rglob("*")):
        ending = path.suffix.lower()
        if ending == ".tar" and path.is_file():
            found = True
            yield from _shard(path)
        elif ending in PICTURES and (path.is_file() or (path.is_symlink() and not path.exists())):
            found = True
            yield Item(str(path.resolve()), Cell(str(path), path=path), _beside(path))
    if not found:
        raise BadInput(f"{folder} holds no pictures. Name a folder with PNG, JPEG or WebP files in it.")


def count_new(path: str | Path, known: Collection[str]) -> int | None:
    """How many pictures of a folder have names that are not known; None where tables or shards must be read for it."""
    found = [one for one in Path(path).rglob("*") if one.suffix.lower() in (*PICTURES, ".tar")]
    if not found or any(one.suffix.lower() == ".tar" for one in found):
        return None
    return sum(str(one.resolve()) not in known for one in found)


def _beside(path: Path) -> str:
    try:
        return one_line(path.with_suffix(".txt").read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return ""


def _shard(path: Path) -> Iterator[Item | Skipped]:
    """A tar of KEY.jpg and KEY.txt, as WebDataset and img2dataset write it: members of one key stand together. Of one
    that is cut short, the pictures before the cut."""
    where = path.resolve()
    waiting: list[Item] = []
    key, caption = "", ""
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                if not member.isfile():
                    continue
                stem = member.name[: -len(PurePosixPath(member.name).suffix) or None]
                if stem != key:
                    yield from (Item(item.name, item.cell, caption) for item in waiting)
                    waiting, key, caption = [], stem, ""
                ending = PurePosixPath(member.name).suffix.lower()
                data = tar.extractfile(member)
                if ending in PICTURES and data:
                    name = f"{where}#{member.name}"
                    waiting.append(Item(name, Cell(name, data=data.read())))
                elif ending == ".txt" and data:
                    caption = one_line(data.read().decode("utf-8", "replace"))
        cut = None
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        cut = Skipped(str(path), f"{path} is not a whole tar ({error}). Download or write the shard again.")
    yield from (Item(item.name, item.cell, caption) for item in waiting)
    if cut:
        yield cut


def _table(path: Path) -> Iterator[Item | Skipped]:
    where = path.resolve()
    for number, row in enumerate(read_table(path), start=1):
        cell = row.cells.get("image")
        if cell is None:
            yield Skipped(row.name, f"{row.name} names no image. Fill its image column.")
            continue
        name = str(cell.path.resolve()) if cell.path else f"{where}#{number}"
        yield Item(name, cell, _caption(row.words))


def _caption(words: dict[str, str]) -> str:
    return one_line(next((words[column] for column in CAPTIONS if words.get(column)), ""))


def one_line(text: str) -> str:
    """Text without control characters and line breaks."""
    return " ".join(_CONTROL.sub(" ", text).split())


def open_named(name: str) -> Image.Image:
    """Opens a picture by the name that it has in an index. Raises BadInput where it is no longer there."""
    file, _, part = name.rpartition("#")
    if not part or not file or Path(name).exists():
        return Cell(name, path=Path(name)).open()
    path = Path(file)
    if path.suffix.lower() == ".tar":
        return Cell(name, data=_member(path, part)).open()
    data = _of_row(path, int(part) - 1) if path.suffix.lower() == ".parquet" and part.isdecimal() else None
    if not data:
        raise BadInput(f"{name} is no longer there. Index it again, or remove it from the index.")
    return Cell(name, data=data).open()


def _of_row(path: Path, row: int) -> bytes | None:
    """The bytes in the image column of a Parquet table, if there are any; only the row's group is read."""
    import pyarrow as pa

    try:
        column, ends = _row_groups(path, _state(path))
        group = bisect_right(ends, row)
        if not column or row < 0 or group == len(ends):
            return None
        value = _value(path, column, group, row - (ends[group - 1] if group else 0))
    except (pa.ArrowException, OSError):
        return None
    found = value.get("bytes") if isinstance(value, dict) else value
    return found if isinstance(found, bytes) else None


@lru_cache(maxsize=64)
def _row_groups(path: Path, state: tuple[int, int]) -> tuple[str, list[int]]:
    """The name of the image column, and the row at which each group ends."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        columns = {name.strip().lower(): name for name in file.schema_arrow.names}
        counts = (file.metadata.row_group(group).num_rows for group in range(file.num_row_groups))
        return columns.get("image") or columns.get("file_name", ""), list(accumulate(counts))


def _value(path: Path, column: str, group: int, at: int) -> Any:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        if file.metadata.row_group(group).total_byte_size > KEPT:
            for batch in file.iter_batches(batch_size=64, row_groups=[group], columns=[column]):
                if at < len(batch):
                    return batch[column][at].as_py()
                at -= len(batch)
    return _kept(path, _state(path), column, group)[at].as_py()


@lru_cache(maxsize=2)
def _kept(path: Path, state: tuple[int, int], column: str, group: int) -> Any:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        return file.read_row_group(group, columns=[column])[column]


def _state(path: Path) -> tuple[int, int]:
    """What changes when a file does."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns


@lru_cache(maxsize=32)
def _places(path: Path, state: tuple[int, int]) -> dict[str, Member]:
    try:
        return {member.name: member for member in members(path, path.parent)}
    except BadInput:  # compressed, whatever its name says: there is no place to jump to
        return {}


def _member(path: Path, member: str) -> bytes:
    try:
        if place := _places(path, _state(path)).get(member):
            return place.read()
        with tarfile.open(path) as tar:
            data = tar.extractfile(member)
            return data.read() if data else b""
    except (tarfile.TarError, OSError, EOFError, KeyError) as error:
        raise BadInput(f"{path} no longer holds {member}. Index it again, or remove it from the index.") from error


# --- embeddings that are stored already


@dataclass(frozen=True)
class Stored:
    """Stored embeddings, not yet in memory as a whole where the file is .npy. names, captions: one a row."""

    path: Path
    vectors: np.ndarray[Any, Any]  # [N, D]; checked to be of length 1
    names: Sequence[str]
    captions: Sequence[str]

    def blocks(self, rows: int) -> Iterator[tuple[Sequence[str], Sequence[str], Vectors]]:
        """Names, captions and vectors, `rows` at a time."""
        for start in range(0, len(self.names), rows):
            part = slice(start, start + rows)
            yield self.names[part], self.captions[part], normalised(self.vectors[part])


def read_stored(path: str | Path, dimensions: int, names: str | Path | None = None) -> Stored:
    """Embeddings of a .npy file [N, D], or of a .parquet file with the column embedding.

    Names come from the Parquet file's own column image (or name, path, url), or from `names`: a text file with a line
    a row, or a table. Names of files that are there, seen from the folder of the names or from the working folder,
    become full paths, as `find_items` names pictures. Without names a row is named by the file and its number. All rows
    are checked before any is used.
    Raises BadInput for NaN, lengths other than 1, another size than `dimensions`, or names that do not fit.
    """
    path = Path(path)
    if not path.is_file():
        raise BadInput(f"{path} does not exist. Name a .npy or .parquet file of embeddings.")
    if path.suffix.lower() == ".npy":
        vectors, own, captions = _npy(path), None, None
    elif path.suffix.lower() == ".parquet":
        vectors, own, captions = _parquet(path)
    else:
        raise BadInput(f"{path} holds no embeddings that can be read. Give a .npy or .parquet file.")
    check_unit(vectors, str(path), dimensions)
    if not len(vectors):
        raise BadInput(f"{path} holds no embeddings. Name a file with some.")
    if names is not None:
        own, captions = _names(Path(names))
    folder = Path(names or path).parent
    listed = [_full(name, folder) for name in own or ()] or [f"{path.resolve()}#{row}" for row in range(len(vectors))]
    if len(listed) != len(vectors):
        raise BadInput(
            f"{names or path} names {len(listed)} rows, and {path} holds {len(vectors)}. Give one name a row."
        )
    if len(set(listed)) != len(listed):
        twice = Counter(listed).most_common(1)[0][0]
        raise BadInput(f"{names or path} names {twice} twice. Give each row a name of its own.")
    return Stored(path, vectors, listed, captions or [""] * len(listed))


def _full(name: str, folder: Path) -> str:
    """The full path of a file that is there; any other name as it is."""
    try:
        return str(next(path for path in (folder / name, Path(name)) if path.is_file()).resolve())
    except (StopIteration, OSError, ValueError):  # too long for a path, or no path at all
        return name


def _npy(path: Path) -> np.ndarray[Any, Any]:
    try:
        vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise BadInput(f"{path} is not a readable .npy file ({error}). Write it again with numpy.save.") from error
    return vectors


def _parquet(path: Path) -> tuple[np.ndarray[Any, Any], list[str] | None, list[str] | None]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        columns = {name.strip().lower(): name for name in pq.read_schema(path).names}
        found = next((columns[name] for name in EMBEDDINGS if name in columns), None)
        if found is None:
            raise BadInput(f"{path} has no column named embedding (it has {', '.join(columns)}). Name it so.")
        kept = [columns[name] for name in (*NAMES, *CAPTIONS) if name in columns]
        table = pq.read_table(path, columns=[found, *kept])
        rows = table[found].combine_chunks()
        sizes = set(pa.compute.list_value_length(rows).to_pylist()) if len(rows) else {0}
        if len(sizes) != 1 or rows.null_count:
            raise BadInput(f"{path} holds embeddings of different sizes, or none in a row. Give all rows one size.")
        vectors = rows.flatten().to_numpy(zero_copy_only=False).reshape(len(rows), -1)
    except (pa.ArrowException, OSError) as error:
        raise BadInput(f"{path} is not a readable Parquet file. Write it again.") from error
    return vectors, _texts(table, columns, NAMES), _texts(table, columns, CAPTIONS)


def _texts(table: Any, columns: dict[str, str], wanted: Sequence[str]) -> list[str] | None:
    name = next((columns[name] for name in wanted if name in columns), None)
    return None if name is None else [one_line(str(value or "")) for value in table[name].to_pylist()]


def _names(path: Path) -> tuple[list[str], list[str] | None]:
    if path.suffix.lower() in TABLES:
        items = [item for item in _table(path) if isinstance(item, Item)]
        return [item.name for item in items], [item.caption for item in items]
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()], None
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is not a readable list of names. Give a text file with one name a line.") from error
