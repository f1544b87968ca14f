"""Priors from COCO's boxes and captions, from Visual Genome, and from layouts."""

import json

import numpy as np
import pytest

from goodeye.errors import BadInput
from goodeye.synth.layout import Layout, Relation, Thing, write_layouts
from goodeye.synth.priors import open_priors
from goodeye.synth.sources import build_priors, read_categories, read_coco

COCO = {
    "images": [{"id": 1, "file_name": "a.jpg", "width": 200, "height": 100}],
    "categories": [{"id": 5, "name": "dog"}, {"id": 6, "name": "bench"}],
    "annotations": [
        {"image_id": 1, "category_id": 5, "bbox": [60, 20, 40, 32], "iscrowd": 0},
        {"image_id": 1, "category_id": 6, "bbox": [20, 50, 300, 40]},
        {"image_id": 1, "category_id": 5, "bbox": [0, 0, 0, 32]},
        {"image_id": 1, "category_id": 5, "bbox": [0, 0, 200, 100], "iscrowd": 1},
    ],
}


def write(path, data):
    path.write_text(json.dumps(data))
    return path


def test_boxes_are_shares_within_the_picture_and_what_has_no_area_is_left_out(tmp_path):
    (one,) = read_coco(write(tmp_path / "i.json", COCO))
    assert one.names == ["dog", "bench"] and one.size == (200, 100)
    assert np.allclose(one.boxes, [(0.3, 0.2, 0.2, 0.32), (0.1, 0.5, 0.9, 0.4)])


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), 0, -5])
@pytest.mark.parametrize("at", [0, 2])
def test_a_box_that_is_none_is_left_out_and_said_of_what(tmp_path, at, wrong):
    box = [10, 20, 30, 40]
    box[at] = 1000 if at == 0 and wrong in (0, -5) else wrong
    data = COCO | {"annotations": [*COCO["annotations"], {"image_id": 1, "category_id": 5, "bbox": box}]}
    flat = {5: "dog"}
    (before,), (after,) = read_coco(write(tmp_path / "i.json", COCO)), read_coco(write(tmp_path / "j.json", data))
    assert after.boxes == before.boxes and after.flat == [*before.flat, flat[5]]


def test_coco_with_captions(tmp_path):
    said = {"annotations": [{"image_id": 1, "caption": "A dog lying on a bench."}, {"image_id": 9, "caption": "A dog"}]}
    said["annotations"].append({"image_id": 1, "caption": "The dog behind the bench"})
    priors = build_priors([write(tmp_path / "i.json", COCO)], [write(tmp_path / "c.json", said)])
    assert priors.sources == {"boxes": 1, "captions": 2}
    assert set(priors.codes) == {("dog", "on", "bench"), ("dog", "behind", "bench")}
    assert np.allclose(
        priors.boxes[priors.rows(("dog", "behind", "bench"))], [[(0.3, 0.2, 0.2, 0.32), (0.1, 0.5, 0.9, 0.4)]]
    )
    assert set(priors.pictures.tolist()) == {0}


def test_captions_of_an_id_that_two_files_share_are_refused(tmp_path):
    second = COCO | {"images": [{**COCO["images"][0], "file_name": "b.jpg"}]}
    files = [write(tmp_path / "a.json", COCO), write(tmp_path / "b.json", second)]
    said = write(tmp_path / "c.json", {"annotations": [{"image_id": 1, "caption": "The dog behind the bench"}]})
    with pytest.raises(BadInput, match=r"different pictures, b\.jpg and a\.jpg, of the id 1"):
        build_priors(files, [said])
    assert set(build_priors(files).pictures.tolist()) == {0, 1}  # boxes alone: two pictures


@pytest.mark.parametrize("other", ["a.json", "down/../a.json", "link.json"])
def test_a_file_that_is_named_twice_is_refused_by_whatever_path(tmp_path, other):
    (tmp_path / "down").mkdir()
    file = write(tmp_path / "a.json", COCO)
    (tmp_path / "link.json").symlink_to(file)
    said = write(tmp_path / "c.json", {"annotations": [{"image_id": 1, "caption": "The dog behind the bench"}]})
    with pytest.raises(BadInput, match=f"{other.split('/')[-1]} is named twice"):
        build_priors([file, tmp_path / other])
    with pytest.raises(BadInput, match=r"c\.json is named twice. Name it once"):
        build_priors([file], [said, said])


