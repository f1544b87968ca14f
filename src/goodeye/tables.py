"""Rows of pictures from CSV and Parquet tables, and the pictures that a row names or holds."""

import csv
import hashlib
import io
import tempfile
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from goodeye.archives import Member
from goodeye.atomic import write_bytes
from goodeye.errors import BadInput
from goodeye.images import open_image

TABLES = (".csv", ".tsv", ".parquet")
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif")


@dataclass(frozen=True)
class Skipped:
    """Something that could not be read: its name, and one line that says what was wrong and what to do."""

    name: str
    message: str


def pictures_in(folder: Path) -> list[Path]:
    """The picture files of a folder by name. Hidden ones are left out, such as macOS puts beside each (._shoe.jpg).

    Raises BadInput where there are none, or the folder cannot be read.
    """
    try:
        found = [file for file in folder.iterdir() if file.suffix.lower() in PICTURES and file.is_file()]
    except OSError as error:
        raise BadInput(f"{folder} cannot be read: {error.strerror}. Check its permissions.") from error
    if seen := sorted(file for file in found if not file.name.startswith(".")):
        return seen
    raise BadInput(f"{folder} holds no pictures. Give a folder with PNG, JPEG or WebP files in it.")


@dataclass(frozen=True)
class Cell:
    """A picture of a row: a path, a file in an archive, or the file's bytes (as datasets writes into Parquet)."""

    name: str
    path: Path | None = None
    data: bytes | None = None
    member: Member | None = None

    def open(self) -> Image.Image:
        """The picture, upright, RGB or RGBA. Raises BadInput for what cannot be read."""
        if self.path is not None:
            return open_image(self.path)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "picture"
            file.write_bytes(self.member.read() if self.member else self.data or b"")
            try:
                return open_image(file)
            except BadInput as error:
                raise BadInput(str(error).replace(str(file), self.name)) from error

    def unpacked(self, folder: Path) -> Path:
        """The picture as a file: its own, or, where a table or archive holds it, one made in `folder`.

        Raises BadInput where an archive is damaged or the folder cannot be written.
        """
        if self.path is not None:
            return self.path
        data = self.member.read() if self.member else self.data or b""
        name = Path(self.name)
        suffix = name.suffix.lower() if name.suffix.lower() in PICTURES else ".bin"
        file = folder / f"{hashlib.sha256(data).hexdigest()[:16]}{suffix}"
        if not file.is_file():
            write_bytes(file, data)
        return file


@dataclass(frozen=True)
class Row:
    """One row: pictures under "image" and "product", words under the other columns."""

    name: str
    cells: dict[str, Cell]
    words: dict[str, str]


def read_table(path: Path, columns: Collection[str] | None = None) -> Iterator[Row]:
    """Rows of a .csv, .tsv or .parquet file. Paths are read from the table's own folder; file_name stands for image.

    columns: those to read of a Parquet file; all if not given. Raises BadInput where the table cannot be read or has no
    image column.
    """
    records = _parquet(path, columns) if path.suffix.lower() == ".parquet" else _csv(path)
    for number, record in enumerate(records, start=1):
        name = f"{path.name} row {number}"
        fields = {_column(column, record): value for column, value in record.items()}
        cells = {key: _cell(fields[key], path.parent, name) for key in ("image", "product") if key in fields}
        words = {key: str(value).strip() for key, value in fields.items() if key not in cells and value is not None}
        yield Row(name, {key: cell for key, cell in cells.items() if cell is not None}, words)


def _csv(path: Path) -> Iterator[dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not UTF-8 text. Save the table as CSV in UTF-8.") from error
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}. Check the path.") from error
    head = text.split("\n", 1)[0]
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=head.count))
    try:
        _need_image(path, reader.fieldnames or ())
        yield from ({name: value for name, value in row.items() if isinstance(name, str)} for row in reader)
    except csv.Error as error:
        raise BadInput(f"{path} is not a readable CSV ({error}). Save it again as CSV in UTF-8.") from error


def _parquet(path: Path, columns: Collection[str] | None) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            _need_image(path, names)
            wanted = [name for name in names if columns is None or _column(name, names) in columns]
            for batch in file.iter_batches(batch_size=64, columns=wanted):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise BadInput(f"{path} is not a readable Parquet file. Write it again, or give a CSV.") from error


def _need_image(path: Path, names: Collection[str]) -> None:
    found = [_column(name, names) for name in names]
    if "image" not in found:
        listed = ", ".join(found) or "none"
        raise BadInput(f"{path} has no column named image (its columns: {listed}). Add one with the pictures' paths.")


def _column(name: str, among: Iterable[str]) -> str:
    """The column's name as it is read: file_name is the image where no column is called so."""
    name = name.strip().lower()
    return "image" if name == "file_name" and not any(one.strip().lower() == "image" for one in among) else name


def _cell(value: Any, folder: Path, name: str) -> Cell | None:
    if isinstance(value, dict):
        if value.get("bytes"):
            return Cell(value.get("path") or name, data=value["bytes"])
        value = value.get("path")
    if isinstance(value, bytes):
        return Cell(name, data=value)
    text = "" if value is None else str(value).strip()
    return Cell(text, path=folder / text) if text else None
