"""What to draw, by a large model: first a description of the objects, then their layout (synth paper, section 3.2).

What the model says is checked for sense, not only for form: other objects, boxes out of the frame, a caption that
leaves an object out. A server that holds the model to its JSON schema gives no other objects and boxes of four numbers
to begin with. What is wrong is told to the model, which is asked again; what stays wrong is recorded as failed
with the raw answer. A box that sticks out by a little is cut at the frame, and that is said. Nothing is guessed.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar

from pydantic import Field, model_validator

from goodeye.judging.large import Answer, Asked, BadAnswer
from goodeye.synth.layout import Box, Layout, Relation, Thing, wrong_with

A = TypeVar("A", bound=Answer)

CUT = 0.02  # by which a box may stick out and is cut
HEDGES = ("maybe", "perhaps", "possibly", "probably", "might", "may be", "could be", "appears", "seems", "or something")

SYSTEM = "You plan pictures. Answer with JSON alone."
DESCRIBE = """Plan a picture that shows exactly these objects: {objects}. This is variation {number}.
Give each object, by its name as it is, one to three visible attributes (colour, material, what it does).
Say how objects stand to each other: subject, relation, object, each subject and object by its name.
Write a caption of 2 to 4 sentences that names every object's kind and says nothing uncertain.

Example for ["dog-1", "frisbee-1"]:
{{"things": [{{"object": "dog-1", "attributes": ["brown", "jumping"]}},
{{"object": "frisbee-1", "attributes": ["red"]}}],
"relations": [{{"subject": "frisbee-1", "relation": "above", "object": "dog-1"}}],
"caption": "A brown dog jumps on a lawn. A red frisbee flies above the dog."}}"""
LAY_OUT = """Lay out a picture. Caption: {caption}
Objects: {objects}
Relations: {relations}
Give each object one box [x, y, width, height] in shares of the picture's sides from 0 to 1: x and y are its left upper
corner, and x + width and y + height are at most 1. Sizes and distances are as in a photograph.

Example for "A brown dog jumps on a lawn. A red frisbee flies above the dog.":
{{"layout": [{{"object": "dog-1", "bbox": [0.3, 0.42, 0.38, 0.46]}},
{{"object": "frisbee-1", "bbox": [0.46, 0.2, 0.16, 0.08]}}]}}"""


class Asks(Protocol):
    """A `LargeModel`, or what stands in for one."""

    def ask(self, asked: Asked, kind: type[A]) -> A: ...


class DescribedThing(Answer):
    object: str
    attributes: list[str] = Field(max_length=6)


class DescribedRelation(Answer):
    subject: str
    relation: str = Field(min_length=1, max_length=40)
    object: str


class Description(Answer):
    things: list[DescribedThing]
    relations: list[DescribedRelation]
    caption: str


SHARE: dict[str, Any] = {"type": "number", "minimum": -CUT, "maximum": 1 + CUT}


class Placed(Answer):
    object: str
    bbox: list[float] = Field(json_schema_extra={"items": SHARE, "minItems": 4, "maxItems": 4})


class LaidOut(Answer):
    layout: list[Placed]


@dataclass(frozen=True)
class Planned:
    """A layout, and what of the model's answer was repaired, in words."""

    layout: Layout
    repaired: tuple[str, ...] = ()


@dataclass(frozen=True)
class Failed:
    """No layout: why, and what the model said at last."""

    key: str
    objects: tuple[str, ...]
    message: str
    said: str


def ask_for(model: Asks, key: str, objects: Sequence[tuple[str, str]], number: int = 0) -> Planned | Failed:
    """Has the model describe and lay out these objects, each a key with its category.

    number: another number, another plan of the same objects. Raises BadInput where the server cannot be used.
    """
    keys = tuple(name for name, _ in objects)
    try:
        asked = Asked(DESCRIBE.format(objects=list(keys), number=number), system=SYSTEM)
        described = model.ask(asked, _description(objects))
        relations = [f"{one.subject} {one.relation} {one.object}" for one in described.relations]
        words = {one.object: f"{one.object} ({', '.join(one.attributes)})" for one in described.things}
        asked = Asked(
            LAY_OUT.format(
                caption=described.caption, objects=", ".join(words.values()), relations="; ".join(relations) or "none"
            ),
            system=SYSTEM,
        )
        placed = model.ask(asked, _laid_out(keys))
    except BadAnswer as error:
        return Failed(key, keys, str(error), error.said)
    return _joined(key, dict(objects), described, placed)


