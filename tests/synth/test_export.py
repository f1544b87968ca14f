"""Exported sets as others read them: boxes inside, ids once, categories known; and questions with one answer."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_world import thing, two

import goodeye.synth.export
from goodeye.errors import BadInput
from goodeye.synth.detector import new_detector, read_pictures, train_detector
from goodeye.synth.export import Example, export, pixels
from goodeye.synth.layout import Layout, Relation
from goodeye.synth.qa import questions
from goodeye.synth.sources import build_priors, read_coco
from goodeye.training.loop import Loop


@pytest.fixture
def examples(tmp_path):
    made = []
    for number in range(12):
        file = tmp_path / f"p{number}.png"
        Image.new("RGB", (64, 48), (number, 0, 0)).save(file)
        layout = two(f"p{number}", "cherry", "leaf" if number else "sky", caption="A cherry.")
        made.append(Example(file=file, size=(64, 48), layout=layout, labels=(0, 1) if number % 2 else (0,)))
    return made


def test_coco_is_sound_and_reads_back(examples, tmp_path):
    counts = export(examples, tmp_path / "set")
    data = json.loads((tmp_path / "set" / "coco.json").read_text())
    assert counts == {"images": 12, "annotations": 18, "categories": {"cherry": 12, "leaf": 6}}
    for listed in (data["images"], data["annotations"], data["categories"]):
        assert len({one["id"] for one in listed}) == len(listed)
    sizes = {one["id"]: (one["width"], one["height"]) for one in data["images"]}
    known = {one["id"] for one in data["categories"]}
    for one in data["annotations"]:
        (x, y, w, h), (width, height) = one["bbox"], sizes[one["image_id"]]
        assert x >= 0 and y >= 0 and w >= 1 and h >= 1 and x + w <= width and y + h <= height
        assert one["category_id"] in known and one["area"] == pytest.approx(w * h, abs=0.01) and one["iscrowd"] == 0
    for number, one in enumerate(data["images"]):
        assert np.asarray(Image.open(tmp_path / "set" / one["file_name"]))[0, 0, 0] == number
    back = read_coco(tmp_path / "set" / "coco.json")
    assert back[1].names == ["cherry", "leaf"]
    assert np.allclose(back[1].boxes, [(0.1, 0.3, 0.25, 0.4), (0.6, 0.3, 0.25, 0.4)], atol=0.01)
    assert len(build_priors([tmp_path / "set" / "coco.json"])) == 12  # left of and right of, in six pictures


@pytest.mark.parametrize(("name", "lvis"), [("coco.json", False), ("lvis.json", True)])
def test_the_set_loads_in_faster_coco_eval_and_its_own_labels_are_all_found(examples, tmp_path, name, lvis):
    from faster_coco_eval import COCO, COCOeval_faster

    export(examples, tmp_path / "set")
    truth = COCO(str(tmp_path / "set" / name))
    answers = [
        {"image_id": one["image_id"], "category_id": one["category_id"], "bbox": one["bbox"], "score": 0.9}
        for one in truth.dataset["annotations"]
    ]
    found = COCOeval_faster(truth, truth.loadRes(answers), "bbox", print_function=lambda *words: None, lvis_style=lvis)
    found.evaluate()
    found.accumulate()
    found.summarize()
    assert len(truth.imgs) == 12 and len(truth.anns) == 18 and found.stats[0] == pytest.approx(1.0)


def test_lvis_names_its_pictures_as_mmdetection_and_detectron2_look_for_them(examples, tmp_path):
    export(examples, tmp_path / "set", ["lvis"])
    for one in json.loads((tmp_path / "set" / "lvis.json").read_text())["images"]:
        by_mmdetection = one["coco_url"].replace("http://images.cocodataset.org/", "")
        by_detectron2 = "/".join(one["coco_url"].split("/")[-2:])
        assert by_mmdetection == by_detectron2 == one["file_name"] and (tmp_path / "set" / by_mmdetection).is_file()


def test_exported_again_the_folder_holds_this_set_and_what_others_put_there(examples, tmp_path):
    out = tmp_path / "set"

    def there():
        return {file.relative_to(out).as_posix() for file in out.rglob("*") if file.is_file()}

    for formats in (["coco", "lvis", "yolo", "qa"], ["yolo"], ["qa"], ["lvis"]):
        export(examples, out, formats)
        for mine in ("images/mine.png", "labels/mine.txt", "images/000099.png", "mine.json"):
            (out / mine).write_bytes(b"{}")
        export(examples[:3], out, ["yolo"])
        names = {"images": ".png", "labels": ".txt"}
        made = {f"{of}/{n:06d}{end}" for of, end in names.items() for n in (1, 2, 3)} | {"data.yaml", "README.md"}
        assert there() == made | {"images/mine.png", "labels/mine.txt", "images/000099.png", "mine.json"}
        export(examples[:2], out, ["coco"])
        assert {name for name in there() if "0000" in name} == {
            "images/000001.png",
            "images/000002.png",
            "images/000099.png",
        }


@pytest.mark.parametrize("kind", ["gif", "cmyk", "turned", "jpeg"])
def test_every_trainer_reads_the_pictures_alike(tmp_path, kind):
    """What is no plain PNG, JPEG or WebP, and what a tag turns, is written anew as the picture that was scored."""
    picture = Image.new("RGB", (48, 64), "red")
    picture.paste("blue", (0, 0, 48, 32))
    file = tmp_path / {"gif": "a.gif", "cmyk": "a.jpg", "turned": "a.jpg", "jpeg": "a.JPG"}[kind]
    turn = Image.Exif()
    turn[0x0112] = 6
    save = {"gif": {}, "cmyk": {}, "turned": {"exif": turn, "quality": 95}, "jpeg": {"quality": 95}}[kind]
    (picture.convert("CMYK") if kind == "cmyk" else picture).save(file, **save)
    size = (64, 48) if kind == "turned" else (48, 64)
    export([Example(file=file, size=size, layout=two(), labels=(0, 1))], tmp_path / "set")
    (made,) = (tmp_path / "set/images").iterdir()
    blue, red = ((60, 4), (4, 4)) if kind == "turned" else ((4, 4), (4, 60))  # tag 6: a quarter turn clockwise
    with Image.open(made) as found:
        assert found.mode == "RGB" and found.size == size and found.getexif().get(0x0112, 1) == 1
        assert np.allclose([found.getpixel(blue), found.getpixel(red)], [(0, 0, 255), (255, 0, 0)], atol=12)
    assert made.name == ("000001.jpg" if kind == "jpeg" else "000001.png")
    assert (made.read_bytes() == file.read_bytes()) == (kind == "jpeg")


@pytest.mark.parametrize("name", ["coco", "lvis"])
def test_a_detector_trains_on_the_exported_set(examples, tmp_path, name):
    export(examples, tmp_path / "set")
    pictures = read_pictures(tmp_path / "set" / f"{name}.json", ["cherry", "leaf", "sky"], 64)
    assert len(pictures) == 12 and sum(map(len, pictures.boxes)) == 18
    detector = new_detector(pictures.categories, width=16, queries=8)
    before = {name: one.clone() for name, one in detector.state_dict().items()}
    done = train_detector(detector, [pictures], tmp_path / "run", Loop(steps=3, lr=1e-3), batch=4)
    assert done.steps == 3 and all(torch.isfinite(one).all() for one in detector.state_dict().values())
    assert any(not torch.equal(one, before[name]) for name, one in detector.state_dict().items())


def test_a_box_without_a_pixel_is_left_out_and_named(examples, tmp_path):
    speck = thing("leaf", (0.6, 0.3, 0.01, 0.4))  # 0.64 pixels wide
    first = replace(examples[1].layout, things=(examples[1].layout.things[0], speck))
    lost = replace(examples[2].layout, things=(speck,))
    given = [replace(examples[1], layout=first), replace(examples[2], layout=lost, labels=(0,)), examples[3]]
    skipped = []
    counts = export(given, tmp_path / "set", skipped=skipped)
    assert counts == {"images": 2, "annotations": 3, "categories": {"cherry": 2, "leaf": 1}}
    assert [one.message.split("/")[-1].split(" has")[0] for one in skipped] == ["p1.png: leaf-1", "p2.png: leaf-1"]


def test_the_area_of_polygons_is_theirs(examples, tmp_path):
    triangle, square = [10, 10, 20, 10, 10, 20], [30, 30, 34, 30, 34, 34, 30, 34]
    one = replace(examples[0], labels=(0,), segmentations={"cherry-1": [triangle, square]})
    export([one], tmp_path / "set", ["coco"])
    (annotation,) = json.loads((tmp_path / "set" / "coco.json").read_text())["annotations"]
    assert annotation["area"] == 50 + 16


def test_lvis_says_how_frequent_categories_are(examples, tmp_path):
    export(examples, tmp_path / "set", ["lvis"])
    data = json.loads((tmp_path / "set" / "lvis.json").read_text())
    found = {one["name"]: (one["frequency"], one["image_count"], one["instance_count"]) for one in data["categories"]}
    assert found == {"cherry": ("c", 12, 12), "leaf": ("r", 6, 6)}
    assert all(one["neg_category_ids"] == [] for one in data["images"])
    assert not (tmp_path / "set" / "coco.json").exists()


def test_yolo_counts_classes_from_zero_in_shares(examples, tmp_path):
    export(examples, tmp_path / "set", ["yolo"])
    lines = (tmp_path / "set" / "labels" / "000002.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["0", "1"]
    assert [float(word) for word in lines[0].split()[1:]] == pytest.approx([0.225, 0.5, 0.25, 0.4], abs=1e-3)
    told = (tmp_path / "set" / "data.yaml").read_text()
    assert '0: "cherry"\n  1: "leaf"' in told and "path:" not in told  # without it Ultralytics takes the YAML's folder


def test_ids_are_those_of_the_set_to_join_and_others_are_unknown(examples, tmp_path):
    export(examples, tmp_path / "set", ["coco"], categories={"leaf": 7, "cherry": 90, "sky": 3})
    data = json.loads((tmp_path / "set" / "coco.json").read_text())
    assert {one["category_id"] for one in data["annotations"]} == {7, 90} and len(data["categories"]) == 3
    with pytest.raises(BadInput, match="leaf is no category of the set to join"):
        export(examples, tmp_path / "other", categories={"cherry": 1})


def test_masks_go_along_and_give_the_area(examples, tmp_path):
    run_lengths = {"size": [48, 64], "counts": [100, 30, 10, 7, 2925]}
    one = examples[0]
    masked = Example(
        file=one.file, size=one.size, layout=one.layout, labels=(0,), segmentations={"cherry-1": run_lengths}
    )
    export([masked], tmp_path / "set", ["coco"])
    (annotation,) = json.loads((tmp_path / "set" / "coco.json").read_text())["annotations"]
    assert annotation["segmentation"] == run_lengths and annotation["area"] == 37


def test_the_card_says_what_is_in_it_and_how_it_was_made(examples, tmp_path):
    export(
        examples,
        tmp_path / "set",
        ["qa"],
        about={"thresholds": {"thing": 60, "layout": None}, "seed": 3, "clip": "MIT"},
    )
    card = (tmp_path / "set" / "README.md").read_text()
    assert "12 images, 18 labelled things" in card and "| cherry | 12 |" in card
    assert "| thresholds | thing 60, layout none |" in card and "| seed | 3 |" in card


def test_boxes_are_cut_at_the_picture_and_specks_refused():
    assert pixels((-0.1, 0.5, 0.3, 0.6), (100, 10), "x") == [0, 5, 20, 5]
    with pytest.raises(BadInput, match="x has a box of less than a pixel"):
        pixels((0.5, 0.5, 0.001, 0.5), (100, 100), "x")
    with pytest.raises(BadInput, match="less than a pixel"):
        pixels((0.5, 0.5, float("nan"), 0.5), (100, 100), "x")


def test_nothing_and_lost_pictures_are_told(examples, tmp_path):
    with pytest.raises(BadInput, match="nothing was kept"):
        export([], tmp_path / "set")
    examples[0].file.unlink()
    with pytest.raises(BadInput, match="p0.png does not exist any more"):
        export(examples, tmp_path / "set")


# Questions and answers


def rows_of(layout, labels, kind):
    return [(row["question"], row["answer"]) for row in questions(layout, labels, "a.png") if row["kind"] == kind]


def test_questions_have_the_layouts_answers():
    mug, book = thing("mug", (0.1, 0.2, 0.3, 0.4), 1, ("red",)), thing("book", (0.5, 0.2, 0.5, 0.4), 1)
    layout = Layout(key="a", things=(mug, book), relations=(Relation("mug-1", "left of", "book-1"),))
    (where, _), (what, _) = rows_of(layout, (0, 1), "where"), rows_of(layout, (0, 1), "what")
    assert "red mug" in where[0] and where[1] == "[0.100, 0.200, 0.400, 0.600]"
    assert "[0.100, 0.200, 0.400, 0.600]" in what[0] and what[1] == "red mug"
    assert [answer for _, answer in rows_of(layout, (0, 1), "attributes")] == ["red"]
    assert [answer for _, answer in rows_of(layout, (0, 1), "count")] == ["1", "1"]
    ((asked, answer),) = rows_of(layout, (0, 1), "relation")
    assert answer == "left of" and asked.index("red mug") < asked.index("book")
    assert questions(layout, (0, 1), "a.png") == questions(layout, (0, 1), "a.png")


def test_what_has_two_answers_is_not_asked():
    first, second = thing("mug", (0.1, 0.2, 0.3, 0.4), 1, ("red",)), thing("mug", (0.5, 0.2, 0.3, 0.4), 2, ("red",))
    layout = Layout(key="a", things=(first, second), relations=(Relation("mug-1", "left of", "mug-2"),))
    assert rows_of(layout, (0, 1), "where") == rows_of(layout, (0, 1), "relation") == []
    assert [answer for _, answer in rows_of(layout, (0, 1), "count")] == ["2"]
    assert questions(layout, (0,), "a.png") == []  # the other mug was not confirmed, and may be there or not


def test_a_thing_is_asked_for_only_by_what_no_other_is():
    """A red mug, a shiny red one and a plain one: of "the mug" there are three, of "the red mug" two."""
    words = [("red",), ("shiny", "red"), ()]
    mugs = [thing("mug", (0.3 * at, 0.2, 0.2, 0.4), at + 1, word) for at, word in enumerate(words)]
    book = thing("book", (0.1, 0.7, 0.5, 0.2))
    relations = [Relation(mug.key, "on", "book-1") for mug in mugs]
    layout = Layout(key="a", things=(*mugs, book), relations=tuple(relations))
    asked = rows_of(layout, range(4), "where") + rows_of(layout, range(4), "relation")
    assert len(asked) == 3 and all("shiny red mug" in one or "mug" not in one for one, _ in asked)
    both = replace(layout, relations=(relations[1], Relation("mug-2", "near", "book-1")))
    assert rows_of(both, range(4), "relation") == []  # it stands to the book in two ways


def test_a_set_is_not_written_over_the_pictures_that_it_is_made_of(tmp_path):
    """They are called by numbers, too: the second one would become the first."""
    given = []
    for number, red in ((1, 10), (2, 20)):
        file = tmp_path / "images" / f"{number:06d}.png"
        file.parent.mkdir(exist_ok=True)
        Image.new("RGB", (64, 48), (red, 0, 0)).save(file)
        given.append(Example(file=file, size=(64, 48), layout=two(str(number)), labels=(0,)))
    before = {file.name: file.read_bytes() for file in (tmp_path / "images").iterdir()}
    with pytest.raises(BadInput, match=r"000002\.png is one of the pictures that .* would be made of"):
        export(given[1:], tmp_path)
    assert {file.name: file.read_bytes() for file in (tmp_path / "images").iterdir()} == before
    assert not (tmp_path / "coco.json").exists()


@pytest.mark.parametrize("name", ["README.md", "coco.json", "data.yaml", "images/000001.png", "labels/000001.txt"])
def test_what_others_put_into_the_folder_is_not_written_over(examples, tmp_path, name):
    theirs = tmp_path / "theirs" / name
    theirs.parent.mkdir(parents=True)
    theirs.write_text("# Mine")
    with pytest.raises(BadInput, match="is no part of a set that goodeye wrote"):
        export(examples, tmp_path / "theirs")
    assert [file for file in (tmp_path / "theirs").rglob("*") if file.is_file()] == [theirs]
    assert theirs.read_text() == "# Mine"


def test_an_export_that_was_stopped_amid_its_pictures_finds_its_folder_again(examples, tmp_path, monkeypatch):
    def full(file, to):
        if to.name == "000003.png":
            raise OSError("no space is left")
        return copy(file, to)

    copy = goodeye.synth.export._copy
    monkeypatch.setattr("goodeye.synth.export._copy", full)
    with pytest.raises(OSError, match="no space"):
        export(examples, tmp_path / "set")
    monkeypatch.setattr("goodeye.synth.export._copy", copy)
    assert export(examples, tmp_path / "set")["images"] == len(list((tmp_path / "set" / "images").iterdir())) == 12


def test_the_area_of_compressed_run_lengths_is_theirs_and_broken_ones_are_left_out_and_named(examples, tmp_path):
    from faster_coco_eval.core import mask

    seen = np.zeros((48, 64), dtype=np.uint8, order="F")
    seen[10:20, 5:30] = 1
    lengths = {"size": [48, 64], "counts": mask.encode(seen)["counts"].decode()}
    broken = {"cherry-1": lengths, "leaf-1": {"size": [48, 64], "counts": "abc"}}
    skipped = []
    counts = export([replace(examples[1], segmentations=broken)], tmp_path / "set", ["coco"], skipped=skipped)
    (annotation,) = json.loads((tmp_path / "set" / "coco.json").read_text())["annotations"]
    assert annotation["area"] == 250 and annotation["segmentation"] == lengths and counts["annotations"] == 1
    assert ["leaf-1 has a mask whose run lengths cannot be read" in one.message for one in skipped] == [True]
