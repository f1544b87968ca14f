"""A SigLIP goes the whole way of search: indexed, asked with taste, aligned, and indexed again by what came of it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_align import SMALL, WORDS
from tiny_clip import save_picture
from transformers import SiglipConfig, SiglipImageProcessorPil, SiglipModel

from goodeye.errors import BadInput
from goodeye.judging.clip import Clip
from goodeye.judging.titles import title_tokenizer
from goodeye.search.align import align
from goodeye.search.ask import Searcher
from goodeye.search.build import index_pictures
from goodeye.search.index import Index
from goodeye.search.taste import fit_taste

pytestmark = pytest.mark.usefixtures("one_thread")
TOWER = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
TEXT = TOWER | {"vocab_size": 64, "max_position_embeddings": 16, "bos_token_id": 2, "eos_token_id": 3}


@pytest.fixture(scope="module")
def siglip(tmp_path_factory):
    """A folder with a tiny SigLIP of random weights."""
    folder = tmp_path_factory.mktemp("siglip")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vision = TOWER | {"image_size": 64, "patch_size": 16}
        SiglipModel(SiglipConfig(text_config=TEXT | {"projection_size": 32}, vision_config=vision)).save_pretrained(
            folder
        )
    SiglipImageProcessorPil(size={"height": 64, "width": 64}).save_pretrained(folder)
    title_tokenizer(WORDS).save_pretrained(folder)
    return folder


@pytest.fixture
def pictures(tmp_path):
    random = np.random.default_rng(0)
    for number in range(40):
        path = save_picture(tmp_path / "p" / f"{number}.png", random.integers(0, 255, 3))
        path.with_suffix(".txt").write_text(WORDS[number % 4])
    return tmp_path / "p"


def test_a_siglip_is_indexed_asked_and_aligned(siglip, pictures, tmp_path):
    clip, toml = Clip.from_pretrained(siglip), tmp_path / "mine.toml"
    toml.write_text(f'[roles]\nclip = "{siglip}"\n')
    built = index_pictures(pictures, tmp_path / "i", clip, str(toml), duplicates=0)
    assert built.added == 40 and Index(tmp_path / "i").card.dimensions == 32
    votes = "".join(f"{path},{number}\n" for number, path in enumerate(sorted(pictures.glob("*.png"))))
    (tmp_path / "s.csv").write_text("image,score\n" + votes)
    fit_taste(tmp_path / "i", tmp_path / "s.csv")
    searcher = Searcher(tmp_path / "i", models=str(toml))
    hits = searcher.ask("red cup", k=5).found.hits
    index, query = searcher.index, clip.embed_texts(["red cup"])[0].detach().numpy()
    assert hits[0].similarity == pytest.approx(float((index.vectors @ query).max()), abs=1e-5)
    config = replace(SMALL, train="lora", pretrain=0.5)
    done = align(index, clip, searcher.weight, tmp_path / "run", queries=WORDS, config=config, cpu=True)
    after = Clip.from_pretrained(done.weights)
    assert after.version != Clip.from_pretrained(siglip).version
    assert index_pictures(pictures, tmp_path / "j", after, "mine", duplicates=0).added == 40


def test_a_siglip_has_no_projections_to_train_alone(siglip, pictures, tmp_path):
    clip = Clip.from_pretrained(siglip)
    index_pictures(pictures, tmp_path / "i", clip, "mine", duplicates=0)
    with pytest.raises(BadInput, match="siglip has no projections of its own. Train it full, or by lora"):
        align(
            Index(tmp_path / "i"), clip, np.ones(32, np.float32), tmp_path / "run", queries=WORDS,
            config=replace(SMALL, train="projection"), cpu=True,
        )  # fmt: skip