def ask_for_all(model: Asks, plans: Sequence[Layout]) -> Iterator[Planned | Failed]:
    """The model's own description and layout for the objects of each plan."""
    for number, one in enumerate(plans):
        yield ask_for(model, one.key, [(thing.key, thing.category) for thing in one.things], number)


def _joined(key: str, category: dict[str, str], described: Description, placed: LaidOut) -> Planned:
    attributes = {one.object: tuple(filter(None, map(_clean, one.attributes))) for one in described.things}
    boxes = {one.object: _cut(one.bbox) for one in placed.layout}
    repaired = tuple(
        f"the box of {one.object} is cut at the frame" for one in placed.layout if boxes[one.object] != tuple(one.bbox)
    )
    things = tuple(
        Thing(key=name, category=kind, box=boxes[name], attributes=attributes[name]) for name, kind in category.items()
    )
    relations = tuple(Relation(one.subject, _clean(one.relation).lower(), one.object) for one in described.relations)
    return Planned(Layout(key=key, things=things, relations=relations, caption=_clean(described.caption)), repaired)


def _cut(bbox: Sequence[float]) -> Box:
    """The part of a box that lies in the frame."""
    x, y, width, height = bbox
    if not wrong_with(bbox):
        return x, y, width, height
    left, top = max(0.0, x), max(0.0, y)
    return left, top, min(1.0, x + width) - left, min(1.0, y + height) - top


def _description(objects: Sequence[tuple[str, str]]) -> type[Description]:
    """A description that makes sense for these objects."""

    class Described(Description):
        @classmethod
        def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
            return _held(super().model_json_schema(*args, **kwargs), [name for name, _ in objects])

        @model_validator(mode="after")
        def _makes_sense(self) -> Self:
            keys = [name for name, _ in objects]
            _require_exactly([one.object for one in self.things], keys)
            for one in self.relations:
                if one.subject not in keys or one.object not in keys or one.subject == one.object:
                    raise ValueError(f"the relation {one.subject} {one.relation} {one.object} is not of two of {keys}")
            caption = f" {' '.join(self.caption.lower().split())} "
            if unnamed := [kind for _, kind in objects if kind.lower() not in caption]:
                raise ValueError(f"the caption does not name {', '.join(unnamed)}")
            if hedged := [word for word in HEDGES if f" {word} " in caption]:
                raise ValueError(f"the caption is uncertain: it says {hedged[0]}")
            return self

    return Described


def _laid_out(keys: Sequence[str]) -> type[LaidOut]:
    """A layout that makes sense for these objects."""

    class Laid(LaidOut):
        @classmethod
        def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
            return _held(super().model_json_schema(*args, **kwargs), keys)

        @model_validator(mode="after")
        def _makes_sense(self) -> Self:
            _require_exactly([one.object for one in self.layout], keys)
            for one in self.layout:
                if wrong := _wrong(one.bbox):
                    raise ValueError(f"the box {one.bbox} of {one.object} {wrong}")
            return self

    return Laid


def _held(schema: dict[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """The schema of an answer with these objects alone: as many things as there are, each name one of theirs."""
    for part in (schema, *schema["$defs"].values()):
        for name, field in part["properties"].items():
            if name in ("object", "subject"):
                field["enum"] = list(keys)
            elif name in ("things", "layout"):
                field |= {"minItems": len(keys), "maxItems": len(keys)}
            elif name == "relations":
                field["maxItems"] = min(2, len(keys) - 1) * len(keys)
    return schema


def _wrong(bbox: Sequence[float]) -> str:
    """What is wrong with a box that no cut mends; "" for nothing."""
    mendable = len(bbox) == 4 and all(map(math.isfinite, bbox)) and min(bbox[:2]) >= -CUT
    if mendable and max(bbox[0] + bbox[2], bbox[1] + bbox[3]) <= 1 + CUT:
        return wrong_with(_cut(bbox))
    return wrong_with(bbox)


def _require_exactly(given: Sequence[str], wanted: Sequence[str]) -> None:
    if sorted(given) != sorted(wanted):
        shown = [*given[:8], *(["…"] if len(given) > 8 else [])]
        raise ValueError(f"it has {len(given)} objects {shown}, where exactly {list(wanted)} are wanted")


def _clean(text: str) -> str:
    return " ".join(text.split())
