"""RF1M's layout, built small: archives of several kinds, label.txt in several hands, products by name."""

import io
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_judges import grey

from goodeye import archives
from goodeye.errors import BadInput
from goodeye.judging.rf1m import parse
from goodeye.judging.rfnet import CLASSES
from goodeye.judging.rfnet_data import Cache, find_labelled, some_of


def png(value, mode="RGB"):
    """A picture of one grey, with some texture so that it can be compressed, as a PNG's bytes."""
    pixels = np.full((24, 24, 4), value, np.uint8)
    pixels[::3, :, 0] = 7
    pixels[..., 3] = 255
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, "PNG")
    return file.getvalue()


def add_tar(path, files, mode):
    with tarfile.open(path, mode) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


@pytest.fixture
def rf1m(tmp_path):
    """Six pictures in a zip, a tar, a tar.gz and a folder; two products in a zip; a broken archive and a .rar."""
    with zipfile.ZipFile(tmp_path / "part01.zip", "w") as one:
        one.writestr("images/100_1.png", png(10), zipfile.ZIP_DEFLATED)
        one.writestr("images/100_2.png", png(20), zipfile.ZIP_STORED)
        one.writestr("images/readme.txt", "no picture")
    add_tar(tmp_path / "part02.tar", {"200.png": png(30)}, "w")
    add_tar(tmp_path / "part03.tar.gz", {"deep/down/300-7.png": png(40), "same.png": png(50)}, "w:gz")
    (tmp_path / "part04").mkdir()
    (tmp_path / "part04" / "same.png").write_bytes(png(60))
    with zipfile.ZipFile(tmp_path / "products.zip", "w") as products:
        for name in ("100", "200", "300"):
            products.writestr(f"rgba/{name}.png", png(90, "RGBA"))
    (tmp_path / "part05.zip").write_bytes(b"PK\x03\x04 cut short")
    (tmp_path / "part06.rar").write_bytes(b"Rar!")
    lines = [
        "images/100_1.png\t1",
        "100_2.png,shape_hallucination",
        "200.png space mismatch",
        "5\t300-7.png",
        "part04/same.png 2",
        "part03/same 3",
        "same.png 1",
        "gone.png 1",
        "200.png seven",
    ]
    (tmp_path / "label.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_a_name_without_ending_may_have_a_point(tmp_path):
    for name, value in (("12.png", 10), ("12.5.png", 20)):
        (tmp_path / name).write_bytes(png(value))
    (tmp_path / "label.txt").write_text("12.5 1\n12 1\n12.5.png 1\n12.jpg 1\n")
    assert [level(row) for row in find_labelled(tmp_path)[0]] == [20, 10, 20, 10]


def level(row):
    return row.image.open().getpixel((5, 1))[0]


def test_every_picture_is_found_wherever_it_lies(rf1m):
    rows, _ = find_labelled(rf1m)
    assert [(level(row), CLASSES[row.label]) for row in rows] == [
        (10, "available"), (20, "shape_hallucination"), (30, "space_mismatch"), (40, "indistinctiveness"),
        (60, "unsuitable"), (50, "space_mismatch"),
    ]  # fmt: skip
    assert all(row.title == "" for row in rows)


def test_products_are_aligned_by_name(rf1m):
    rows, _ = find_labelled(rf1m)
    assert [Path(row.product.name).name if row.product else None for row in rows] == [
        "100.png", "100.png", "200.png", "300.png", None, None,
    ]  # fmt: skip
    assert rows[0].product.open().mode == "RGBA"
    split = {row.product.name: row.split for row in rows if row.product}
    assert all(row.split == split[row.product.name] for row in rows if row.product)


def test_what_cannot_be_read_is_said_of_each_row_and_archive(rf1m):
    _, skipped = find_labelled(rf1m)
    told = {one.name: one.message for one in skipped}
    assert set(told) == {"part05.zip", "part06.rar", *(f"label.txt line {n}" for n in (7, 8, 9))}
    assert "is there 2 times" in told["label.txt line 7"] and "Write its folder" in told["label.txt line 7"]
    assert "in no folder or archive" in told["label.txt line 8"] and "no label" in told["label.txt line 9"]
    assert all(message.endswith(".") and "\n" not in message for message in told.values())


def test_a_compressed_tar_is_unpacked_once_and_the_others_never(rf1m, monkeypatch):
    calls = []
    real = archives.shutil.copyfileobj
    monkeypatch.setattr(archives.shutil, "copyfileobj", lambda *a: (calls.append(a), real(*a)))
    scratch = rf1m / "runs" / "unpacked"
    first, _ = find_labelled(rf1m, scratch=scratch)
    again, _ = find_labelled(rf1m, scratch=scratch)
    assert len(calls) == 1 and first == again and level(again[3]) == 40
    assert [path.suffix for path in scratch.iterdir()] == [".unpacked"]
    (rf1m / "part03.tar.gz").touch()  # a changed archive is another one
    find_labelled(rf1m, scratch=scratch)
    assert len(calls) == 2


def test_the_cache_reads_from_archives_and_makes_the_maps(rf1m):
    rows, _ = find_labelled(rf1m)
    samples, skipped = Cache(rf1m / "cache", rows, 24, grey, grey).samples()
    assert len(samples) == 4 and [one.name.split(" (")[0] for one in skipped] == [
        "label.txt line 5", "label.txt line 6",
    ]  # fmt: skip
    assert samples.images[:4, 0, 1, 5].tolist() == [10, 20, 30, 40]
    assert samples.products[:4, 3].min() == 255 and samples.depth[0].max() > 0


def test_damage_within_an_archive_is_said_of_its_row(rf1m):
    rows, _ = find_labelled(rf1m)
    whole = (rf1m / "part01.zip").read_bytes()
    (rf1m / "part01.zip").write_bytes(whole[:40] + b"\0" * 60 + whole[100:])
    samples, skipped = Cache(rf1m / "cache", rows, 24, grey, grey).samples()
    assert len(samples) == 3 and "100_1.png in" in skipped[0].message and "cannot be read" in skipped[0].message


def test_an_encrypted_or_oddly_packed_file_is_said(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_LZMA) as one:
        one.writestr("a.png", png(1))
    (member,) = archives.members(tmp_path / "a.zip", tmp_path)
    with pytest.raises(BadInput, match="a way that is not read here"):
        member.read()


@pytest.mark.parametrize(
    ("line", "meaning"),
    [
        ("a.png\t1", ("a.png", "available")), ("a.png , 2", ("a.png", "unsuitable")), ("a 3", ("a", "space_mismatch")),
        ("a b.png 4.0", ("a b.png", "size_mismatch")), ("'a.png';5", ("a.png", "indistinctiveness")),
        ("000012 6", ("000012", "shape_hallucination")), ("1 000012", ("000012", "available")),
        ("x/a.png Shape Hallucination", ("x/a.png", "shape_hallucination")), ("a.png size", ("a.png", "size_mismatch")),
        ("a.png", None), ("a.png 7", None), ("a.png good", None), ("5", None),
    ],
)  # fmt: skip
def test_lines_of_label_txt(line, meaning):
    assert parse(line) == meaning


def test_some_products_with_all_their_pictures(tmp_path):
    with zipfile.ZipFile(tmp_path / "part.zip", "w") as part:
        for product in range(40):
            for picture in range(3):
                part.writestr(f"{product}_{picture}.png", b"")
    with zipfile.ZipFile(tmp_path / "products.zip", "w") as products:
        for product in range(40):
            products.writestr(f"{product}.png", b"")
    (tmp_path / "label.txt").write_text("".join(f"{n // 3}_{n % 3}.png 1\n" for n in range(120)))
    rows, _ = find_labelled(tmp_path)
    some = some_of(rows, 30)
    counts = Counter(row.product.name for row in some)
    assert len(some) == 30 and set(counts.values()) == {3} and some == [row for row in rows if row in some]
    assert some_of(rows, 1000) == rows and set(map(id, some)) <= set(map(id, some_of(rows, 60)))
    with pytest.raises(BadInput, match="at least 2"):
        some_of(rows, 1)


def test_too_little_room_is_said_before_anything_is_made(rf1m):
    rows, _ = find_labelled(rf1m)
    with pytest.raises(BadInput, match=r"needs 5400000.0 GB for 6 pictures .* Take fewer by --most"):
        Cache(rf1m / "cache", rows, 10_000_000, grey, grey).samples()
    assert not list((rf1m / "cache").rglob("*.npy"))
