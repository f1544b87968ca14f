"""From pictures and texts to embeddings, by the model set's CLIP or SigLIP."""

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from goodeye.errors import BadInput
from goodeye.images import shrunk, to_tensor
from goodeye.judging.clip import Clip
from goodeye.judging.pixels import on_white
from goodeye.search.source import Item
from goodeye.search.vectors import Vector, Vectors
from goodeye.tables import Cell, Skipped

LONG_SIDE = 1024  # larger pictures are made smaller first; every model looks at fewer pixels than that
LONGEST = 2000  # characters of a query; more is a mistake rather than a question


@dataclass(frozen=True)
class Embedded:
    """A batch of pictures with their embeddings, [N, D] of length 1, and what could not be read on the way."""

    items: list[Item]
    vectors: Vectors
    skipped: list[Skipped] = field(default_factory=list)


def embed_items(
    items: Iterable[Item | Skipped], clip: Clip, *, batch: int = 64, workers: int = 4
) -> Iterator[Embedded]:
    """Embeds pictures in batches while `workers` threads decode the next ones; keeps the order.

    What cannot be read goes into `skipped`. At most four batches of pictures are in memory. Raises BadInput for a batch
    of fewer than one.
    """
    require_batch(batch)
    ready: list[tuple[Item, Tensor]] = []
    skipped: list[Skipped] = []
    for item, pixels in _decoded(items, lambda cell: prepare(cell.open(), clip), workers, 3 * batch):
        if isinstance(item, Skipped):
            skipped.append(item)
        elif pixels is not None:
            ready.append((item, pixels))
        if len(ready) == batch:
            yield _embedded(ready, skipped, clip)
            ready, skipped = [], []
    if ready or skipped:
        yield _embedded(ready, skipped, clip)


def require_batch(batch: int) -> None:
    """Raises BadInput for a batch of fewer than one picture."""
    if batch < 1:
        raise BadInput(f"batch is {batch}. Give 1 or more.")


def _decoded(
    items: Iterable[Item | Skipped], read: Callable[[Cell], Tensor], workers: int, ahead: int
) -> Iterator[tuple[Item | Skipped, Tensor | None]]:
    waiting: deque[tuple[Item | Skipped, Future[Tensor] | None]] = deque()
    with ThreadPoolExecutor(max(1, workers)) as pool:
        try:
            for item in items:
                waiting.append((item, pool.submit(read, item.cell) if isinstance(item, Item) else None))
                if len(waiting) >= ahead:
                    yield _taken(*waiting.popleft())
            while waiting:
                yield _taken(*waiting.popleft())
        finally:
            pool.shutdown(cancel_futures=True)


def _taken(item: Item | Skipped, future: Future[Tensor] | None) -> tuple[Item | Skipped, Tensor | None]:
    try:
        return item, future.result() if future else None
    except BadInput as error:
        return Skipped(item.name, str(error)), None


def _embedded(ready: list[tuple[Item, Tensor]], skipped: list[Skipped], clip: Clip) -> Embedded:
    if not ready:
        return Embedded([], torch.zeros(0, clip.dimensions).numpy(), skipped)
    return Embedded([item for item, _ in ready], embed_pixels(torch.stack([one for _, one in ready]), clip), skipped)


def prepare(img: Image.Image, clip: Clip) -> Float[Tensor, "3 h w"]:
    """A picture as the model wants its pixels; transparency becomes white."""
    pixels = to_tensor(shrunk(img, LONG_SIDE))[None]
    return clip.pixels(on_white(pixels) if pixels.shape[1] == 4 else pixels)[0]


@torch.inference_mode()
def embed_pixels(pixels: Float[Tensor, "N 3 h w"], clip: Clip) -> Vectors:
    """pixels: as `prepare` gives them. Returns [N, D], each of length 1."""
    inputs = pixels.to(device=clip.model.device, dtype=clip.model.dtype)
    features = clip.model.get_image_features(pixel_values=inputs).pooler_output.float()
    return F.normalize(features, dim=-1).cpu().numpy()


