"""How unlike each other several pictures of one brief are. Not judges: they compare pictures with one another.

Measure within a brief, never across briefs: when a generator collapses to one way of making pictures, its pictures of
different briefs stay as unlike as their products are, and only those of one brief grow alike. LPIPS
(`goodeye.judging.lpips`) is the measure that was fitted to people; where its weights are not at hand, `Features` takes
its place. Numbers of different measures are on different scales.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from goodeye.judging.clip import Clip
from goodeye.judging.protocol import Images

LEVELS = 4  # steps of each colour channel in a histogram: 64 colours


def mean_pairwise(vectors: Float[Tensor, "K D"]) -> Float[Tensor, ""]:
    """The mean squared Euclidean distance over all pairs of K vectors, which is twice their variance. K at least 2."""
    if len(vectors) < 2:
        raise ValueError(f"diversity is of two pictures or more, not {len(vectors)}")
    return 2 * vectors.var(0).sum()


def pixel_spread(images: Images) -> Float[Tensor, ""]:
    """Root mean square difference of two of the K pictures, in [0, 1]: 0 where all are the same."""
    return (mean_pairwise(images.flatten(1)) / images[0].numel()).sqrt()


def embedding_spread(clip: Clip, images: Images) -> Float[Tensor, ""]:
    """1 minus the cosine of the CLIP embeddings, meaned over all pairs of the K pictures: 0 where all say the same."""
    return mean_pairwise(clip.embed_images(images)) / 2


class Features:
    """Perceptual distance without fitted weights: 1 minus the cosine of a CLIP image tower's tokens, place by place.

    The mean over positions and layers, which is LPIPS with all weights equal, on another trunk (Zhang et al. 2018,
    section 4, found any deep network's features to serve). Unlike the final embedding, which is trained to hold what
    a caption tells, tokens of early layers hold texture and layout.
    """

    def __init__(self, clip: Clip) -> None:
        self.clip = clip

    def embed(self, images: Images) -> Float[Tensor, "N D"]:
        """Vectors whose squared Euclidean distance is 1 minus the mean cosine; images [N, 3, H, W] of any size."""
        model = self.clip.model
        pixels = self.clip.pixels(images).to(device=model.device, dtype=model.dtype)
        layers = model.vision_model(pixel_values=pixels, output_hidden_states=True).hidden_states[1:]
        tokens = torch.nn.functional.normalize(torch.stack(layers, 1).float(), dim=-1)  # [N, layers, positions, D]
        return tokens.flatten(1) / math.sqrt(2 * tokens.shape[1] * tokens.shape[2])

    def diversity(self, images: Images) -> Float[Tensor, ""]:
        """Root mean square over all pairs of the K pictures, in [0, sqrt 2]: 0 where all are the same.

        The root makes it grow with the differences and not with their square: half the variation, half the diversity.
        """
        return mean_pairwise(self.embed(images)).sqrt()


def colour_entropy(images: Images, levels: int = LEVELS) -> Float[Tensor, " N"]:
    """Entropy in bits of each picture's colours, in a histogram of `levels` steps a channel: 0 to 3 log2(levels).

    A picture washed over by one colour has next to none, however well a judge may like it.
    """
    steps = (images.clamp(0, 1) * levels).long().clamp(max=levels - 1)
    colours = (steps[:, 0] * levels + steps[:, 1]) * levels + steps[:, 2]
    counts = torch.stack([one.flatten().bincount(minlength=levels**3) for one in colours]).float()
    shares = counts / counts.sum(1, keepdim=True)
    return -torch.xlogy(shares, shares).sum(1) / math.log(2)
