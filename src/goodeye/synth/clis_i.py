"""CLIS-I without a large model: does each region show what was wanted there? By any CLIP, from 0 to 100.

A region is looked at twice: cut out, and marked in its surroundings. What was wanted competes with other categories,
and its attributes with other ones. A thing's weights are those of the synth paper's code; the rest is ours.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from goodeye.errors import BadInput
from goodeye.images import to_tensor
from goodeye.judging.protocol import fingerprint
from goodeye.synth.layout import Box, Layout, Thing, with_article

if TYPE_CHECKING:
    from goodeye.judging.clip import Clip
    from goodeye.modelset import Models

WHOLE = 0.5  # of the score: the picture as a whole; the rest is the mean over its things (code)
WHOLE_BY_CLIP = 0.1  # which of some captions fits best tells a CLIP little of whether each thing is there; ours
MARKED, CUT = 0.8, 0.2  # a thing marked in its picture, and cut out (code)
ATTRIBUTES = 0.4  # of a thing's score: a wrong category costs all of it, wrong attributes at most so much; ours
MARGIN = 0.1  # around a cut-out, as a share of its longer side
LIT = 0.35  # how bright the picture stays around a marked region
REACH = 2.0  # sides of what is seen of it, of the region's longer side
_BY_ROUND = re.compile(r"[a-z]\d{6}")  # keys of a set's layouts: a round's letter, and a number
SIDE = 224  # pixels of a view before the CLIP's own preparation
RIVALS = 15  # captions that a picture's own competes with, at most; ours
PATIENCE = 50.0  # below, a thing's score has a reason


@dataclass(frozen=True)
class ThingScore:
    """score: 0 to 100; None is unknown. parts: what it is made of. reasons: what is wrong, in words."""

    key: str
    category: str
    score: float | None
    parts: dict[str, float] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImageScore:
    """score: 0 to 100; None where any part of it is unknown. whole: of the picture against its caption. unknown: why
    that could not be judged."""

    score: float | None
    whole: float | None
    things: tuple[ThingScore, ...]
    unknown: str = ""

    @property
    def reasons(self) -> list[str]:
        """What is wrong, in words."""
        return [*filter(None, [self.unknown]), *(reason for thing in self.things for reason in thing.reasons)]


def joined(whole: float | None, things: Sequence[ThingScore], caption: str, weight: float = WHOLE) -> ImageScore:
    """The picture's score of its parts. Without a caption its things count alone; unknown parts leave it unknown.

    weight: of the whole.
    """
    known = [one.score for one in things if one.score is not None]
    if len(known) < len(things) or not known or (caption and whole is None):
        return ImageScore(None, whole, tuple(things))
    mean = sum(known) / len(known)
    score = mean if whole is None else weight * whole + (1 - weight) * mean
    return ImageScore(round(score, 2), whole, tuple(things))


def rivals_of(layouts: Sequence[Layout]) -> list[str]:
    """The captions that each picture's own competes with: RIVALS + 1 of these layouts', so that RIVALS are left beside
    any of them, by chance but always the same, in whatever order the layouts are. Of a set that `goodeye synth make`
    plans round by round, captions of the first round: they are known before any picture is scored."""
    rounds = [one.key[0] for one in layouts if _BY_ROUND.fullmatch(one.key)]
    first = min(rounds) if len(rounds) == len(layouts) and rounds else ""
    captions = {one.caption for one in layouts if one.caption and one.key.startswith(first)}
    return sorted(captions, key=fingerprint)[: RIVALS + 1]


def cut_out(image: Float[Tensor, "3 H W"], box: Box, margin: float = MARGIN) -> Float[Tensor, "3 h w"]:
    """The region with a little around it, at least a pixel each way."""
    height, width = image.shape[1:]
    x, y, w, h = box[0] * width, box[1] * height, box[2] * width, box[3] * height
    around = margin * max(w, h)
    left, top = max(0, int(x - around)), max(0, int(y - around))
    right, bottom = min(width, round(x + w + around)), min(height, round(y + h + around))
    return image[:, top : max(bottom, top + 1), left : max(right, left + 1)]


def marked(image: Float[Tensor, "3 H W"], box: Box, lit: float = LIT, reach: float = REACH) -> Float[Tensor, "3 h w"]:
    """The region among what is around it, darker there: a box as a prompt that no model has to be trained for (ours).

    reach: sides of the window, of the longer side of the region; where the picture ends the window moves, and where it
    is smaller than the window it is seen whole. A CLIP sees few pixels, so of the whole picture it would not see what a
    small thing is.
    """
    height, width = image.shape[1:]
    dark = image * lit
    left, top = int(box[0] * width), int(box[1] * height)
    right, bottom = max(left + 1, round((box[0] + box[2]) * width)), max(top + 1, round((box[1] + box[3]) * height))
    dark[:, top:bottom, left:right] = image[:, top:bottom, left:right]
    side = math.ceil(reach * max(right - left, bottom - top))
    (x, w), (y, h) = _window(left, right, side, width), _window(top, bottom, side, height)
    return dark[:, y : y + h, x : x + w]


def _window(low: int, high: int, side: int, size: int) -> tuple[int, int]:
    """Where it begins, and how long it is: `side` around the middle, within the picture."""
    side = min(side, size)
    return min(max((low + high - side) // 2, 0), size - side), side


def region_clip(models: "Models") -> "Clip":
    """The CLIP of a model set that looks at regions: the role region, trained on cut-outs, or else the role clip."""
    if "region" not in models.model_set.roles:
        return models.clip
    from goodeye.judging.clip import Clip

    return models.load("region", lambda place: Clip.from_pretrained(place, models.device, models.dtype))


class RegionScorer:
    """CLIS-I by a CLIP. categories: what a thing may be taken for. attributes: what it may look like instead.

    scale: the CLIP's own temperature if not given.
    """

    def __init__(
        self, clip: "Clip", categories: Sequence[str], attributes: Sequence[str] = (), scale: float | None = None
    ) -> None:
        if len(set(categories)) < 2:
            raise BadInput("to tell whether a region shows what was wanted takes two categories at least. Name more.")
        self.clip, self.categories = clip, tuple(dict.fromkeys(categories))
        self.attributes = tuple(dict.fromkeys(attributes))
        self.scale = _temperature(clip) if scale is None else scale
        self._known: dict[str, Tensor] = {}

    @property
    def version(self) -> str:
        """Changes with the weights, the categories and the attributes."""
        told = (self.categories, self.attributes, self.scale, RIVALS, WHOLE_BY_CLIP)
        return fingerprint(self.clip.version, repr(told))

    def of_pictures(
        self, pictures: Sequence[Image.Image], layouts: Sequence[Layout], rivals: Sequence[str]
    ) -> list[ImageScore]:
        """`score` of PIL pictures."""
        return self.score([to_tensor(one) for one in pictures], layouts, rivals)

    def score(
        self, images: Sequence[Float[Tensor, "3 H W"]], layouts: Sequence[Layout], rivals: Sequence[str] = ()
    ) -> list[ImageScore]:
        """One picture in [0, 1] a layout, of any sizes; a picture's score does not depend on the others.

        rivals: captions (`rivals_of`); a picture's own competes with the first RIVALS of them that are not its own, and
        with the categories. Where there are none, with the categories alone.
        """
        views = [
            view for image, one in zip(images, layouts, strict=True) for thing in one.things
            for view in (marked(image, thing.box), cut_out(image, thing.box))
        ]  # fmt: skip
        with torch.no_grad():
            regions = self._embed(views)
            wholes = self._embed(images)
        scores, at = [], 0
        for picture, one in zip(wholes, layouts, strict=True):
            things = []
            for thing in one.things:
                things.append(self._thing(thing, regions[at], regions[at + 1]))
                at += 2
            others = [caption for caption in rivals if caption != one.caption][:RIVALS]
            texts = list(dict.fromkeys([one.caption, *others, *self.categories]))
            whole = 100 * float(self._shares(picture, texts)[0]) if one.caption else None
            scores.append(joined(None if whole is None else round(whole, 2), things, one.caption, WHOLE_BY_CLIP))
        return scores

    def _thing(self, thing: Thing, by_mark: Tensor, by_cut: Tensor) -> ThingScore:
        kinds = list(dict.fromkeys([thing.category, *self.categories]))
        category = MARKED * self._shares(by_mark, kinds) + CUT * self._shares(by_cut, kinds)
        parts, reasons = {"category": float(category[0])}, list[str]()
        if int(category.argmax()):
            taken = kinds[int(category.argmax())]
            reasons.append(f"{thing.key} looks more like {with_article(taken)} than {with_article(thing.category)}")
        looks = 1.0
        if thing.attributes:
            others = [one for one in self.attributes if one not in thing.attributes]
            texts = [thing.text, *(f"{one} {thing.category}" for one in others)]
            if len(texts) > 1:
                found = MARKED * self._shares(by_mark, texts) + CUT * self._shares(by_cut, texts)
                looks = parts["attributes"] = float(found[0])
                best = texts[int(found.argmax())]
                if best != thing.text and not reasons:
                    reasons.append(f"{thing.key} looks more like {with_article(best)} than {with_article(thing.text)}")
        score = 100 * parts["category"] * (1 - ATTRIBUTES + ATTRIBUTES * looks)
        if score < PATIENCE and not reasons:
            reasons.append(f"{thing.key} is hardly to be told from other things")
        rounded = {name: round(value, 4) for name, value in parts.items()}
        return ThingScore(thing.key, thing.category, round(score, 2), rounded, tuple(reasons))

    def _shares(self, embedding: Float[Tensor, " D"], texts: Sequence[str]) -> Float[Tensor, " T"]:
        """How the view is shared out between texts: a softmax over the cosines."""
        missing = [one for one in texts if one not in self._known]
        if missing:
            with torch.no_grad():
                self._known.update(
                    zip(missing, self.clip.embed_texts([_prompt(one) for one in missing]).cpu(), strict=True)
                )
        return torch.softmax(self.scale * torch.stack([self._known[one] for one in texts]) @ embedding, 0)

    def _embed(self, views: Sequence[Tensor], batch: int = 32) -> Float[Tensor, "N D"]:
        """Views of any sizes, each made square by its edges' own colours first, so that nothing is squeezed."""
        found = [
            self.clip.embed_images(torch.stack([square(view, SIDE) for view in views[at : at + batch]])).cpu()
            for at in range(0, len(views), batch)
        ]
        return torch.cat(found) if found else torch.zeros(0, 1)


def square(view: Float[Tensor, "3 h w"], size: int) -> Float[Tensor, "3 S S"]:
    """The view made square by its edges' own colours, and resized."""
    height, width = view.shape[1:]
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    padded = F.pad(view[None], (left, side - width - left, top, side - height - top), mode="replicate")
    return F.interpolate(padded, size=(size, size), mode="bilinear", antialias=True)[0].clamp(0, 1)


def _prompt(text: str) -> str:
    return with_article(text) if len(text.split()) < 5 else text


def _temperature(clip: Any) -> float:
    learned = getattr(clip.model, "logit_scale", None)
    return float(learned.detach().exp()) if isinstance(learned, Tensor) else 100.0
