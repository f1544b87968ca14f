"""Several named things in one picture, with relations, exact boxes and masks: what synth plans, draws and judges.

A layout is a place of the showroom in which things stand left of, right of, on, behind and near each other. Categories
are the products' kinds and some furniture to put things on; how often each comes is a long tail. Drawn with the parts,
places and lights of the scenes; deterministic by seed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from goodeye.atomic import write_bytes
from goodeye.errors import BadInput
from goodeye.images import save_png, to_pil
from goodeye.progress import progress
from goodeye.showroom.folder import LARGEST, SMALLEST, box
from goodeye.showroom.parts import RGB, Layers, Row, move, paint, part, table
from goodeye.showroom.places import LIGHTS, PLACES, backdrop
from goodeye.showroom.products import COLOURS, DRAW, REAL, VARIANTS, Product, fitted, tone
from goodeye.showroom.scenes import Scene, article, lit
from goodeye.synth.layout import Box, Layout, Relation, Thing, keys_of, write_layouts
from goodeye.synth.masks import run_lengths

RELATIONS = ("left of", "right of", "on", "behind", "near")
TRIES = 30  # for a place of one thing
APART = 0.03  # IoU that things without a relation may have
SEEN = 0.3  # share of a thing that must stay in sight


def bar(c: RGB) -> list[Row]:
    edges = [part(x, 0, 0.03, 0.36, tone(c, -0.25)) for x in (-0.44, 0.44)]
    body = part(0, 0, 0.5, 0.36, c, round=0.06, colour2=tone(c, -0.2))
    return [body, part(0, -0.33, 0.5, 0.03, tone(c, 0.3)), part(0, 0.02, 0.5, 0.02, tone(c, -0.35)), *edges]


def couch(c: RGB) -> list[Row]:
    legs = [part(x, 0.19, 0.03, 0.06, tone(c, -0.45)) for x in (-0.42, 0.42)]
    cushions = [part(x, -0.11, 0.248, 0.11, c, round=0.5, colour2=tone(c, -0.15)) for x in (-0.25, 0.25)]
    return [*legs, part(0, 0.06, 0.5, 0.1, tone(c, -0.25), round=0.3), *cushions]


def table_(c: RGB) -> list[Row]:
    legs = [part(x, 0.1, 0.03, 0.4, tone(c, -0.3), rot=-x / 2) for x in (-0.24, 0.24)]
    top = part(0, -0.38, 0.36, 0.06, c, round=0.6, colour2=tone(c, -0.2))
    return [*legs, part(0, 0.12, 0.2, 0.02, tone(c, -0.35)), top]


@dataclass(frozen=True)
class Furniture:
    """Something to put things on. extent: its box (left, top, right, bottom) around the origin, longer side 1."""

    draw: Callable[[RGB], list[Row]]
    extent: Box
    centimetres: float


FURNITURE: dict[str, Furniture] = {  # in words that the showroom's text encoders know
    "bar": Furniture(bar, (-0.5, -0.36, 0.5, 0.36), 60),
    "couch": Furniture(couch, (-0.5, -0.22, 0.5, 0.25), 110),
    "table": Furniture(table_, (-0.36, -0.44, 0.36, 0.5), 50),
}
CATEGORIES = (*FURNITURE, *DRAW)


def long_tail(power: float = 1.0) -> dict[str, float]:
    """How often each category comes: 1 / rank ** power, in the order of CATEGORIES; 0 gives all alike."""
    return {name: (rank + 1) ** -power for rank, name in enumerate(CATEGORIES)}


@dataclass(frozen=True, kw_only=True)
class Item:
    """One thing. Lengths in canvas widths: x is its middle, foot where it stands, scale its longer side."""

    category: str
    colour: str
    variant: float
    x: float
    foot: float
    scale: float
    depth: float  # of what it stands on, 1 = near: also the order in which things hide each other

    def parts(self) -> list[Row]:
        """Its drawing at its place, without object number."""
        if self.category in FURNITURE:
            left, top, right, bottom = FURNITURE[self.category].extent
            zoom = self.scale / max(right - left, bottom - top)
            return move(
                FURNITURE[self.category].draw(COLOURS[self.colour]), self.x, self.foot - zoom * bottom, zoom, 0.0, 0.0
            )
        rows, _, half = fitted(Product(kind=self.category, colour=self.colour, variant=self.variant), self.scale)
        return move(rows, self.x - 0.5, self.foot - half - 0.5, 1.0, 0.0, 0.0)

    def sides(self) -> tuple[float, float]:
        """Width and height."""
        if self.category in FURNITURE:
            left, top, right, bottom = FURNITURE[self.category].extent
            zoom = self.scale / max(right - left, bottom - top)
            return zoom * (right - left), zoom * (bottom - top)
        _, half_width, half = fitted(Product(kind=self.category, colour=self.colour, variant=self.variant), self.scale)
        return 2 * half_width, 2 * half

    def whole(self) -> Box:
        """Its box, what hides it left aside: x, y, width, height."""
        width, height = self.sides()
        return self.x - width / 2, self.foot - height, width, height


@dataclass(frozen=True, kw_only=True)
class Arrangement:
    """The facts of one picture. relations: subject and object by their place in `items`."""

    items: tuple[Item, ...]
    relations: tuple[tuple[int, str, int], ...]
    place: str
    wall: str
    light: str
    horizon: float
    seed: int

    @property
    def keys(self) -> list[str]:
        """The items' names, as mug-1."""
        return keys_of([one.category for one in self.items])

    @property
    def caption(self) -> str:
        """Every thing, how they stand, the place and the light."""
        named = set[int]()

        def words(at: int) -> str:
            text = f"{self.items[at].colour} {self.items[at].category}"
            if at in named:
                return f"the {text}"
            named.add(at)
            return article(text)

        said = [f"{words(s)} {relation} {words(o)}" for s, relation, o in self.relations]
        said += [words(at) for at in range(len(self.items)) if at not in named]
        where = PLACES[self.place].phrase.format(wall=self.wall)
        return f"{', '.join(said)}, {where}, {self.light}"

    def layout(self, key: str, boxes: Mapping[int, Box] | None = None) -> Layout:
        """As synth knows it. boxes: of those in sight; the whole ones, what hides them left aside, if not given."""
        boxes = {at: one.whole() for at, one in enumerate(self.items)} if boxes is None else boxes
        keys = self.keys
        things = tuple(
            Thing(key=keys[at], category=one.category, box=boxes[at], attributes=(one.colour,))
            for at, one in enumerate(self.items) if at in boxes
        )  # fmt: skip
        relations = tuple(Relation(keys[s], r, keys[o]) for s, r, o in self.relations if s in boxes and o in boxes)
        return Layout(key=key, things=things, relations=relations, caption=self.caption)