def test_captions_that_give_nothing_are_among_the_sources_and_told(tmp_path):
    """Of a caption file's pictures none is given; the other one's say something."""
    file = write(tmp_path / "a.json", COCO)
    fits = write(tmp_path / "c.json", {"annotations": [{"image_id": 1, "caption": "The dog behind the bench"}]})
    other = write(tmp_path / "val.json", {"annotations": [{"image_id": 7, "caption": "The dog behind the bench"}]})
    both = build_priors([file], [fits, other])
    assert both.sources == {"boxes": 1, "captions": 1, "captions of val.json": 0} == both.to_json()["sources"]
    lines = both.summary().splitlines()
    assert lines[1] == "They come from: boxes 1, captions 1." and lines[2].startswith("captions of val.json: 0 pairs. ")
    assert "0 pairs" not in build_priors([file], [fits]).summary()
    both.save(tmp_path / "p.parquet")
    assert open_priors(tmp_path / "p.parquet").sources == both.sources


def test_pairs_by_source_are_those_before_the_cut(tmp_path):
    cat, dog = (Thing(key=k, category=k, box=(x, 0.4, 0.2, 0.3)) for k, x in (("cat", 0.1), ("dog", 0.6)))
    many = [Layout(key=str(at), things=(cat, dog), relations=(Relation("cat", "near", "dog"),)) for at in range(5)]
    assert "They come from: layouts 5, before the cut to the most of each triplet." in build_priors(
        [], [], many, most=3
    ).summary()  # fmt: skip
    assert build_priors([], [], many).summary().endswith("They come from: layouts 5.")


def test_lvis_own_files_name_their_pictures_by_address(tmp_path):
    image = {
        "id": 1,
        "coco_url": "http://images.cocodataset.org/train2017/000000391895.jpg",
        "width": 200,
        "height": 100,
    }
    (one,) = read_coco(write(tmp_path / "i.json", COCO | {"images": [image]}))
    assert one.file == "000000391895.jpg"


def test_visual_genome(tmp_path):
    thing = {"x": 10, "y": 20, "w": 30, "h": 40}
    relationships = [
        {"predicate": "ON  top of", "subject": {"name": "Cat", **thing}, "object": {"names": ["mat", "rug"], **thing}},
        {"predicate": "by", "subject": {"name": "cat", **thing}, "object": {"name": "air", **thing, "w": 0}},
        {"predicate": "by", "subject": {"name": "cat", **thing, "x": float("nan")}, "object": {"name": "air", **thing}},
        {"predicate": " ", "subject": {"name": "cat", **thing}, "object": {"name": "air", **thing}},
        {"predicate": "by", "subject": {"name": None, **thing}, "object": {"name": "air", **thing}},
    ]
    file = write(tmp_path / "relationships.json", [{"image_id": 3, "relationships": relationships}])
    with pytest.raises(BadInput, match="image_data.json beside it"):
        build_priors([file])
    write(tmp_path / "image_data.json", [{"image_id": 3, "width": 100, "height": 200}])
    priors = build_priors([file])
    assert list(priors.codes) == [("cat", "on top of", "mat")]
    assert np.allclose(priors.boxes, [[(0.1, 0.1, 0.3, 0.2)] * 2])


def test_layouts_give_the_relations_that_they_name_or_else_those_of_their_boxes(tmp_path):
    dog = Thing(key="dog-1", category="dog", box=(0.1, 0.4, 0.2, 0.3))
    cat = Thing(key="cat-1", category="cat", box=(0.6, 0.4, 0.2, 0.3))
    named = Layout(key="a", things=(dog, cat), relations=(Relation("cat-1", "behind", "dog-1"),))
    write_layouts(tmp_path / "l.jsonl", [named, Layout(key="b", things=(dog, cat))])
    priors = build_priors([tmp_path / "l.jsonl"])
    assert set(priors.codes) == {("cat", "behind", "dog"), ("dog", "left of", "cat"), ("cat", "right of", "dog")}


