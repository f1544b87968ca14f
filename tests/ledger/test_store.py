"""Picture files: named by their bytes, whole or not there."""

import hashlib
import io
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from goodeye.errors import BadInput
from goodeye.ledger.check import check
from goodeye.ledger.ledger import Ledger
from goodeye.ledger.store import Store, encode, encode_file
from ledger.recorder import picture
from ledger.test_ledger import age, new_brief


def test_a_file_is_named_by_its_bytes(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = store.write(encode(picture(1)))
    name = hashlib.sha256(path.read_bytes()).hexdigest()
    assert path == tmp_path / name[:2] / f"{name}.png" == store.path(name)


def test_same_pixels_same_name(tmp_path: Path) -> None:
    assert encode(picture(1)) == encode(picture(1).copy()) != encode(picture(2))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "1", "P", "I;16"])
def test_every_mode_that_png_knows_is_kept(mode: str) -> None:
    kept = encode(Image.new(mode, (3, 5)))
    assert (kept.format, kept.width, kept.height) == ("png", 3, 5)


def test_a_file_cut_short_is_written_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = store.write(encode(picture(1)))
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    store.write(encode(picture(1)))
    assert path.read_bytes() == whole


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "images").write_bytes(b"")
    with pytest.raises(BadInput, match="cannot be written"):
        Store(tmp_path / "images").write(encode(picture(1)))


@pytest.mark.parametrize(("format", "suffix"), [("PNG", ".png"), ("JPEG", ".jpg"), ("WEBP", ".webp")])
def test_a_picture_file_keeps_its_bytes(ledger: Ledger, format: str, suffix: str) -> None:
    file = io.BytesIO()
    picture(1, 64).save(file, format=format)
    run, brief = new_brief(ledger)
    ledger.record_attempt(brief, 0, 0, 1, file.getvalue())
    (attempt,) = ledger.attempts(run)
    kept = ledger.image_path(attempt.image_sha)
    assert kept.suffix == suffix and kept.read_bytes() == file.getvalue()
    assert attempt.image_sha == hashlib.sha256(file.getvalue()).hexdigest()
    age(kept, 61)
    assert ledger.sweep() == [] and check(ledger).clean
    kept.write_bytes(b"x")
    assert check(ledger).corrupt == [str(kept)]


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n cut short"])
def test_bytes_that_are_no_picture_are_refused(ledger: Ledger, data: bytes) -> None:
    run, brief = new_brief(ledger)
    with pytest.raises(BadInput, match="not a whole PNG, JPEG or WebP"):
        ledger.record_attempt(brief, 0, 0, 1, data)
    assert ledger.attempts(run) == [] and list(ledger.store.files()) == []


def test_a_header_that_promises_too_many_pixels_is_refused_before_decoding() -> None:
    size = struct.pack(">II", 60_000, 60_000) + bytes((8, 2, 0, 0, 0))
    header = struct.pack(">I", 13) + b"IHDR" + size + struct.pack(">I", zlib.crc32(b"IHDR" + size))
    data = struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    with pytest.raises(BadInput, match="smaller"):
        encode_file(b"\x89PNG\r\n\x1a\n" + header + data)
