"""The adapters of search that ship with the showroom: made, small, carded, and of the shipped CLIP."""

import json

import pytest
import torch

from goodeye.errors import BadInput
from goodeye.modelset import SHOWROOM, Models, resolve
from goodeye.search.adapt import ADAPTER, adapted
from goodeye.showroom import tastes
from goodeye.showroom.tastes import MOST_BYTES, ROWS, build_tastes

WORDS = ["a red shoe on the sand", "a blue chair in a spa"]


def test_a_row_is_trained_shipped_and_not_trained_again(tmp_path, monkeypatch):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    said: list[str] = []
    small = {"rows": ("dpo",), "taught": 10, "plain": 64, "steps": 2, "say": said.append}
    place = build_tastes(tmp_path, **small)
    clip = Models(resolve("showroom")).clip
    got = adapted(clip, place / "dpo")
    torch.set_num_threads(threads)
    assert not torch.equal(got.embed_texts(WORDS), clip.embed_texts(WORDS))
    size = (place / "dpo" / ADAPTER).stat().st_size
    assert size < MOST_BYTES and said == [f"dpo: {size} bytes"]
    card = (place / "dpo" / "README.md").read_text()
    assert clip.version in card and "Apache-2.0" in card and "| steps | 2 |" in card
    monkeypatch.setattr("goodeye.search.lessons.align", lambda *given, **named: pytest.fail("trained again"))
    build_tastes(tmp_path, **small)
    monkeypatch.setattr(tastes, "MOST_BYTES", 10)
    with pytest.raises(BadInput, match="may be shipped"):
        build_tastes(tmp_path, **small)
    assert (place / "dpo" / ADAPTER).stat().st_size == size  # what was there stays


@pytest.mark.parametrize("row", ROWS)
def test_what_ships_belongs_to_the_shipped_clip(row):
    folder = SHOWROOM / "search" / row
    clip = Models(resolve("showroom")).clip
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == clip.version
    assert (folder / ADAPTER).stat().st_size < MOST_BYTES and (folder / "README.md").is_file()
    assert not torch.equal(adapted(clip, folder).embed_texts(WORDS), clip.embed_texts(WORDS))
