"""Loads transformers models that are whole (safetensors only, no weight left at random) and tells them apart."""

import json
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from goodeye.errors import BadInput
from goodeye.judging.protocol import fingerprint

PASSING = {"transformers_version", "dtype", "torch_dtype", "architectures", "name_or_path"}  # change no output


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


def identity(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None = None, pixels: str = "") -> str:
    """12 hex digits that change with all that decides a network's output: weights, settings, words and pixels.

    pixels: how its pictures are prepared, as text. Where the network came from and how long a text it was last given
    change nothing.
    """
    settings = {k: v for k, v in model.config.to_dict().items() if not k.startswith("_") and k not in PASSING}
    return fingerprint(model, json.dumps(settings, sort_keys=True, default=str), _words(tokenizer), pixels)


def _words(tokenizer: PreTrainedTokenizerBase | None) -> str:
    if tokenizer is None:
        return ""
    if not tokenizer.is_fast:
        return json.dumps(tokenizer.get_vocab(), sort_keys=True)
    known = json.loads(tokenizer.backend_tokenizer.to_str())
    return json.dumps({k: v for k, v in known.items() if k not in ("truncation", "padding")}, sort_keys=True)
