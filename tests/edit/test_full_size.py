"""The check of a machine, and the bench, at tiny size: what they run is what editing and its training run."""

import json

import pytest
from tiny_editor import save_editor

from goodeye.cli import main
from goodeye.edit.full_size import check_editing
from goodeye.errors import BadInput
from goodeye.random_set import CONFIGS


def test_a_set_without_an_editor_is_checked_with_its_unet(tiny_set, tmp_path, capsys):
    out = tmp_path / "check.json"
    assert main(["models", "check", str(tiny_set), "--jobs", "edit", "--json", str(out)]) == 0
    found = json.loads(out.read_text())["editing"]
    assert (found["size"], found["train_size"], found["steps"], found["full_steps"]) == (32, 32, 2, 30)
    assert found["edit_seconds"] > found["edit"]["seconds"] > 0 and found["step"]["peak"] > 0
    parts = {part["name"]: part["calls"] for part in found["parts"]}
    assert parts["U-Net"] == 2 and parts["U-Net, with gradient"] == 1 and parts["optimizer"] == 1
    told = capsys.readouterr().out
    assert f"{found['editor']:,} parameters" in told and "a training step of stage 2" in told


def test_a_sets_own_editor_is_what_is_checked(tiny_set, tmp_path):
    found = check_editing(save_editor(tiny_set, tmp_path), steps=1)
    assert found.steps == 1 and found.full_steps == 3 and found.rewards > 0


def test_what_is_not_there_is_told(tmp_path):
    with pytest.raises(BadInput, match="neither a model set nor a file"):
        check_editing(tmp_path / "none.toml")


def test_the_bench_tells_what_the_rewards_cost(bench, tiny_set, tmp_path):
    out = tmp_path / "cost.json"
    line = ["--unet", str(tiny_set.parent / "unet"), "--text", "16", "--size", "8", "--pairs", "3", "--out", str(out)]
    for more in ([], ["--train"]):
        found = bench("edit_step").main([*line, *more])
        assert len(found["pairs"]) == 3 and found == json.loads(out.read_text())
        fast, slow = found["pairs"][0]
        assert fast > 0 and slow > 0 and found["longer_mean"]["low"] <= found["longer_mean"]["high"]
    assert (CONFIGS / "unet" / "config.json").is_file()  # its default
