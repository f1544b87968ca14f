"""The products on show: 21 types in eleven colours, each with variants, drawn from parts.

A type is a function (colour, variant) -> parts around the origin with the longer side 1 long, its lowest point being
the product's base. `REAL` gives its size in life, which is what makes a size mismatch a fact and not an opinion.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from goodeye.showroom.parts import RGB, Layers, Row, move, paint, part, table

COLOURS: dict[str, RGB] = {
    "red": (0.82, 0.14, 0.14), "orange": (0.93, 0.48, 0.12), "yellow": (0.95, 0.79, 0.20), "green": (0.22, 0.56, 0.27),
    "teal": (0.10, 0.55, 0.55), "blue": (0.16, 0.36, 0.76), "purple": (0.50, 0.27, 0.66), "pink": (0.93, 0.48, 0.62),
    "white": (0.93, 0.92, 0.90), "black": (0.15, 0.15, 0.17), "brown": (0.47, 0.29, 0.17),
}  # fmt: skip
METAL: RGB = (0.72, 0.73, 0.75)
GOLD: RGB = (0.85, 0.68, 0.32)
DARK: RGB = (0.16, 0.16, 0.18)
PALE: RGB = (0.95, 0.94, 0.90)


Box = tuple[float, float, float, float]  # left, top, right, bottom


def tone(colour: RGB, by: float) -> RGB:
    """Lighter (by > 0, toward white) or darker (by < 0, toward black)."""
    goal = 1.0 if by > 0 else 0.0
    r, g, b = (c + (goal - c) * abs(by) for c in colour)
    return (r, g, b)


def bottle(c: RGB, v: float) -> list[Row]:
    w = 0.13 + 0.06 * v
    return [part(0, -0.44, 0.055, 0.06, tone(DARK, 0.15), round=0.4, cyl=0.4),
            part(0, -0.31, 0.05, 0.1, c, cyl=0.35), part(0, 0.14, w, 0.36, c, round=0.55, cyl=0.4, spec=0.35),
            part(0, 0.2, w * 0.98, 0.13, PALE, cyl=0.3), part(0, 0.2, w * 0.6, 0.025, c)]  # fmt: skip


def mug(c: RGB, v: float) -> list[Row]:
    h = 0.36 + 0.06 * v
    return [part(0.3, 0, 0.15, 0.19, tone(c, -0.1), ellipse=True, ring=0.038),
            part(-0.1, 0, 0.3, h, c, round=0.2, taper=-0.06, cyl=0.35, spec=0.3),
            part(-0.1, -h + 0.03, 0.29, 0.055, tone(c, -0.35), ellipse=True),
            part(-0.1, -h + 0.045, 0.25, 0.035, (0.36, 0.21, 0.12), ellipse=True)]  # fmt: skip


def teapot(c: RGB, v: float) -> list[Row]:
    return [part(-0.36, -0.01, 0.13, 0.15, tone(c, -0.1), ellipse=True, ring=0.033),
            part(0.36, -0.04, 0.045, 0.17, tone(c, -0.05), rot=0.65, round=0.7, taper=0.35, cyl=0.3),
            part(0, 0.06, 0.29, 0.25 + 0.03 * v, c, ellipse=True, cyl=0.3, spec=0.4),
            part(0, 0.29, 0.16, 0.035, tone(c, -0.25), round=0.6),
            part(0, -0.17, 0.17, 0.06, tone(c, 0.12), ellipse=True),
            part(0, -0.25, 0.04, 0.04, tone(c, -0.3), round=1)]  # fmt: skip


def vase(c: RGB, v: float) -> list[Row]:
    w = 0.2 + 0.07 * v
    return [part(0, -0.33, w * 0.5, 0.17, c, taper=-0.25, cyl=0.35),
            part(0, -0.49, w * 0.62, 0.025, tone(c, -0.35), ellipse=True),
            part(0, 0.15, w, 0.34, c, ellipse=True, cyl=0.35, spec=0.4),
            part(0, 0.46, w * 0.55, 0.04, tone(c, -0.2), round=0.4),
            part(0, 0.12, w * 0.97, 0.035, tone(c, 0.45), cyl=0.3)]  # fmt: skip


def lamp(c: RGB, v: float) -> list[Row]:
    return [part(0, 0.15, 0.022, 0.3, GOLD, cyl=0.3),
            part(0, 0.46, 0.17, 0.035, GOLD, round=0.8, cyl=0.3),
            part(0, -0.26, 0.24 + 0.05 * v, 0.23, c, colour2=tone(c, 0.3), taper=0.35, cyl=0.15),
            part(0, -0.035, 0.27, 0.012, tone(c, 0.5))]  # fmt: skip


def chair(c: RGB, v: float) -> list[Row]:
    wood = (0.45, 0.28, 0.15)
    legs = [part(x, 0.28, 0.025, 0.22, tone(wood, t), cyl=0.2) for x, t in ((-0.13, -0.3), (0.2, -0.3))]
    front = [part(x, 0.3, 0.028, 0.2, wood, cyl=0.2) for x in (-0.23, 0.27)]
    return [*legs, part(-0.19, -0.2, 0.055, 0.3, wood, round=0.4), part(0.16, -0.2, 0.055, 0.3, wood, round=0.4),
            part(-0.01, -0.25, 0.21, 0.23 + 0.02 * v, c, round=0.4, colour2=tone(c, -0.15)),
            part(0.02, 0.07, 0.28, 0.065, tone(c, 0.12), round=0.6, cyl=0.1), *front]  # fmt: skip


def shoe(c: RGB, v: float) -> list[Row]:
    return [part(-0.27, -0.05, 0.18, 0.2, c, round=0.35, colour2=tone(c, -0.15)),
            part(-0.28, -0.22, 0.13, 0.04, tone(c, -0.5), ellipse=True),
            part(0.03, 0.0, 0.28, 0.1, c, rot=0.3, round=0.8), part(0.24, 0.08, 0.24, 0.12, c, ellipse=True, spec=0.25),
            part(0, 0.17, 0.48, 0.055, PALE if v < 0.7 else tone(c, -0.6), round=0.8),
            part(-0.02, -0.06, 0.02, 0.08, PALE, rot=0.9), part(0.06, -0.03, 0.02, 0.08, PALE, rot=0.9),
            part(0.14, 0.0, 0.02, 0.07, PALE, rot=0.9), part(-0.32, 0.03, 0.1, 0.025, PALE, rot=-0.4)]  # fmt: skip


def handbag(c: RGB, v: float) -> list[Row]:
    return [part(0, -0.2, 0.19, 0.24, tone(c, -0.35), ellipse=True, ring=0.026, bottom=0.4),
            part(0, 0.12, 0.42, 0.29, c, round=0.3, taper=0.13, colour2=tone(c, -0.22)),
            part(0, 0.0, 0.37, 0.15, tone(c, 0.13), round=0.5), part(0, 0.13, 0.05, 0.045, GOLD, round=0.3, spec=0.3),
            part(0, -0.14, 0.36 + 0.01 * v, 0.012, tone(c, -0.4))]  # fmt: skip


def watch(c: RGB, v: float) -> list[Row]:
    return [part(0, -0.32, 0.115, 0.18, c, round=0.3, taper=0.15, cyl=0.25),
            part(0, 0.32, 0.115, 0.18, c, round=0.3, taper=-0.15, cyl=0.25),
            part(0.24, 0, 0.03, 0.04, METAL, round=0.4), part(0, 0, 0.225, 0.225, METAL, round=1, spec=0.3),
            part(0, 0, 0.18, 0.18, PALE if v < 0.5 else DARK, round=1),
            part(0.0, -0.06, 0.014, 0.075, GOLD, round=0.5), part(0.05, 0.03, 0.012, 0.07, GOLD, rot=2.1)]  # fmt: skip


def headphones(c: RGB, v: float) -> list[Row]:
    return [part(0, 0.0, 0.36, 0.41, tone(c, -0.2), ellipse=True, ring=0.045, bottom=0.1),
            part(0, -0.4, 0.18, 0.05, tone(c, 0.1), round=0.9),
            part(-0.36, 0.2, 0.1, 0.2, c, round=0.8, cyl=0.3, spec=0.3), part(0.36, 0.2, 0.1, 0.2, c, round=0.8, cyl=0.3),
            part(-0.27, 0.2, 0.05, 0.17, DARK, round=0.8), part(0.27, 0.2, 0.05, 0.17, DARK, round=0.8)]  # fmt: skip


def ball(c: RGB, v: float) -> list[Row]:
    return [part(0, 0, 0.48, 0.48, c, colour2=tone(c, -0.35), round=1, spec=0.5),
            part(0, 0, 0.2, 0.475, tone(c, 0.6), ellipse=True, ring=0.016),
            part(0, 0, 0.475, 0.14 + 0.06 * v, tone(c, 0.6), ellipse=True, ring=0.016)]  # fmt: skip


def book(c: RGB, v: float) -> list[Row]:
    return [part(0.035, 0.02, 0.34, 0.46, PALE, round=0.05), part(0, 0, 0.35, 0.47, c, round=0.06, colour2=tone(c, -0.2)),
            part(-0.31, 0, 0.04, 0.47, tone(c, -0.35)), part(0.03, -0.2, 0.22, 0.05, tone(c, 0.7)),
            part(0.03, 0.12, 0.15, 0.15 + 0.03 * v, tone(c, 0.45), round=1)]  # fmt: skip


def candle(c: RGB, v: float) -> list[Row]:
    h = 0.25 + 0.05 * v
    return [part(0, -0.36, 0.05, 0.12, (1.0, 0.75, 0.25), ellipse=True, colour2=(1.0, 0.5, 0.1)),
            part(0, -0.33, 0.022, 0.06, (1.0, 0.95, 0.75), ellipse=True), part(0, -0.24, 0.008, 0.05, DARK),
            part(0, 0.48 - h - 0.02, 0.22, h, c, round=0.15, cyl=0.35, spec=0.2),
            part(0, 0.47 - 2 * h, 0.2, 0.035, tone(c, 0.45), ellipse=True),
            part(0, 0.46, 0.28, 0.03, METAL, round=0.8)]  # fmt: skip


def clock(c: RGB, v: float) -> list[Row]:
    return [part(-0.22, -0.36, 0.11, 0.09, tone(c, -0.15), rot=-0.6, ellipse=True),
            part(0.22, -0.36, 0.11, 0.09, tone(c, -0.15), rot=0.6, ellipse=True),
            part(-0.24, 0.4, 0.035, 0.1, DARK, rot=0.5), part(0.24, 0.4, 0.035, 0.1, DARK, rot=-0.5),
            part(0, 0.03, 0.4, 0.4, c, round=1, spec=0.3), part(0, 0.03, 0.31, 0.31, PALE, round=1),
            part(0, -0.06, 0.02, 0.11, DARK), part(0.07, 0.03 + 0.04 * v, 0.1, 0.018, DARK, rot=0.3)]  # fmt: skip


def hat(c: RGB, v: float) -> list[Row]:
    return [part(0, 0.2, 0.48, 0.1, tone(c, -0.15), ellipse=True),
            part(0, -0.06, 0.27, 0.26, c, round=0.25, taper=-0.08 + 0.1 * v, cyl=0.25),
            part(0, -0.3, 0.26, 0.04, tone(c, 0.15), ellipse=True), part(0, 0.11, 0.27, 0.05, tone(c, -0.6), cyl=0.2)]  # fmt: skip


def lipstick(c: RGB, v: float) -> list[Row]:
    return [part(0, -0.31, 0.085, 0.18, c, round=0.8, cyl=0.35, spec=0.3), part(0, -0.1, 0.1, 0.1, GOLD, cyl=0.45),
            part(0, 0.24, 0.13, 0.25, tone(DARK, 0.12 * v), round=0.12, cyl=0.35, spec=0.2),
            part(0, 0.0, 0.13, 0.02, GOLD, cyl=0.4)]  # fmt: skip


def perfume(c: RGB, v: float) -> list[Row]:
    return [part(0, -0.39, 0.1, 0.1, GOLD, round=0.2, cyl=0.45), part(0, -0.27, 0.055, 0.05, METAL, cyl=0.3),
            part(0, 0.13, 0.31, 0.36, tone(c, 0.35), round=0.2 + 0.4 * v, spec=0.4),
            part(0, 0.2, 0.26, 0.26, c, round=0.25, colour2=tone(c, -0.2)), part(0, 0.16, 0.16, 0.08, PALE)]  # fmt: skip


def camera(c: RGB, v: float) -> list[Row]:
    return [part(-0.08, -0.28, 0.16, 0.06, tone(c, -0.2), round=0.3), part(0.33, -0.25, 0.06, 0.04, METAL, round=0.3),
            part(0, 0.03, 0.47, 0.27, c, round=0.25, colour2=tone(c, -0.15)), part(0, -0.14, 0.47, 0.055, METAL),
            part(0.0, 0.05, 0.225, 0.225, tone(DARK, 0.1), round=1), part(0, 0.05, 0.16, 0.16, (0.22, 0.3, 0.42), round=1, spec=0.6),
            part(0, 0.05, 0.07, 0.07, DARK, round=1), part(-0.35, -0.06, 0.05, 0.03, (0.95, 0.92, 0.8))]  # fmt: skip


def guitar(c: RGB, v: float) -> list[Row]:
    return [part(0, -0.2, 0.028, 0.24, (0.3, 0.19, 0.11)), part(0, -0.44, 0.05, 0.06, (0.22, 0.14, 0.09), round=0.3),
            part(0, 0.12, 0.15 + 0.01 * v, 0.13, c, round=1, spec=0.15), part(0, 0.31, 0.2, 0.19, c, round=1, spec=0.25),
            part(0, 0.2, 0.06, 0.06, DARK, round=1), part(0, 0.36, 0.08, 0.018, (0.22, 0.14, 0.09))]  # fmt: skip


def soap(c: RGB, v: float) -> list[Row]:
    return [part(0, 0.03, 0.47, 0.2 + 0.03 * v, c, round=0.7, colour2=tone(c, -0.25), spec=0.35),
            part(0, -0.04, 0.36, 0.11, tone(c, 0.25), round=0.8), part(0, -0.04, 0.22, 0.025, tone(c, -0.2), round=0.5)]  # fmt: skip


def backpack(c: RGB, v: float) -> list[Row]:
    return [part(0, -0.42, 0.09, 0.07, tone(c, -0.4), ellipse=True, ring=0.02),
            part(-0.33, 0.2, 0.07, 0.2, tone(c, -0.3), round=0.6), part(0.33, 0.2, 0.07, 0.2, tone(c, -0.3), round=0.6),
            part(0, 0.04, 0.31, 0.44, c, round=0.65, colour2=tone(c, -0.15)),
            part(0, 0.25, 0.23, 0.17, tone(c, 0.14), round=0.4), part(0, 0.14, 0.2, 0.015, tone(c, -0.5)),
            part(0, -0.12, 0.25, 0.02 + 0.01 * v, tone(c, -0.45), round=0.5)]  # fmt: skip


DRAW: dict[str, Callable[[RGB, float], list[Row]]] = {
    f.__name__: f
    for f in (bottle, mug, teapot, vase, lamp, chair, shoe, handbag, watch, headphones, ball, book, candle, clock, hat,
              lipstick, perfume, camera, guitar, soap, backpack)
}  # fmt: skip

# Length of the longer side in life, centimetres.
REAL: dict[str, float] = {
    "bottle": 25, "mug": 11, "teapot": 22, "vase": 28, "lamp": 45, "chair": 90, "shoe": 28, "handbag": 30, "watch": 9,
    "headphones": 20, "ball": 22, "book": 24, "candle": 12, "clock": 14, "hat": 30, "lipstick": 8, "perfume": 10,
    "camera": 13, "guitar": 100, "soap": 9, "backpack": 45,
}  # fmt: skip
VARIANTS = (0.0, 0.25, 0.5, 0.75, 1.0)
OWN_PARTS, OWN_SCALE = 64, 0.5  # how many there are; the product's share of a canvas that they are sized for
MINIATURE, GIANT = 0.1, 8.0  # "miniature chair" is 9 cm tall; "giant lipstick" 64 cm


@dataclass(frozen=True, kw_only=True)
class Product:
    """One product on show."""

    kind: str
    colour: str
    size: str = ""  # "", "miniature" or "giant"
    variant: float = 0.5
    own: int = 0  # number of an unusual part of its own, 0: none; title and caption do not speak of it

    @property
    def title(self) -> str:
        """What the shop calls it, as "miniature red chair"."""
        return " ".join(w for w in (self.size, self.colour, self.kind) if w)

    @property
    def centimetres(self) -> float:
        """Length of its longer side in life."""
        return REAL[self.kind] * {"": 1.0, "miniature": MINIATURE, "giant": GIANT}[self.size]


def sample_product(rng: np.random.Generator, plain: float = 0.6) -> Product:
    """Any product; a share of `plain` has its usual size, the others are miniatures (of large things) or giants."""
    kind = str(rng.choice(list(DRAW)))
    size = "" if rng.random() < plain else ("miniature" if REAL[kind] > 26 else "giant" if REAL[kind] < 15 else "")
    return Product(kind=kind, colour=str(rng.choice(list(COLOURS))), size=size, variant=float(rng.choice(VARIANTS)))


def draw(product: Product) -> list[Row]:
    """The product's parts around the origin, longer side about 1; a part of its own lies behind the others."""
    rows = DRAW[product.kind](COLOURS[product.colour], product.variant)
    return [*_own_part(product), *rows] if product.own else rows


