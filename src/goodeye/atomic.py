"""Files that are whole or not there, whenever the process dies."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from goodeye.errors import BadInput


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
        why = error.strerror or str(error)
        raise BadInput(f"{path} cannot be written: {why}. Choose a folder that can be written and has room.") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_bytes(path: str | Path, data: bytes) -> None:
    """Writes the whole of `data` or nothing. Raises BadInput as `whole_file` does."""
    with whole_file(path) as temporary:
        temporary.write_bytes(data)


def flush(path: Path) -> None:
    """Makes a file's bytes, or the new names in a folder, outlast a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
