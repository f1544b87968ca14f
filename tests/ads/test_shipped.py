"""Real photographs and cut-outs through the models that are shipped. (With real weights: tests/real.)"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from goodeye.ads.canvas import place
from goodeye.ads.cutout import cut_out
from goodeye.ads.make import make
from goodeye.errors import BadInput
from goodeye.images import open_image
from goodeye.modelset import ROLES, SHOWROOM, Models, resolve

NEEDED = ("vae", "text_encoder", "tokenizer", "unet", "controlnet", "scheduler", "depth", "saliency", "rfnet")


@pytest.fixture(scope="module")
def showroom() -> Models:
    missing = [role for role in NEEDED if not (SHOWROOM / role).is_dir()]
    assert not missing, f"the package ships no {', '.join(missing)}"
    return Models(resolve("showroom"))


def test_what_is_shipped_is_small_half_precision_without_pickles_and_has_cards():
    files = [file for file in SHOWROOM.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 40_000_000
    assert not [file for file in files if file.suffix in (".bin", ".pt", ".pth", ".ckpt", ".pkl")]
    for role in ROLES:
        card = (SHOWROOM / role / "README.md").read_text(encoding="utf-8")
        assert card.startswith("---\nlicense: apache-2.0\n---\n") and f"\n# {role}\n" in card
        for file in (SHOWROOM / role).glob("*.safetensors"):
            with safe_open(file, "pt") as weights:
                kinds = {weights.get_slice(name).get_dtype() for name in weights.keys()}  # noqa: SIM118
            assert kinds <= {"F16", "I64"}, file


@pytest.fixture(scope="module")
def single_things(shared_data: Path) -> list[Path]:
    """Photographs in which one thing is annotated, a tenth to two thirds of the picture large."""
    coco = shared_data / "coco128"
    data = json.loads((coco / "instances.json").read_text())
    areas: dict[int, list[float]] = {}
    for one in data["annotations"]:
        areas.setdefault(one["image_id"], []).append(one["bbox"][2] * one["bbox"][3])
    found = []
    for image in data["images"]:
        mine = areas.get(image["id"], [])
        if len(mine) == 1 and 0.1 < mine[0] / (image["width"] * image["height"]) < 0.66:
            found.append(coco / "images" / Path(image["file_name"]).name)
    assert len(found) >= 8
    return found


def test_photographs_are_cut_out_by_the_showrooms_saliency_or_refused_plainly(single_things, showroom):
    cut = 0
    for path in single_things[:8]:
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
