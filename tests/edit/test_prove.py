"""The proof: rows on the same edits and noise, sweeps against their own axis, and pictures made once."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from tiny_editor import save_editor

from goodeye.edit import prove as proofs
from goodeye.edit.prove import ROWS, Asked, Bench, Prove, prove, retrained
from goodeye.edit.prove_report import table
from goodeye.errors import BadInput
from goodeye.images import open_image, to_tensor
from goodeye.modelset import Models, resolve

N = 3


@pytest.fixture(scope="module")
def models(tiny_set, tmp_path_factory):
    toml = save_editor(tiny_set, tmp_path_factory.mktemp("editor"))
    model_set = resolve(toml)
    plain = {role: place for role, place in model_set.roles.items() if role != "rewards"}
    faster = {"edit": {"size": 32, "steps": 1}}
    return {
        "base": Models(replace(model_set, roles=plain, tables=faster)),
        "full": Models(replace(model_set, tables=faster)),
    }


def asked():
    made = torch.Generator().manual_seed(0)
    mask = torch.zeros(32, 32, dtype=torch.bool)
    mask[:, :16] = True
    return [
        Asked(key=f"{at}-wall", instruction="a red shoe", original=torch.rand(3, 32, 32, generator=made), mask=mask)
        for at in range(N)
    ]


def by_brightness(pictures, which):
    """Following is the picture's mean, preserving its number, quality 5."""
    return np.stack([5 * pictures.mean((1, 2, 3)).numpy(), np.array(which, float), np.full(len(which), 5.0)], 1)


def test_rows_sweeps_and_differences(models, tmp_path):
    proof = prove(Bench(asked=asked(), score=by_brightness), models, config=Prove(sweep=2), out=tmp_path / "out")
    numbers = json.loads((tmp_path / "out" / "results.json").read_text())
    assert numbers == json.loads(json.dumps(proof.numbers))
    row = numbers["rows"]["full"]
    assert row["preserving"]["mean"] == 1.0 and row["quality"] == {"mean": 5.0, "low": 5.0, "high": 5.0}
    parts = [row[axis]["mean"] for axis in ("following", "preserving", "quality")]
    assert row["overall"]["mean"] == pytest.approx(sum(parts) / 3, abs=1e-3) and "outside_psnr" in row
    apart = row["following"]["mean"] - numbers["rows"]["base"]["following"]["mean"]
    assert numbers["against"]["base"]["full"]["following"]["mean"] == pytest.approx(apart, abs=2e-4)
    assert numbers["sweep"]["quality"]["spearman"]["mean"] == 0.0 and numbers["swept"] == {"row": "full", "n": 2}
    folders = [f"full-following-{level}" for level in range(5)] + ["full"]
    made = [[tmp_path / "out" / "pictures" / folder / f"{at}-wall.png" for at in (0, 1)] for folder in folders]
    seen = [torch.stack([to_tensor(open_image(file)) for file in pair]) for pair in made]
    means = [by_brightness(pair, (0, 1))[:, 0].mean() for pair in seen]
    wanted = spearmanr(range(6), means).statistic
    assert numbers["sweep"]["following"]["spearman"]["mean"] == pytest.approx(wanted, abs=1e-3)
    assert numbers["left_out"].keys() == set(ROWS) - {"full"}
    told = table(numbers)
    assert "full against base" in told and "following asked for at 0 to 5" in told
    assert [line for line in told.splitlines() if line.startswith("left out")] == [
        f"left out: {', '.join(name for name in ROWS if name != 'full')}; no editor was given for it"
    ]
    page = proof.report.read_text()
    assert "Each reward asked for at 0 to 5" in page and page.count("<th>Spearman</th>") == 1
    assert (
        "a red shoe" in page and page.count("<img") == 3 * N + 3 * 6 * 2
    )  # before, two rows, and three sweeps of two edits


def test_pictures_are_made_once_and_other_editors_need_another_folder(models, tmp_path, monkeypatch):
    bench, config = Bench(asked=asked(), score=by_brightness), Prove(sweep=0)
    first = prove(bench, models, config=config, out=tmp_path / "out").numbers["rows"]
    gone = tmp_path / "out" / "pictures" / "full" / "1-wall.png"
    before = gone.read_bytes()
    gone.unlink()
    calls = []
    real = proofs.edit
    monkeypatch.setattr(proofs, "edit", lambda *given, **more: calls.append(given[2]) or real(*given, **more))
    assert prove(bench, models, config=config, out=tmp_path / "out").numbers["rows"] == first
    assert calls == [["a red shoe"]] and gone.read_bytes() == before
    with pytest.raises(BadInput, match="other editors or edits"):
        prove(bench, models, config=replace(config, seed=1), out=tmp_path / "out")
    with pytest.raises(BadInput, match="other editors or edits"):
        prove(bench, {"base": models["full"]}, config=config, out=tmp_path / "out")


def test_another_batch_goes_on_and_a_mask_to_the_rim_empties_no_column(models, tmp_path):
    some = asked()
    rim = torch.zeros(32, 32, dtype=torch.bool)
    rim[5:-5, 5:-5] = True
    bench = Bench(asked=[replace(some[0], mask=rim), *some[1:]], score=by_brightness)
    whole = Bench(asked=some[1:], score=lambda pictures, which: by_brightness(pictures, [at + 1 for at in which]))
    numbers = prove(bench, models, config=Prove(sweep=0), out=tmp_path / "out").numbers
    again = prove(bench, models, config=Prove(sweep=0, batch=2), out=tmp_path / "out").numbers
    assert again["rows"] == numbers["rows"]
    others = prove(whole, models, config=Prove(sweep=0), out=tmp_path / "others").numbers
    assert numbers["rows"]["full"]["outside_ssim"]["mean"] == others["rows"]["full"]["outside_ssim"]["mean"]
    assert "outside_ssim" in numbers["against"]["base"]["full"]
    alone = Bench(asked=[replace(some[0], mask=rim)], score=by_brightness)
    assert (
        "outside_ssim" not in prove(alone, models, config=Prove(sweep=0), out=tmp_path / "one").numbers["rows"]["full"]
    )


def test_rewards_steer_the_row_that_is_swept(models, tmp_path):
    proof = prove(Bench(asked=asked(), score=by_brightness), models, config=Prove(sweep=1), out=tmp_path / "out")
    pictures = [proof.out / "pictures" / f"full-following-{level}" / "0-wall.png" for level in range(5)]
    assert len({file.read_bytes() for file in pictures}) == 5


def test_nothing_to_prove_is_told(models, tmp_path):
    with pytest.raises(BadInput, match="no editor to prove"):
        prove(Bench(asked=asked(), score=by_brightness), {}, out=tmp_path)
    with pytest.raises(BadInput, match="sweep is -1"):
        prove(Bench(asked=asked(), score=by_brightness), models, config=Prove(sweep=-1), out=tmp_path)
    with pytest.raises(BadInput, match="fast is no row"):
        retrained("fast", models["base"], [], tmp_path, config=None)


def test_every_row_is_as_published_and_differs_in_its_own_way_alone():
    assert ROWS["full"] == {} and ROWS["no_reward"] == {"given": "none"}
    left = {name: set(row.get("without", ())) for name, row in ROWS.items() if "without" in row}
    assert left == {"scores": {"text"}, "text": {"scores"}, "a": {"b"}, "b": {"a"}}