def sample(
    seed: int, index: int, weights: Mapping[str, float] | None = None, things: tuple[int, int] = (2, 4)
) -> Arrangement:
    """Layout number `index` of the world `seed`. weights: how often each category comes; `long_tail()` if not given."""
    random = np.random.default_rng((seed, index, 5))
    weights = weights or long_tail()
    place = str(random.choice(list(PLACES)))
    horizon = float(random.uniform(0.32, 0.45))
    items, relations = [_first(random, weights, horizon)], list[tuple[int, str, int]]()
    for _ in range(int(random.integers(things[0], things[1] + 1)) - 1):
        for _ in range(TRIES):
            anchor = int(random.integers(len(items)))
            relation = str(random.choice(_possible(items, relations, anchor)))
            new = _beside(random, weights, items[anchor], relation, horizon)
            if new and _fits(new, items, anchor, relation):
                relations.append((len(items), relation, anchor))
                items.append(new)
                break
    return Arrangement(
        items=tuple(items), relations=tuple(relations), place=place, wall=str(random.choice(list(PLACES[place].walls))),
        light=str(random.choice(list(LIGHTS), p=[0.35, 0.25, 0.25, 0.15])), horizon=horizon,
        seed=int(random.integers(2**31)),
    )  # fmt: skip


def _possible(items: Sequence[Item], relations: Sequence[tuple[int, str, int]], anchor: int) -> list[str]:
    carries = any(relation == "on" and other == anchor for _, relation, other in relations)
    lies_on = any(relation == "on" and subject == anchor for subject, relation, _ in relations)
    if items[anchor].category in FURNITURE and not carries:
        return ["on"] * 2 + [one for one in RELATIONS if one != "on"]
    return ["near"] if lies_on else [one for one in RELATIONS if one != "on"]


def _kind(random: np.random.Generator, weights: Mapping[str, float]) -> tuple[str, str, float]:
    names, share = list(weights), np.array(list(weights.values()))
    kind = str(random.choice(names, p=share / share.sum()))
    return kind, str(random.choice(list(COLOURS))), float(random.choice(VARIANTS))


def near(foot: float, horizon: float) -> float:
    """Depth of what stands at this height, as the places have it."""
    return 0.25 + 0.75 * min(1.0, max(0.0, (foot - horizon) / (1 - horizon)))


def _scale(random: np.random.Generator, kind: str, depth: float) -> float:
    """Longer side: by the root of the size in life, so that a lipstick is seen beside a couch; larger when near."""
    size = FURNITURE[kind].centimetres if kind in FURNITURE else REAL[kind]
    return 0.05 * math.sqrt(size) * (0.6 + 0.5 * depth) * float(random.uniform(0.9, 1.1))


