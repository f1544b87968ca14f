"""Files and folders that are whole or not there, whenever the process dies; files of JSON lines, but for the last."""

import fcntl
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from goodeye.errors import BadInput

PARTIAL = ".part"  # what a folder that is being written ends in


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Gives a temporary path beside `path` to write to; on a clean exit it is flushed to disk and takes the name.

    Missing parent folders are made. After an error inside, nothing is left behind and `path` is as it was.
    Raises BadInput where the disk is full or the folder cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        flush(temporary)
        temporary.replace(path)
        flush(path.parent)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def alone(folder: str | Path) -> Iterator[None]:
    """Holds the folder for this process until the end, or a kill; a missing one is made, and a file `lock` in it.

    Raises BadInput where another process holds it, and where it cannot be written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("ab")
    except OSError as error:
        raise _unwritable(folder, error) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BadInput(f"{folder} is being written by another process. Wait until that has ended.") from error
        yield


def require_writable(path: str | Path) -> None:
    """Raises BadInput, as `whole_file` would, where a file of this name cannot be written: said before long work."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
        if path.is_dir():
            raise IsADirectoryError(None, "it is a folder")
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> BadInput:
    why = error.strerror or str(error)
    return BadInput(f"{path} cannot be written: {why}. Choose a folder that can be written and has room.")


def write_bytes(path: str | Path, data: bytes) -> None:
    """Writes the whole of `data` or nothing. Raises BadInput as `whole_file` does."""
    with whole_file(path) as temporary:
        temporary.write_bytes(data)


@contextmanager
def whole_folder(path: str | Path) -> Iterator[Path]:
    """Gives an empty folder beside `path` to write to; on a clean exit it is flushed to disk and takes the name, in the
    place of what was there.

    The folder beside it is called as `path` with `.part` added: a kill leaves it, and the next time it is made anew.
    Raises BadInput where the disk is full or the folder cannot be written.
    """
    path = Path(path)
    partial = path.with_name(f"{path.name}{PARTIAL}")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        for file in partial.rglob("*"):
            flush(file)
        flush(partial)
        shutil.rmtree(path, ignore_errors=True)
        partial.rename(path)
        flush(path.parent)
    except (OSError, SafetensorError) as error:
        why = getattr(error, "strerror", None) or error
        raise BadInput(
            f"{path} cannot be written: {why}. Make room or choose another folder, then go on with --resume."
        ) from error


def append(path: str | Path, *rows: Mapping[str, Any]) -> None:
    """Adds a JSON line for each row; missing parent folders are made. A kill may leave the last line half written.

    Raises BadInput where the disk is full or the file cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(row) + "\n" for row in rows))
    except OSError as error:
        raise BadInput(f"{path} cannot be written: {error.strerror}. Make room there, then resume.") from error


def read_rows(path: str | Path) -> list[dict[str, Any]]:
    """The rows that `append` wrote, oldest first; none where there is no file. A half-written last line is left out.

    Raises ValueError for anything else that is no JSON.
    """
    path = Path(path)
    return [json.loads(line) for line in _whole_lines(path).splitlines()] if path.exists() else []


def mend(path: str | Path) -> None:
    """Cuts off a last line that a kill left half written, so that the next one is whole."""
    path = Path(path)
    if path.exists() and (whole := _whole_lines(path)) != path.read_bytes():
        write_bytes(path, whole)


def _whole_lines(path: Path) -> bytes:
    lines = path.read_bytes()
    return lines[: lines.rfind(b"\n") + 1]


def flush(path: Path) -> None:
    """Makes a file's bytes, or the new names in a folder, outlast a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
