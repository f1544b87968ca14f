"""Trained weights as they ship: in half precision, adapters brought to a lower rank, under a licence."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from goodeye.atomic import write_bytes
from goodeye.lora import CONFIG, name_base

LICENSED = "---\nlicense: apache-2.0\n---\n"  # as a model card begins, for `goodeye.judging.licence` and for hubs


def shortened(weights: Mapping[str, Tensor], rank: int) -> dict[str, Tensor]:
    """An adapter's weights with each layer's change brought to a lower rank, by its largest singular values; what is of
    that rank or less stays."""
    found = dict(weights)
    for name in [name for name in weights if ".lora_A." in name and len(weights[name]) > rank]:
        other = name.replace(".lora_A.", ".lora_B.")
        down, up = weights[name], weights[other]
        u, s, v = torch.linalg.svd(up.flatten(1).float() @ down.flatten(1).float(), full_matrices=False)
        root = s[:rank].sqrt()
        found[name] = (root[:, None] * v[:rank]).reshape(rank, *down.shape[1:]).contiguous()
        found[other] = (u[:, :rank] * root).reshape(len(up), rank, *up.shape[2:]).contiguous()
    return found


def halve(source: Path, folder: Path, base: str = "", rank: int | None = None) -> None:
    """The folder in fp16. base: what an adapter stands upon, by a path from its new folder. rank: a lower one."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in source.iterdir():
        if file.suffix == ".safetensors":
            weights = load_file(file)
            weights = shortened(weights, rank) if rank else weights
            halved = {name: value.half() for name, value in weights.items()}
            save_file(halved, folder / file.name, metadata={"format": "pt"})
        elif file.suffix == ".json":
            (folder / file.name).write_bytes(file.read_bytes())
    if (folder / CONFIG).is_file():
        name_base(folder, base)
    if rank:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        write_bytes(folder / CONFIG, (json.dumps({**config, "r": rank, "lora_alpha": rank}, indent=1) + "\n").encode())
