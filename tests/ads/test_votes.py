"""Votes on a ledger's pictures as a table for the judge's training, with each cut-out where the set places it."""

import csv
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw

from goodeye.ads.canvas import place
from goodeye.ads.votes import voted_pictures
from goodeye.errors import BadInput
from goodeye.images import open_image, to_tensor
from goodeye.ledger.ledger import Ledger
from goodeye.modelset import resolve


def test_the_cut_out_stands_in_the_table_as_in_the_picture(tiny_set: Path, tmp_path: Path) -> None:
    cutout = Image.new("RGBA", (60, 40))
    ImageDraw.Draw(cutout).ellipse([5, 5, 55, 35], fill="red")
    with Ledger.open(tmp_path / "ledger") as ledger:
        brief = ledger.add_brief(ledger.start_run("ads", {}, 0), "cup", {"title": "a cup"}, cutout)
        attempt = ledger.record_attempt(brief, 0, 1, 0, Image.new("RGB", (48, 48), "blue"))
        ledger.vote(attempt, "ann", "available")
    made = voted_pictures(tmp_path / "ledger", tmp_path / "votes", models=str(tiny_set))
    assert (made.count, made.even) == (1, 0) and "1 labelled pictures" in made.summary()
    (row,) = csv.DictReader(made.table.read_text().splitlines())
    assert (row["label"], row["title"]) == ("available", "a cup")
    scale = resolve(str(tiny_set)).settings.product_scale
    expected = place(cutout, 48, scale).product
    assert torch.allclose(to_tensor(open_image(made.table.parent / row["product"])), expected, atol=1 / 255)
    with pytest.raises(BadInput, match="has no run 7"):
        voted_pictures(tmp_path / "ledger", tmp_path / "votes", models=str(tiny_set), runs=[7])
    with pytest.raises(BadInput, match="no ledger"):
        voted_pictures(tmp_path / "none", tmp_path / "votes", models=str(tiny_set))