def _own_part(product: Product) -> list[Row]:
    """What else would be something that grew out of it."""
    left, top, right, bottom = boxes()[product.kind, product.variant]
    rng, half = np.random.default_rng((product.own, 14)), OWN_SCALE / 2
    rows = grown(rng, (right - left) * half, (bottom - top) * half, COLOURS[product.colour])
    return move(rows, (left + right) / 2, (top + bottom) / 2, 1 / OWN_SCALE, 1.0, 1.0)


def grown(rng: np.random.Generator, hw: float, hh: float, colour: RGB) -> list[Row]:
    """Something that grows out from behind a body of this half width and height around the origin, in its colour; the
    body is about half of a canvas long."""
    kind, side = rng.integers(4), float(rng.choice([-1, 1]))
    reach, colour = float(rng.uniform(0.09, 0.16)), tone(colour, float(rng.uniform(-0.12, 0.12)))
    low = tone(colour, -0.15)
    if kind == 0:  # a handle
        x, y = side * hw * 0.9, hh * rng.uniform(-0.3, 0.3)
        return [part(x, y, 0.04 + reach * 0.75, 0.05 + reach * 0.6, colour, ellipse=True, ring=0.025)]
    if kind == 1:  # it is drawn out below or above
        y = (hh * 0.9 + reach * 0.4) * (1.0 if rng.random() < 0.5 else -1.0)
        return [part(0, y, hw * rng.uniform(0.45, 0.8), reach * 0.75, colour, colour2=low, round=0.4, cyl=0.25)]
    if kind == 2:  # an arm
        rot = side * float(rng.uniform(0.2, 0.9))
        x, y = side * (hw * 0.7 + reach * 0.7), -hh * rng.uniform(-0.4, 0.5)
        thick = rng.uniform(0.028, 0.045)
        return [part(x, y, hw * 0.3 + reach, thick, colour, colour2=low, rot=rot, round=0.9)]
    x, y = side * (hw * 0.85 + reach * 0.45), hh * rng.uniform(0.0, 0.3)  # a second body
    tall = hh * rng.uniform(0.45, 0.7)
    return [part(x, y, hw * 0.3 + reach * 0.6, tall, colour, colour2=low, round=0.6, cyl=0.25)]


