"""COCO: real annotations survive, the field's own reader agrees, and a bad box says what is wrong."""

import json
from pathlib import Path

import pytest

from exchange.world import fill, jpeg, votes_of
from goodeye.errors import BadInput
from goodeye.exchange.formats import export, import_into
from goodeye.ledger.ledger import Ledger


def theirs(folder: Path, **changes: object) -> Path:
    (folder / "images").mkdir(exist_ok=True)
    (folder / "images" / "9.jpg").write_bytes(jpeg(9))
    polygon = [[1.0, 2.0, 5.0, 2.0, 5.0, 8.0]]
    data = {
        "images": [{"id": 9, "file_name": "9.jpg", "width": 24, "height": 24}, {"id": 3, "file_name": "gone.jpg"}],
        "categories": [{"id": 51, "name": "bowl"}, {"id": 60, "name": "table"}],
        "annotations": [
            {"id": 1, "image_id": 9, "category_id": 60, "bbox": [1.5, 2, 3, 4.25], "area": 7.5, "iscrowd": 1},
            {"id": 2, "image_id": 9, "category_id": 51, "bbox": [0, 0, 24, 24], "segmentation": polygon, "iscrowd": 0},
            {"id": 3, "image_id": 9, "category_id": 99, "bbox": [0, 0, 1, 1]},
            {"id": 4, "image_id": 8, "category_id": 51, "bbox": [0, 0, 1, 1]},
            {"id": 5, "image_id": 9, "category_id": 51, "bbox": [0, 0, -1, 1]},
            {"id": 6, "image_id": 9, "category_id": 51, "bbox": [0, 0, 1]},
        ],
    }
    (folder / "instances.json").write_text(json.dumps(data | changes))
    return folder / "instances.json"


def test_coco_in_and_out_again(other: Ledger, tmp_path: Path) -> None:
    found = import_into(other, "coco", theirs(tmp_path))
    assert found.attempts == 1 and [one.name.split(".json ")[1] for one in found.skipped] == [
        "annotation 3", "annotation 4", "annotation 5", "annotation 6", "image 3"
    ]  # fmt: skip
    done = export(other, "coco", tmp_path / "out")
    assert done.written == 1
    written = json.loads((tmp_path / "out" / "instances.json").read_text())
    names = {one["id"]: one["name"] for one in written["categories"]}
    boxes = [(names[one["category_id"]], one["bbox"], one["area"], one["iscrowd"]) for one in written["annotations"]]
    assert boxes == [("table", [1.5, 2, 3, 4.25], 7.5, 1), ("bowl", [0, 0, 24, 24], 576, 0)]
    assert written["annotations"][1]["segmentation"] == [[1.0, 2.0, 5.0, 2.0, 5.0, 8.0]]
    (image,) = written["images"]
    assert (image["width"], image["height"]) == (24, 24)
    assert (tmp_path / "out" / image["file_name"]).read_bytes() == jpeg(9)


def test_votes_stand_beside_the_images(ledger: Ledger, other: Ledger, tmp_path: Path) -> None:
    fill(ledger)
    export(ledger, "coco", tmp_path / "out")
    found = import_into(other, "coco", tmp_path / "out")
    columns = ("person", "label", "axes", "seconds", "created", "chosen")
    assert found.votes == 13 and votes_of(other, *columns) == votes_of(ledger, *columns)
    assert import_into(other, "coco", tmp_path / "out").known == 13


@pytest.mark.parametrize(
    ("words", "message"), [("[]", "is not an object"), ("{", "not JSON"), ('{"images": 3}', "no list of categories")]
)
def test_what_is_no_coco_is_refused(other: Ledger, tmp_path: Path, words: str, message: str) -> None:
    (tmp_path / "instances.json").write_text(words)
    with pytest.raises(BadInput, match=message):
        import_into(other, "coco", tmp_path)


def test_real_photographs_with_their_boxes_come_back(other: Ledger, shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "coco128" / "instances.json"
    data = json.loads(source.read_text())
    few = {one["id"] for one in data["images"][:5]}
    data["images"] = [one for one in data["images"] if one["id"] in few]
    data["annotations"] = [one for one in data["annotations"] if one["image_id"] in few]
    (tmp_path / "instances.json").write_text(json.dumps(data))
    (tmp_path / "images").symlink_to(source.parent / "images")
    found = import_into(other, "coco", tmp_path / "instances.json")
    assert (found.attempts, found.skipped) == (5, [])
    assert sum(len(row.detail["boxes"]) for row in other.attempts(found.runs[0])) == len(data["annotations"])
