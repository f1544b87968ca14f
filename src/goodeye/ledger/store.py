"""Picture files, each named by the SHA-256 of its bytes: images/ab/abcdef….png, .jpg or .webp."""

import errno
import hashlib
import io
import os
import struct
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import PIL.Image
from PIL.Image import Image

from goodeye.atomic import flush, write_bytes
from goodeye.errors import BadInput
from goodeye.images import MAX_PIXELS

SUFFIXES = {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}  # by format, as the table of images names it
TEMPORARY = ".part"


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """A picture as the bytes of its file."""

    sha256: str
    format: str
    width: int
    height: int
    data: bytes = field(repr=False)


def encode(image: Image) -> Encoded:
    """The picture as a PNG: same pixels, same bytes, same name."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    data = buffer.getvalue()
    name = hashlib.sha256(data).hexdigest()
    return Encoded(sha256=name, format="png", width=image.width, height=image.height, data=data)


def encode_file(data: bytes, name: str = "the picture") -> Encoded:
    """A picture file's own bytes, if they are PNG, JPEG or WebP: what it was stays what it is, and no larger.

    Raises BadInput for other bytes, damaged ones, and for what is too large to be decoded.
    """
    try:
        with PIL.Image.open(io.BytesIO(data), formats=[kind.upper() for kind in SUFFIXES]) as file:
            if file.width * file.height > MAX_PIXELS:
                raise BadInput(f"{name} is {file.width}x{file.height} pixels. Make it smaller.")
            file.load()
            kind, size = str(file.format).lower(), file.size
    except PIL.Image.DecompressionBombError as error:
        raise BadInput(f"{name} is too large to be decoded. Make it smaller.") from error
    except (OSError, EOFError, SyntaxError, ValueError, struct.error, zlib.error) as error:
        raise BadInput(f"{name} is not a whole PNG, JPEG or WebP file. Save it again as one.") from error
    sha = hashlib.sha256(data).hexdigest()
    return Encoded(sha256=sha, format=kind, width=size[0], height=size[1], data=data)


@dataclass(frozen=True)
class Store:
    """A folder of picture files."""

    folder: Path

    def path(self, sha256: str, format: str = "png") -> Path:
        """Where the file of that name and format is, or would be."""
        return self.folder / sha256[:2] / f"{sha256}{SUFFIXES[format]}"

    def find(self, sha256: str) -> Path:
        """Where the file of that name is, whatever its format; where a PNG would be if there is none."""
        places = (self.path(sha256, kind) for kind in SUFFIXES)
        return next((place for place in places if place.is_file()), self.path(sha256))

    def write(self, picture: Encoded) -> Path:
        """Writes the file whole or not at all; one that is there already is made young again, so no sweep takes it.

        Raises BadInput where the folder is read-only or full.
        """
        path = self.path(picture.sha256, picture.format)
        if _renew(path, len(picture.data)):
            return path
        write_bytes(path, picture.data)
        flush(self.folder)  # path.parent may be a new name in it
        return path

    def files(self) -> Iterator[Path]:
        """Every file of the store, half-written ones too."""
        for folder in sorted(self.folder.glob("[0-9a-f][0-9a-f]")):
            yield from sorted(file for file in folder.iterdir() if file.suffix in (*SUFFIXES.values(), TEMPORARY))

    def older_than(self, seconds: float) -> Iterator[Path]:
        """The files that nobody wrote or renewed in the last `seconds`."""
        limit = time.time() - seconds
        return (file for file in self.files() if is_older(file, limit))


def is_older(file: Path, moment: float) -> bool:
    """Whether the file was last written before that moment (seconds since 1970); False if it is gone."""
    try:
        return file.stat().st_mtime < moment
    except FileNotFoundError:
        return False


@contextmanager
def plain_os_errors(folder: Path) -> Iterator[None]:
    """Turns the operating system's refusals to write below `folder` into BadInput."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise BadInput(
                f"{folder} is full, so nothing more can be kept there. Free some space, then resume."
            ) from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise BadInput(
                f"{folder} may not be written. Give yourself the right to write there, or name another folder."
            ) from error
        if error.errno in (errno.EEXIST, errno.ENOTDIR, errno.ENOENT):
            raise BadInput(f"{folder} cannot be a folder: {error.strerror}. Name another folder.") from error
        raise


def _renew(path: Path, size: int) -> bool:
    """Makes a whole file look just written. False if it isn't there, isn't whole, or isn't ours to touch."""
    try:
        if path.stat().st_size != size:
            return False
        os.utime(path)
    except OSError:
        return False
    return True
