"""Tiny models that several tests of judging share."""

from transformers import CLIPConfig, CLIPModel

from goodeye.judging.clip import Clip
from goodeye.judging.pixels import Pixels
from goodeye.judging.rfnet import RFNetConfig
from goodeye.judging.titles import title_tokenizer

RESNET = {"embedding_size": 8, "hidden_sizes": [8, 12, 16, 24], "depths": [1, 1, 1, 1], "layer_type": "basic"}
BERT = {
    "model_type": "bert",
    "vocab_size": 64,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 32,
}


def rfnet_config(**fields) -> RFNetConfig:
    tiny = {"image_encoder": RESNET, "text_encoder": BERT, "image_size": 64, "width": 16, "heads": 2, "n2": 2}
    return RFNetConfig(**(tiny | {"title_length": 8} | fields))


def tiny_clip(texts) -> Clip:
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = tower | {"vocab_size": 64, "max_position_embeddings": 16, "bos_token_id": 2, "eos_token_id": 3}
    vision = tower | {"image_size": 64, "patch_size": 16}
    model = CLIPModel(CLIPConfig(text_config=text | {"pad_token_id": 0}, vision_config=vision, projection_dim=24))
    return Clip(model, title_tokenizer(texts), Pixels(shortest_edge=64, crop=(64, 64)), licence="mit")