def _first(random: np.random.Generator, weights: Mapping[str, float], horizon: float) -> Item:
    kind, colour, variant = _kind(random, weights)
    foot = float(random.uniform(horizon + 0.25, 0.93))
    depth = near(foot, horizon)
    scale = _scale(random, kind, depth)
    x = float(random.uniform(0.02 + scale / 2, 0.98 - scale / 2))
    return Item(category=kind, colour=colour, variant=variant, x=x, foot=foot, scale=scale, depth=depth)


def _beside(
    random: np.random.Generator, weights: Mapping[str, float], anchor: Item, relation: str, horizon: float
) -> Item | None:
    """A thing that stands so to the anchor; None where there is no room for it."""
    kind, colour, variant = _kind(random, weights)
    step = {
        "on": 0.0,
        "behind": -random.uniform(0.05, 0.12),
        "near": random.choice([-1, 1]) * random.uniform(0.03, 0.06),
    }
    foot = anchor.foot + float(step.get(relation, random.uniform(-0.015, 0.015)))
    depth = anchor.depth + 0.001 if relation == "on" else near(foot, horizon)
    made = Item(
        category=kind, colour=colour, variant=variant, x=0.5, foot=foot, scale=_scale(random, kind, depth), depth=depth
    )
    width, height = made.sides()
    of, tall = anchor.sides()
    side = {"left of": -1, "right of": 1}.get(relation, int(random.choice([-1, 1])))
    if relation == "on":
        if kind in FURNITURE or width > 0.8 * of:
            return None
        foot, x = anchor.foot - tall + 0.008, anchor.x + float(random.uniform(-0.5, 0.5)) * (of - width)
    elif relation == "behind":
        x = anchor.x + side * float(random.uniform(0.3, 0.75)) * (of + width) / 2
    else:
        x = anchor.x + side * ((of + width) / 2 + float(random.uniform(0.005, 0.02 if relation == "near" else 0.12)))
    if foot < horizon + 0.02 and relation != "on":
        return None
    placed = Item(category=kind, colour=colour, variant=variant, x=x, foot=foot, scale=made.scale, depth=depth)
    left, top, _, _ = placed.whole()
    return placed if left > 0.01 and left + width < 0.99 and top > 0.02 and foot < 0.98 else None


def _fits(new: Item, items: Sequence[Item], anchor: int, relation: str) -> bool:
    """It hides nothing that it has no relation to, and what is behind stays in sight."""
    for at, one in enumerate(items):
        shared = _shared(new.whole(), one.whole())
        area, other = math.prod(new.sides()), math.prod(one.sides())
        if at == anchor and relation in ("behind", "on"):
            if shared > (1 - SEEN) * (area if new.depth < one.depth else other):
                return False
        elif shared > APART * min(area, other):
            return False
    return True


def _shared(first: Box, second: Box) -> float:
    across = min(first[0] + first[2], second[0] + second[2]) - max(first[0], second[0])
    down = min(first[1] + first[3], second[1] + second[3]) - max(first[1], second[1])
    return max(0.0, across) * max(0.0, down)


@dataclass
class Drawn:
    """Pictures and their truth. masks: of each picture's items in sight, by their place in `items`, [H, W]."""

    image: Tensor  # [N,3,H,W] in [0,1]
    depth: Tensor  # [N,1,H,W] 1 = near
    masks: list[dict[int, np.ndarray[Any, Any]]]
    arrangements: list[Arrangement]

    def boxes(self, n: int) -> dict[int, Box]:
        """The exact boxes of what is in sight of picture n, in shares."""
        found = {}
        for at, mask in self.masks[n].items():
            left, top, width, height = (side / len(mask) for side in box(mask))
            found[at] = (left, top, width, height)
        return found

    def layout(self, n: int, key: str) -> Layout:
        """Picture n as synth knows it, with the exact boxes."""
        return self.arrangements[n].layout(key, self.boxes(n))


