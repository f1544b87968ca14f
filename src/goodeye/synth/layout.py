"""Layouts: named things with their boxes, how they stand to each other, and a caption; as JSON lines in a file.

A box is (x, y, width, height) in shares of the picture's sides, (x, y) its left upper corner (synth paper).
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from goodeye.atomic import write_bytes
from goodeye.errors import BadInput

Box = tuple[float, float, float, float]

MOST = 100  # things in a layout
LEAST_SIDE = 0.002  # of a box, in shares of the picture
SLACK = 1e-6  # what rounding may carry a box out of the frame


@dataclass(frozen=True, kw_only=True)
class Thing:
    """key: its name in the layout, as dog-1. attributes: what it is to look like, as red."""

    key: str
    category: str
    box: Box
    attributes: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """What is wanted, as "red mug"."""
        return " ".join((*self.attributes, self.category))


@dataclass(frozen=True)
class Relation:
    """subject and object: keys of things."""

    subject: str
    relation: str
    object: str


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What one picture is to show. key: its name, unlike that of any other layout of a file."""

    key: str
    things: tuple[Thing, ...]
    relations: tuple[Relation, ...] = ()
    caption: str = ""

    def thing(self, key: str) -> Thing:
        """The thing of this key, which must be there."""
        return next(one for one in self.things if one.key == key)

    def triplets(self) -> list[tuple[Thing, str, Thing]]:
        """The relations with their things."""
        return [(self.thing(one.subject), one.relation, self.thing(one.object)) for one in self.relations]

    def to_json(self) -> dict[str, Any]:
        """As `layout_of` reads it."""
        return asdict(self)


def wrong_with(box: Sequence[Any]) -> str:
    """What is wrong with a box in shares, in words; "" for a good one."""
    if len(box) != 4 or not all(isinstance(v, int | float) and not isinstance(v, bool) for v in box):
        return "is not four numbers x, y, width, height"
    if not all(abs(value) < 1e9 for value in box):  # NaN, too
        return "has a number that is not finite"
    x, y, width, height = box
    if min(width, height) < LEAST_SIDE:
        return f"has a side below {LEAST_SIDE} of the picture"
    if min(x, y) < -SLACK or max(x + width, y + height) > 1 + SLACK:
        return "lies outside the frame from 0 to 1"
    return ""


def with_article(words: str) -> str:
    """The words with their a or an."""
    return f"{'an' if words[:1].lower() in tuple('aeiou') else 'a'} {words}"


def keys_of(names: Iterable[str]) -> list[str]:
    """Keys of categories in order: dog-1, dog-2, frisbee-1."""
    seen: dict[str, int] = {}
    keys = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        keys.append(f"{name}-{seen[name]}")
    return keys


def layout_of(data: Any, where: str) -> Layout:
    """A layout from its JSON. Raises BadInput, naming `where`, for whatever cannot be used."""
    if not isinstance(data, Mapping) or not isinstance(data.get("key"), str) or not data["key"]:
        raise BadInput(f"{where} is no layout. Write an object with key, things, relations and caption.")
    where = f"{where} ({data['key']})"
    things = data.get("things")
    if not isinstance(things, list | tuple) or not 1 <= len(things) <= MOST:
        raise BadInput(f"{where} has no list of 1 to {MOST} things. Correct it.")
    found = tuple(_thing(one, where) for one in things)
    keys = {one.key for one in found}
    if len(keys) < len(found):
        raise BadInput(f"{where} names two things alike. Give each its own key.")
    related = data.get("relations") or []
    if not isinstance(related, list | tuple):
        raise BadInput(f"{where} has relations that are no list. Write a list of objects, or leave them away.")
    relations = tuple(_relation(one, keys, where) for one in related)
    return Layout(key=data["key"], things=found, relations=relations, caption=str(data.get("caption") or ""))


def _thing(data: Any, where: str) -> Thing:
    if not isinstance(data, Mapping) or not all(isinstance(data.get(k), str) and data[k] for k in ("key", "category")):
        raise BadInput(f"{where} has a thing without key or category. Name both.")
    box = data.get("box")
    if wrong := wrong_with(box if isinstance(box, list | tuple) else ()):
        raise BadInput(f"{where}: the box of {data['key']}, {box}, {wrong}. Write shares of the picture's sides.")
    attributes = data.get("attributes") or []
    if not isinstance(attributes, list | tuple) or not all(isinstance(one, str) for one in attributes):
        raise BadInput(f"{where}: the attributes of {data['key']} are no list of texts. Correct them.")
    x, y, width, height = map(float, box or ())
    return Thing(key=data["key"], category=data["category"], box=(x, y, width, height), attributes=tuple(attributes))


def _relation(data: Any, keys: set[str], where: str) -> Relation:
    words = [data.get(part) for part in ("subject", "relation", "object")] if isinstance(data, Mapping) else [None] * 3
    if not all(isinstance(word, str) and word for word in words):
        raise BadInput(f"{where} has a relation without subject, relation or object. Name all three.")
    subject, relation, other = map(str, words)
    if subject not in keys or other not in keys or subject == other:
        raise BadInput(f"{where} relates {subject} to {other}. Name two things of the layout by their keys.")
    return Relation(subject, relation, other)


def read_layouts(path: str | Path) -> list[Layout]:
    """The layouts of a JSON-lines file. Raises BadInput, naming the line, for whatever cannot be used."""
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # a text may have other marks of a line's end
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read as layouts. Give a file with a JSON object a line.") from error
    found: dict[str, Layout] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path} line {number}"
        try:
            one = layout_of(json.loads(line), where)
            json.dumps(one.to_json(), ensure_ascii=False).encode()
        except BadInput:
            raise
        except json.JSONDecodeError as error:
            raise BadInput(f"{where} is not JSON ({error.msg}). Correct it.") from error
        except UnicodeEncodeError as error:
            raise BadInput(f"{where} has half of a character (\\ud83d, for one). Correct it.") from error
        except ValueError as error:  # of what is JSON only a number can still be wrong
            raise BadInput(f"{where} has a number of thousands of digits. Correct it.") from error
        except RecursionError as error:
            raise BadInput(f"{where} is nested too deep for a layout. Correct it.") from error
        if one.key in found:
            raise BadInput(f"{where} repeats the key {one.key}. Give each layout its own.")
        found[one.key] = one
    if not found:
        raise BadInput(f"{path} holds no layouts. Write one a line.")
    return list(found.values())


def write_layouts(path: str | Path, layouts: Iterable[Layout]) -> None:
    """Writes a line a layout, the file whole or not at all."""
    write_bytes(path, "".join(json.dumps(one.to_json(), ensure_ascii=False) + "\n" for one in layouts).encode())
