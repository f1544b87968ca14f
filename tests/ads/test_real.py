"""Photographs of COCO through the whole way in: cut out by real weights, or by the showroom's own."""

import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from goodeye.ads.canvas import place, visible_box
from goodeye.ads.cutout import cut_out
from goodeye.ads.make import make
from goodeye.errors import BadInput
from goodeye.images import open_image
from goodeye.judging.maps import OnnxSaliency
from goodeye.modelset import SHOWROOM, Models, resolve

Box = tuple[float, float, float, float]
NEEDED = ("vae", "text_encoder", "tokenizer", "unet", "controlnet", "scheduler", "depth", "saliency", "rfnet")


@pytest.fixture(scope="module")
def showroom() -> Models:
    missing = [role for role in NEEDED if not (SHOWROOM / role).is_dir()]
    if missing:
        pytest.skip(f"the showroom's weights are not built yet: {', '.join(missing)}")
    return Models(resolve("showroom"))


@pytest.fixture(scope="module")
def single_things(shared_data: Path) -> list[tuple[Path, Box]]:
    """Photographs in which one thing is annotated, a tenth to two thirds of the picture large, and its box."""
    coco = shared_data / "coco128"
    data = json.loads((coco / "instances.json").read_text())
    boxes: dict[int, list[Box]] = {}
    for one in data["annotations"]:
        x, y, width, height = one["bbox"]
        boxes.setdefault(one["image_id"], []).append((x, y, x + width, y + height))
    found = []
    for image in data["images"]:
        mine = boxes.get(image["id"], [])
        if len(mine) == 1 and 0.1 < area(mine[0]) / (image["width"] * image["height"]) < 0.66:
            found.append((coco / "images" / Path(image["file_name"]).name, mine[0]))
    assert len(found) >= 8
    return found


def area(box: Box) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def overlap(one: Box, other: Box) -> float:
    """Intersection over union of two boxes."""
    lefts, rights = zip(one[:2], other[:2], strict=True), zip(one[2:], other[2:], strict=True)
    shared = area((*(max(pair) for pair in lefts), *(min(pair) for pair in rights)))
    return shared / (area(one) + area(other) - shared)


@pytest.mark.real
def test_u2net_cuts_out_what_people_annotated(single_things):
    spec = importlib.util.find_spec("rembg")
    weights = Path(spec.origin).parent / "u2net.onnx" if spec and spec.origin else Path("none")
    if not weights.is_file():
        pytest.skip("U2Net's weights are not installed; `make test-real` installs them")
    models = SimpleNamespace(saliency=OnnxSaliency(weights))
    scores = []
    for path, box in single_things[:12]:
        try:
            cut = cut_out(open_image(path), models, name=path.name)
        except BadInput:
            scores.append(0.0)
            continue
        scores.append(overlap(visible_box(cut, path.name), box))
        canvas = place(cut, 128, 0.5, name=path.name)
        assert canvas.mask.sum() > 0 and canvas.control.sum() > 0
    # in the others something else stands out than the one annotated thing: a bag before the dog, the whole clock
    assert np.mean(np.array(scores) > 0.5) >= 0.6, scores
    assert np.mean(np.array(scores) > 0.9) >= 0.4, scores


def test_photographs_are_cut_out_by_the_showrooms_saliency_or_refused_plainly(single_things, showroom):
    cut = 0
    for path, _ in single_things[:8]:
        try:
            product = cut_out(open_image(path), showroom, name=path.name)
        except BadInput as error:
            assert str(error).startswith(f"{path.name} has no transparent background, and ")
            continue
        share = (np.asarray(product.getchannel("A")) >= 128).mean()
        assert 0.005 < share < 0.95
        place(product, 128, 0.5, name=path.name)
        cut += 1
    assert cut >= 2


def test_real_cut_outs_become_pictures_by_the_showroom(shared_data, showroom, tmp_path):
    inputs = [shared_data / "products" / f"{name}.webp" for name in ("teapot", "handbag", "athletic_shoe")]
    result = make(inputs, want=1, attempts=1, models=showroom, out=tmp_path / "ads", ledger=tmp_path / "book")
    assert len(result.briefs) == 3 and result.problems == []
    for one in result.attempts:
        picture = torch.from_numpy(np.asarray(open_image(one.image)).copy()).float() / 255
        assert picture.shape == (128, 128, 3)
        assert picture.std() > 0.05, "not one flat colour"
        assert sum(one.scores.values()) == pytest.approx(1, abs=1e-3)
