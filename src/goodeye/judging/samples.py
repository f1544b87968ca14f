"""Labelled pictures as tensors in memory (or mapped from disk): what RFNet learns from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from goodeye.judging.pixels import on_white


@dataclass(frozen=True, eq=False)
class Samples:
    """N samples. `rows` says which rows of the tensors they are, and in which order; None: all of them.

    products: straight-alpha RGBA on the image's canvas. labels: numbers of rfnet.CLASSES. facts: what else is known of
    the pictures, [M, ...] each by name, for side tasks; maps have four dimensions.
    """

    products: UInt8[Tensor, "M 4 H W"]
    images: UInt8[Tensor, "M 3 H W"]
    depth: UInt8[Tensor, "M 1 H W"]
    saliency: UInt8[Tensor, "M 1 H W"]
    titles: Sequence[str]
    labels: Int[Tensor, " M"]
    facts: Mapping[str, Tensor] = field(default_factory=dict)
    rows: Int[Tensor, " N"] | None = None

    def __post_init__(self) -> None:
        count, size = len(self.labels), tuple(self.images.shape[2:])
        for name, channels in (("products", 4), ("images", 3), ("depth", 1), ("saliency", 1)):
            tensor = getattr(self, name)
            if tuple(tensor.shape) != (count, channels, *size) or tensor.dtype != torch.uint8:
                raise ValueError(
                    f"{name} must be uint8 {[count, channels, *size]}, not {tensor.dtype} {[*tensor.shape]}"
                )
        if len(self.titles) != count:
            raise ValueError(f"{len(self.titles)} titles for {count} samples; give one each, '' where there is none")

    def __len__(self) -> int:
        return len(self.labels) if self.rows is None else len(self.rows)

    def subset(self, items: Sequence[int] | Tensor) -> "Samples":
        """These samples, without copying a pixel."""
        chosen = torch.as_tensor(items, dtype=torch.long)
        return replace(self, rows=chosen if self.rows is None else self.rows[chosen])

    def label_tensor(self) -> Int[Tensor, " N"]:
        """The labels of the samples, in order."""
        return self.labels if self.rows is None else self.labels[self.rows]

    def batch(self, items: Sequence[int]) -> dict[str, Tensor]:
        """Copies of the pictures (uint8), of labels and facts, and "row", the samples' rows in the tensors."""
        rows = torch.as_tensor(items, dtype=torch.long)
        rows = rows if self.rows is None else self.rows[rows]
        pictures = {name: getattr(self, name)[rows] for name in ("products", "images", "depth", "saliency")}
        facts = {name: values[rows] for name, values in self.facts.items()}
        return pictures | facts | {"labels": self.labels[rows].long(), "row": rows}


def mirrored(batch: dict[str, Tensor], which: Tensor) -> dict[str, Tensor]:
    """Mirrors all pictures of the samples where `which` [N] is true: product, image and maps alike."""

    def flip(pictures: Tensor) -> Tensor:
        return torch.where(which.view(-1, 1, 1, 1), pictures.flip(-1), pictures)

    return {name: flip(value) if value.ndim == 4 else value for name, value in batch.items()}


def as_inputs(batch: dict[str, Tensor]) -> dict[str, Float[Tensor, "N C H W"]]:
    """A batch's pictures as RFNet takes them: floats in [0, 1], the product on white."""
    floats = {name: batch[name].float() / 255 for name in ("products", "images", "depth", "saliency")}
    return {
        "product": on_white(floats["products"]),
        "image": floats["images"],
        "depth": floats["depth"],
        "saliency": floats["saliency"],
    }