@lru_cache(maxsize=1)
def boxes() -> dict[tuple[str, float], Box]:
    """The box that each type and variant really covers, measured on its drawing, without parts of its own."""
    keys = [(kind, variant) for kind in DRAW for variant in VARIANTS]
    drawings = [DRAW[kind](COLOURS["red"], variant) for kind, variant in keys]
    return dict(zip(keys, _covered(drawings, 0.8), strict=True))


@lru_cache(maxsize=4096)
def box(product: Product) -> Box:
    """The box that this product really covers."""
    return _covered([draw(product)], 0.4)[0] if product.own else boxes()[product.kind, product.variant]


def _covered(drawings: Sequence[list[Row]], zoom: float) -> list[Box]:
    """The box (left, top, right, bottom) of each drawing's ink, measured where 1 is `zoom` canvases long."""
    rows = [move(parts, 0.5, 0.5, zoom, 1.0, 1.0) for parts in drawings]
    cover = paint(Layers.blank(len(rows), 160), table(rows)).cover >= 0.5
    out = []
    for ink in cover:
        ys, xs = ink.any(1).nonzero()[:, 0], ink.any(0).nonzero()[:, 0]
        out.append(tuple(float(e / 160 - 0.5) / zoom for e in (xs[0], ys[0], xs[-1] + 1, ys[-1] + 1)))
    return out  # type: ignore[return-value]


def fitted(product: Product, scale: float) -> tuple[list[Row], float, float]:
    """The product's parts in the middle of the canvas, longer side `scale`; and its half width and half height there."""
    left, top, right, bottom = box(product)
    zoom = scale / max(right - left, bottom - top)
    x, y = 0.5 - zoom * (left + right) / 2, 0.5 - zoom * (top + bottom) / 2
    return move(draw(product), x, y, zoom, 1.0, 1.0), zoom * (right - left) / 2, zoom * (bottom - top) / 2
