"""Tiny models that several tests of judging share."""

import torch
from transformers import CLIPConfig, CLIPModel

from goodeye.judging.clip import Clip
from goodeye.judging.pixels import Pixels
from goodeye.judging.rfnet import RFNetConfig
from goodeye.judging.rfnet_fit import RFNetTraining
from goodeye.judging.samples import Samples
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


def grey(images):
    """A map estimator: the mean of the colours."""
    return images.mean(1, keepdim=True)


grey.differentiable, grey.version = True, "1"


def toy_samples(count=48, size=32, seed=0) -> Samples:
    """Pictures whose label is in plain sight: bright ones are available, dark ones are a space mismatch."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    noise = torch.randint(0, 90, (count, 3, size, size), generator=random)
    images = (noise + 150 * (1 - labels).view(-1, 1, 1, 1)).to(torch.uint8)

    def pixels(channels):
        return torch.randint(0, 256, (count, channels, size, size), generator=random).to(torch.uint8)

    titles = [("a red mug", "a chair", "")[number % 3] for number in range(count)]
    return Samples(pixels(4), images, pixels(1), pixels(1), titles, labels)


def tiny_training(**fields) -> RFNetTraining:
    text = {k: v for k, v in BERT.items() if k != "vocab_size"}
    rfnet = {"width": 16, "heads": 2, "n2": 1, "dropout": 0.0, "title_length": 8}
    tiny = {"image_encoder": RESNET, "text_encoder": text, "rfnet": rfnet, "batch_size": 16, "lr": 3e-3, "epochs": 6}
    return RFNetTraining(**(tiny | fields))
