"""Retrieval recall@k on captioned pictures: the guard beside every gain in beauty."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from goodeye.errors import BadInput
from goodeye.judging.metrics import Interval, bootstrap
from goodeye.search.source import CAPTIONS, Item, one_line
from goodeye.search.vectors import Vectors
from goodeye.tables import TABLES, Cell, Skipped, read_table

if TYPE_CHECKING:
    from goodeye.judging.clip import Clip

KS = (1, 5, 10)
Ints = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Captioned:
    """Pictures and their captions. owner: for each caption the number of its picture."""

    items: list[Item]
    captions: list[str]
    owner: list[int]


def load_captions(path: str | Path, images: str | Path | None = None, split: str = "") -> Captioned:
    """Reads COCO's captions_*.json, the Flickr30K .json of Karpathy's splits, Flickr30K's .token file, or a table with
    the columns image and caption. images: the folder of the pictures, if not the file's own. split: of a file that
    knows splits, one of them. Raises BadInput for other files.
    """
    path = Path(path)
    folder = Path(images) if images is not None else path.parent
    if path.suffix.lower() in TABLES:
        pairs = _of_table(path)
    elif path.suffix.lower() == ".json":
        pairs = _of_json(path, split)
    else:
        pairs = _of_tokens(path)
    listed: dict[str, list[str]] = {}
    for name, caption in pairs:
        listed.setdefault(name, []).append(one_line(caption))
    if not listed:
        raise BadInput(f"{path} holds no captions{f' of the split {split}' if split else ''}. Name another file.")
    items = [Item(name, Cell(name, path=folder / name)) for name in listed]
    owner = [number for number, captions in enumerate(listed.values()) for _ in captions]
    return Captioned(items, [caption for captions in listed.values() for caption in captions], owner)


def _of_table(path: Path) -> list[tuple[str, str]]:
    found = []
    for row in read_table(path):
        caption = next((row.words[name] for name in CAPTIONS if row.words.get(name)), "")
        if "image" in row.cells and caption:
            found.append((row.cells["image"].name, caption))
    return found


def _of_json(path: Path, split: str) -> list[tuple[str, str]]:
    """COCO: images [{id, file_name}], annotations [{image_id, caption}]. Karpathy: images [{filename, split,
    sentences: [{raw}]}]."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if "annotations" in data:
            names = {one["id"]: one["file_name"] for one in data["images"]}
            return [(names[one["image_id"]], one["caption"]) for one in data["annotations"]]
        return [
            (str(Path(one.get("filepath", "")) / one["filename"]), sentence["raw"])
            for one in data["images"]
            if not split or one.get("split") == split
            for sentence in one["sentences"]
        ]
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}. Check the path.") from error
    except (ValueError, TypeError, KeyError) as error:
        raise BadInput(
            f"{path} is in neither COCO's nor Karpathy's layout of captions ({error!r}). Name one."
        ) from error


def _of_tokens(path: Path) -> list[tuple[str, str]]:
    """Flickr30K's results_20130124.token: `1000092795.jpg#0<tab>Two young guys ...`."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(
            f"{path} cannot be read as captions. Give a .json, a table or Flickr30K's .token file."
        ) from error
    pairs = [line.split("\t", 1) for line in lines if line.strip()]
    if any(len(pair) != 2 for pair in pairs):
        raise BadInput(f"{path} has a line without a tab. Write each line as NAME#NUMBER, a tab, and the caption.")
    return [(name.split("#")[0], caption) for name, caption in pairs]


def text_ranks(texts: Vectors, images: Vectors, owner: Ints) -> Ints:
    """texts: [T, D]; images: [N, D]; owner: [T]. For each text the rank of its picture, 0 the best."""
    starts = range(0, len(texts), 1024)
    blocks = [slice(start, start + 1024) for start in starts]
    return np.concatenate([text_ranks_of(texts[block] @ images.T, owner[block]) for block in blocks])


def text_ranks_of(scores: Vectors, owner: Ints) -> Ints:
    """scores: [T, N]; owner: [T]. For each text the rank of its picture, 0 the best; ties count as ranked before it, so
    that equal embeddings cannot look good."""
    own = scores[np.arange(len(scores)), owner][:, None]
    return (scores >= own).sum(1) - 1


def image_ranks(texts: Vectors, images: Vectors, owner: Ints) -> Ints:
    """For each picture the rank of the best of its own texts, counted among the texts of others, as is usual."""
    ranks = []
    for start in range(0, len(images), 1024):
        scores = images[start : start + 1024] @ texts.T
        own = owner[None] == np.arange(start, start + len(scores))[:, None]
        best = np.where(own, scores, -np.inf).max(1, keepdims=True)
        ranks.append(((scores >= best) & ~own).sum(1))
    return np.concatenate(ranks)


@dataclass(frozen=True)
class Recall:
    """recall@k of texts that look for their picture, and of pictures that look for a text of theirs."""

    text_to_image: dict[int, Interval]
    image_to_text: dict[int, Interval]
    images: int
    texts: int
    skipped: list[Skipped]

    def to_json(self) -> dict[str, Any]:
        """Plain lists and numbers."""
        both = {"text_to_image": self.text_to_image, "image_to_text": self.image_to_text}
        return {
            "images": self.images,
            "texts": self.texts,
            "skipped": [vars(one) for one in self.skipped],
            **{way: {f"recall_at_{k}": list(found) for k, found in one.items()} for way, one in both.items()},
        }


def recall_at(ranks: Ints, ks: Sequence[int] = KS, seed: int = 0) -> dict[int, Interval]:
    """The share of ranks below each k, with its bootstrap interval."""
    return {k: bootstrap(ranks < k, lambda rows: float(rows.mean()), seed=seed) for k in ks}


def measure(data: Captioned, clip: "Clip", *, batch: int = 64, workers: int = 4) -> Recall:
    """Embeds pictures and captions and measures recall both ways. A caption that is longer than the model reads at once
    is the mean of its parts. Pictures that cannot be read are left out, with
    their captions. Raises BadInput where none is left."""
    from goodeye.progress import progress
    from goodeye.search.embed import embed_items, embed_whole

    vectors, names = [np.zeros((0, clip.dimensions), np.float32)], []
    skipped: list[Skipped] = []
    with progress("embedding", len(data.items), "pictures") as advance:
        for done in embed_items(data.items, clip, batch=batch, workers=workers):
            vectors.append(done.vectors)
            names += [item.name for item in done.items]
            skipped += done.skipped
            advance(len(done.items) + len(done.skipped))
    place = {name: number for number, name in enumerate(names)}
    kept = [
        (caption, place[data.items[owner].name])
        for caption, owner in zip(data.captions, data.owner, strict=True)
        if data.items[owner].name in place
    ]
    if not kept:
        raise BadInput("none of the captioned pictures can be read. Name their folder with --images.")
    images, texts = np.concatenate(vectors), embed_whole([caption for caption, _ in kept], clip)
    owner = np.array([number for _, number in kept])
    return Recall(
        recall_at(text_ranks(texts, images, owner)),
        recall_at(image_ranks(texts, images, owner)),
        len(images),
        len(texts),
        skipped,
    )
