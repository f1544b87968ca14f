"""The check of a model set, on a tiny one: what is run, how often, and what is worked out from it."""

import json
import re
import shutil
from pathlib import Path

import pytest

from goodeye import cli
from goodeye.ads.align import Align
from goodeye.ads.full_size import check_models
from goodeye.errors import BadInput

CLIP = {
    "model_type": "clip",
    "projection_dim": 8,
    "text_config": {
        "hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1,
        "vocab_size": 32, "max_position_embeddings": 8, "eos_token_id": 2, "projection_dim": 8,
    },
    "vision_config": {
        "hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1,
        "image_size": 16, "patch_size": 8, "projection_dim": 8,
    },
}  # fmt: skip


@pytest.fixture
def bare_set(tiny_set: Path, tmp_path: Path) -> Path:
    """The tiny set with 8 steps, without the weights of its U-Net and inspector, and with a CLIP that has none."""
    folder = tmp_path / "set"
    shutil.copytree(tiny_set.parent, folder)
    for role in ("unet", "rfnet"):
        (next((folder / role).glob("*.safetensors"))).unlink()
    (folder / "clip").mkdir()
    (folder / "clip" / "config.json").write_text(json.dumps(CLIP))
    (folder / "clip" / "preprocessor_config.json").write_text(json.dumps({"size": {"height": 16, "width": 16}}))
    toml = folder / tiny_set.name
    text = toml.read_text().replace("steps = 2", "steps = 8").replace("[settings]", 'clip = "clip"\n[settings]')
    toml.write_text(text)
    return toml


def test_the_parts_of_an_attempt_and_of_a_step_and_what_all_steps_take(bare_set: Path, tmp_path: Path) -> None:
    found = check_models(bare_set, random=True, steps=3, batch=2, keep=tmp_path / "kept")
    origins = {one.role: one.weights for one in found.roles}
    assert {role for role, origin in origins.items() if origin == "random"} == {"unet", "rfnet", "clip"}
    assert all(one.seconds > 0 and one.peak > one.bytes for one in found.roles)

    clip, attempt, step = found.phases
    assert [part.name for part in clip.parts] == ["CLIP, pictures", "CLIP, texts"]
    times = {part.name: part.calls for part in attempt.parts}
    assert times == {
        "VAE encoder": 1, "text encoder": 2, "ControlNet": 3, "U-Net": 3, "VAE decoder": 1,
        "depth": 1, "saliency": 1, "RFNet": 1,
    }  # fmt: skip
    each = sum(part.each for part in attempt.parts if part.name in ("U-Net", "ControlNet"))
    assert attempt.full_seconds == pytest.approx(attempt.seconds + 5 * each)

    times = {part.name: part.calls for part in step.parts}
    assert (times["U-Net"], times["U-Net, with gradient"]) == (2 + 1, 1)  # rollout, and the start model once
    assert times["RFNet, with gradient"] == times["VAE decoder, with gradient"] == 1
    each = sum(part.each for part in step.parts if part.name in ("U-Net", "ControlNet"))
    rollout = (6 + 7) / 2  # gradient begins at one of the last 2 of 8 steps; here it began after 2
    assert step.full_seconds == pytest.approx(step.seconds + (rollout - 2) * each)

    run, pictures = Align(), 7 * 32 * 2  # the start and 6 evaluations of 32 briefs, two pictures each
    expected = (run.steps * run.batch * step.full_seconds + pictures * attempt.full_seconds) / 2
    assert found.run_seconds == pytest.approx(expected) and found.run_peak >= step.peak
    assert (tmp_path / "kept" / "tiny.toml").is_file()
    assert {one.weights for one in check_models(tmp_path / "kept" / "tiny.toml").roles} == {"here"}


def test_lora_is_a_step_too(tiny_set: Path) -> None:
    step = check_models(tiny_set, train="lora").phases[-1]
    assert {part.name for part in step.parts} >= {"optimizer", "the denoiser's gradient", "U-Net, with gradient"}


def test_the_command(tiny_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "check.json"
    assert cli.main(["models", "check", str(tiny_set), "--json", str(file)]) == cli.DONE
    told, data = capsys.readouterr().out, json.loads(file.read_text())
    for role in data["roles"]:
        assert re.search(rf"^{role['role']} .* here ", told, re.MULTILINE)
    assert [phase["name"] for phase in data["phases"]] == ["attempt", "RFFT step"]
    assert set(data["phases"][0]) == {"name", "steps", "seconds", "full_steps", "full_seconds", "peak", "parts"}
    assert data["run"]["seconds"] > 0 and "goodeye ads align, 120 steps of 8 pictures" in told


@pytest.mark.parametrize(
    ("options", "words"), [({"steps": 1}, "steps is 1"), ({"steps": 3}, "has 2"), ({"batch": 0}, "batch is 0")]
)
def test_numbers_that_make_no_sense(tiny_set: Path, options: dict[str, int], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        check_models(tiny_set, **options)


def test_without_random_what_is_missing_is_said() -> None:
    with pytest.raises(BadInput, match=r"the role clip of sd15 .* cannot be loaded"):
        check_models("sd15")
