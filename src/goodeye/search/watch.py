"""What an alignment run looks at while it learns: captioned pictures that nothing is learned from.

A model that is trained towards beauty ends by finding beauty alone. The recall guard asks whether each caption still
finds its own picture: no judge of the training has a part in that.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import ImageOps
from torch import Tensor

from goodeye.images import to_tensor
from goodeye.search.embed import embed_pixels, embed_whole, prepare
from goodeye.search.index import Index
from goodeye.search.shift import Scale
from goodeye.search.source import open_named
from goodeye.search.vectors import Vector, Vectors
from goodeye.training.guard import Look

if TYPE_CHECKING:
    from goodeye.judging.clip import Clip

TOP = 5  # pictures of an answer
GALLERY = 1024  # pictures that are searched: the captioned ones, and others of the index
SHOWN, SIDE = 12, 128
BATCH = 64


class Watch:
    """Embeds the gallery and the captions with the model as it is now, and measures what the captions find.

    captions: row -> caption. trained: the re-ranker's score of the first pictures, by the start model's embeddings.
    held_out: 1 / rank of the caption's own picture. fidelity: whether that is among the first ten. diversity: how far
    the own picture is from the gallery's others, which a collapse brings to 0.
    """

    def __init__(self, index: Index, clip: "Clip", head: Vector, captions: Mapping[int, str], taste: float) -> None:
        self.index, self.clip, self.captions = index, clip, captions
        more = [int(row) for row in np.linspace(0, index.card.rows - 1, GALLERY).astype(int)]
        gone = set(index.removed.tolist())
        others = [row for row in dict.fromkeys(more) if row not in captions and row not in gone]
        self.rows = [*captions, *others[: max(0, GALLERY - len(captions))]]
        scale = Scale(index.sample, head)
        texts = embed_whole(list(captions.values()), clip)
        moved = np.stack([one + np.float32(scale.lam(taste, one)) * head for one in texts])
        self.wanted = torch.from_numpy(moved @ np.asarray(index.vectors[self.rows]).T)  # [Q, N], by the start model

    def look(self) -> Look:
        """One look, as the guard takes it."""
        images, texts = torch.from_numpy(self._gallery()), embed_whole(list(self.captions.values()), self.clip)
        scores = torch.from_numpy(texts) @ images.T
        own = torch.arange(len(scores))
        ranks = (scores >= scores[own, own][:, None]).sum(1)
        first = scores.topk(TOP, 1).indices
        apart = 1 - (images[own] @ images.T).mean(1)
        return Look(
            trained=self.wanted.gather(1, first).mean(1),
            held_out=1 / ranks,
            diversity=apart,
            fidelity=(ranks <= 10).float(),
            pictures=self._pictures(first[:SHOWN, 0].tolist()),
            more={"recall_at_1": float((ranks <= 1).float().mean())},
        )

    def numbers(self, step: int) -> dict[str, float]:
        """Without a guard: the same numbers for metrics.jsonl."""
        look = self.look()
        means = {name: float(getattr(look, name).mean()) for name in ("trained", "held_out", "diversity", "fidelity")}
        return means | dict(look.more)

    def _gallery(self) -> Vectors:
        found = []
        for start in range(0, len(self.rows), BATCH):
            names = [self.index.row(row)[0] for row in self.rows[start : start + BATCH]]
            found.append(embed_pixels(torch.stack([prepare(open_named(name), self.clip) for name in names]), self.clip))
        return np.concatenate(found)

    def _pictures(self, places: list[int]) -> Tensor:
        names = [self.index.row(self.rows[place])[0] for place in places]
        return torch.stack([to_tensor(ImageOps.fit(open_named(name).convert("RGB"), (SIDE, SIDE))) for name in names])
