"""From images in [0, 1] to what a pretrained network expects, in torch, so that gradient flows to the image."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from transformers.image_processing_utils import BaseImageProcessor

from goodeye.errors import BadInput

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# PIL's numbers for filters, as preprocessor_config.json writes them. Torch has no Lanczos: bicubic is nearest to it.
_FILTERS = {0: "nearest-exact", 1: "bicubic", 2: "bilinear", 3: "bicubic", 4: "area"}


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """How a network wants its pixels. At most one of `size`, `shortest_edge` and `divisor` decides the size."""

    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    size: tuple[int, int] | None = None  # height, width
    shortest_edge: int | None = None  # keeps the aspect
    crop: tuple[int, int] | None = None  # centre crop after resizing: height, width
    divisor: int | None = None  # both sides rounded to a multiple of it
    resample: str = "bicubic"

    def __call__(self, images: Float[Tensor, "N 3 H W"]) -> Float[Tensor, "N 3 h w"]:
        """images in [0, 1] -> resized, cropped, normalised."""
        if self.shortest_edge:
            images = _limit_aspect(images)
        height, width = images.shape[-2:]
        images = resize(images, self._target(height, width), self.resample)
        if self.crop:
            images = centre_crop(images, self.crop)
        mean = images.new_tensor(self.mean).view(-1, 1, 1)
        std = images.new_tensor(self.std).view(-1, 1, 1)
        return (images - mean) / std

    def _target(self, height: int, width: int) -> tuple[int, int]:
        if self.size:
            return self.size
        if self.shortest_edge:
            short = self.shortest_edge
            return (short, short * width // height) if height <= width else (short * height // width, short)
        if self.divisor:
            down = self.divisor
            return max(down, height // down * down), max(down, width // down * down)
        return height, width

    @classmethod
    def from_pretrained(cls, folder_or_id: str | Path) -> "Pixels":
        """Reads preprocessor_config.json (or processor_config.json). Raises BadInput where there is none."""
        try:
            config, _ = BaseImageProcessor.get_image_processor_dict(str(folder_or_id))
        except OSError as error:
            raise BadInput(
                f"{folder_or_id} has no preprocessor_config.json, so how its pixels are normalised is unknown. "
                "Add one that gives image_mean, image_std and size."
            ) from error
        return cls.from_config(config)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Pixels":
        """The fields that transformers' image processors write."""
        resized = config.get("do_resize", True)
        size = config.get("size") if resized else None
        size = {"height": size, "width": size} if isinstance(size, int) else (size or {})
        crop = config.get("crop_size") if config.get("do_center_crop", False) else None
        crop = {"height": crop, "width": crop} if isinstance(crop, int) else crop
        normalised = config.get("do_normalize", config.get("image_mean") is not None)
        return cls(
            mean=tuple(config.get("image_mean") or IMAGENET_MEAN) if normalised else (0.0, 0.0, 0.0),
            std=tuple(config.get("image_std") or IMAGENET_STD) if normalised else (1.0, 1.0, 1.0),
            size=(size["height"], size["width"]) if "height" in size else None,
            shortest_edge=size.get("shortest_edge"),
            crop=(crop["height"], crop["width"]) if crop else None,
            divisor=config.get("size_divisor") if resized and "height" not in size else None,
            resample=_FILTERS.get(config.get("resample", 3), "bicubic"),
        )

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes preprocessor_config.json, so that `from_pretrained(folder)` gives this back."""
        config: dict[str, Any] = {
            "do_normalize": True,
            "image_mean": list(self.mean),
            "image_std": list(self.std),
            "do_rescale": True,
            "do_resize": bool(self.size or self.shortest_edge or self.divisor),
            "do_center_crop": self.crop is not None,
            "resample": next(number for number, name in reversed(_FILTERS.items()) if name == self.resample),
        }
        if self.size:
            config["size"] = {"height": self.size[0], "width": self.size[1]}
        elif self.shortest_edge:
            config["size"] = {"shortest_edge": self.shortest_edge}
        if self.crop:
            config["crop_size"] = {"height": self.crop[0], "width": self.crop[1]}
        if self.divisor:
            config["size_divisor"] = self.divisor
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / "preprocessor_config.json").write_text(json.dumps(config, indent=2) + "\n")


def resize(
    images: Float[Tensor, "N C H W"], size: tuple[int, int], resample: str = "bilinear"
) -> Float[Tensor, "N C h w"]:
    """Resizes with anti-aliasing (bicubic overshoot is clamped to [0, 1]); does nothing where the size is right."""
    if images.shape[-2:] == torch.Size(size):
        return images
    if resample in ("bilinear", "bicubic"):
        images = F.interpolate(images, size=size, mode=resample, antialias=True, align_corners=False)
        return images.clamp(0, 1) if resample == "bicubic" else images
    return F.interpolate(images, size=size, mode=resample)


def centre_crop(images: Float[Tensor, "N C H W"], size: tuple[int, int]) -> Float[Tensor, "N C h w"]:
    """Cuts the middle out; a side that is too short is padded with zeros first, as transformers does."""
    height, width = images.shape[-2:]
    short = max(0, size[0] - height), max(0, size[1] - width)
    if any(short):
        top, left = -(-short[0] // 2), -(-short[1] // 2)
        images = F.pad(images, (left, short[1] - left, top, short[0] - top))
        height, width = images.shape[-2:]
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    return images[..., top : top + size[0], left : left + size[1]]


def _limit_aspect(images: Float[Tensor, "N C H W"], limit: int = 8) -> Float[Tensor, "N C h w"]:
    """Cuts the ends off a very long picture, which would become huge when its short side is brought to size."""
    height, width = images.shape[-2:]
    if max(height, width) <= limit * min(height, width):
        return images
    return centre_crop(images, (min(height, limit * width), min(width, limit * height)))


def on_white(product: Float[Tensor, "N 4 H W"]) -> Float[Tensor, "N 3 H W"]:
    """Straight-alpha RGBA in [0, 1] composed on white."""
    colour, alpha = product[:, :3], product[:, 3:]
    return colour * alpha + (1 - alpha)
