"""Linear aesthetic heads: beauty as an affine function of a normalised image embedding."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from goodeye.errors import BadInput
from goodeye.judging.clip import Clip, Embeddings
from goodeye.judging.protocol import Axis, Context, Images, Scores, check_contexts, fingerprint

# The LAION improved aesthetic predictor, sac+logos+ava1-l14-linearMSE.pth: the one pickle that is ever opened.
LAION_SHA256 = "21dd590f3ccdc646f0d53120778b296013b096a035a2718c9cb0d511bff0f1e0"
UNIT_TOLERANCE = 1e-3


class AestheticHead(nn.Module):
    """score = b + w . e for a unit embedding e. The LAION chain of five linear layers (and dropout) is such a function.

    Its scores lie in b - |w| to b + |w|; the LAION head was fitted to human scores from 1 to 10.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Float[Tensor, " D"], bias: Float[Tensor, ""], *, licence: str = "Apache-2.0") -> None:
        super().__init__()
        self.register_buffer("weight", weight.detach().float().clone())
        self.register_buffer("bias", bias.detach().float().clone())
        self.licence = licence

    @classmethod
    def from_pretrained(cls, path: str | Path) -> "AestheticHead":
        """Reads a .safetensors file of linear layers, or the LAION .pth file. Any other pickle is refused.

        Raises BadInput for what is no such file.
        """
        path = Path(path)
        if not path.is_file():
            raise BadInput(
                f"the aesthetic head {path} does not exist. Name a .safetensors file or the LAION .pth file."
            )
        if path.suffix == ".safetensors":
            state = load_file(path)
        elif hashlib.sha256(path.read_bytes()).hexdigest() == LAION_SHA256:
            state = torch.load(path, map_location="cpu", weights_only=True)
        else:
            raise BadInput(f"{path} is not the LAION head and not safetensors. Save its linear layers as .safetensors.")
        return cls(*_collapse(state, path))

    def save_pretrained(self, path: str | Path) -> None:
        """Writes weight [1, D] and bias [1] as one .safetensors file."""
        save_file({"weight": self.weight[None].contiguous(), "bias": self.bias[None].contiguous()}, str(path))

    def affine(self) -> tuple[Float[Tensor, ""], Float[Tensor, " D"]]:
        """b and w of score = b + w . e."""
        return self.bias, self.weight

    @property
    def bounds(self) -> tuple[float, float]:
        """The lowest and highest score that a unit embedding can get: b -+ |w|."""
        reach = float(self.weight.norm())
        return float(self.bias) - reach, float(self.bias) + reach

    def forward(self, embeddings: Float[Tensor, "N D"]) -> Float[Tensor, " N"]:
        """embeddings: [N, D] of length 1. Raises ValueError for another size or length, or NaN."""
        size = len(self.weight)
        if embeddings.ndim != 2 or embeddings.shape[1] != size:
            raise ValueError(f"this aesthetic head takes embeddings [N, {size}], not {list(embeddings.shape)}")
        lengths = embeddings.detach().float().norm(dim=1)
        if bool(lengths.isnan().any()):
            raise ValueError("an embedding holds NaN, so it has no aesthetic score")
        if bool(((lengths - 1).abs() > UNIT_TOLERANCE).any()):
            raise ValueError(
                f"embeddings must have length 1, and here lie between {lengths.min():.3g} and {lengths.max():.3g}; "
                "divide each by its norm"
            )
        return embeddings.to(self.weight) @ self.weight + self.bias


def _collapse(state: Mapping[str, Tensor], path: Path) -> tuple[Tensor, Tensor]:
    """Multiplies the linear layers of a state dict into w [D] and b, in double precision."""
    names = sorted(
        (name.removesuffix("weight") for name in state if name.endswith("weight")),
        key=lambda name: [int(number) for number in re.findall(r"\d+", name)],
    )
    weight: Tensor | None = None
    bias = torch.zeros((), dtype=torch.float64)
    for name in names:
        layer, offset = state[f"{name}weight"].double(), state[f"{name}bias"].double()
        if layer.ndim != 2 or (weight is not None and layer.shape[1] != weight.shape[0]):
            raise BadInput(f"{path} is not a chain of linear layers: {name}weight has shape {list(layer.shape)}.")
        weight, bias = (layer, offset) if weight is None else (layer @ weight, layer @ bias + offset)
    if weight is None or weight.shape[0] != 1 or len(state) != 2 * len(names):
        raise BadInput(f"{path} is not a chain of linear layers that ends in one score.")
    if not bool(torch.isfinite(weight).all() and torch.isfinite(bias).all()):
        raise BadInput(f"{path} holds weights that are not finite.")
    return weight[0], bias[0]


class AestheticJudge:
    """Beauty of an image, whatever it was meant to show. The LAION head belongs to OpenAI's CLIP ViT-L/14."""

    name = "aesthetic"
    differentiable = True

    def __init__(self, clip: Clip, head: AestheticHead) -> None:
        if clip.dimensions != len(head.weight):
            raise BadInput(
                f"the aesthetic head takes embeddings of {len(head.weight)} numbers and the CLIP model gives "
                f"{clip.dimensions}. Use the CLIP model it was fitted on (for LAION's, openai/clip-vit-large-patch14)."
            )
        self.clip, self.head = clip, head.to(clip.model.device)
        self.axes = (Axis("beauty", *head.bounds),)
        self.licence = head.licence if clip.licence == head.licence else f"{head.licence} AND {clip.licence}"

    @property
    def version(self) -> str:
        """Changes with the weights of the head or of the CLIP model."""
        return fingerprint(self.head, self.clip.version)

    def score(self, images: Images, contexts: Sequence[Context]) -> Scores:
        """beauty: [N]."""
        check_contexts(self.name, images, contexts)
        return self.score_embedded(self.clip.embed_images(images), contexts)

    def score_embedded(self, embeddings: Embeddings, contexts: Sequence[Context]) -> Scores:
        """`score` of images whose embeddings [N, D] by `self.clip` are at hand."""
        return {"beauty": self.head(embeddings)}
