"""Tables of pictures: CSV in its dialects, Parquet with paths or with the pictures themselves."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from goodeye.errors import BadInput
from goodeye.tables import pictures_in, read_table


@pytest.fixture
def folder(tmp_path):
    Image.new("RGB", (8, 6), (255, 0, 0)).save(tmp_path / "red.png")
    Image.new("RGBA", (8, 6), (0, 255, 0, 128)).save(tmp_path / "green.png")
    return tmp_path


@pytest.mark.parametrize(
    "text",
    [
        "image,product,title,label\nred.png,green.png,Löffel ☕,available\n",
        "\ufeffImage;Product;Title;Label\r\nred.png;green.png;Löffel ☕;available\r\n",
        "file_name\tproduct\ttitle\tlabel\nred.png\tgreen.png\tLöffel ☕\tavailable\n",
    ],
)
def test_csv_in_several_dialects(folder, text):
    (folder / "metadata.csv").write_bytes(text.encode())
    (row,) = read_table(folder / "metadata.csv")
    assert row.words == {"title": "Löffel ☕", "label": "available"}
    assert row.cells["image"].open().getpixel((0, 0)) == (255, 0, 0)
    assert row.cells["product"].open().mode == "RGBA"


def test_parquet_with_paths_and_with_bytes(folder):
    data = (folder / "green.png").read_bytes()
    rows = [
        {"image": {"path": "red.png", "bytes": None}, "product": {"path": "p.png", "bytes": data}, "title": None},
        {"image": {"path": None, "bytes": data}, "product": None, "title": "mug"},
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "train.parquet")
    first, second = read_table(folder / "train.parquet")
    assert first.cells["image"].open().size == (8, 6) and first.cells["product"].open().mode == "RGBA"
    assert first.words == {} and second.words == {"title": "mug"}
    assert second.cells["image"].open().mode == "RGBA" and "product" not in second.cells


def test_an_image_column_is_the_image_whatever_file_name_says(folder):
    data = (folder / "green.png").read_bytes()
    pq.write_table(pa.Table.from_pylist([{"image": data, "file_name": "gone.png"}]), folder / "x.parquet")
    (folder / "x.csv").write_text("image,file_name\nred.png,gone.png\n")
    assert [row.cells["image"].open().mode for file in ("x.parquet", "x.csv") for row in read_table(folder / file)] == [
        "RGBA",
        "RGB",
    ]


def test_broken_bytes_are_named_by_their_row(folder):
    pq.write_table(pa.Table.from_pylist([{"image": b"not a picture"}]), folder / "x.parquet")
    (row,) = read_table(folder / "x.parquet")
    with pytest.raises(BadInput, match=r"^x.parquet row 1 is not a picture"):
        row.cells["image"].open()


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.csv", b"picture,title\nred.png,mug\n", "no column named image"),
        ("a.csv", "image,title\nred.png,Tür\n".encode("latin-1"), "not UTF-8"),
        ("a.parquet", b"PAR1 cut short", "not a readable Parquet"),
        ("none.csv", None, "cannot be read"),
    ],
)
def test_bad_tables(folder, name, data, words):
    if data is not None:
        (folder / name).write_bytes(data)
    with pytest.raises(BadInput, match=words):
        list(read_table(folder / name))


def test_the_pictures_of_a_folder(tmp_path):
    for name in ("b.PNG", "a.jpg", "._a.jpg", ".hidden.png", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in pictures_in(tmp_path)] == ["a.jpg", "b.PNG"]
    with pytest.raises(BadInput, match="holds no pictures"):
        pictures_in(tmp_path / "folder.png")
    with pytest.raises(BadInput, match="cannot be read"):
        pictures_in(tmp_path / "notes.txt")
