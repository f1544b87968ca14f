"""An index for a page on which people search: words or a picture in, pictures out, one question at a time."""

import threading
from collections.abc import Sequence

import numpy as np
from PIL import Image

from goodeye.search.ask import Searcher
from goodeye.search.embed import embed_image, embed_text
from goodeye.search.query import Hit, Weights, find
from goodeye.search.source import open_named
from goodeye.search.vectors import Vector


class Box:
    """What `goodeye search query` does, for many threads. No word of a question is ever taken for a file's name."""

    def __init__(self, searcher: Searcher) -> None:
        self.searcher = searcher
        self.one_at_a_time = threading.Lock()

    @property
    def has_taste(self) -> bool:
        """Whether beauty can be weighed."""
        return self.searcher.head is not None

    def words(self, text: str, k: int, taste: float | None = None, avoid: Sequence[str] = ()) -> list[Hit]:
        """The k best pictures for a text. taste: None for the usual one. Raises BadInput as `goodeye search query`."""
        with self.one_at_a_time:
            away = [embed_text(one, self.searcher.clip).vector for one in avoid]
            return self._find(embed_text(text, self.searcher.clip).vector, k, taste, away)

    def like(self, picture: Image.Image, k: int, taste: float | None = None, avoid: Sequence[str] = ()) -> list[Hit]:
        """The k pictures most like this one."""
        with self.one_at_a_time:
            away = [embed_text(one, self.searcher.clip).vector for one in avoid]
            return self._find(embed_image(picture, self.searcher.clip), k, taste, away)

    def open(self, name: str) -> Image.Image:
        """A picture that was found, by its name in the index. Raises BadInput where it is no longer there."""
        return open_named(name)

    def _find(self, vector: Vector, k: int, taste: float | None, away: Sequence[Vector]) -> list[Hit]:
        head = self.searcher.head
        weights = Weights(taste=self.searcher.usual_taste if taste is None or head is None else taste)
        return find(
            self.searcher.index,
            vector,
            k,
            weights,
            head=self.searcher.weight if head is not None else None,
            bias=float(head.bias) if head is not None else 0.0,
            away=np.stack(away) if away else None,
        ).hits
