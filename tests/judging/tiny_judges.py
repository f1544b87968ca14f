"""Tiny models that several tests of judging share."""

from goodeye.judging.rfnet import RFNetConfig

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
