"""Prompts to the states that a denoiser attends to."""

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor


def encode(tokenizer: Any, text_encoder: Any, prompts: Sequence[str]) -> Float[Tensor, "N L D"]:
    """States of the prompts by a CLIP-style text encoder, padded and cut to the tokenizer's length, as Stable
    Diffusion wants them. An empty prompt is a prompt too."""
    tokens = tokenizer(
        list(prompts),
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    )
    mask = tokens.attention_mask if getattr(text_encoder.config, "use_attention_mask", False) else None
    device = text_encoder.device
    return text_encoder(
        tokens.input_ids.to(device), attention_mask=None if mask is None else mask.to(device)
    ).last_hidden_state
