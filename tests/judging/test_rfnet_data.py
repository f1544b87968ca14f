"""Labelled pictures from disk: layouts, labels, splits, and maps that are made only once."""

import csv

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from tiny_judges import grey

from goodeye.errors import BadInput
from goodeye.images import open_image, resize_rgba, to_tensor
from goodeye.judging import rfnet_data
from goodeye.judging.rfnet import CLASSES
from goodeye.judging.rfnet_data import Cache, class_number, find_labelled


def table(folder, rows, columns=("image", "product", "title", "label")):
    with (folder / "metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


@pytest.fixture
def folder(tmp_path, shared_data):
    cutouts = sorted((shared_data / "products").glob("*.webp"))[:4]
    photographs = sorted((shared_data / "coco128" / "images").glob("*.jpg"))[:8]
    rows = [[p, cutouts[n % 4], f"thing {n % 4}", CLASSES[n % 5]] for n, p in enumerate(photographs)]
    table(tmp_path, rows)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("available", "available"), (" Space Mismatch ", "space_mismatch"), ("size", "size_mismatch"),
        ("indistinct", "indistinctiveness"), ("SHAPE-hallucination", "shape_hallucination"),
        ("unsuitable", "unsuitable"),
    ],
)  # fmt: skip
def test_labels(text, name):
    assert class_number(text) == CLASSES.index(name)


@pytest.mark.parametrize("text", ["", "s", "good", "3", "sizes"])
def test_what_is_no_label(text):
    with pytest.raises(BadInput, match="Use one of available"):
        class_number(text)


def test_a_folder_with_its_table(folder):
    rows, skipped = find_labelled(folder)
    assert not skipped and [row.label for row in rows] == [0, 1, 2, 3, 4, 0, 1, 2]
    assert rows[1].title == "thing 1" and rows[1].product.open().mode == "RGBA"
    assert find_labelled(folder / "metadata.csv")[0] == rows


def test_pictures_of_one_product_stay_on_one_side(tmp_path):
    rows = [[f"{n}.png", f"product{n % 200}.png", "", "available"] for n in range(1000)]
    table(tmp_path, rows)
    found, _ = find_labelled(tmp_path, held_out=0.2)
    sides = {}
    for row in found:
        sides.setdefault(row.product.name, set()).add(row.split)
    assert all(len(side) == 1 for side in sides.values())
    assert 0.1 < sum(row.split == "held_out" for row in found) / 1000 < 0.3
    assert [row.split for row in found] == [row.split for row in find_labelled(tmp_path, held_out=0.2)[0]]


def test_the_tables_own_split_wins(tmp_path):
    rows = [["a.png", "available", "test"], ["b.png", "size", "train"], ["c.png", "size", "dev"]]
    table(tmp_path, rows, ("image", "label", "split"))
    found, skipped = find_labelled(tmp_path)
    assert [row.split for row in found] == ["held_out", "train"] and "split 'dev'" in skipped[0].message


def test_rows_that_cannot_be_used_are_named(folder):
    with (folder / "metadata.csv").open("a", newline="") as file:
        csv.writer(file).writerows([["x.png", "", "", "nice"], ["", "", "", "available"]])
    rows, skipped = find_labelled(folder)
    assert len(rows) == 8
    assert "metadata.csv row 9 has the label 'nice'" in skipped[0].message
    assert skipped[1].message == "metadata.csv row 10 names no image."


def test_parquet_with_the_pictures_inside(tmp_path, folder):
    image = next(iter(find_labelled(folder)[0])).image.path.read_bytes()
    rows = [{"image": {"bytes": image, "path": None}, "label": "available", "title": "x", "product": None}] * 2
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "train.parquet")
    found, _ = find_labelled(tmp_path / "train.parquet")
    assert len(found) == 2 and found[0].image.open().mode == "RGB" and found[0].product is None


