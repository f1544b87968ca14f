"""The build of the showroom: what is finished, what goes on, and what is trained anew."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import GLPNForDepthEstimation, PreTrainedTokenizerFast

from goodeye.errors import BadInput
from goodeye.judging.rfnet_fit import RFNetTraining
from goodeye.showroom.build import Build, build, compare_rfnet
from goodeye.training.loop import Loop

TINY = Build(scenes=16, held=8, depth=Loop(steps=2, lr=2e-3, warmup=0, seed=4, log_every=1))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("build")
    build(out, only=["tokenizer", "depth"], config=TINY)
    return out


def losses(out: Path) -> list[int]:
    """The steps whose loss is in the run's log."""
    rows = map(json.loads, (out / "depth/metrics.jsonl").read_text().splitlines())
    return [row["step"] for row in rows if "lr" in row]


def test_a_role_is_a_standard_folder_with_a_card(made: Path) -> None:
    model = GLPNForDepthEstimation.from_pretrained(made / "weights/depth")
    card = (made / "weights/depth/README.md").read_text()
    assert model.dtype.itemsize == 2 and "| steps | 2 |" in card and "| seed | 4 |" in card
    assert len(PreTrainedTokenizerFast.from_pretrained(made / "weights/tokenizer")) > 100


def test_a_finished_role_that_is_named_is_trained_anew(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, out := tmp_path / "build")
    build(out, only=["depth"], config=replace(TINY, depth=replace(TINY.depth, steps=3, seed=5)))
    assert losses(out) == [1, 2, 3]
    assert "| seed | 5 |" in (out / "weights/depth/README.md").read_text()


def test_a_role_that_was_stopped_goes_on(made: Path, tmp_path: Path) -> None:
    """No card, no finished role: the run's checkpoint is gone on with, here at its last step."""
    shutil.copytree(made, out := tmp_path / "build")
    (out / "weights/depth/README.md").unlink()
    build(out, only=["depth"], config=TINY)
    assert losses(out) == [1, 2] and (out / "weights/depth/README.md").exists()


def test_judges_are_compared_on_unusual_products(tmp_path: Path) -> None:
    """By the shipped models' eyes, where nothing was built; and again from what is there."""
    small = {"width": 32, "heads": 2, "feature_stride": 16, "image_size": 96, "classes": 5}
    config = Build(borderline=40, held=24, rfnet=RFNetTraining(epochs=1, batch_size=8, rfnet=small))
    first = compare_rfnet(tmp_path, config, own=0.5, variants=["without title"])
    assert [row.variant for row in first] == ["RFNet", "without title"]
    assert first[0].agreement.count == 24 and first[1].lost is not None
    pictures = sorted(tmp_path.glob("pictures/*/*.npy"))
    made = [file.stat().st_mtime_ns for file in pictures]
    again = compare_rfnet(tmp_path, config, own=0.5, variants=["without title"])
    assert made and [file.stat().st_mtime_ns for file in pictures] == made
    assert again[1].lost == first[1].lost
    with pytest.raises(BadInput, match=r"own is 1\.5"):
        compare_rfnet(tmp_path, config, own=1.5)


def test_a_role_needs_those_before_it(made: Path) -> None:
    with pytest.raises(BadInput, match="unet is trained with vae, which is not in .*Build vae first"):
        build(made, only=["unet"], config=TINY)
    with pytest.raises(BadInput, match="nose is no role of the showroom"):
        build(made, only=["nose"], config=TINY)
