"""How near two categories are, so that what the priors lack is looked up under what is most like it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np
from jaxtyping import Float

from goodeye.errors import BadInput

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from goodeye.judging.clip import Clip

Array = np.ndarray[Any, Any]
Vectors = Float[Array, "N D"]  # of length 1

SIZE = 512  # of the vector of letters


@dataclass(frozen=True)
class Encoder:
    """embed: texts to vectors of length 1. floor: the cosine from which two categories count as alike."""

    name: str
    embed: Callable[[Sequence[str]], Vectors]
    floor: float


def _letters(texts: Sequence[str]) -> Vectors:
    """Counts of each text's words and groups of three letters, hashed: knows spelling, not meaning."""
    vectors = np.zeros((len(texts), SIZE), dtype=np.float32)
    for row, text in enumerate(texts):
        for word in text.lower().split():
            padded = f" {word} "
            for part in (word, *(padded[at : at + 3] for at in range(len(padded) - 2))):
                vectors[row, crc32(part.encode()) % SIZE] += 1
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


BY_LETTERS = Encoder("letters", _letters, 0.4)


def by_clip(clip: "Clip") -> Encoder:
    """The text tower of any CLIP. Its texts lie close together, so the floor is high (ours)."""

    def embed(texts: Sequence[str]) -> Vectors:
        return np.asarray(clip.embed_texts(texts).detach().cpu().numpy())

    return Encoder(f"clip {clip.version}", embed, 0.85)


def by_sentences(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", name: str = "sentences") -> Encoder:
    """A sentence encoder like all-MiniLM-L6-v2: the mean over the tokens of its last states."""
    import torch
    import torch.nn.functional as F

    def embed(texts: Sequence[str]) -> Vectors:
        encoded = tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt").to(model.device)
        with torch.no_grad():
            states = model(**encoded).last_hidden_state
        mask = encoded["attention_mask"][..., None].to(states.dtype)
        mean = (states * mask).sum(1) / mask.sum(1)
        return np.asarray(F.normalize(mean.float(), dim=-1).cpu().numpy())

    return Encoder(name, embed, 0.5)


def sentences_of(place: str) -> Encoder:
    """`by_sentences` of a sentence encoder in a folder or on the hub, safetensors alone.

    Raises BadInput where there is none, or it lacks weights.
    """
    from transformers import AutoModel, AutoTokenizer

    from goodeye.hub import no_bars
    from goodeye.judging.loading import identity, load_model

    try:
        with no_bars(Path(place).is_dir()):
            model, tokenizer = load_model(AutoModel, place).eval(), AutoTokenizer.from_pretrained(place)
    except (OSError, ValueError) as error:
        raise BadInput(
            f"{place} is no sentence encoder that can be loaded ({str(error).splitlines()[0]}). Give letters, clip, or "
            "a folder or hub id like sentence-transformers/all-MiniLM-L6-v2."
        ) from error
    return by_sentences(model, tokenizer, f"sentences {identity(model, tokenizer)}")


def nearest(name: str, known: Sequence[str], encoder: Encoder, most: int = 3) -> list[tuple[str, float]]:
    """The known categories nearest to a name, nearest first, with their cosine; above the encoder's floor or not."""
    vectors = encoder.embed([name, *known])
    cosines = vectors[1:] @ vectors[0]
    return [(known[at], float(cosines[at])) for at in np.argsort(-cosines, kind="stable")[:most]]
