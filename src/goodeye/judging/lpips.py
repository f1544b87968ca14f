"""LPIPS: how different two pictures look, and by it how diverse a set of pictures is.

"The Unreasonable Effectiveness of Deep Features as a Perceptual Metric" (Zhang et al. 2018), on AlexNet or VGG-16; also
the shift-tolerant trunks of Ghildyal and Liu (2022), which blur before they shrink. The two kinds of distance are on
scales of their own: compare only numbers of the same weights.
"""

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from goodeye.errors import BadInput
from goodeye.judging.protocol import Images, fingerprint

Net = Literal["alex", "vgg"]

SMALLEST = 32  # pixels a side; in smaller pictures nothing is left for the last layers

# The published scaling layer: from [-1, 1] to the values that the trunks were trained on.
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)


class Blur(nn.Module):
    """Every second pixel of a 3x3 binomial blur, on a border of two reflected pixels (Ghildyal and Liu 2022)."""

    filt: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        row = torch.tensor([0.25, 0.5, 0.25])
        self.register_buffer("filt", (row[:, None] * row).repeat(channels, 1, 1, 1))

    def forward(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N C h w"]:
        """About half the size: (side + 1) // 2 + 1."""
        padded = nn.functional.pad(x, (2, 2, 2, 2), mode="reflect")
        return nn.functional.conv2d(padded, self.filt, stride=2, groups=x.shape[1])


class Lpips(nn.Module):
    """d(x, y): the sum over five layers of the mean over positions of w . (x' - y')^2 (Zhang et al. 2018, eq 1).

    x', y' are a layer's features, of length one at each position; w is the layer's learned head (the square of the
    paper's w). The weights are frozen; gradient reaches the pictures.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, net: Net = "alex", *, shift_tolerant: bool = False) -> None:
        super().__init__()
        stages = (_alexnet if net == "alex" else _vgg)(shift_tolerant)
        self.net = nn.ModuleDict(_numbered(stages))
        widths = [[layer.out_channels for layer in stage if isinstance(layer, nn.Conv2d)][-1] for stage in stages]
        self.heads = nn.ParameterList([torch.zeros(width) for width in widths])
        self.register_buffer("shift", torch.tensor(_SHIFT).view(-1, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(_SCALE).view(-1, 1, 1), persistent=False)
        self.requires_grad_(False)

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> "Lpips":
        """From a state dict of `lpips.LPIPS(net="alex")` or "vgg", of its shift-tolerant kin, or of `save_pretrained`.

        Trunk and heads must be in it (net.slice1.0.weight, lin0.model.1.weight, ...). A pickled one is read by
        `torch.load(path, map_location="cpu", weights_only=True)`. Raises BadInput for other weights.
        """
        kernel = state["net.slice1.0.weight"].shape[-1] if "net.slice1.0.weight" in state else 0
        if kernel not in (11, 3):
            raise BadInput(
                "these weights are not LPIPS with its trunk, AlexNet or VGG-16. Give the state dict of trunk and heads "
                "(net.slice1.0.weight, lin0.model.1.weight and so on)."
            )
        with torch.random.fork_rng():  # what its layers start from is overwritten, and costs the caller no randomness
            model = cls("alex" if kernel == 11 else "vgg", shift_tolerant=any(name.endswith(".filt") for name in state))
        wanted = model._published()
        for name, value in wanted.items():
            _require(name, state.get(name), value)
        model.net.load_state_dict({name: state[f"net.{name}"] for name in model.net.state_dict()})
        for number, head in enumerate(model.heads):
            head.copy_(state[_head(number)].flatten())
        return model

    @classmethod
    def from_pretrained(cls, path: str | Path) -> "Lpips":
        """Reads a .safetensors file. Raises BadInput for any other: a pickle could run anything when loaded."""
        path = Path(path)
        if path.suffix != ".safetensors" or not path.is_file():
            fault = "is not a .safetensors file" if path.exists() else "does not exist"
            raise BadInput(f"the LPIPS weights {path}: it {fault}. Write one by Lpips.from_state(…).save_pretrained.")
        try:
            state = load_file(path)
        except SafetensorError as error:
            raise BadInput(f"the LPIPS weights {path} cannot be read: {error}. Save them again.") from error
        return cls.from_state(state)

    def save_pretrained(self, path: str | Path) -> None:
        """Writes one .safetensors file, under the names of the published state dicts."""
        save_file({name: value.detach().cpu().contiguous() for name, value in self._published().items()}, str(path))

    def _published(self) -> dict[str, Tensor]:
        """The weights under the published names."""
        trunk = {f"net.{name}": value for name, value in self.net.state_dict().items()}
        return trunk | {_head(number): head.view(1, -1, 1, 1) for number, head in enumerate(self.heads)}

    @property
    def version(self) -> str:
        """Changes with the weights."""
        return fingerprint(self)

    def embed(self, images: Images) -> Float[Tensor, "N D"]:
        """Vectors whose squared Euclidean distance is LPIPS; D depends on the pictures' size.

        images: [N, 3, H, W] in [0, 1]. Raises ValueError for another shape or sides under 32 pixels.
        """
        if images.ndim != 4 or images.shape[1] != 3 or min(images.shape[2:]) < SMALLEST:
            raise ValueError(
                f"LPIPS takes images [N, 3, H, W] of at least {SMALLEST} pixels a side, not {list(images.shape)}"
            )
        x = (2 * images.to(self.shift) - 1 - self.shift) / self.scale
        parts = []
        for stage, head in zip(self.net.values(), self.heads, strict=True):
            x = stage(x)
            # where every feature is 0, this norm's gradient is 0, while that of a written-out square root is NaN
            unit = x / (torch.linalg.vector_norm(x, dim=1, keepdim=True) + 1e-10)
            parts.append((unit * (head / unit[0, 0].numel()).sqrt().view(-1, 1, 1)).flatten(1))
        return torch.cat(parts, 1)

    def distance(self, a: Images, b: Images) -> Float[Tensor, " N"]:
        """How different a[n] looks from b[n]: 0 for the same picture, seldom above 1. Raises ValueError as `embed`."""
        if a.shape != b.shape:
            raise ValueError(f"LPIPS compares pictures of one shape, not {list(a.shape)} with {list(b.shape)}")
        return (self.embed(a) - self.embed(b)).square().sum(1)

    def diversity(self, images: Images, batch: int = 16) -> Float[Tensor, ""]:
        """The mean distance over all pairs of the images: 0 where all are the same.

        Each image is looked at once: over all pairs, the mean squared distance of vectors is twice their variance.
        images: [N, 3, H, W] in [0, 1], N at least 2; batch of them at a time. Raises ValueError as `embed`.
        """
        if len(images) < 2:
            raise ValueError(f"diversity is of two images or more, not {len(images)}")
        count, mean, spread = 0, self.shift.new_zeros(()), self.shift.new_zeros(())
        for part in images.split(batch):
            vectors = self.embed(part)
            middle, total = vectors.mean(0), count + len(part)
            step = middle - mean  # running mean and sum of squares (Chan et al. 1979)
            spread = spread + (vectors - middle).square().sum() + step.square().sum() * (count * len(part) / total)
            mean, count = mean + step * (len(part) / total), total
        return 2 * spread / (count - 1)


def _head(number: int) -> str:
    return f"lin{number}.model.1.weight"


def _require(name: str, given: Tensor | None, own: Tensor) -> None:
    if given is None or given.shape != own.shape:
        found = "not there" if given is None else f"{list(given.shape)}"
        raise BadInput(
            f"these LPIPS weights are not whole: {name} is {found} and should be {list(own.shape)}. "
            "Give the state dict of trunk and heads together."
        )
    if not bool(torch.isfinite(given).all()) or (name.startswith("lin") and bool((given < 0).any())):
        raise BadInput(f"these LPIPS weights hold numbers in {name} that give no distance. Get them again.")


def _numbered(stages: list[list[nn.Module]]) -> dict[str, nn.Module]:
    """slice1, slice2, ... with their layers numbered through, as the published state dicts name them."""
    slices: dict[str, nn.Module] = {}
    number = 0
    for which, stage in enumerate(stages, 1):
        named = OrderedDict((str(number + at), layer) for at, layer in enumerate(stage))
        slices[f"slice{which}"] = nn.Sequential(named)
        number += len(stage)
    return slices


def _alexnet(shift_tolerant: bool) -> list[list[nn.Module]]:
    """AlexNet up to each of its five ReLUs (Krizhevsky 2014); shift-tolerant: every stride is left to a Blur."""

    def pool(channels: int) -> list[nn.Module]:
        return [nn.MaxPool2d(3, 1), Blur(channels)] if shift_tolerant else [nn.MaxPool2d(3, 2)]

    first = [nn.Conv2d(3, 64, 11, 1, 2), Blur(64)] if shift_tolerant else [nn.Conv2d(3, 64, 11, 4, 2)]
    return [
        [*first, nn.ReLU()],
        [*pool(64), nn.Conv2d(64, 192, 5, padding=2), nn.ReLU()],
        [*pool(192), nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()],
        [nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()],
        [nn.Conv2d(256, 256, 3, padding=1), nn.ReLU()],
    ]


def _vgg(shift_tolerant: bool) -> list[list[nn.Module]]:
    """VGG-16 up to the last ReLU of each of its five blocks (Simonyan and Zisserman 2015)."""
    stages: list[list[nn.Module]] = []
    channels = 3
    for width, depth in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        layers: list[nn.Module] = []
        if stages:
            layers += [nn.MaxPool2d(2, 1), Blur(channels)] if shift_tolerant else [nn.MaxPool2d(2, 2)]
        for _ in range(depth):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        stages.append(layers)
    return stages
