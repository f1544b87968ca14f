"""The check of a machine at tiny size: what it runs is what drawing runs; and GLIGEN's size is the published one."""

import json
from dataclasses import replace

import pytest
import torch
from diffusers import UNet2DConditionModel

from goodeye.cli import main
from goodeye.errors import BadInput
from goodeye.modelset import Models, resolve
from goodeye.random_set import CONFIGS, as_toml
from goodeye.synth.draw import Drawing, is_added, save_added, widened
from goodeye.synth.full_size import check_drawing

PUBLISHED = 4.27e9 / 4  # float32 weights of masterful/gligen-1-4-generation-text-box, by the size of its U-Net's file


def test_a_set_without_gligen_is_checked_with_its_unet_widened(tiny_set, tmp_path, capsys):
    out = tmp_path / "check.json"
    assert main(["models", "check", str(tiny_set), "--jobs", "synth", "--steps", "1", "--json", str(out)]) == 0
    found = json.loads(out.read_text())["drawing"]
    assert (found["size"], found["steps"], found["full_steps"], found["batch"]) == (32, 1, 2, 1)
    assert found["seconds"] > found["drawn"]["seconds"] > 0 and found["drawn"]["peak"] > 0
    assert {part["name"]: part["calls"] for part in found["parts"]}["U-Net"] == 1
    plain = Models(resolve(tiny_set)).unet
    assert found["parameters"] - found["added"] == sum(one.numel() for one in plain.parameters())
    assert f"{found['added']:,} of them GLIGEN's" in capsys.readouterr().out


def test_a_sets_own_gligen_is_what_is_checked(tiny_set, tmp_path):
    models = Models(resolve(tiny_set))
    torch.manual_seed(0)
    gated = widened(models.unet)
    save_added(gated, tmp_path / "gligen", models.unet, Drawing(grounded=1.0))
    own = tmp_path / "own.toml"
    given = models.model_set
    roles = {**given.roles, "layout_unet": str(tmp_path / "gligen")}
    own.write_text(as_toml(replace(given, name="own", roles=roles, settings=replace(given.settings, steps=3))))
    found = check_drawing(own, steps=5, batch=2)
    assert (found.models, found.steps, found.full_steps, found.batch) == ("own", 3, 3, 2)
    assert found.seconds == found.drawn.seconds
    assert check_drawing(own, random=True, steps=1).added == found.added  # its parts are here, and GLIGEN's are new


def test_at_full_size_there_are_as_many_weights_as_published():
    with torch.device("meta"):
        config = UNet2DConditionModel.load_config(str(CONFIGS / "unet")) | {"attention_type": "gated"}
        gated = UNet2DConditionModel.from_config(config)
    assert sum(one.numel() for one in gated.parameters()) == pytest.approx(PUBLISHED, rel=0.002)
    assert any(is_added(name) for name, _ in gated.named_parameters())


def test_numbers_that_make_no_sense_are_refused(tiny_set):
    with pytest.raises(BadInput, match="Give 1 or more"):
        check_drawing(tiny_set, batch=0)
