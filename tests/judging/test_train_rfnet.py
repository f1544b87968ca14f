"""From a labelled folder to a judge in a folder, with its report."""

import csv
import json
import re
import types

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_judges import grey, tiny_training

from goodeye.errors import BadInput
from goodeye.images import open_image, to_tensor
from goodeye.judging.protocol import Context
from goodeye.judging.rfnet import RFNetJudge
from goodeye.judging.train_rfnet import train_judge

MODELS = types.SimpleNamespace(
    depth=grey, saliency=grey, model_set=types.SimpleNamespace(settings=types.SimpleNamespace(size=32))
)


@pytest.fixture
def folder(tmp_path, shared_data):
    """Forty pictures of four real products: bright backgrounds are available, dark ones are not."""
    cutouts = [open_image(path).resize((40, 40)) for path in sorted((shared_data / "products").glob("*.webp"))[:4]]
    random = np.random.default_rng(0)
    rows = [("image", "product", "title", "label", "split")]
    for number, cutout in enumerate(cutouts):
        cutout.save(tmp_path / f"product{number}.png")
    for number in range(40):
        bright = number % 2 == 0
        pixels = random.integers(0, 80, (40, 40, 3)) + (150 if bright else 0)
        picture = Image.fromarray(pixels.astype(np.uint8))
        picture.paste(cutouts[number % 4], mask=cutouts[number % 4].getchannel("A"))
        picture.save(tmp_path / f"{number}.png")
        label = "available" if bright else "indistinctiveness"
        split = "test" if number >= 30 else "train"
        rows.append((f"{number}.png", f"product{number % 4}.png", f"thing {number % 4}", label, split))
    rows.append(("missing.png", "product0.png", "", "available", "train"))
    with (tmp_path / "metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return tmp_path


def training(**fields):
    fields = {"batch_size": 10, "epochs": 6} | fields
    rfnet = {"width": 16, "heads": 2, "n2": 1, "dropout": 0.0, "title_length": 8, "image_size": 32}
    return tiny_training(rfnet=rfnet, **fields)


def test_from_folder_to_judge_and_report(folder, tmp_path):
    out = tmp_path / "run"
    result = train_judge(folder, out=out, models=MODELS, config=training(), ablations=True)
    assert [row.variant for row in result.rows] == [
        "RFNet", "ResNet, image only", "without product", "without depth", "without saliency", "without title",
    ]  # fmt: skip
    assert result.rows[0].agreement.count == 10 and result.trained_on == 30
    assert result.rows[0].agreement.binary["ap"].mean > 0.9
    assert len(result.skipped) == 1 and "missing.png" in result.skipped[0].message
    assert "without depth" in result.summary() and "not used: 1 row that" in result.summary()
    assert json.loads((out / "report.json").read_text()) == json.loads(json.dumps(result.as_json()))
    page = (out / "report.html").read_text()
    assert page.count("data:image/svg+xml;base64,") == 3 and "without saliency" in page
    assert not re.findall(r"""(?:src|href)=["'](?!data:)""", page)  # nothing outside the file
    judge = RFNetJudge.from_pretrained(out / "judge", grey, grey)
    picture, product = open_image(folder / "0.png"), open_image(folder / "product0.png")
    (verdict,) = judge.inspect(to_tensor(picture)[None], [Context(to_tensor(product), "thing 0")])
    assert verdict.label == "available"
    with pytest.raises(BadInput, match="--resume"):
        train_judge(folder, out=out, models=MODELS, config=training())
    again = train_judge(folder, out=out, models=MODELS, config=training(), ablations=True, resume=True)
    assert [row.agreement.to_json() for row in again.rows] == [row.agreement.to_json() for row in result.rows]


def test_mistakes_are_shown_with_their_four_pictures(folder, tmp_path):
    rows = list(csv.reader((folder / "metadata.csv").read_text().splitlines()))
    rows[35][3] = "size_mismatch"  # a wrong label that no judge would give
    with (folder / "metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    train_judge(folder, out=tmp_path / "run", models=MODELS, config=training())
    page = (tmp_path / "run" / "report.html").read_text()
    assert "size mismatch" in page and page.count("data:image/webp;base64,") >= 4


def test_it_trains_without_what_no_picture_has(tmp_path):
    random = np.random.default_rng(0)
    rows = [("image", "label", "split")]
    for number in range(12):
        Image.fromarray(random.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(tmp_path / f"{number}.png")
        rows.append((f"{number}.png", "available" if number % 2 else "size", "test" if number > 8 else "train"))
    with (tmp_path / "metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    out = tmp_path / "run"
    result = train_judge(tmp_path, out=out, models=MODELS, epochs=1, batch=3)  # small encoders from nothing
    config = json.loads((out / "judge" / "config.json").read_text())
    assert not config["use_product"] and not config["use_title"] and config["image_size"] == 32
    assert torch.tensor(result.rows[0].agreement.confusion).sum() == 3


def test_data_of_one_class_is_bad_input(tmp_path):
    for number in range(6):
        Image.new("RGB", (32, 32), (40 * number, 0, 0)).save(tmp_path / f"{number}.png")
    lines = [f"{number}.png,size,{'test' if number > 3 else 'train'}" for number in range(6)]
    (tmp_path / "metadata.csv").write_text("\n".join(["image,label,split", *lines]))
    with pytest.raises(BadInput, match="all 4 pictures to train on are size_mismatch, so there is nothing"):
        train_judge(tmp_path, out=tmp_path / "run", models=MODELS, epochs=1, batch=2)
    assert not (tmp_path / "run" / "judge").exists()


def test_data_without_a_held_out_part_is_bad_input(folder, tmp_path):
    text = (folder / "metadata.csv").read_text().replace(",test", ",train")
    (folder / "metadata.csv").write_text(text)
    with pytest.raises(BadInput, match="held_out part"):
        train_judge(folder, out=tmp_path / "run", models=MODELS, config=training())
