"""Pictures in archives, read where they lie: zip and tar in place; a compressed tar is decompressed once."""

import bz2
import gzip
import hashlib
import lzma
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from goodeye.errors import BadInput

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
UNREADABLE = (".7z", ".rar", ".tar.zst", ".z01", ".001")  # known for archives, but nothing here opens them

How = Literal["plain", "zip", "deflated", "unknown"]

_OPENERS: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(("gz", "tgz"), gzip.open),
    **dict.fromkeys(("bz2", "tbz2"), bz2.open),
    **dict.fromkeys(("xz", "txz"), lzma.open),
}
_LOCAL = struct.Struct("<4s5H3I2H")  # a zip's local file header, up to the name


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive. offset: of its bytes in a tar, of its header in a zip; length: of the bytes as they lie."""

    archive: Path
    name: str
    offset: int
    length: int
    size: int
    how: How

    def read(self) -> bytes:
        """The file's bytes. Raises BadInput where the archive is damaged there."""
        try:
            with self.archive.open("rb") as file:
                file.seek(self.offset)
                if self.how in ("zip", "deflated"):
                    header = _LOCAL.unpack(file.read(_LOCAL.size))
                    if header[0] != b"PK\x03\x04":
                        raise ValueError("its header is not where it should be")
                    file.seek(header[-2] + header[-1], 1)
                elif self.how == "unknown":
                    raise ValueError("it is encrypted or compressed in a way that is not read here")
                data = file.read(self.length)
            if self.how == "deflated":
                data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, self.size + 1)
            if len(data) != self.size:
                raise ValueError(f"it has {len(data)} bytes instead of {self.size}")
        except (OSError, ValueError, struct.error, zlib.error) as error:
            raise BadInput(
                f"{self.name} in {self.archive} cannot be read: {error}. Download the archive again."
            ) from error
        return data


def is_archive(path: Path) -> bool:
    """True for names that `members` reads."""
    return path.name.lower().endswith(ARCHIVES)


def members(archive: Path, scratch: Path) -> list[Member]:
    """The files in an archive, in its order; only its table of contents is read.

    A compressed tar has none that could be jumped into, so it is decompressed to a plain tar in `scratch`, once: a
    later call finds it there. Raises BadInput for what is no readable archive.
    """
    try:
        if archive.name.lower().endswith(".zip"):
            with zipfile.ZipFile(archive) as opened:
                return [_zipped(archive, info) for info in opened.infolist() if not info.is_dir()]
        plain = archive if archive.name.lower().endswith(".tar") else _decompressed(archive, scratch)
        with tarfile.open(plain, "r:") as tar:
            return [
                Member(plain, info.name, info.offset_data, info.size, info.size, "plain")
                for info in tar
                if info.isreg() and not info.issparse()
            ]
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, tarfile.TarError, lzma.LZMAError, zlib.error) as error:
        why = (getattr(error, "strerror", None) or str(error)).rstrip(".")
        raise BadInput(f"{archive} cannot be read: {why}. Download it again, or unpack it here yourself.") from error


def _zipped(archive: Path, info: zipfile.ZipInfo) -> Member:
    known: dict[int, How] = {zipfile.ZIP_STORED: "zip", zipfile.ZIP_DEFLATED: "deflated"}
    how = "unknown" if info.flag_bits & 1 else known.get(info.compress_type, "unknown")  # bit 0: encrypted
    return Member(archive, info.filename, info.header_offset, info.compress_size, info.file_size, how)


def _decompressed(archive: Path, scratch: Path) -> Path:
    """The plain tar of a compressed one, under a name that changes when the archive does."""
    found = archive.stat()
    key = hashlib.sha256(f"{archive.resolve()} {found.st_size} {found.st_mtime_ns}".encode()).hexdigest()[:8]
    plain = scratch / f"{archive.name.split('.')[0]}-{key}.unpacked"  # no name that `is_archive` knows
    if not plain.is_file():
        scratch.mkdir(parents=True, exist_ok=True)
        partial = plain.with_suffix(".part")
        opener = _OPENERS[archive.name.lower().rsplit(".", 1)[-1]]
        with opener(archive, "rb") as source, partial.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
        partial.replace(plain)
    return plain
