"""Depth and saliency: callables that take images [N, 3, H, W] in [0, 1] and give maps [N, 1, H, W] in [0, 1].

Depth: 1 is nearest. Saliency: 1 is most salient. Those that are made of torch let gradient through to the images; their
own weights are frozen.
"""

import hashlib
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from transformers import AutoModelForDepthEstimation, AutoModelForSemanticSegmentation, PreTrainedModel

from goodeye.errors import BadInput
from goodeye.judging.loading import identity, load_model
from goodeye.judging.pixels import IMAGENET_MEAN, IMAGENET_STD, Pixels, resize
from goodeye.judging.protocol import fingerprint

Map = Float[Tensor, "N 1 H W"]

STRIDE = 32  # how much smaller the last stage of these networks is than the picture


class MapEstimator(Protocol):
    """What depth and saliency estimators have in common."""

    @property
    def differentiable(self) -> bool:
        """True if the map's gradient reaches the images."""

    @property
    def version(self) -> str:
        """Changes with the weights."""

    def __call__(self, images: Float[Tensor, "N 3 H W"]) -> Map:
        """images in [0, 1] -> map in [0, 1], of the images' size."""


class DepthEstimator:
    """Depth by any of transformers' AutoModelForDepthEstimation: GLPN, DPT, Depth Anything, ZoeDepth.

    A metric model (one that knows its farthest depth) gives distances, so 1 - distance / farthest. A relative one gives
    nearness without a scale, so each image is stretched to [0, 1].
    """

    differentiable = True

    def __init__(self, model: PreTrainedModel, pixels: Pixels) -> None:
        self.model = model.eval().requires_grad_(False)
        self.pixels = pixels
        self.farthest = farthest_depth(model.config)

    @classmethod
    def from_pretrained(
        cls, folder_or_id: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
    ) -> "DepthEstimator":
        """Loads safetensors weights and how pixels are prepared (preprocessor_config.json)."""
        model = load_model(AutoModelForDepthEstimation, folder_or_id, dtype)
        return cls(model.to(device), Pixels.from_pretrained(folder_or_id))

    @property
    def version(self) -> str:
        """Changes with the weights and with how pixels are prepared."""
        return identity(self.model, pixels=repr(self.pixels))

    def __call__(self, images: Float[Tensor, "N 3 H W"]) -> Map:
        """images in [0, 1] -> nearness in [0, 1], of the images' size."""
        depth = self.model(pixel_values=_prepared(images, self.pixels, self.model, STRIDE)).predicted_depth
        depth = depth.to(images.dtype)[:, None]
        depth = F.interpolate(depth, size=images.shape[-2:], mode="bilinear", align_corners=False)
        return stretch(depth) if self.farthest is None else (1 - depth / self.farthest).clamp(0, 1)


class SaliencyEstimator:
    """Saliency by a transformers AutoModelForSemanticSegmentation (SegFormer and its like) with one or two labels.

    The last label is the salient one.
    """

    differentiable = True

    def __init__(self, model: PreTrainedModel, pixels: Pixels) -> None:
        if model.config.num_labels not in (1, 2):
            raise BadInput(
                f"the saliency model {model.config.name_or_path or type(model).__name__} has {model.config.num_labels} "
                "labels. Use one with one label (salient) or two (the rest, salient)."
            )
        self.model = model.eval().requires_grad_(False)
        self.pixels = pixels

    @classmethod
    def from_pretrained(
        cls, folder_or_id: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
    ) -> "SaliencyEstimator | OnnxSaliency":
        """Loads safetensors weights and how pixels are prepared; a path that ends in .onnx gives an OnnxSaliency."""
        if str(folder_or_id).endswith(".onnx"):
            return OnnxSaliency(folder_or_id)
        model = load_model(AutoModelForSemanticSegmentation, folder_or_id, dtype)
        return cls(model.to(device), Pixels.from_pretrained(folder_or_id))

    @property
    def version(self) -> str:
        """Changes with the weights and with how pixels are prepared."""
        return identity(self.model, pixels=repr(self.pixels))

    def __call__(self, images: Float[Tensor, "N 3 H W"]) -> Map:
        """images in [0, 1] -> saliency in [0, 1], of the images' size."""
        logits = self.model(pixel_values=_prepared(images, self.pixels, self.model)).logits.to(images.dtype)
        logits = F.interpolate(logits, size=images.shape[-2:], mode="bilinear", align_corners=False)
        return logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(1)[:, -1:]


