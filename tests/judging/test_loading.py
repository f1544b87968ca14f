"""A model whose weights are not all there is refused, not filled up with random numbers."""

import pytest
from tiny_judges import rfnet_config
from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerModel

from goodeye.errors import BadInput
from goodeye.judging.loading import load_model
from goodeye.judging.maps import SaliencyEstimator
from goodeye.judging.rfnet import RFNet

TINY = {"depths": [1] * 4, "hidden_sizes": [8] * 4, "num_attention_heads": [1] * 4, "decoder_hidden_size": 8}


def test_an_encoder_alone_is_no_saliency_model(tmp_path):
    config = SegformerConfig(**TINY, num_labels=2)
    SegformerModel(config).save_pretrained(tmp_path / "encoder")
    with pytest.raises(BadInput, match=r"lacks \d+ weights of a SegformerForSemanticSegmentation, decode_head"):
        SaliencyEstimator.from_pretrained(tmp_path / "encoder")
    SegformerForSemanticSegmentation(config).save_pretrained(tmp_path / "whole")
    assert load_model(SegformerForSemanticSegmentation, tmp_path / "whole").config.num_labels == 2


def test_a_whole_rfnet_loads(tmp_path):
    RFNet(rfnet_config(use_product=False)).save_pretrained(tmp_path)
    assert not load_model(RFNet, tmp_path).config.use_product
