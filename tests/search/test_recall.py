"""recall@k both ways, and the layouts in which captioned pictures come."""

import json

import numpy as np
import pytest
from tiny_clip import COLOURS, ColourClip, save_picture, units

from goodeye.errors import BadInput
from goodeye.search.build import index_pictures
from goodeye.search.index import Index
from goodeye.search.recall import image_ranks, load_captions, measure, recall_at, text_ranks
from goodeye.search.watch import Watch


def test_ranks_by_sorting_every_row():
    images, texts = units(20, 6), units(50, 6, 1)
    owner = np.random.default_rng(2).integers(0, 20, 50)
    owner[:20] = np.arange(20)
    scores = texts.astype(float) @ images.T
    expected = [np.argsort(-row).tolist().index(own) for row, own in zip(scores, owner, strict=True)]
    assert text_ranks(texts, images, owner).tolist() == expected
    order = np.argsort(-scores.T, axis=1)
    best = [next(place for place, text in enumerate(row) if owner[text] == one) for one, row in enumerate(order)]
    assert image_ranks(texts, images, owner).tolist() == best


def test_equal_embeddings_are_no_success():
    same = np.repeat(units(1, 4), 10, axis=0)
    assert text_ranks(same, same, np.arange(10)).tolist() == [9] * 10


def test_recall_is_the_share_within_k():
    found = recall_at(np.array([0, 0, 3, 7, 20]), (1, 5, 10))
    assert [found[k].mean for k in (1, 5, 10)] == [0.4, 0.6, 0.8]
    assert found[1].low < 0.4 < found[1].high


COCO = {
    "images": [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}],
    "annotations": [{"image_id": 2, "caption": "a blue\ncup"}, {"image_id": 1, "caption": "red"}],
}
KARPATHY = {
    "images": [
        {"filename": "a.png", "split": "test", "sentences": [{"raw": "red"}, {"raw": "a red cup"}]},
        {"filename": "b.png", "filepath": "val2014", "split": "val", "sentences": [{"raw": "blue"}]},
    ]
}


def test_the_layouts(tmp_path):
    (tmp_path / "coco.json").write_text(json.dumps(COCO))
    (tmp_path / "flickr.json").write_text(json.dumps(KARPATHY))
    (tmp_path / "flickr.token").write_text("a.png#0\tred\na.png#1\ta red cup\nb.png#0\tblue\n")
    (tmp_path / "t.csv").write_text("image,caption\na.png,red\nb.png,blue\n")
    coco = load_captions(tmp_path / "coco.json", tmp_path / "images")
    assert (coco.captions, coco.owner) == (["a blue cup", "red"], [0, 1])
    assert coco.items[0].cell.path == tmp_path / "images" / "b.png"
    assert load_captions(tmp_path / "flickr.json", split="test").captions == ["red", "a red cup"]
    assert load_captions(tmp_path / "flickr.json").items[1].name == "val2014/b.png"
    tokens = load_captions(tmp_path / "flickr.token")
    assert (tokens.captions, tokens.owner) == (["red", "a red cup", "blue"], [0, 0, 1])
    assert load_captions(tmp_path / "t.csv").captions == ["red", "blue"]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.json", "[]", "neither COCO's nor Karpathy's"),
        ("b.json", "{", "neither COCO's nor Karpathy's"),
        ("c.json", '{"images": []}', "holds no captions"),
        ("d.token", "a.png red", "a line without a tab"),
    ],
)
def test_files_that_are_none(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(BadInput, match=words):
        load_captions(tmp_path / name)
    with pytest.raises(BadInput, match="cannot be read"):
        load_captions(tmp_path / "none.json")


def test_a_model_that_knows_its_colours(tmp_path):
    lines = ["image,caption"]
    for name in ("red", "green", "blue", "white"):
        save_picture(tmp_path / f"{name}.png", COLOURS[name])
        lines.append(f"{name}.png,a {name} picture")
    (tmp_path / "gone.csv").write_text("\n".join([*lines, "gone.png,a red cup"]) + "\n")
    found = measure(load_captions(tmp_path / "gone.csv"), ColourClip())
    assert (found.images, found.texts, len(found.skipped)) == (4, 4, 1)
    assert found.text_to_image[1].mean == found.image_to_text[1].mean == 1.0
    assert found.to_json()["text_to_image"]["recall_at_1"] == [1.0, 1.0, 1.0]


def test_captions_that_differ_only_at_their_end_find_their_own_pictures(tmp_path):
    """The model reads five words at once; the colour is the sixth."""
    lines = ["image,caption"]
    for name in ("red", "blue"):
        save_picture(tmp_path / f"{name}.png", COLOURS[name])
        lines.append(f'{name}.png,"of a picture in light, {name}"')
    (tmp_path / "long.csv").write_text("\n".join(lines) + "\n")
    found = measure(load_captions(tmp_path / "long.csv"), ColourClip(limit=7))
    assert found.text_to_image[1].mean == found.image_to_text[1].mean == 1.0


def test_the_guard_reads_captions_to_their_end(tmp_path):
    clip = ColourClip(limit=7)
    for name in ("red", "blue"):
        save_picture(tmp_path / "p" / f"{name}.png", COLOURS[name])
    for number in range(8):
        save_picture(tmp_path / "p" / f"{number}.png", (0, 90 + 20 * number, 0))
    index_pictures(tmp_path / "p", tmp_path / "i", clip, "showroom", duplicates=0)
    index = Index(tmp_path / "i")
    rows = {name: index.names()[str(tmp_path / "p" / f"{name}.png")] for name in ("red", "blue")}
    captions = {row: f"of a picture in light, {name}" for name, row in rows.items()}
    look = Watch(index, clip, np.ones(4, np.float32), captions, taste=0.0).look()
    assert look.held_out.tolist() == [1.0, 1.0]
