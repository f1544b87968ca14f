"""What is wanted: a product picture, its title, and the prompt of the scene it shall stand in.

Briefs come from picture files, from folders of pictures, and from tables (CSV or Parquet) with the columns image,
title and prompt. A row that cannot be used becomes a `Skipped`, and the others still run.
"""

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from goodeye.errors import BadInput
from goodeye.tables import TABLES, Skipped, pictures_in, read_table

COLUMNS = ("image", "title", "prompt")
PRODUCTS = "products"  # the folder of a run with the pictures that a table held itself
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
    stem: str
    title: str
    prompt: str


def read_briefs(
    inputs: Sequence[str | Path], unpack: Path, title: str | None = None, prompt: str | None = None
) -> tuple[list[Brief], list[Skipped]]:
    """The briefs of files, folders and tables, in the order given, and what could not be read.

    A table's own title and prompt win over `title` and `prompt`, which fill the gaps. Pictures are not opened here,
    only looked for: ten thousand rows are read in a second. Those that a Parquet file holds itself, as datasets writes
    them, are put into the folder `unpack`. Keys are unique whatever the files are called.
    """
    rows: list[_Row] = []
    problems: list[Skipped] = []
    for item in inputs:
        try:
            for row in _rows(Path(item), unpack):
                if isinstance(row, Skipped):
                    problems.append(row)
                else:
                    rows.append(row)
        except BadInput as error:
            problems.append(Skipped(name=str(item), message=str(error)))
        except OSError as error:
            message = f"{item} cannot be read ({error.strerror}). Check the path and its permissions."
            problems.append(Skipped(name=str(item), message=message))
    keys = unique_keys(row.stem for row in rows)
    briefs = [
        Brief(key=key, image=row.image, title=row.title or clean(title), prompt=row.prompt or clean(prompt))
        for key, row in zip(keys, rows, strict=True)
    ]
    return briefs, problems


def _rows(path: Path, unpack: Path) -> Iterator[_Row | Skipped]:
    if path.is_dir():
        yield from _folder(path)
    elif not path.exists():
        raise BadInput(f"{path} does not exist. Check the path.")
    elif path.suffix.lower() in TABLES:
        yield from _table(path, unpack)
    else:
        yield _Row(path.resolve(), path.stem, "", "")


def _folder(folder: Path) -> Iterator[_Row]:
    """The pictures of a folder by name; a titles.json beside them, a list of {"file", "title"}, gives the titles."""
    pictures, titles = pictures_in(folder), _titles(folder / "titles.json")
    for path in pictures:
        yield _Row(path.resolve(), path.stem, titles.get(path.name, ""), "")


def _titles(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return {entry["file"]: clean(entry["title"]) for entry in entries}
    except (ValueError, TypeError, KeyError) as error:
        raise BadInput(f'{path} is not a list of {{"file": …, "title": …}}. Correct it or take it away.') from error


def _table(path: Path, unpack: Path) -> Iterator[_Row | Skipped]:
    for row in read_table(path, COLUMNS):
        cell = row.cells.get("image")
        if cell is None:
            yield Skipped(name=row.name, message=f"{row.name} names no image. Fill its image column with a path.")
            continue
        picture = cell.unpacked(unpack)
        if not _is_file(picture):
            where = f"Paths are read from the table's own folder, {path.parent}."
            yield Skipped(name=cell.name, message=f"{cell.name} ({row.name}) does not exist. {where}")
            continue
        stem = Path(cell.name).stem
        yield _Row(picture.resolve(), stem, clean(row.words.get("title")), clean(row.words.get("prompt")))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long for the file system, or with a zero byte
        return False


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