def test_rf1m(tmp_path):
    for name in ("part1/000001.png", "part2/000002.png", "products/000001.png", "000003.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        Image.new("RGBA" if "products" in name else "RGB", (8, 8)).save(tmp_path / name)
    lines = "000001.png\t1\n000002.png,6\n000003.jpg shape hallucination\n\n000004.png 9\n000002.png 3\n"
    (tmp_path / "label.txt").write_text(lines.replace("shape hallucination", "shape_hallucination"))
    rows, skipped = find_labelled(tmp_path)
    assert [CLASSES[row.label] for row in rows] == [
        "available", "shape_hallucination", "shape_hallucination", "space_mismatch",
    ]  # fmt: skip
    assert rows[0].product.path == tmp_path / "products/000001.png" and rows[1].product is None
    assert [row.image.open().size for row in rows] == [(8, 8)] * 4
    assert len(skipped) == 1 and "label.txt line 5" in skipped[0].message


@pytest.mark.parametrize("prepare", [lambda f: None, lambda f: table(f, []), lambda f: (f / "label.txt").touch()])
def test_nothing_to_learn_from(tmp_path, prepare):
    prepare(tmp_path)
    with pytest.raises(BadInput, match=r"no metadata.csv|no labelled picture"):
        find_labelled(tmp_path)


class Counting:
    """A map estimator that counts the pictures it has seen."""

    differentiable, version = True, "1"

    def __init__(self):
        self.seen = 0

    def __call__(self, images):
        self.seen += len(images)
        return images[:, :1]


def test_the_cache_holds_the_pictures_and_makes_maps_once(folder):
    rows, _ = find_labelled(folder)
    depth, saliency = Counting(), Counting()
    samples, skipped = Cache(folder / "cache", rows, 48, depth, saliency).samples(batch_size=3)
    assert len(samples) == 8 and not skipped and depth.seen == saliency.seen == 8
    expected = to_tensor(resize_rgba(open_image(rows[2].image.path), (48, 48)))
    assert torch.equal(samples.images[2], (expected * 255).round().to(torch.uint8))
    assert torch.equal(samples.depth[2], samples.images[2][:1])
    assert samples.titles[2] == "thing 2" and samples.labels.tolist() == [row.label for row in rows]
    again, _ = Cache(folder / "cache", rows, 48, depth, saliency).samples()
    assert depth.seen == 8 and torch.equal(again.products, samples.products)
    Cache(folder / "cache", rows, 32, depth, saliency).samples()
    assert depth.seen == 16  # another size is another cache


def test_the_product_keeps_its_shape_and_its_alpha(tmp_path):
    Image.new("RGB", (80, 40)).save(tmp_path / "wide.png")
    Image.new("RGBA", (20, 20), (255, 0, 0, 255)).save(tmp_path / "square.png")
    table(tmp_path, [["wide.png", "square.png", "", "available"]])
    rows, _ = find_labelled(tmp_path)
    product = Cache(tmp_path / "c", rows, 64, grey, grey).samples()[0].products[0]
    alpha = product[3] > 127  # a 40x40 square in the middle of 80x40, then squeezed to 64x64 with the picture
    assert alpha[32].sum() == pytest.approx(32, abs=1) and alpha[:, 32].sum() == 64
    assert product[0][alpha].min() == 255 and product[1][alpha].max() == 0


def test_a_stopped_cache_goes_on(folder, monkeypatch):
    rows, _ = find_labelled(folder)
    monkeypatch.setattr(rfnet_data, "SAVE_EVERY", 0.0)

    class Stops(Counting):
        def __call__(self, images):
            if self.seen == 4:
                raise KeyboardInterrupt
            return super().__call__(images)

    with pytest.raises(KeyboardInterrupt):
        Cache(folder / "cache", rows, 32, Stops(), Counting()).samples(batch_size=2)
    depth = Counting()
    samples, _ = Cache(folder / "cache", rows, 32, depth, Counting()).samples(batch_size=2)
    assert depth.seen == 4
    whole, _ = Cache(folder / "other", rows, 32, Counting(), Counting()).samples()
    assert torch.equal(samples.images, whole.images) and torch.equal(samples.depth, whole.depth)


def test_pictures_that_cannot_be_read_are_skipped_and_said(folder):
    rows = list(csv.reader((folder / "metadata.csv").read_text().splitlines()))[1:]
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    rows[1][0], rows[3][1], rows[5][1] = folder / "broken.jpg", "", rows[5][0]
    table(folder, rows)
    found, _ = find_labelled(folder)
    samples, skipped = Cache(folder / "cache", found, 32, grey, grey).samples()
    assert len(samples) == 5 and samples.rows.tolist() == [0, 2, 4, 6, 7]
    words = ["broken.jpg", "no product is named", "no transparency"]
    assert [word in one.message for word, one in zip(words, skipped, strict=True)] == [True] * 3
    assert all("metadata.csv row" in one.name for one in skipped)
    samples, skipped = Cache(folder / "cache", found, 32, grey, grey, with_product=False).samples()
    assert len(samples) == 7 and len(skipped) == 1 and not np.any(samples.products.numpy())


def test_a_cache_that_cannot_be_written_is_bad_input(folder):
    rows, _ = find_labelled(folder)
    (folder / "file").touch()
    with pytest.raises(BadInput, match="cannot be written"):
        Cache(folder / "file", rows, 32, grey, grey).samples()
