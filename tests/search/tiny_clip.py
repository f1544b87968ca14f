"""Embeddings, an index of them, and a CLIP that costs nothing: a picture's embedding is its mean colour."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from goodeye.search.build import new_card, writing
from goodeye.search.vectors import normalised

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255, 255, 255), "dark": (9, 9, 9)}


def units(count, size, seed=0):
    return normalised(np.random.default_rng(seed).normal(size=(count, size)))


class Words:
    """A tokenizer that counts words, with a mark on either side."""

    unk_token_id, bos_token_id, eos_token_id, pad_token_id = 3, 1, 2, 0

    def __call__(self, text, verbose=True):
        known = [*COLOURS, "a", "picture", "bright", "cup", "in", "light", "of"]
        ids = [10 + known.index(word) if word in known else 3 for word in text.lower().replace(",", " ").split()]
        return {"input_ids": [1, *ids, 2]}


class ColourClip:
    """dimensions 4: mean red, green, blue, and a constant. Texts: the colours that they name, as far as it reads."""

    dimensions, version = 4, "colour-1"

    def __init__(self, limit=12):
        self.tokenizer = Words()
        self.seen = 0
        self.model = SimpleNamespace(
            device=torch.device("cpu"),
            dtype=torch.float32,
            config=SimpleNamespace(text_config=SimpleNamespace(max_position_embeddings=limit)),
            get_image_features=self.features,
        )

    def pixels(self, images):
        return F.interpolate(images, size=(4, 4), mode="area")

    def features(self, pixel_values):
        self.seen += len(pixel_values)
        mean = pixel_values.mean((2, 3))
        return SimpleNamespace(pooler_output=torch.cat([mean, torch.full((len(mean), 1), 0.2)], dim=1))

    def embed_texts(self, texts):
        most = self.model.config.text_config.max_position_embeddings - 2
        read = [one.lower().replace(",", " ").split()[:most] for one in texts]
        named = [[COLOURS[word] for word in words if word in COLOURS] or [(60, 60, 60)] for words in read]
        rows = [torch.tensor([*np.mean(colours, axis=0) / 255, 0.1]) for colours in named]
        return F.normalize(torch.stack(rows).float(), dim=1)


def save_picture(path: Path, colour, size=(24, 16)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, tuple(int(value) for value in colour)).save(path)
    return path


def index_of(folder: Path, vectors, names=None, duplicates=0.0) -> Path:
    """An index of these vectors, named 0, 1, 2, … if not otherwise."""
    clip = SimpleNamespace(version="v1", dimensions=vectors.shape[1])
    with writing(folder, new_card("showroom", clip, duplicates)) as writer:
        writer.append(names or [str(row) for row in range(len(vectors))], [""] * len(vectors), vectors)
        writer.finish()
    return folder


def small_clip(texts, seed=0):
    """A real CLIP of some thousand random weights, which can be trained; the same ones for the same seed."""
    from tiny_judges import tiny_clip

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return tiny_clip(texts)