class OnnxSaliency:
    """Saliency by an ONNX file such as U2Net's, through onnxruntime. No gradient flows through it.

    Pixels as U2Net was trained (and rembg runs it): the file's own size, divided by the image's brightest value,
    ImageNet mean and deviation; the first output is the map, stretched to [0, 1] for each image.
    """

    differentiable = False

    def __init__(self, path: str | Path) -> None:
        if not Path(path).is_file():
            raise BadInput(f"the saliency model {path} does not exist. Name an .onnx file or a transformers folder.")
        try:
            import onnxruntime
        except ImportError as error:
            raise BadInput(f"{path} needs onnxruntime. Install it with: pip install 'goodeye[cutout]'") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self.path, self._version = Path(path), ""
        self.session = onnxruntime.InferenceSession(str(path), options, providers=onnxruntime.get_available_providers())
        entry = self.session.get_inputs()[0]
        self.input, self.batch = entry.name, entry.shape[0] if isinstance(entry.shape[0], int) else None
        height, width = entry.shape[-2:]
        self.size = (height, width) if isinstance(height, int) and isinstance(width, int) else (320, 320)

    @property
    def version(self) -> str:
        """Changes with the file."""
        if not self._version:
            with self.path.open("rb") as file:
                self._version = fingerprint(hashlib.file_digest(file, "sha256").hexdigest())
        return self._version

    def __call__(self, images: Float[Tensor, "N 3 H W"]) -> Map:
        """images in [0, 1] -> saliency in [0, 1], of the images' size, without gradient."""
        pixels = resize(images.detach().float(), self.size, "bicubic")
        pixels = pixels / pixels.amax((1, 2, 3), keepdim=True).clamp_min(1e-6)
        pixels = Pixels(mean=IMAGENET_MEAN, std=IMAGENET_STD)(pixels)
        parts = [self._run(part) for part in pixels.cpu().split(self.batch or len(pixels))]
        saliency = stretch(torch.cat(parts)[:, :1].to(images))
        return resize(saliency, (images.shape[-2], images.shape[-1])).clamp(0, 1)  # rounding alone can pass 1

    def _run(self, pixels: Tensor) -> Tensor:
        short = (self.batch or len(pixels)) - len(pixels)
        full = F.pad(pixels, (0, 0, 0, 0, 0, 0, 0, short)) if short else pixels
        output: Any = self.session.run(None, {self.input: full.numpy().astype(np.float32)})[0]
        return torch.from_numpy(output)[: len(pixels)]


def farthest_depth(config: Any) -> float | None:
    """The farthest distance that a metric depth model can give (in its own unit); None for a relative model."""
    if config.model_type == "glpn":
        return float(config.max_depth)
    if config.model_type == "zoedepth":
        return float(max(bins["max_depth"] for bins in config.bin_configurations))
    if getattr(config, "depth_estimation_type", "relative") == "metric":
        return float(config.max_depth)
    return None


def stretch(maps: Map) -> Map:
    """Each map's lowest value becomes 0 and its highest 1; a flat map becomes 0."""
    low, high = maps.amin((1, 2, 3), keepdim=True), maps.amax((1, 2, 3), keepdim=True)
    return (maps - low) / (high - low).clamp_min(1e-6)


def _prepared(images: Tensor, pixels: Pixels, model: PreTrainedModel, multiple: int = 1) -> Tensor:
    """The network's pixels. Where its folder asks for no size, both sides become at least STRIDE and a multiple."""
    if not (pixels.size or pixels.shortest_edge or pixels.divisor):
        height, width = (max(STRIDE, -(-side // multiple) * multiple) for side in images.shape[-2:])
        images = resize(images, (height, width))
    return pixels(images).to(device=model.device, dtype=model.dtype)