def test_every_real_pair_lies_in_its_picture(real_priors):
    assert len(real_priors) > 5000 and real_priors.frequency["person"] == max(real_priors.frequency.values())
    ends = real_priors.boxes[..., :2] + real_priors.boxes[..., 2:]
    assert real_priors.boxes[..., :2].min() >= 0 and ends.max() <= 1 + 1e-6 and real_priors.boxes[..., 2:].min() > 0


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"images": []}, "is no COCO instances file"),
        (COCO | {"categories": []}, "annotation 1 has the category_id 5, which none of its categories has"),
        (COCO | {"images": []}, "annotation 1 has the image_id 1, which none of its images has"),
        (COCO | {"annotations": [1]}, "is no COCO instances file"),
        (COCO | {"categories": [{"id": 5, "name": None}]}, "the category 5 has the name None"),
        (COCO | {"categories": [{"id": 5, "name": " "}]}, "the category 5 has the name ' '"),
        (COCO | {"images": [{"id": 1, "file_name": "a", "width": 1e999, "height": 1}]}, "is no COCO instances file"),
        (COCO | {"images": [{"id": 1, "file_name": "a", "width": 0, "height": 1}]}, "is no COCO instances file"),
        (COCO | {"images": COCO["images"] * 2}, "x.json has two images of the id 1"),
        (COCO | {"categories": [*COCO["categories"], {"id": 5, "name": "cat"}]}, "has two categories of the id 5"),
        (COCO | {"categories": [{"id": 5, "name": "\ud83d"}]}, "the name of the category 5 has half of a character"),
        (COCO | {"images": [{**COCO["images"][0], "file_name": "\ud83d"}]}, "of the image 1 has half of a character"),
        ([{"image_id": 3}], "image_data.json"),
        ("text", "is no COCO"),
    ],
)
def test_what_is_no_source_is_told(data, words, tmp_path):
    with pytest.raises(BadInput, match=words):
        build_priors([write(tmp_path / "x.json", data)])


def test_files_that_are_none_are_told(tmp_path):
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(BadInput, match="x.json is not JSON"):
        build_priors([tmp_path / "x.json"])
    with pytest.raises(BadInput, match="cannot be read"):
        build_priors([tmp_path / "none.json"])
    with pytest.raises(BadInput, match="holds no COCO captions"):
        build_priors([write(tmp_path / "i.json", COCO)], [write(tmp_path / "c.json", COCO)])
    (tmp_path / "x.json").write_text(50_000 * "[" + 50_000 * "]")
    with pytest.raises(BadInput, match="x.json is nested too deep"):
        build_priors([tmp_path / "x.json"])


@pytest.mark.parametrize("image", [[9], {}, None])
def test_a_caption_without_an_image_is_refused(tmp_path, image):
    said = {"annotations": [{"image_id": 1, "caption": "A dog"}, {"image_id": image, "caption": "A dog"}]}
    with pytest.raises(BadInput, match=r"c\.json: caption 2 has the image_id"):
        build_priors([write(tmp_path / "i.json", COCO)], [write(tmp_path / "c.json", said)])


def test_half_a_character_in_visual_genome_is_told(tmp_path):
    thing = {"name": "cat", "x": 10, "y": 20, "w": 30, "h": 40}
    one = {"predicate": "on \ud83d", "subject": thing, "object": thing}
    write(tmp_path / "image_data.json", [{"image_id": 3, "width": 100, "height": 200}])
    file = write(tmp_path / "relationships.json", [{"image_id": 3, "relationships": [one]}])
    with pytest.raises(BadInput, match=r"relationships\.json: a word of the picture 3 has half of a character"):
        build_priors([file])


@pytest.mark.parametrize(
    ("categories", "words"),
    [
        ([{"id": 1, "name": "cat"}, {"id": 1, "name": "dog"}], "has two categories of the id 1"),
        ([{"id": 1, "name": "cat"}, {"id": 2, "name": "cat"}], "names the categories 1 and 2 cat"),
        ([{"id": 1, "name": None}], "the category 1 has the name None"),
        ([{"name": "cat"}], "has no categories with id and name"),
    ],
)
def test_categories_to_join_have_one_id_and_one_name_each(tmp_path, categories, words):
    assert read_categories(write(tmp_path / "i.json", COCO)) == {"dog": 5, "bench": 6}
    with pytest.raises(BadInput, match=words):
        read_categories(write(tmp_path / "j.json", {"categories": categories}))
