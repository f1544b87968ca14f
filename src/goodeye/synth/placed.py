"""Telling a U-Net where it is, for grounding (ours): a learned code of the place on what its first convolution gives.

GLIGEN's attention finds a box where a token knows its own place. Large U-Nets know it from their many layers of
padding; in the showroom's, a linear reading of the tokens tells the height but hardly the side (R2 .02 to .12).
"""

import copy
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

FREQUENCIES = 8  # as in GLIGEN's code of boxes, which this is to be compared with
PLACE = "conv_in.place"  # the weight's name in a U-Net


class PlacedConv(nn.Conv2d):
    """A convolution whose output has a code of each cell's place added: a linear map of sines and cosines of its
    height and side, `place` [channels, 32]. Zero adds nothing."""

    place: nn.Parameter

    def forward(self, input: Float[Tensor, "N c H W"]) -> Float[Tensor, "N C H W"]:
        """As the convolution, of any size; places are shares of height and width."""
        found = super().forward(input)
        down, across = (self.place @ waves for waves in self._waves(found))
        return found + down[:, :, None] + across[:, None, :]

    def _waves(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """[32, H] and [32, W]: waves of the height, with zeros for the side, and the other way round."""
        frequencies = 100 ** (torch.arange(FREQUENCIES, device=like.device) / FREQUENCIES)

        def waves(cells: int) -> Tensor:
            angles = frequencies[:, None] * (torch.arange(cells, device=like.device) + 0.5) / cells
            return torch.cat([angles.sin(), angles.cos()]).to(like.dtype)

        down, across = waves(like.shape[-2]), waves(like.shape[-1])
        return torch.cat([down, torch.zeros_like(down)]), torch.cat([torch.zeros_like(across), across])


def placed(unet: Any, spread: float = 0.0, seed: int = 0) -> Any:
    """The U-Net, its first convolution changed in place to one with a code. spread: the code's standard deviation over
    places, drawn by the seed; 0 adds nothing."""
    old = unet.conv_in
    new = copy.deepcopy(old)
    new.__class__ = PlacedConv
    drawn = torch.randn(old.out_channels, 4 * FREQUENCIES, generator=torch.Generator().manual_seed(seed))
    new.place = nn.Parameter((spread * drawn / (2 * FREQUENCIES) ** 0.5).to(old.weight))
    unet.conv_in = new
    return unet