def render(arrangements: Sequence[Arrangement], size: int = 128, device: str | torch.device = "cpu") -> Drawn:
    """Pictures with depth and masks. Same arrangements, same device: same pixels."""
    made = list(arrangements)
    places = [PLACES[a.place].draw(np.random.default_rng((a.seed, 1)), a.wall, a.horizon) for a in made]
    horizon = torch.tensor([a.horizon for a in made], device=device)
    roll = torch.tensor([a.seed % 9973 for a in made], device=device)
    image, depth = backdrop([b for b, _ in places], horizon, roll, size)
    none = torch.zeros_like(depth)[:, None]
    base = Layers(torch.cat([image, none, depth[:, None], none], 1))
    props = [[[*r[:-2], 0.16, -1.0] for _, rows in found for r in rows] for _, found in places]
    paint(base, table(props, device))
    base.rgb[:] = lit(base.rgb, [_stage(a) for a in made])
    paint(base, table([_standing(a) for a in made], device))
    masks = []
    for n, one in enumerate(made):
        numbers = base.obj[n].cpu().numpy()
        found = {at: numbers == at + 1 for at in range(len(one.items))}
        masks.append({at: mask for at, mask in found.items() if mask.any()})
    return Drawn(base.rgb.clamp(0, 1), base.depth[:, None].clamp(0, 1), masks, made)


def _stage(one: Arrangement) -> Scene:
    """The scene of the same place and light, for what the scenes' renderer does to its background."""
    product = Product(kind="mug", colour="white")
    return Scene(
        product=product, place=one.place, wall=one.wall, light=one.light, defect="available", scale=0.5, blur=0,
        horizon=one.horizon, reference="", reference_height=0.0, reference_side=1.0, seed=one.seed,
    )  # fmt: skip


def _standing(one: Arrangement) -> list[Row]:
    """Every thing with its shadow, the far ones first."""
    rows: list[Row] = []
    lean = 0.02 if one.seed % 2 else -0.02
    for at in sorted(range(len(one.items)), key=lambda at: one.items[at].depth):
        item = one.items[at]
        width, _ = item.sides()
        rows.append(
            part(
                item.x + lean,
                item.foot - 0.004,
                width * 0.5,
                0.014,
                (0.03, 0.03, 0.05),
                ellipse=True,
                alpha=0.4,
                soft=0.03,
            )
        )
        rows += [[*row[:-2], item.depth, float(at + 1)] for row in item.parts()]
    return rows


def render_many(arrangements: Sequence[Arrangement], size: int = 128, batch: int = 16) -> Iterator[Drawn]:
    """Renders batch after batch."""
    for at in range(0, len(arrangements), batch):
        yield render(arrangements[at : at + batch], size)


def layouts(count: int, seed: int = 0, weights: Mapping[str, float] | None = None) -> list[Layout]:
    """`count` layouts without their pictures, for priors: boxes whole, what hides a thing left aside.

    Raises BadInput for a negative count or seed.
    """
    if count < 0 or seed < 0:
        raise BadInput(f"{count} layouts of the showroom are asked for, with the seed {seed}. Give 0 or more.")
    return [sample(seed, index, weights).layout(f"{index:06d}") for index in range(count)]


def render_folder(
    out: str | Path, count: int = 16, size: int = 128, seed: int = 0, weights: Mapping[str, float] | None = None
) -> None:
    """Layouts 0 to count - 1 of the world `seed`: images/, layouts.jsonl (a layout's key is its picture's stem), and
    instances.json, COCO with exact boxes and masks. Files of earlier ones do not change with `count`.

    Raises BadInput for a count below 1, a negative seed, and for a size that makes no sense.
    """
    if seed < 0:
        raise BadInput(f"the seed is {seed}. Give 0 or more.")
    if count < 1 or not SMALLEST <= size <= LARGEST:
        raise BadInput(
            f"count is {count} and size {size}. Give 1 picture or more, of {SMALLEST} to {LARGEST} pixels a side."
        )
    out = Path(out)
    places = {name: number for number, name in enumerate(CATEGORIES, start=1)}
    coco: dict[str, list[dict[str, Any]]] = {
        "images": [], "annotations": [],
        "categories": [{"id": number, "name": name} for name, number in places.items()],
    }  # fmt: skip
    written: list[Layout] = []
    with progress("rendering layouts", count, "pictures") as advance:
        for drawn in render_many([sample(seed, index, weights) for index in range(count)], size):
            for n, one in enumerate(drawn.arrangements):
                key = f"{len(written):06d}"
                save_png(to_pil(drawn.image[n]), out / "images" / f"{key}.png")
                number = len(written) + 1
                about = {"width": size, "height": size, "caption": one.caption}
                coco["images"].append({"id": number, "file_name": f"images/{key}.png", **about})
                for at, mask in drawn.masks[n].items():
                    coco["annotations"].append({
                        "id": len(coco["annotations"]) + 1, "image_id": number, "iscrowd": 0, "bbox": box(mask),
                        "category_id": places[one.items[at].category], "area": int(mask.sum()),
                        "segmentation": run_lengths(mask), "object": one.keys[at],
                    })  # fmt: skip
                written.append(drawn.layout(n, key))
                advance()
    write_layouts(out / "layouts.jsonl", written)
    write_bytes(out / "instances.json", (json.dumps(coco) + "\n").encode())