def embed_image(img: Image.Image, clip: Clip) -> Vector:
    """One picture, [D]."""
    return embed_pixels(prepare(img, clip)[None], clip)[0]


# --- texts


class Read(NamedTuple):
    """A text's embedding, [D] of length 1, and into how many parts the text was cut to be read whole."""

    vector: Vector
    parts: int


def token_limit(clip: Clip) -> int:
    """How many tokens the model reads at once, its own marks among them (CLIP 77)."""
    return int(clip.model.config.text_config.max_position_embeddings)


def token_count(text: str, clip: Clip) -> int:
    """Tokens of a text, the model's own marks among them."""
    return len(clip.tokenizer(text, verbose=False)["input_ids"])


def embed_text(text: str, clip: Clip) -> Read:
    """Embeds a text of any number of tokens: one that is too long is cut between words into parts that the model can
    read, and their embeddings are averaged. Nothing is cut off.

    Raises BadInput for an empty text and for more than 2,000 characters.
    """
    text = usable(text)
    parts = split_text(text, clip)
    vectors = embed_texts(parts, clip)
    return Read(_mean(vectors) if len(parts) > 1 else vectors[0], len(parts))


def usable(text: str) -> str:
    """The text with single spaces. Raises BadInput for an empty one and for more than 2,000 characters."""
    text = " ".join(text.split())
    if not text:
        raise BadInput("the query is empty. Say in a few words what the pictures shall show, or name a picture.")
    if len(text) > LONGEST:
        raise BadInput(f"the query has {len(text):,} characters. Say it in at most {LONGEST:,}.")
    return text


def embed_whole(texts: Sequence[str], clip: Clip) -> Vectors:
    """[N, D], each of length 1: each text as `embed_text` reads it, of any number of tokens and characters."""
    parts = [[text] if token_count(text, clip) <= token_limit(clip) else split_text(text, clip) for text in texts]
    vectors = iter(embed_texts([part for one in parts for part in one], clip))
    each = [np.stack([next(vectors) for _ in one]) for one in parts]
    return np.stack([_mean(one) if len(one) > 1 else one[0] for one in each])


def count_too_long(texts: Sequence[str], clip: Clip) -> int:
    """How many texts the model cannot read at once: where it learns, it reads their beginnings alone."""
    return sum(token_count(text, clip) > token_limit(clip) for text in texts)


@torch.inference_mode()
def embed_texts(texts: Sequence[str], clip: Clip, batch: int = 256) -> Vectors:
    """[N, D], each of length 1; texts that are too long are cut: `embed_whole` reads those."""
    found = [clip.embed_texts(texts[start : start + batch]) for start in range(0, len(texts), batch)]
    return torch.cat(found).cpu().numpy()


def _mean(vectors: Vectors) -> Vector:
    return F.normalize(torch.from_numpy(vectors).mean(0), dim=0).numpy()


def split_text(text: str, clip: Clip) -> list[str]:
    """Parts of a text that each fit the model, cut at commas and full stops where that is possible, else at spaces."""
    limit = token_limit(clip)
    parts: list[str] = []
    for piece in re.findall(r"[^,.;]+[,.;]*\s*", text) or [text]:
        whole = (parts[-1] + piece) if parts else piece
        if parts and token_count(whole.strip(), clip) <= limit:
            parts[-1] = whole
        else:
            parts.extend(_by_words(piece, clip, limit))
    return [part.strip(" ,;") or part.strip() for part in parts]


def _by_words(piece: str, clip: Clip, limit: int) -> list[str]:
    if token_count(piece, clip) <= limit:
        return [piece]
    parts = [""]
    for word in re.findall(r"\S{1,40}\s*", piece):
        if parts[-1] and token_count(parts[-1] + word, clip) > limit:
            parts.append("")
        parts[-1] += word
    return parts
