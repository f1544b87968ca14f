"""The guide to real models, followed on tiny ones: its lines of diffusers run with what was trained."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from goodeye.ads.adapt import adapt
from goodeye.ads.canvas import place
from goodeye.images import open_image, to_tensor
from goodeye.modelset import Models, resolve

GUIDE = Path(__file__).resolve().parent.parent / "docs" / "real.md"


def diffusers_lines() -> str:
    blocks = re.findall(r"^```python\n(.*?)^```$", GUIDE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    (found,) = (block for block in blocks if "StableDiffusionControlNetInpaintPipeline" in block)
    return found


@pytest.fixture
def tiny(tiny_set: Path, tmp_path: Path, diffusers_pipeline: Callable[..., Any]) -> Models:
    """A tiny generator of which the ControlNet has learnt something: tmp_path/runs/align/controlnet."""
    models = Models(resolve(tiny_set))
    diffusers_pipeline(tiny_set.parent).save_pretrained(tmp_path / "base")  # laid out as a hub repository is
    trained = adapt(models, "controlnet")
    with torch.no_grad():
        for parameter in models.controlnet.parameters():
            parameter.add_(0.1)
    trained.save(tmp_path / "runs" / "align")
    return models


def test_the_lines_of_diffusers_run_with_what_was_trained(
    tiny: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    picture = Image.new("RGBA", (60, 40))
    picture.paste((200, 10, 30, 255), (10, 10, 50, 30))
    picture.save("red_shoe.png")
    lines = diffusers_lines()
    for there, here in {
        '"digiplay/majicMIX_realistic_v7"': '"base"', "float16": "float32", '"cuda"': '"cpu"', "512": "32",
        "num_inference_steps=40": "num_inference_steps=2",
    }.items():  # fmt: skip
        assert there in lines
        lines = lines.replace(there, here)
    names: dict[str, Any] = {}
    exec(compile(lines, GUIDE.name, "exec"), names)

    loaded, learnt = names["pipe"].controlnet.state_dict(), tiny.controlnet.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in learnt.items())
    product = place(open_image("red_shoe.png"), 32, 0.74).product
    made = to_tensor(open_image("red_shoe_ad.png"))
    solid = (product[3:] == 1).expand(3, -1, -1)
    assert made.shape == (3, 32, 32) and torch.allclose(made[solid], product[:3][solid], atol=1 / 255)
