"""Rephrasing without a large model: phrases of a lexicon, chosen by their measured pull on this very index (ours).

A phrase's pull is how much more beautiful the first pictures become when it is added to the query; its price is how
much less similar to the query as it was they become. Both are in standard deviations over the index.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from goodeye.errors import BadInput
from goodeye.search.embed import embed_text, embed_texts, token_count, token_limit
from goodeye.search.index import Index
from goodeye.search.vectors import Vector

if TYPE_CHECKING:
    from goodeye.judging.clip import Clip

PHRASES = (
    *("sharp focus", "shallow depth of field", "blurred background", "fine detail", "high resolution"),
    *("soft light", "bright daylight", "warm evening light", "moody light", "golden hour", "natural light"),
    *("backlit", "dramatic light", "studio lighting", "soft shadows", "high contrast", "low key"),
    *("vivid colours", "muted colours", "pastel colours", "warm colours", "cool colours", "black and white"),
    *("harmonious colours", "complementary colours", "monochrome", "rich tones", "clean white background"),
    *("minimal composition", "rule of thirds", "symmetry", "leading lines", "centred", "wide angle", "close-up"),
    *("negative space", "balanced composition", "from above", "at eye level", "panorama"),
    *("professional photograph", "award-winning photograph", "product photograph", "film photograph", "portrait"),
    *("watercolour", "oil painting", "illustration", "cinematic", "elegant", "modern", "rustic", "cosy", "serene"),
    *("in a photo studio", "on a wooden floor", "on a stone counter", "at a beach by the sea", "in a forest"),
    *("in a living room", "in a kitchen", "in an office", "in a city at night", "in a spa"),
)


@dataclass(frozen=True, kw_only=True)
class Rules:
    """top: pictures that are looked at. least: gain in beauty for which a phrase is added. keep: what share of the
    query's lead in similarity over the middle of the index its first pictures must keep."""

    top: int = 10
    phrases: int = 3
    least: float = 0.05
    keep: float = 0.85


@dataclass(frozen=True)
class Chosen:
    """The query with its phrases. pulls: each phrase with its gain in beauty and change in similarity. room: False
    where the query is so long that no phrase fits behind it into the encoder's tokens."""

    text: str
    pulls: tuple[tuple[str, float, float], ...]
    room: bool = True


def read_lexicon(path: str | Path | None) -> tuple[str, ...]:
    """A phrase a line; the built-in ones if no file is named. Raises BadInput for a file without any."""
    if path is None:
        return PHRASES
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read as a list of phrases. Give a text file with one a line.") from error
    phrases = tuple(dict.fromkeys(" ".join(line.split()) for line in lines if line.strip()))
    if not phrases:
        raise BadInput(f"{path} holds no phrases. Write one a line.")
    return phrases


def known_phrases(phrases: Sequence[str], clip: "Clip") -> list[str]:
    """Those of which the model's tokenizer knows every word."""
    unknown = clip.tokenizer.unk_token_id
    marks = {clip.tokenizer.eos_token_id, clip.tokenizer.bos_token_id, clip.tokenizer.pad_token_id}
    return [
        phrase
        for phrase in phrases
        if unknown in marks or unknown not in clip.tokenizer(phrase, verbose=False)["input_ids"]
    ]


def choose_phrases(
    query: str, index: Index, clip: "Clip", head: Vector, phrases: Sequence[str] = PHRASES, rules: Rules | None = None
) -> Chosen:
    """Adds to the query, one after another, the phrase that makes its first pictures most beautiful, as long as they
    stay about as similar to the query itself and the text fits into the encoder's tokens.

    head: w, [D]. Returns the query alone where no phrase helps or fits. Raises BadInput as `embed_text` does.
    """
    rules = rules or Rules()
    spread = float((index.sample @ head).std()) or 1.0
    original = embed_text(query, clip).vector
    text = query
    pulls: list[tuple[str, float, float]] = []
    beauty, similar = _first(index, original[None], original, head, rules.top)
    middle = float(np.median(index.sample @ original))
    beauty_before, wanted = float(beauty[0]), middle + rules.keep * (float(similar[0]) - middle)
    known = known_phrases(phrases, clip)
    left = _fitting(text, known, clip)
    room = bool(left) or not known
    while left and len(pulls) < rules.phrases:
        texts = [f"{text}, {phrase}" for phrase in left]
        beauty, relevance = _first(index, embed_texts(texts, clip), original, head, rules.top)
        gain = (beauty - beauty_before) / spread
        gain[relevance < wanted] = -np.inf
        best = int(gain.argmax())
        if gain[best] < rules.least:
            break
        pulls.append((left[best], float(gain[best]), float(relevance[best] - similar[0])))
        text, beauty_before = texts[best], float(beauty[best])
        left.pop(best)
        left = _fitting(text, left, clip)
    return Chosen(text, tuple(pulls), room)


def _fitting(text: str, phrases: Sequence[str], clip: "Clip") -> list[str]:
    """Phrases that the model can read behind the text, with all of it."""
    return [phrase for phrase in phrases if token_count(f"{text}, {phrase}", clip) <= token_limit(clip)]


def _first(
    index: Index, queries: np.ndarray[Any, Any], original: Vector, head: Vector, top: int
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """For each query the mean beauty of its first pictures, and their mean similarity to the query as it was."""
    _, rows = index.search(queries, min(top, len(index)))
    vectors = index.vectors[rows]  # [Q, top, D]
    return (vectors @ head).mean(1), (vectors @ original).mean(1)
