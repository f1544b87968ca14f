"""A small detector: boxes that move with their pictures, AP as computed by hand, and training that teaches."""

import numpy as np
import pytest
import torch
from PIL import Image

from goodeye.errors import BadInput
from goodeye.synth.detector import (
    Found,
    Pictures,
    _moved,
    average_precision,
    detect,
    new_detector,
    read_pictures,
    train_detector,
)
from goodeye.training.loop import Loop


def squares(count, size=64, seed=0):
    """One bright square in each picture: "red" or "green"."""
    random = np.random.default_rng(seed)
    images, boxes, labels = torch.full((count, 3, size, size), 40, dtype=torch.uint8), [], []
    for row in range(count):
        side, kind = int(random.integers(16, 30)), int(random.integers(2))
        x, y = (int(random.integers(0, size - side)) for _ in range(2))
        images[row, kind, y : y + side, x : x + side] = 230
        boxes.append(torch.tensor([[x, y, side, side]], dtype=torch.float32) / size)
        labels.append(torch.tensor([kind]))
    return Pictures(images, boxes, labels, ("red", "green"))


def test_boxes_move_with_their_pictures():
    pool = squares(40)
    seen = 0
    for row in range(40):
        image, target = _moved(pool, row, np.random.default_rng(row))
        if not len(target["boxes"]):
            continue
        seen += 1
        x, y, w, h = (target["boxes"][0] * 64).tolist()
        bright = image[pool.labels[row][0]] > 0.5
        inside = torch.zeros(64, 64, dtype=torch.bool)
        inside[round(y - h / 2) : round(y + h / 2), round(x - w / 2) : round(x + w / 2)] = True
        assert (bright & inside).sum() > 0.85 * inside.sum()  # reflections at the edge may be bright, too
        assert x - w / 2 + 1e-3 >= 0 and x + w / 2 <= 64 + 1e-3
    assert seen > 30


def test_average_precision_is_the_one_that_is_computed_by_hand():
    """Two red things; the first is found exactly, the second not at all: precision 1 up to recall .5, so AP is 51 of
    101 recall points. The green one is found with an IoU of .6, which counts at .5, .55 and .6 alone."""
    truth = Pictures(
        torch.zeros(2, 3, 64, 64, dtype=torch.uint8),
        [torch.tensor([[0.1, 0.1, 0.3, 0.3]]), torch.tensor([[0.5, 0.5, 0.4, 0.4], [0.0, 0.0, 0.5, 0.4]])],
        [torch.tensor([0]), torch.tensor([0, 1])],
        ("red", "green", "blue"),
    )
    first = Found(torch.tensor([[0.1, 0.1, 0.3, 0.3]]), torch.tensor([0]), torch.tensor([0.9]))
    second = Found(torch.tensor([[0.0, 0.0, 0.5, 0.2402]]), torch.tensor([1]), torch.tensor([0.8]))
    found = average_precision([first, second], truth)
    assert found == {"red": pytest.approx(51 / 101, abs=1e-3), "green": pytest.approx(0.3, abs=1e-3)}


def test_the_labels_of_real_photographs_found_exactly_have_precision_1(coco128):
    from goodeye.synth.sources import read_coco

    photographs = read_coco(coco128)
    names = sorted({name for one in photographs for name in one.names})
    truth = Pictures(
        torch.zeros(len(photographs), 3, 64, 64, dtype=torch.uint8),
        [torch.tensor(one.boxes).reshape(-1, 4) for one in photographs],
        [torch.tensor([names.index(name) for name in one.names], dtype=torch.long) for one in photographs],
        tuple(names),
    )
    found = [
        Found(boxes, labels, torch.ones(len(labels))) for boxes, labels in zip(truth.boxes, truth.labels, strict=True)
    ]
    exact = average_precision(found, truth)
    assert set(exact) == set(names) and min(exact.values()) > 0.999
    blind = [Found(one.boxes[:0], one.labels[:0], one.scores[:0]) for one in found[64:]]
    assert average_precision([*found[:64], *blind], truth)["person"] < 0.8


def test_nothing_found_is_no_precision():
    pool = squares(2)
    none = Found(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), torch.zeros(0))
    assert set(average_precision([none, none], pool).values()) == {0.0}


def test_a_detector_learns_and_goes_on_where_it_was_stopped(tmp_path):
    pool = squares(16)
    torch.manual_seed(0)
    detector = new_detector(("red", "green"), width=16, queries=8)
    config = Loop(steps=6, lr=2e-3, warmup=2, save_steps=3, log_every=3)
    before = [one.scores.max() for one in detect(detector.eval(), pool.images)]
    done = train_detector(detector, [pool, squares(6, seed=1)], tmp_path, config, batch=8)
    assert done.steps == 6 and done.last["loss"] > 0 and len(before) == 16
    again = train_detector(new_detector(("red", "green"), 16, 8), [pool, squares(6, seed=1)], tmp_path, config, batch=8)
    assert again.resumed_at == 6
    found = detect(detector, pool.images)
    assert all(one.boxes.shape[1] == 4 and bool((one.scores.diff() <= 0).all()) for one in found)


@pytest.mark.prove
def test_a_detector_finds_squares_after_some_minutes(tmp_path):
    torch.manual_seed(0)
    detector = new_detector(("red", "green"), width=32, queries=12)
    config = Loop(steps=400, lr=1e-3, warmup=20, schedule="cosine", ema=0.98)
    train_detector(detector, [squares(200)], tmp_path, config, batch=8)
    fresh = squares(64, seed=5)
    assert min(average_precision(detect(detector, fresh.images), fresh).values()) > 0.5


def test_pictures_are_those_of_a_coco_file(tmp_path):
    import json

    Image.new("RGB", (40, 20), (255, 0, 0)).save(tmp_path / "a.png")
    annotation = {"id": 1, "image_id": 1, "category_id": 7, "bbox": [10, 5, 20, 10], "iscrowd": 0}
    data = {
        "images": [{"id": 1, "file_name": "a.png", "width": 40, "height": 20}],
        "categories": [{"id": 7, "name": "red"}],
        "annotations": [annotation],
    }
    (tmp_path / "c.json").write_text(json.dumps(data))
    found = read_pictures(tmp_path / "c.json", ["green", "red"], 32)
    assert found.images.shape == (1, 3, 32, 32) and found.images[0, 0].float().mean() > 250
    assert found.boxes[0].tolist() == [pytest.approx([0.25, 0.25, 0.5, 0.5])] and found.labels[0].tolist() == [1]
    with pytest.raises(BadInput, match="has the category red, which the detector does not know"):
        read_pictures(tmp_path / "c.json", ["green"], 32)
