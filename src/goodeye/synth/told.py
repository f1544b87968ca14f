"""CLIS-I by large models: one describes the picture and each region, one judges each description (equation 9).

The captioner is told where a region lies, in coordinates and by a drawn box. Whatever cannot be used is asked for again
and then is unknown: it lowers no score and raises none. Equal questions are asked once (`LargeModel` keeps answers by
everything that went in, pictures too), so a run that was stopped goes on where it was.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

from PIL import Image, ImageDraw
from pydantic import Field

from goodeye.images import to_pil, to_tensor
from goodeye.judging.large import Answer, Asked, BadAnswer
from goodeye.synth.clis_i import CUT, MARKED, PATIENCE, ImageScore, ThingScore, cut_out, joined
from goodeye.synth.layout import Layout, Thing

A = TypeVar("A", bound=Answer)

LONGEST = 4000  # characters of an answer that cannot be used, as it goes on record
POINTS = 5  # a judgement is 0 to 5 and counts 20 each
WHOLE = "Describe what this picture shows in one or two sentences: the things in it, how they look, how they stand."
REGION = """Describe the one thing inside the red box of this picture in one sentence: what it is, and how it looks.
The box spans from {left:.2f} to {right:.2f} of the width and from {top:.2f} to {bottom:.2f} of the height."""
PART = "Describe the one thing that this picture shows in one sentence: what it is, and how it looks."
JUDGE = """Wanted: {wanted}
Seen: {seen}
Give points from 0 to 5 for how well what was seen is what was wanted. 5: the same. A wrong kind of thing gives 0 or 1;
a right kind with a wrong attribute gives 2 to 4. Say in a few words what is wrong, or leave that empty."""


class Asks(Protocol):
    """A `LargeModel`, or what stands in for one."""

    def ask(self, asked: Asked, kind: type[A]) -> A: ...


class Seen(Answer):
    description: str = Field(min_length=1)


class Judged(Answer):
    points: int = Field(ge=0, le=POINTS)
    wrong: str


def score_told(image: Image.Image, layout: Layout, captioner: Asks, judge: Asks) -> ImageScore:
    """CLIS-I of one picture by 1 + 2n captions and as many judgements of n things.

    Raises BadInput where a server cannot be used.
    """
    whole, words = _judged(Asked(WHOLE, [image]), layout.caption, captioner, judge) if layout.caption else (None, "")
    found = joined(whole, [_thing(image, thing, captioner, judge) for thing in layout.things], layout.caption)
    return replace(found, unknown=f"the whole could not be judged: {words}") if words and whole is None else found


def _thing(image: Image.Image, thing: Thing, captioner: Asks, judge: Asks) -> ThingScore:
    x, y, width, height = thing.box
    words = REGION.format(left=x, right=x + width, top=y, bottom=y + height)
    part = to_pil(cut_out(to_tensor(image), thing.box))
    found = {
        "marked": _judged(Asked(words, [boxed(image, thing)]), thing.text, captioner, judge),
        "cut": _judged(Asked(PART, [part]), thing.text, captioner, judge),
    }
    parts = {name: score for name, (score, _) in found.items() if score is not None}
    wrong = tuple(dict.fromkeys(f"{thing.key}: {words}" for _, words in found.values() if words))
    if len(parts) < len(found):
        return ThingScore(thing.key, thing.category, None, parts, (*wrong, f"{thing.key} could not be judged"))
    score = MARKED * parts["marked"] + CUT * parts["cut"]
    return ThingScore(thing.key, thing.category, round(score, 2), parts, wrong if score < PATIENCE else ())


def _judged(asked: Asked, wanted: str, captioner: Asks, judge: Asks) -> tuple[float | None, str]:
    """0 to 100 and what is wrong; None where either model gave nothing that can be used, with what it said instead."""
    try:
        seen = captioner.ask(asked, Seen).description
        judged = judge.ask(Asked(JUDGE.format(wanted=wanted, seen=" ".join(seen.split()))), Judged)
    except BadAnswer as error:
        return None, f"{error}. It said: {error.said[:LONGEST]}"
    return 100 / POINTS * judged.points, " ".join(judged.wrong.split())


def boxed(image: Image.Image, thing: Thing) -> Image.Image:
    """The picture with the thing's box drawn in red."""
    drawn = image.convert("RGB")
    x, y, width, height = thing.box
    left, top = x * image.width, y * image.height
    corners = left, top, max(left + 1, left + width * image.width - 1), max(top + 1, top + height * image.height - 1)
    ImageDraw.Draw(drawn).rectangle(corners, outline="#ff0000", width=max(1, min(image.size) // 128))
    return drawn


def score_all_told(
    images: Sequence[Image.Image], layouts: Sequence[Layout], captioner: Asks, judge: Asks
) -> list[ImageScore]:
    """`score_told` of each picture with its layout."""
    return [score_told(image, one, captioner, judge) for image, one in zip(images, layouts, strict=True)]
