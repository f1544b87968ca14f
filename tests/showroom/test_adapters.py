"""Adapters that ship: small, halved, with a card that says of which generator; none of a generator that is no more."""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from goodeye.ads.retrain import DONE, Retrained
from goodeye.ads.settings import Budget
from goodeye.errors import BadInput
from goodeye.judging.protocol import fingerprint
from goodeye.modelset import SHOWROOM, Models, resolve, shipped_adapters
from goodeye.showroom import adapters

WEIGHTS = {"unet.a.lora_A.weight": torch.linspace(-1, 1, 24).view(4, 6)}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """What a finished row leaves."""
    folder = tmp_path / "run"
    (folder / "lora").mkdir(parents=True)
    save_file(WEIGHTS, folder / "lora" / adapters.LORA)
    config = vars(Budget().of("rfft_cc", 3))
    done = {"config": config, "steps": 90, "seconds": 61.4, "best": 60, "stopped": "it fell", "last": {"trained": 0.75}}
    (folder / DONE).write_text(json.dumps(done))
    return folder


def test_it_is_halved_and_its_card_says_what_it_is(run: Path, tmp_path: Path) -> None:
    size = adapters.ship(run, tmp_path / "rfft_cc", "rfft_cc", "0123456789ab")
    (file,) = (tmp_path / "rfft_cc" / "lora").iterdir()
    kept = load_file(file)["unet.a.lora_A.weight"]
    assert file.stat().st_size == size and kept.dtype == torch.float16
    assert torch.allclose(kept.float(), WEIGHTS["unet.a.lora_A.weight"], atol=1e-3)
    card = (tmp_path / "rfft_cc" / "README.md").read_text()
    rows = dict(re.findall(r"^\| (\w+) \| (.*) \|$", card, re.MULTILINE))
    assert rows["generator"] == "0123456789ab" and rows["kept"] == "60" and rows["stopped"] == "it fell"
    assert rows["beta"] == "0.02" and rows["seed"] == "3" and rows["trained"] == "0.75"
    assert "--models showroom+rfft_cc" in card and "oracle took no part" in card


def test_one_that_is_too_large_is_refused(run: Path, tmp_path: Path) -> None:
    save_file({"unet.a.lora_A.weight": torch.zeros(600, 600)}, run / "lora" / adapters.LORA)
    with pytest.raises(BadInput, match="500,000 may be shipped. Give a lower --rank"):
        adapters.ship(run, tmp_path / "big", "big", "")


def test_they_are_trained_on_worlds_that_no_proof_measures_on(run: Path, tmp_path: Path, monkeypatch) -> None:
    """Every row from the same briefs and seed; what cannot be trained is said, and the others are ready."""
    seen = {}

    def retrain(briefs, **options):
        seen.update(options, briefs=briefs)
        return Retrained(adapters={"rfft_cc": run}, lacking={"dpo": "no pair"})

    monkeypatch.setattr(adapters, "retrain", retrain)
    monkeypatch.setattr(adapters, "fingerprint", lambda network: "0123456789ab")
    said: list[str] = []
    found = adapters.build_adapters(tmp_path / "out", budget=Budget(briefs=2), say=said.append)
    assert found == tmp_path / "out" / "weights" / "align" and (found / "rfft_cc" / "README.md").is_file()
    assert len(seen["briefs"]) == 2 and seen["models"] == "showroom"
    assert any("dpo could not be trained: no pair" in line for line in said)


def test_every_shipped_adapter_belongs_to_the_shipped_generator() -> None:
    unet = fingerprint(Models(resolve("showroom")).unet)
    for name, place in shipped_adapters().items():
        assert f"| generator | {unet} |" in (place / "README.md").read_text(), f"{name} is of another U-Net: train anew"
        assert (place / "lora" / adapters.LORA).stat().st_size <= adapters.MOST_BYTES
        assert resolve(f"showroom+{name}").roles["lora"] == str(place / "lora")


def test_what_a_row_comes_to_is_no_matter_of_the_oracle() -> None:
    """Neither the training of rows nor what ships knows it."""
    import goodeye.ads.align
    import goodeye.ads.retrain
    import goodeye.ads.watch

    for module in (adapters, goodeye.ads.align, goodeye.ads.retrain, goodeye.ads.watch):
        source = Path(str(module.__file__)).read_text()
        assert not re.search(r"^\s*(from|import) .*oracle|the_oracle\(", source, re.MULTILINE), module.__name__


@pytest.mark.parametrize("row", ["refl", "rfft_none", "rfft_cc"])
def test_what_ships_belongs_to_the_shipped_unet_and_changes_it(row: str) -> None:
    folder = SHOWROOM / "align" / row
    plain, tuned = Models(resolve("showroom")).unet, Models(resolve(f"showroom+{row}")).unet
    assert f"| generator | {fingerprint(plain)} |" in (folder / "README.md").read_text()
    assert sum(file.stat().st_size for file in folder.rglob("*.safetensors")) < adapters.MOST_BYTES
    changed = [not torch.equal(one, two) for one, two in zip(plain.parameters(), tuned.parameters(), strict=True)]
    assert 0 < sum(changed) < len(changed)
