"""A whole question to an index: its words rewritten if asked for, embedded, shifted, answered."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from goodeye.errors import BadInput
from goodeye.images import open_image
from goodeye.judging.aesthetic import AestheticHead
from goodeye.judging.large import BadAnswer, LargeModel, Server, cache_folder, server_from
from goodeye.modelset import Models, resolve
from goodeye.search.build import require_same_model
from goodeye.search.embed import embed_image, embed_text, usable
from goodeye.search.index import open_index
from goodeye.search.lexicon import choose_phrases, known_phrases, read_lexicon
from goodeye.search.query import Answer, Found, Weights, find
from goodeye.search.rephrase import BY_MODEL, METHODS, Method, rephrase
from goodeye.search.vectors import Vector
from goodeye.tables import PICTURES

if TYPE_CHECKING:
    from goodeye.judging.clip import Clip

UNREAD = (".heic", ".heif", ".svg", ".jxl", ".jp2", ".ico", ".psd")  # pictures all the same, which is then said
TASTE = 0.3  # where the index has a head and no taste is given (ours)


def set_name(models: str) -> str:
    """A model set as an index remembers it: its name, or its TOML file's full path."""
    return models if models in ("showroom", "sd15") else str(Path(models).expanduser().resolve())


def load_clip(models: str, device: str = "cpu") -> "Clip":
    """The CLIP of a model set. Raises BadInput where it has none."""
    return Models(resolve(models), device=device).clip


class Rewritten(NamedTuple):
    """A query as it is to be embedded. failure: why a large model's rewriting cannot be used, so that text is the query
    as it was; said: what the model answered then."""

    text: str
    failure: str = ""
    said: str = ""


class Searcher:
    """An index with the model it belongs to, loaded once for many questions.

    models: a model set; the index's own if not given. head: a file; the index's own if not given.
    server: for rephrasing by a large model. Raises BadInput where the model or the head is not the index's.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        models: str | None = None,
        head: str | Path | None = None,
        server: Server | None = None,
        device: str = "cpu",
    ) -> None:
        from goodeye.search.taste import load_head

        self.index = open_index(folder)
        name = models or self.index.card.models
        self.clip = load_clip(name, device)
        require_same_model(self.index.folder, self.index.card, self.clip.version, name)
        own = self.index.own_head
        chosen = head or (own if own and own.exists() else None)
        self.head: AestheticHead | None = load_head(chosen, self.index.card) if chosen else None
        self.server = server

    @property
    def weight(self) -> Vector:
        """w of the head, [D]. Raises BadInput where there is none."""
        if self.head is None:
            raise BadInput(f"{self.index.folder} has no taste. Fit one by `goodeye search fit-taste`, or name a head.")
        return self.head.weight.cpu().numpy()

    @property
    def usual_taste(self) -> float:
        """0.3 where there is a head, else 0."""
        return TASTE if self.head is not None else 0.0

    def ask(
        self,
        question: str,
        *,
        k: int = 20,
        avoid: Sequence[str] = (),
        weights: Weights | None = None,
        method: Method | None = None,
        lexicon: str | Path | None = None,
        groups: bool = True,
    ) -> Answer:
        """Answers a text, or a picture file's name.

        weights: without them, the usual taste. avoid: texts to keep away from. method: rewrites the text first.
        Raises BadInput for what cannot be used, as the parts of it do.
        """
        weights = weights or Weights(taste=self.usual_taste)
        notes: list[str] = []
        read, vector = self._read(question, method, lexicon, notes)
        away = np.stack([embed_text(one, self.clip).vector for one in avoid]) if avoid else None
        found = self._find(vector, k, weights, away, groups)
        return Answer(
            self.index.folder,
            question,
            read.text,
            "" if read.failure else method or "",
            weights,
            tuple(avoid),
            found,
            notes,
            read.failure,
            read.said,
        )

    def _find(self, vector: Vector, k: int, weights: Weights, away: np.ndarray | None, groups: bool) -> Found:
        head = self.weight if self.head is not None else None
        bias = float(self.head.bias) if self.head is not None else 0.0
        return find(self.index, vector, k, weights, head=head, bias=bias, away=away, groups=groups)

    def _read(
        self, question: str, method: Method | None, lexicon: str | Path | None, notes: list[str]
    ) -> tuple[Rewritten, Vector]:
        """The words that are embedded, and their embedding; for a picture, its name."""
        if is_picture(question):
            if method:
                raise BadInput(f"{question} is a picture, which cannot be rephrased. Leave --rephrase away.")
            return Rewritten(question), embed_image(open_image(question), self.clip)
        made = self.rewrite(question, method, lexicon, notes) if method else Rewritten(usable(question))
        vector, parts = embed_text(made.text, self.clip)
        if unknown := [word for word in dict.fromkeys(made.text.split()) if not known_phrases([word], self.clip)]:
            notes.append(f"The model does not know: {' '.join(unknown)}. What they mean has no part in the answer.")
        if parts > 1:
            notes.append(f"The query is longer than the model reads at once; the mean of {parts} parts was taken.")
        return made, vector

    def rewrite(self, query: str, method: Method, lexicon: str | Path | None, notes: list[str]) -> Rewritten:
        """The query as a method of rephrasing writes it; what is worth knowing of it goes into `notes`. An answer of a
        large model that cannot be used leaves the query as it was, as a recorded failure.

        Raises BadInput for an unknown method, and before a server is asked for a query that is empty or too long.
        """
        usable(query)
        if method not in METHODS:
            raise BadInput(f"there is no method {method} to rephrase by. Use one of {', '.join(METHODS)}.")
        if method == "lexicon":
            chosen = choose_phrases(query, self.index, self.clip, self.weight, read_lexicon(lexicon))
            if not chosen.room:
                notes.append("The query is so long that no phrase of the lexicon fits behind it.")
            elif not chosen.pulls:
                notes.append("No phrase of the lexicon makes what is found more beautiful at the same relevance.")
            return Rewritten(chosen.text)
        model = LargeModel(self.server or server_from(), cache_folder()) if method in BY_MODEL else None
        try:
            made = rephrase(query, method, self.clip, model)
        except BadAnswer as error:
            notes.append(f"The query stands as it was: {error}.")
            return Rewritten(query, str(error), error.said[:2000])
        if made.left_out:
            notes.append(f"Left out, since the model reads no more: {'; '.join(made.left_out)}.")
        return Rewritten(made.text)


def is_picture(question: str) -> bool:
    """True where the question is a picture file's name, whether there is such a file or not: one word with a picture's
    ending, a path with one, or a file's name with spaces."""
    path = Path(question)
    if path.suffix.lower() not in (*PICTURES, *UNREAD):
        return False
    return "/" in question or len(question.split()) == 1 or path.is_file()
