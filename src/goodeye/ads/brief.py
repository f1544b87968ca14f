"""What is wanted: a product picture, its title, and the prompt of the scene it shall stand in.

Briefs come from picture files, from folders of pictures, and from tables (CSV or Parquet) with the columns image,
title and prompt. A row that cannot be used becomes a `Skipped`, and the others still run.
"""

import csv
import hashlib
import io
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from goodeye.errors import BadInput
from goodeye.judging.tables import TABLES, Skipped, pictures_in

COLUMNS = ("image", "title", "prompt")
SETTINGS = (
    "a {title} on a wooden table in a bright room",
    "a {title} on a marble kitchen counter, morning light",
    "a {title} on a shelf against a pastel wall",
    "a {title} on a stone in a garden, soft shadows",
    "a {title} on a desk by a window",
    "a {title} on a plain studio table, soft light",
)


@dataclass(frozen=True, kw_only=True)
class Brief:
    """One product to make pictures of. `key` names it in files and in the ledger, and stays the same in a resumed run.

    title and prompt are "" where none was given.
    """

    key: str
    image: Path
    title: str = ""
    prompt: str = ""


@dataclass(frozen=True)
class _Row:
    image: Path
    title: str
    prompt: str


def read_briefs(
    inputs: Sequence[str | Path], title: str | None = None, prompt: str | None = None
) -> tuple[list[Brief], list[Skipped]]:
    """The briefs of files, folders and tables, in the order given, and what could not be read.

    A table's own title and prompt win over `title` and `prompt`, which fill the gaps. Pictures are not opened here,
    only looked for: ten thousand rows are read in a second. Keys are unique whatever the files are called.
    """
    rows: list[_Row] = []
    problems: list[Skipped] = []
    for item in inputs:
        try:
            for row in _rows(Path(item)):
                if isinstance(row, Skipped):
                    problems.append(row)
                else:
                    rows.append(row)
        except BadInput as error:
            problems.append(Skipped(name=str(item), message=str(error)))
        except OSError as error:
            message = f"{item} cannot be read ({error.strerror}). Check the path and its permissions."
            problems.append(Skipped(name=str(item), message=message))
    keys = unique_keys(row.image.stem for row in rows)
    briefs = [
        Brief(key=key, image=row.image, title=row.title or clean(title), prompt=row.prompt or clean(prompt))
        for key, row in zip(keys, rows, strict=True)
    ]
    return briefs, problems


def _rows(path: Path) -> Iterator[_Row | Skipped]:
    if path.is_dir():
        yield from _folder(path)
    elif not path.exists():
        raise BadInput(f"{path} does not exist. Check the path.")
    elif path.suffix.lower() in TABLES:
        yield from _table(path)
    else:
        yield _Row(path.resolve(), "", "")


def _folder(folder: Path) -> Iterator[_Row]:
    """The pictures of a folder by name; a titles.json beside them, a list of {"file", "title"}, gives the titles."""
    pictures, titles = pictures_in(folder), _titles(folder / "titles.json")
    for path in pictures:
        yield _Row(path.resolve(), titles.get(path.name, ""), "")


