"""Loads transformers models that are whole: safetensors only, no weight left at random."""

from pathlib import Path
from typing import Any

import torch

from goodeye.errors import BadInput


def load_model(kind: Any, folder_or_id: str | Path, dtype: torch.dtype = torch.float32) -> Any:
    """kind.from_pretrained(folder_or_id). Raises BadInput where the weights lack a part of the model.

    Without this, the part that is missing would start from random numbers with no more than a warning.
    """
    model, info = kind.from_pretrained(str(folder_or_id), use_safetensors=True, dtype=dtype, output_loading_info=True)
    if missing := sorted(info["missing_keys"]):
        raise BadInput(
            f"{folder_or_id} lacks {len(missing)} weights of a {type(model).__name__}, {missing[0]} among them. "
            "Name a folder or hub id whose weights are of that very model."
        )
    return model
