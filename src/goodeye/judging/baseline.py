"""What RFNet is measured against: a classifier that sees the generated image alone."""

from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import ResNetConfig, ResNetForImageClassification

from goodeye.judging.pixels import IMAGENET_MEAN, IMAGENET_STD, Pixels
from goodeye.judging.rfnet import RFNet, RFNetConfig


class SingleImage(nn.Module):
    """A ResNet with a linear head on the generated image, called like RFNet; everything else is ignored."""

    def __init__(self, model: ResNetForImageClassification, image_size: int) -> None:
        super().__init__()
        self.model = model
        self.pixels = Pixels(mean=IMAGENET_MEAN, std=IMAGENET_STD, size=(image_size, image_size), resample="bilinear")

    def forward(
        self,
        product: Tensor | None,
        image: Tensor,
        depth: Tensor | None,
        saliency: Tensor | None,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        """image: [N, 3, H, W] in [0, 1]. Returns logits [N, classes]."""
        return self.trunk(product, image, depth, saliency)[0]

    def trunk(
        self,
        product: Tensor | None,
        image: Tensor,
        depth: Tensor | None,
        saliency: Tensor | None,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The logits, and what they are made of: the pooled map [N, width], and the map's cells [N, L, width]."""
        seen = self.model.resnet(self.pixels(image))
        pooled, cells = seen.pooler_output, seen.last_hidden_state.flatten(2).transpose(1, 2)
        return self.model.classifier(pooled), pooled.flatten(1), cells

    def save_pretrained(self, folder: str | Path) -> None:
        """A transformers folder of ResNetForImageClassification."""
        self.model.save_pretrained(str(folder))


def baseline_for(config: RFNetConfig, pretrained: str | Path | None = None) -> SingleImage:
    """The single-image ResNet that RFNet of this config is compared with, for the same classes and picture size.

    pretrained: a ResNet's folder or hub id, as in the paper's comparison; without it, RFNet's own image encoder made
    wider until it has about as many parameters as RFNet.
    """
    if pretrained is not None:
        model = ResNetForImageClassification.from_pretrained(
            str(pretrained),
            use_safetensors=True,
            dtype=torch.float32,
            num_labels=config.classes,
            ignore_mismatched_sizes=True,
        )
    else:
        model = ResNetForImageClassification(like_size(config))
    model.config.id2label, model.config.label2id = config.id2label, config.label2id
    return SingleImage(model, config.image_size)


def like_size(config: RFNetConfig) -> ResNetConfig:
    """RFNet's image encoder, its widths multiplied so that the whole has about as many parameters as RFNet."""
    with torch.device("meta"):
        wanted = RFNet(config).num_parameters()
        best, miss = _widened(config, 1.0), wanted
        for step in range(200):
            wider = _widened(config, 1 + step / 20)
            size = ResNetForImageClassification(wider).num_parameters()
            if abs(size - wanted) < miss:
                best, miss = wider, abs(size - wanted)
            if size > wanted:
                break
    return best


def _widened(config: RFNetConfig, factor: float) -> ResNetConfig:
    resnet = ResNetConfig(**(config.image_encoder or {}))
    resnet.embedding_size = 8 * round(resnet.embedding_size * factor / 8)
    resnet.hidden_sizes = [8 * round(size * factor / 8) for size in resnet.hidden_sizes]
    resnet.num_labels = config.classes
    return resnet
