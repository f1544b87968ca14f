"""Rendered folders: what train-judge, COCO tools and people find in them."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

from goodeye.errors import BadInput
from goodeye.judging.rfnet_data import find_labelled
from goodeye.showroom import scenes as S
from goodeye.showroom.folder import box, render_folder, run_lengths

COUNT, SEED = 20, 9


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("rendered")
    render_folder(out, count=COUNT, seed=SEED)
    return out


def rows(folder):
    with (folder / "metadata.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def opened(path):
    with Image.open(path) as picture:
        return picture.copy()


def pixels(path):
    return np.asarray(opened(path))


def test_pictures_and_maps_are_those_of_the_renderer(folder):
    made = S.render([S.sample(SEED, i) for i in range(16)])
    planes = {"images": made.image, "products": made.product, "depth": made.depth, "saliency": made.saliency}
    modes = {"images": "RGB", "products": "RGBA", "depth": "L", "saliency": "L"}
    for name, plane in planes.items():
        files = sorted((folder / name).glob("*.png"))
        assert len(files) == COUNT and opened(files[0]).mode == modes[name]
        expected = (plane[3] * 255).round().byte().permute(1, 2, 0).squeeze(-1).numpy()
        assert np.abs(pixels(files[3]).astype(int) - expected).max() <= 1
    assert np.array_equal(pixels(folder / "objects" / "000003.png"), made.obj[3].numpy())


def test_train_judge_reads_it(folder):
    found, skipped = find_labelled(folder)
    assert not skipped and len(found) == COUNT
    scenes = [S.sample(SEED, i) for i in range(COUNT)]
    assert [(row.title, row.label) for row in found] == [(scene.product.title, scene.label) for scene in scenes]
    assert found[5].image.open().size == (128, 128) and found[5].product.open().mode == "RGBA"


def test_the_table_holds_the_facts(folder):
    for number, row in enumerate(rows(folder)):
        scene = S.sample(SEED, number)
        assert row["caption"] == S.caption(scene) and row["label"] == scene.defect and row["place"] == scene.place
        assert float(row["horizon"]) == pytest.approx(scene.horizon, abs=1e-4)
        parts = [float(row[name]) for name in ("beauty", "harmony", "exposure", "composition", "clutter", "sharpness")]
        assert all(0 <= part <= 1 for part in parts) and float(row["contrast"]) > 0


def test_boxes_and_masks_are_those_of_the_map_of_things(folder):
    coco = json.loads((folder / "annotations.json").read_text())
    assert len(coco["images"]) == COUNT and coco["images"][2]["file_name"] == "images/000002.png"
    names = {category["id"]: category["name"] for category in coco["categories"]}
    assert len({one["id"] for one in coco["annotations"]}) == len(coco["annotations"])
    shown = {}
    for one in coco["annotations"]:
        numbers = pixels(folder / "objects" / f"{one['image_id']:06d}.png")
        mask = numbers == one["object"]
        left, top, width, height = one["bbox"]
        inside = np.zeros_like(mask)
        inside[top : top + height, left : left + width] = True
        assert mask.sum() == one["area"] and (mask <= inside).all()
        assert (
            mask[top].any() and mask[top + height - 1].any() and mask[:, left].any() and mask[:, left + width - 1].any()
        )
        counts = one["segmentation"]["counts"]
        flat = np.repeat(np.arange(len(counts)) % 2, counts)
        assert np.array_equal(flat.reshape(mask.shape, order="F"), mask)
        shown.setdefault(one["image_id"], set()).add(names[one["category_id"]])
    for number in range(COUNT):
        scene = S.sample(SEED, number)
        assert scene.product.kind in shown[number]
        assert ("extension" in shown[number]) == (scene.defect == "shape_hallucination")
        assert not scene.reference or scene.reference in shown[number]


def test_more_scenes_do_not_change_earlier_ones(folder, tmp_path):
    render_folder(tmp_path, count=3, seed=SEED)
    assert rows(tmp_path) == rows(folder)[:3]
    assert (
        np.abs(pixels(tmp_path / "images" / "000001.png").astype(int) - pixels(folder / "images" / "000001.png"))
    ).max() <= 1


def test_another_size(tmp_path):
    render_folder(tmp_path, count=1, size=64, seed=SEED)
    assert opened(tmp_path / "images" / "000000.png").size == (64, 64)


@pytest.mark.parametrize("options", [{"count": 0}, {"count": 1, "size": 8}, {"count": 1, "size": 4096}])
def test_what_makes_no_sense_is_refused(tmp_path, options):
    with pytest.raises(BadInput, match="cannot be rendered"):
        render_folder(tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BadInput, match="cannot be written"):
        render_folder(tmp_path / "file", count=1, size=32)


def test_run_lengths_of_masks_that_begin_or_end_with_ones():
    whole = np.ones((2, 3), bool)
    assert run_lengths(whole)["counts"] == [0, 6]
    corner = np.zeros((2, 3), bool)
    corner[1, 2] = True
    assert run_lengths(corner)["counts"] == [5, 1] and box(corner) == [2, 1, 1, 1]
    first = torch.zeros(2, 3).bool().numpy()
    first[0, 0] = True
    assert run_lengths(first)["counts"] == [0, 1, 5]
