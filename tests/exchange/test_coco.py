"""COCO: real annotations survive, the field's own reader agrees, and a bad box says what is wrong."""

import json
from pathlib import Path
from typing import Any

import pytest

from exchange.world import fill, jpeg, votes_of
from goodeye.errors import BadInput
from goodeye.exchange.formats import export, import_into
from goodeye.ledger.ledger import Ledger


def theirs(folder: Path, **changes: object) -> Path:
    (folder / "images").mkdir(exist_ok=True)
    for number in (4, 9):
        (folder / "images" / f"{number}.jpg").write_bytes(jpeg(number))
    polygon = [[1.0, 2.0, 5.0, 2.0, 5.0, 8.0]]
    data = {
        "images": [
            {"id": 9, "file_name": "9.jpg", "width": 24, "height": 24},
            {"id": 3, "file_name": "gone.jpg"},
            {"id": 4, "file_name": "4.jpg"},
        ],
        "categories": [{"id": 51, "name": "bowl"}, {"id": 60, "name": "table"}],
        "annotations": [
            {"id": 1, "image_id": 9, "category_id": 60, "bbox": [1.5, 2, 3, 4.25], "area": 7.5, "iscrowd": 1},
            {"id": 2, "image_id": 9, "category_id": 51, "bbox": [0, 0, 24, 24], "segmentation": polygon, "iscrowd": 0},
            {"id": 3, "image_id": 4, "category_id": 99, "bbox": [0, 0, 1, 1]},
            {"id": 4, "image_id": 8, "category_id": 51, "bbox": [0, 0, 1, 1]},
            {"id": 5, "image_id": 4, "category_id": 51, "bbox": [0, 0, -1, 1]},
            {"id": 6, "image_id": 4, "category_id": 51, "bbox": [0, 0, 1]},
            {"id": 7, "image_id": 4, "category_id": 51, "bbox": [3, 4, 5, 6]},
        ],
    }
    (folder / "instances.json").write_text(json.dumps(data | changes))
    return folder / "instances.json"


def test_coco_in_and_out_again(other: Ledger, tmp_path: Path) -> None:
    found = import_into(other, "coco", theirs(tmp_path))
    assert found.attempts == 1 and [one.name.split(".json ")[1] for one in found.skipped] == [
        "annotation 3", "annotation 4", "annotation 5", "annotation 6", "image 3", "image 4"
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


def test_boxes_that_were_mended_come_in(other: Ledger, tmp_path: Path) -> None:
    """A picture waits for the last of its boxes, since one that is on record keeps those that it has."""
    file = theirs(tmp_path)
    import_into(other, "coco", file)
    data = json.loads(file.read_text())
    for one in data["annotations"]:
        one["category_id"], one["bbox"] = 51, [1, 2, 3, 4]
    file.write_text(json.dumps(data))
    found = import_into(other, "coco", file)
    mended = [row for row in other.attempts(found.runs[0]) if row.brief_key == "4"]
    assert found.attempts == 1 and [len(row.detail["boxes"]) for row in mended] == [4]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"id": [1]}, ""),
        ({"votes": 3}, "not a list"),
        ({"votes": [{"person": "a", "label": "b", "axes": [1]}]}, "not an object"),
        ({"votes": [{"person": "a", "label": "b", "seconds": 10**400}]}, "not a number"),
    ],
)
def test_one_odd_row_does_not_end_the_import(other: Ledger, tmp_path: Path, change: dict[str, Any], words: str) -> None:
    (tmp_path / "1.jpg").write_bytes(jpeg(1))
    (tmp_path / "2.jpg").write_bytes(jpeg(2))
    images = [{"id": 1, "file_name": "1.jpg", **change}, {"id": 2, "file_name": "2.jpg"}]
    odd = [{"id": 1, "image_id": [1, 2], "category_id": {}, "bbox": [0, 0, 1, 1]}]
    data = {"images": images, "annotations": odd, "categories": []}
    (tmp_path / "instances.json").write_text(json.dumps(data))
    found = import_into(other, "coco", tmp_path)
    assert [one.name for one in found.skipped][0] == "instances.json annotation 1"
    assert found.attempts == (1 if words else 2) and all(words in one.message for one in found.skipped[1:])


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
    found = import_into(other, "coco", tmp_path / "instances.json", pictures=source.parent / "images")
    assert (found.attempts, found.skipped) == (5, [])
    assert sum(len(row.detail["boxes"]) for row in other.attempts(found.runs[0])) == len(data["annotations"])