def _titles(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return {entry["file"]: clean(entry["title"]) for entry in entries}
    except (ValueError, TypeError, KeyError) as error:
        raise BadInput(f'{path} is not a list of {{"file": …, "title": …}}. Correct it or take it away.') from error


def _table(path: Path) -> Iterator[_Row | Skipped]:
    records = _parquet(path) if path.suffix.lower() == ".parquet" else _csv(path)
    for number, record in enumerate(records, start=1):
        image, name = _text(record["image"]), f"{path.name} row {number}"
        if not image:
            message = f"{name} names no image. Fill its image column with a path."
            yield Skipped(name=name, message=message)
            continue
        picture = _beside(path, image)
        if picture is None or not picture.is_file():
            message = f"{image} ({name}) does not exist. Paths are read from the table's own folder, {path.parent}."
            yield Skipped(name=image, message=message)
            continue
        yield _Row(picture.resolve(), clean(_text(record.get("title"))), clean(_text(record.get("prompt"))))


def _beside(table: Path, image: str) -> Path | None:
    try:
        picture = table.parent / image
        picture.is_file()
    except (OSError, ValueError):  # a name too long for the file system, or with a zero byte
        return None
    return picture


def _csv(path: Path) -> Iterator[dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not UTF-8 text. Save the table as CSV in UTF-8.") from error
    head = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=head.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        _need_image(path, reader.fieldnames or ())
        for record in reader:
            yield {_column(name): value for name, value in record.items() if name is not None}
    except csv.Error as error:
        raise BadInput(f"{path} is not a readable CSV ({error}). Save it again as CSV in UTF-8.") from error


def _parquet(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            names = {_column(name): name for name in file.schema_arrow.names}
            _need_image(path, file.schema_arrow.names)
            wanted = [names[column] for column in COLUMNS if column in names]
            for batch in file.iter_batches(columns=wanted):
                for record in batch.to_pylist():
                    yield {_column(name): value for name, value in record.items()}
    except (pa.ArrowException, OSError) as error:
        raise BadInput(f"{path} is not a readable Parquet file. Write it again, or give a CSV.") from error


def _need_image(path: Path, names: Iterable[str]) -> None:
    found = [_column(name) for name in names]
    if "image" not in found:
        listed = ", ".join(found) or "none"
        raise BadInput(
            f"{path} has no column named image (its columns: {listed}). Name the columns image,title,prompt."
        )


def _column(name: str) -> str:
    return name.strip().lower()


def _text(value: Any) -> str:
    """A cell as text; the struct of a datasets image column gives its path."""
    if isinstance(value, dict):
        value = value.get("path")
    return "" if value is None else str(value).strip()


def clean(text: str | None) -> str:
    """One line of text: no control characters, runs of white space made one; emoji and every script stay."""
    if not text:
        return ""
    kept = (" " if unicodedata.category(char) == "Cc" else char for char in text)
    encodable = "".join(kept).encode("utf-8", "ignore").decode("utf-8")
    return re.sub(r"\s+", " ", encodable).strip()


def unique_keys(stems: Iterable[str]) -> list[str]:
    """A distinct key for each stem, in order: letters, digits and dashes of any script, lower case, at most 60 long.

    Repeated names get -2, -3, …; a key stays as it is when others are added after it.
    """
    taken: set[str] = set()
    counts: dict[str, int] = {}
    keys = []
    for stem in stems:
        base = slug(stem)
        key, count = base, counts.get(base, 1)
        while key in taken:
            count += 1
            key = f"{base}-{count}"
        counts[base] = count
        taken.add(key)
        keys.append(key)
    return keys


def slug(stem: str) -> str:
    """A file name's stem as a key: safe on every file system; "product" when nothing of it can be kept."""
    text = unicodedata.normalize("NFKC", stem).lower()
    text = re.sub(r"[^\w]+", "-", text).strip("-_")
    while len(text.encode("utf-8", "ignore")) > 60:
        text = text[:-1]
    return text.rstrip("-_") or "product"


def choose_prompt(brief: Brief, settings: Sequence[str] = (), seed: int = 0) -> str:
    """The brief's own prompt, or one of `settings` (else of `SETTINGS`) drawn by the key and the run's seed.

    Ours; the paper writes its prompts by hand.
    """
    if brief.prompt:
        return brief.prompt
    choices = settings or SETTINGS
    draw = int.from_bytes(hashlib.sha256(f"{seed}/{brief.key}/prompt".encode()).digest()[:8], "big")
    return with_title(choices[draw % len(choices)], brief.title)


def with_title(setting: str, title: str) -> str:
    """A setting with "{title}" filled in, "product" where there is none; "a {title}" reads "an …" before a vowel."""
    thing = re.sub(r"^(an?|the)\s+", "", title, flags=re.IGNORECASE) or "product"
    if thing[0].lower() in "aeiou":
        setting = re.sub(r"\b([Aa]) \{title\}", r"\1n {title}", setting)
    return setting.replace("{title}", thing)
