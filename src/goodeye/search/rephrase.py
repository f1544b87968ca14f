"""Rewriting a query before it is embedded: five methods through a large model, and one that needs none.

"Aligning Vision Models with Human Aesthetics in Retrieval", section 3.1. A large model describes the picture that is
wanted in about 50 words; `repeat`, the query said several times, is the control: length alone changes what is found.
`lexicon` chooses phrases by what they do on the very index (`goodeye.search.lexicon`).
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, Protocol, TypeVar, get_args

from pydantic import AfterValidator, Field

from goodeye.judging.large import Answer, Asked
from goodeye.search.embed import token_count, token_limit

if TYPE_CHECKING:
    from goodeye.judging.clip import Clip

Method = Literal["detail", "k_list", "kw_dict", "reorg", "repeat", "lexicon"]
METHODS: tuple[Method, ...] = get_args(Method)
BY_MODEL: tuple[Method, ...] = ("detail", "k_list", "kw_dict", "reorg")
WORDS = 50
LONGEST = 900  # characters of a phrase, or of a description: 50 words have some 300
MOST = 25  # phrases: a small model that repeats itself comes to an end

PROMPT = (
    "A user searches for images with the query: {query}\n"
    "Write a concise English image description of about {words} words for it by this method: {method} "
    "Keep everything that the query says; do not contradict it."
)
HOW = {
    "detail": "describe the visual details of the objects in the query.",
    "k_list": (
        "a list of succinct descriptions, details or stylistic elements, from the most to the least significant."
    ),
    "kw_dict": "at least two key words of the query, each with a description, from the most to the least significant.",
    "reorg": "say the query several times, each time in other words.",
}


A = TypeVar("A", bound=Answer)


class Asks(Protocol):
    """A `LargeModel`, or what stands in for one."""

    def ask(self, asked: Asked, kind: type[A]) -> A: ...


def _in_few_words(text: str) -> str:
    """What can be searched for. That is not in the schema: servers that hold a model to one know few patterns."""
    if not re.search(r"\w", text):
        raise ValueError("say it in words")
    if len(text) > LONGEST:
        raise ValueError(f"say it in at most {LONGEST} characters")
    return text


Words = Annotated[str, AfterValidator(_in_few_words)]


class Detail(Answer):
    description: Words = Field(min_length=1)


class KList(Answer):
    phrases: list[Words] = Field(min_length=1, max_length=MOST)


class KeyWord(Answer):
    word: Words = Field(min_length=1)
    description: Words


class KwDict(Answer):
    keywords: list[KeyWord] = Field(min_length=2, max_length=MOST)


class Reorg(Answer):
    versions: list[Words] = Field(min_length=1, max_length=MOST)


@dataclass(frozen=True)
class Rephrased:
    """text: what to embed in the query's place. left_out: what did not fit into the model's tokens, said openly."""

    method: Method
    text: str
    left_out: tuple[str, ...] = ()


def rephrase(query: str, method: Method, clip: "Clip", model: Asks | None = None) -> Rephrased:
    """Rewrites a query; every method but `repeat` asks the model. `lexicon` needs the index: see that module.

    What is said twice counts once. What is less significant than fits into the encoder's tokens is left out and named;
    nothing is cut silently, and a single description that is too long stays whole (`embed_text` averages its parts).
    Raises BadAnswer and BadInput as `LargeModel.ask` does.
    """
    if method == "repeat":
        return repeated(query, clip)
    if method not in BY_MODEL or model is None:
        raise ValueError(f"{method} cannot be done here" if method not in BY_MODEL else f"{method} needs a large model")
    words = max(5, min(WORDS, token_limit(clip) * 2 // 3))
    asked = Asked(PROMPT.format(query=query, words=words, method=HOW[method]))
    if method == "detail":
        return Rephrased(method, _clean(model.ask(asked, Detail).description))
    if method == "k_list":
        return fitted(method, _once(model.ask(asked, KList).phrases), ", ", clip)
    if method == "kw_dict":
        pairs = [f"{one.word}: {one.description}" for one in model.ask(asked, KwDict).keywords]
        return fitted(method, _once(pairs), ", ", clip)
    return fitted(method, _once(model.ask(asked, Reorg).versions), ". ", clip)


def repeated(query: str, clip: "Clip") -> Rephrased:
    """The control: the query as often as it fits, up to about 50 words."""
    times = max(1, round(WORDS / max(1, len(query.split()))))
    return Rephrased("repeat", fitted("repeat", [query] * times, ", ", clip).text)


def fitted(method: Method, phrases: Sequence[str], between: str, clip: "Clip") -> Rephrased:
    """Joins phrases, the first the most significant, as far as the encoder reads; the first one always stays."""
    kept = [_clean(phrase).strip(" ,.") for phrase in phrases]
    kept = [phrase for phrase in kept if phrase] or [_clean(phrases[0])]
    count = _longest(len(kept), lambda n: token_count(between.join(kept[:n]), clip) <= token_limit(clip))
    return Rephrased(method, between.join(kept[:count]), tuple(kept[count:]))


def _longest(most: int, fits: Callable[[int], bool]) -> int:
    """The largest number from 1 to `most` that fits; 1 if none does."""
    return next((number for number in range(most, 1, -1) if fits(number)), 1)


def _once(phrases: Sequence[str]) -> list[str]:
    """Each phrase where it comes first, in whatever case."""
    found: dict[str, str] = {}
    for phrase in map(_clean, phrases):
        found.setdefault(phrase.casefold(), phrase)
    return list(found.values())


def _clean(text: str) -> str:
    return " ".join(text.split())
