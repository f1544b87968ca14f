"""`goodeye ads make` as a user runs it: real product pictures and photographs, the shipped models."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from goodeye.ads.canvas import place, visible_box
from goodeye.ads.cutout import cut_out
from goodeye.images import open_image
from goodeye.modelset import ROLES, SHOWROOM, Models, resolve

pytestmark = pytest.mark.real

PROGRAM = Path(sys.executable).with_name("goodeye")
PRODUCTS = ("teapot", "handbag", "athletic_shoe")


@pytest.fixture(scope="module", autouse=True)
def shipped() -> None:
    missing = [role for role in ROLES if not any((SHOWROOM / role).glob("*.json"))]
    assert not missing, f"the package ships no {', '.join(missing)}"


def run(*arguments: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [PROGRAM, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=900,
        env={**os.environ, "NO_COLOR": "1", "HF_HUB_OFFLINE": "1"},
    )


def levels(path: Path) -> np.ndarray:
    return np.asarray(open_image(path)).astype(int)


def kept_exactly(picture: Path, source: Path, models: Models) -> bool:
    """Whether each fully opaque pixel of the product stands in the picture as it is."""
    settings = models.model_set.settings
    product = cut_out(open_image(source), models, name=source.name)
    canvas = (place(product, settings.size, settings.product_scale).product.numpy() * 255).round().transpose(1, 2, 0)
    opaque = canvas[..., 3] == 255
    assert opaque.mean() > 0.02
    return bool((levels(picture)[opaque] == canvas[..., :3][opaque]).all())


def all_pictures(results: dict) -> list[tuple[dict, Path]]:
    return [
        (brief, Path(one["image"]))
        for brief in results["briefs"]
        for slot in brief["slots"]
        for one in slot["attempts"]
    ]


def test_cut_outs_and_photographs_become_inspected_pictures(shared_data, single_things, tmp_path):
    inputs = [shared_data / "products" / f"{name}.webp" for name in PRODUCTS] + [path for path, _ in single_things[:2]]
    out, book = tmp_path / "ads", tmp_path / "book"
    line = ["ads", "make", *inputs, "--want", 1, "--attempts", 2, "--out", out, "--ledger", book]
    done = run(*line)
    results = json.loads((out / "results.json").read_text())

    # every input became a brief, or is named with its reason: the saliency model may find nothing in a photograph
    refused = {Path(problem["name"]).name: problem["message"] for problem in results["problems"]}
    assert done.returncode == (2 if refused else 0), done.stderr
    assert {Path(brief["image"]).name for brief in results["briefs"]} | set(refused) == {path.name for path in inputs}
    assert not {f"{name}.webp" for name in PRODUCTS} & set(refused)
    assert all("stands out" in message and message in done.stderr for message in refused.values())
    assert f"Report: {out / 'report.html'}" in done.stdout

    # every attempt is a picture around the untouched product, each with its own background
    models = Models(resolve("showroom"))
    pictures = all_pictures(results)
    assert len(pictures) >= len(results["briefs"]) >= 3
    for brief, picture in pictures:
        assert levels(picture).shape == (128, 128, 3)
        around = np.concatenate([levels(picture)[:16], levels(picture)[-16:]])  # above and below the product
        assert around.std(axis=(0, 1)).max() > 3, "no scene, but one flat colour"
        assert kept_exactly(picture, Path(brief["image"]), models)
    assert len({levels(picture).tobytes() for _, picture in pictures}) == len(pictures)
    for brief in results["briefs"]:
        (slot,) = brief["slots"]
        assert (out / slot["picture"]).is_file()
        assert Path(slot["picture"]).parts[0] == ("passed" if slot["passed"] else "not_passed")
        assert all(sum(one["scores"].values()) == pytest.approx(1, abs=1e-3) for one in slot["attempts"])
        assert len(slot["attempts"]) == 2 or slot["passed"]
    assert len(list((out / "passed").glob("*.png"))) == sum(brief["passed"] for brief in results["briefs"])

    # the report stands alone, and the ledger agrees with its files
    page = (out / "report.html").read_text()
    assert page.count("data:image/") >= len(pictures) and not re.findall(r"""(?:src|href)=["'](?!data:|#)""", page)
    assert run("ledger", "check", book).returncode == 0
    again = run(*line, "--resume")
    assert all_pictures(json.loads((out / "results.json").read_text())) == pictures, again.stderr


def test_photographs_cut_out_by_a_saliency_model_of_ones_own(u2net, single_things, tmp_path):
    """A model set that differs from the shipped one in U2Net alone."""
    models = tmp_path / "mine.toml"
    models.write_text(f'name = "mine"\nbase = "showroom"\n[roles]\nsaliency = "{u2net}"\n')
    chosen = [single_things[number] for number in (3, 7)]  # one plane in the sky, one bear on its meadow
    out = tmp_path / "ads"
    line = ["--models", models, "--want", 1, "--attempts", 1, "--out", out, "--ledger", tmp_path / "book"]
    done = run("ads", "make", *(path for path, _ in chosen), "--title", "toy", *line)
    assert done.returncode == 0, done.stderr
    pictures = all_pictures(json.loads((out / "results.json").read_text()))
    assert [Path(brief["image"]) for brief, _ in pictures] == [path.resolve() for path, _ in chosen]
    loaded = Models(resolve(models))
    for (brief, picture), (path, box) in zip(pictures, chosen, strict=True):
        assert brief["title"] == "toy" and kept_exactly(picture, path, loaded)
        left, top, right, bottom = visible_box(cut_out(open_image(path), loaded), path.name)
        assert max(abs(left - box[0]), abs(top - box[1]), abs(right - box[2]), abs(bottom - box[3])) < 25  # pixels
