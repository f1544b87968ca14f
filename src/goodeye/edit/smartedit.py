"""Editors whose text condition is not a text encoder's: the condition tokens come from a callable.

SmartEdit reads picture and instruction by a multimodal large model, whose hidden states a QFormer turns into the tokens
that an InstructDiffusion U-Net attends to. That U-Net is a diffusers U-Net of eight channels like any other, so the
reward module stands beside it unchanged (edit paper, section on SmartEdit; no code of it is published). Load the large
model by its own library, hand over a function, and everything else here works as with a text encoder.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from goodeye.diffusion.denoiser import TextStates
from goodeye.images import to_pil

Tokens = Callable[[Sequence[Image.Image], Sequence[str]], TextStates]  # originals, instructions -> [N, L, D]


@dataclass
class SmartEdit:
    """tokens: what the large model and its QFormer make of pictures and instructions. empty: [1, L, D], the tokens that
    stood for no instruction in the editor's training."""

    tokens: Tokens
    empty: TextStates

    def __call__(self, instructions: Sequence[str], pictures: Float[Tensor, "N 3 H W"]) -> TextStates:
        """Raises ValueError for tokens of another shape than [N, L, D] of `empty`, and for NaN."""
        with torch.no_grad():
            found = self.tokens([to_pil(one) for one in pictures], list(instructions))
        if found.shape != (len(instructions), *self.empty.shape[1:]):
            raise ValueError(
                f"the tokens are {list(found.shape)}, not [{len(instructions)}, L, D] of {list(self.empty.shape)}"
            )
        if bool(found.isnan().any()):
            raise ValueError("the tokens hold NaN")
        return found.to(self.empty)

    def nothing(self) -> TextStates:
        """The tokens for no instruction."""
        return self.empty
