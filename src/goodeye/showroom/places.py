"""The eight places in which products are shown: their walls and surfaces, what stands about, and their words.

A place differs from the others in several things at once (wall, surface, props, light), so that a text can tell them
apart. `backdrop` paints walls and surfaces of a whole batch; props are parts like everything else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from goodeye.showroom.parts import RGB, Row, part
from goodeye.showroom.products import tone

WALLS: dict[str, RGB] = {
    "beige": (0.87, 0.80, 0.68), "blue": (0.52, 0.66, 0.80), "green": (0.58, 0.71, 0.57), "pink": (0.90, 0.71, 0.70),
    "grey": (0.70, 0.71, 0.73), "terracotta": (0.79, 0.47, 0.35), "yellow": (0.93, 0.81, 0.50),
}  # fmt: skip
WOODS: tuple[RGB, ...] = ((0.62, 0.42, 0.25), (0.74, 0.56, 0.36), (0.42, 0.27, 0.17))
LIGHTS: dict[str, tuple[RGB, float, float]] = {  # tint, brightness, vignette
    "bright daylight": ((1.02, 1.02, 1.03), 1.04, 0.1),
    "warm evening light": ((1.12, 0.95, 0.76), 0.92, 0.3),
    "soft light": ((1.0, 1.0, 1.0), 1.0, 0.0),
    "moody light": ((0.9, 0.94, 1.08), 0.68, 0.65),
}
PLAIN, TILES, PANELS = 0.0, 1.0, 2.0
PLANKS, SPECKLE, SAND = 1.0, 2.0, 3.0
Prop = tuple[str, list[Row]]


@dataclass(frozen=True)
class Backdrop:
    """Wall and surface of one picture. Patterns are named above; `edge` darkens the line where they meet."""

    wall: RGB
    wall_low: RGB
    wall_pattern: float
    wall_scale: float
    floor_far: RGB
    floor_near: RGB
    floor_pattern: float
    strength: float
    edge: float


@dataclass(frozen=True)
class Place:
    """A setting: how it is called, and how it is drawn from a random generator, the wall's name and the horizon."""

    phrase: str
    draw: Callable[[np.random.Generator, str, float], tuple[Backdrop, list[Prop]]]
    walls: tuple[str, ...] = tuple(WALLS)


def _side(rng: np.random.Generator) -> float:
    """A spot for a prop beside the middle, where the product stands."""
    return float(rng.choice([-1, 1]) * rng.uniform(0.3, 0.42) + 0.5)


def _living(rng: np.random.Generator, wall: str, hor: float) -> tuple[Backdrop, list[Prop]]:
    c, wood = WALLS[wall], WOODS[rng.integers(3)]
    props: list[Prop] = [("skirting", [part(0.5, hor - 0.012, 0.5, 0.014, tone(c, 0.65))])]
    x = _side(rng)
    if rng.random() < 0.6:
        y, glow = hor - 0.3, (0.75, 0.88, 0.97)
        props.append(("window", [part(x, y, 0.13, 0.19, (0.97, 0.97, 0.95), round=0.05),
                                 part(x, y, 0.112, 0.172, glow, colour2=(0.93, 0.96, 0.92)),
                                 part(x, y, 0.006, 0.175, (0.97, 0.97, 0.95)), part(x, y, 0.115, 0.006, (0.97, 0.97, 0.95))]))  # fmt: skip
    else:
        art = tone(WALLS[str(rng.choice(list(WALLS)))], -0.25)
        props.append(("picture", [part(x, hor - 0.28, 0.1, 0.12, (0.25, 0.18, 0.12)), part(x, hor - 0.28, 0.086, 0.106, (0.95, 0.93, 0.88)),
                                  part(x, hor - 0.26, 0.05, 0.05, art, round=1), part(x, hor - 0.215, 0.07, 0.025, tone(art, -0.4))]))  # fmt: skip
    if rng.random() < 0.5:
        p = 1.0 - x
        leaves = [part(p + dx, hor - 0.16 - dy, 0.028, 0.09, (0.2, 0.45 + dx, 0.25), rot=dx * 9, ellipse=True)
                  for dx, dy in ((-0.06, 0), (0, 0.03), (0.06, 0), (-0.03, 0.02), (0.03, 0.02))]  # fmt: skip
        props.append(("palm", [*leaves, part(p, hor - 0.05, 0.045, 0.055, (0.75, 0.45, 0.32), taper=-0.15, cyl=0.3)]))
    return Backdrop(c, tone(c, -0.1), PLAIN, 0.1, tone(wood, -0.12), wood, PLANKS, 0.22, 0.3), props


def _kitchen(rng: np.random.Generator, wall: str, hor: float) -> tuple[Backdrop, list[Prop]]:
    c = tone(WALLS[wall], 0.25)
    x = _side(rng)
    jars = [part(x + dx, hor - 0.345, 0.025, 0.04, col, round=0.3, cyl=0.3)
            for dx, col in ((-0.07, (0.75, 0.3, 0.2)), (0.0, (0.9, 0.8, 0.5)), (0.07, (0.3, 0.5, 0.35)))]  # fmt: skip
    props: list[Prop] = [("shelf", [part(x, hor - 0.3, 0.13, 0.012, (0.5, 0.33, 0.2)), *jars])]
    if rng.random() < 0.6:
        p = 1.0 - x
        props.append(("pendant", [part(p, 0.02, 0.006, 0.12, (0.2, 0.2, 0.2)), part(p, 0.16, 0.08, 0.05, (0.2, 0.25, 0.3), taper=0.5),
                                  part(p, 0.21, 0.05, 0.014, (1.0, 0.93, 0.7), ellipse=True)]))  # fmt: skip
    stone = [(0.82, 0.82, 0.82), (0.30, 0.31, 0.33), (0.75, 0.69, 0.62)][rng.integers(3)]
    return Backdrop(c, tone(c, -0.06), TILES, 0.075, tone(stone, -0.1), stone, SPECKLE, 0.22, 0.4), props


def _beach(rng: np.random.Generator, wall: str, hor: float) -> tuple[Backdrop, list[Prop]]:
    sea = [(0.16, 0.50, 0.66), (0.20, 0.62, 0.66)][rng.integers(2)]
    x = _side(rng)
    cloud = [part(1 - x + dx, 0.14 + dy, r, r * 0.55, (0.98, 0.98, 0.99), ellipse=True, soft=0.02)
             for dx, dy, r in ((-0.07, 0.01, 0.07), (0, 0, 0.09), (0.08, 0.015, 0.06))]  # fmt: skip
    props: list[Prop] = [("sea", [part(0.5, hor - 0.055, 0.5, 0.06, sea, colour2=tone(sea, 0.3)), part(0.5, hor - 0.003, 0.5, 0.008, (0.95, 0.97, 0.97))]),
                         ("cloud", cloud)]  # fmt: skip
    if rng.random() < 0.5:
        props.append(("sun", [part(x, 0.13, 0.07, 0.07, (1.0, 0.95, 0.72), round=1, soft=0.03)]))
    else:
        stripe = (0.85, 0.25, 0.22)
        props.append(("parasol", [part(x, hor - 0.1, 0.006, 0.16, (0.9, 0.9, 0.88)), part(x, hor - 0.2, 0.14, 0.11, stripe, ellipse=True, bottom=0.0),
                                  part(x, hor - 0.2, 0.05, 0.11, (0.97, 0.95, 0.9), ellipse=True, bottom=0.0)]))  # fmt: skip
    return Backdrop(
        (0.42, 0.68, 0.90), (0.82, 0.91, 0.96), PLAIN, 0.1, (0.84, 0.74, 0.54), (0.93, 0.84, 0.65), SAND, 0.11, 0.0
    ), props


def _forest(rng: np.random.Generator, wall: str, hor: float) -> tuple[Backdrop, list[Prop]]:
    trees: list[Row] = []
    for _ in range(int(rng.integers(4, 7))):
        x, w = rng.uniform(0.0, 1.0), rng.uniform(0.02, 0.04)
        trees.append(part(x, hor - 0.2, w, 0.24, tone((0.35, 0.24, 0.16), -rng.uniform(0, 0.3)), cyl=0.35))
    leaves = [part(rng.uniform(0, 1), rng.uniform(-0.02, 0.14), 0.15, 0.11, tone((0.25, 0.5, 0.22), rng.uniform(-0.3, 0.15)), ellipse=True)
              for _ in range(6)]  # fmt: skip
    bush = [part(_side(rng) + dx, hor - 0.02, 0.06, 0.055, (0.24, 0.42, 0.2), round=1) for dx in (-0.06, 0.05)]
    light = (0.72, 0.84, 0.62)
    props: list[Prop] = [("trees", trees), ("leaves", leaves), ("bush", bush)]
    return Backdrop(
        (0.45, 0.62, 0.40), light, PLAIN, 0.1, (0.28, 0.47, 0.2), (0.40, 0.62, 0.26), SAND, 0.28, 0.15
    ), props


def _studio(rng: np.random.Generator, wall: str, hor: float) -> tuple[Backdrop, list[Prop]]:
    c = WALLS[wall]
    top = tone(c, float(rng.choice([-0.35, 0.5])))
    x = _side(rng)
    disc = part(x, hor - 0.25, 0.19, 0.19, tone(c, float(rng.choice([-0.25, 0.35]))), round=1)
    props: list[Prop] = [("disc", [disc])]
    if rng.random() < 0.5:
        props.append(
            (
                "arch",
                [
                    part(1 - x, hor - 0.12, 0.1, 0.17, tone(c, -0.2), round=1),
                    part(1 - x, hor - 0.05, 0.1, 0.05, tone(c, -0.2)),
                ],
            )
        )
    return Backdrop(c, tone(c, 0.15), PLAIN, 0.1, tone(top, -0.05), tone(top, 0.08), PLAIN, 0.0, 0.12), props


def _city(rng: np.random.Generator, wall: str, hor: float) -> tuple[Backdrop, list[Prop]]:
    towers: list[Row] = []
    for i in range(6):
        x, h, w = (i + rng.uniform(0.2, 0.8)) / 6, rng.uniform(0.1, 0.24), rng.uniform(0.05, 0.085)
        towers.append(part(x, hor - h, w, h, tone((0.16, 0.17, 0.30), rng.uniform(-0.2, 0.2))))
        for _ in range(3):
            towers.append(
                part(x + rng.uniform(-0.6, 0.6) * w, hor - rng.uniform(0.2, 1.8) * h, 0.01, 0.012, (1.0, 0.85, 0.45))
            )
    bokeh = [part(rng.uniform(0, 1), hor - rng.uniform(0.0, 0.12), r, r, tuple(rng.uniform(0.5, 1.0, 3)), round=1, alpha=0.55, soft=0.012)
             for r in rng.uniform(0.015, 0.04, 5)]  # fmt: skip
    props: list[Prop] = [("towers", towers), ("lights", bokeh)]
    return Backdrop(
        (0.06, 0.07, 0.20), (0.24, 0.20, 0.40), PLAIN, 0.1, (0.13, 0.13, 0.22), (0.24, 0.25, 0.34), SPECKLE, 0.25, 0.3
    ), props


def _office(rng: np.random.Generator, wall: str, hor: float) -> tuple[Backdrop, list[Prop]]:
    c, wood = tone(WALLS[wall], -0.12), WOODS[rng.integers(3)]
    x = _side(rng)
    books: list[Row] = []
    for level in (0.2, 0.36):
        books.append(part(x, hor - level, 0.15, 0.011, (0.35, 0.23, 0.15)))
        left = x - 0.135
        while left < x + 0.11:
            w, h = rng.uniform(0.01, 0.019), rng.uniform(0.035, 0.058)
            books.append(part(left + w, hor - level - 0.011 - h, w * 0.92, h, tuple(rng.uniform(0.15, 0.85, 3))))
            left += 2 * w
    props: list[Prop] = [("bookshelf", books)]
    if rng.random() < 0.5:
        p = 1 - x
        props.append(("screen", [part(p, hor - 0.02, 0.015, 0.05, (0.2, 0.2, 0.22)), part(p, hor - 0.17, 0.14, 0.1, (0.12, 0.12, 0.14), round=0.1),
                                 part(p, hor - 0.17, 0.127, 0.087, (0.35, 0.55, 0.75), colour2=(0.65, 0.78, 0.85))]))  # fmt: skip
    return Backdrop(c, tone(c, 0.06), PANELS, 0.11, tone(wood, -0.1), tone(wood, 0.06), PLANKS, 0.1, 0.45), props


def _spa(rng: np.random.Generator, wall: str, hor: float) -> tuple[Backdrop, list[Prop]]:
    c = tone(WALLS[wall], 0.5)
    x = _side(rng)
    bamboo = [part(x + dx, hor - 0.25, 0.016, 0.28, (0.45, 0.62, 0.3), cyl=0.4) for dx in (-0.06, 0.0, 0.055)]
    knots = [
        part(x + dx, hor - y, 0.019, 0.006, (0.33, 0.48, 0.22))
        for dx, y in ((-0.06, 0.15), (-0.06, 0.36), (0.0, 0.25), (0.055, 0.12), (0.055, 0.4))
    ]
    stones = [part(1 - x, hor - 0.018 - i * 0.036, 0.065 - i * 0.014, 0.02, tone((0.35, 0.36, 0.38), 0.12 * i), ellipse=True, spec=0.15)
              for i in range(3)]  # fmt: skip
    props: list[Prop] = [("bamboo", [*bamboo, *knots]), ("stones", stones)]
    return Backdrop(c, tone(c, -0.05), TILES, 0.16, (0.86, 0.86, 0.85), (0.95, 0.95, 0.94), PLAIN, 0.0, 0.35), props


PLACES: dict[str, Place] = {
    "living room": Place("on a wooden floor in a living room with {wall} walls", _living),
    "kitchen": Place("on a stone counter in a kitchen with {wall} tiles", _kitchen),
    "beach": Place("on the sand at a beach by the sea", _beach, ("blue",)),
    "forest": Place("on the grass in a forest", _forest, ("green",)),
    "studio": Place("on a table in a photo studio with a {wall} backdrop", _studio),
    "city": Place("on a wet street in a city at night", _city, ("blue",)),
    "office": Place("on a wooden desk in an office with {wall} panels", _office),
    "spa": Place("on a white shelf in a spa with {wall} tiles and bamboo", _spa),
}


def _grain(size: int, device: str | torch.device) -> Tensor:
    """Four fixed noise pictures [4,size,size] around 0: fine (2) and coarse (2)."""
    gen = torch.Generator().manual_seed(7)
    out = [
        F.interpolate(torch.rand(1, 2, s, s, generator=gen) - 0.5, size=(size, size), mode="bilinear") for s in (64, 24)
    ]
    return torch.cat(out, 1)[0].to(device)


def backdrop(scenes: list[Backdrop], horizon: Tensor, roll: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Walls and surfaces: rgb [N,3,H,W] and depth [N,H,W] (wall 0.12, surface 0.25 at the back to 1 at the front)."""
    device = horizon.device

    def col(name: str) -> Tensor:
        return torch.tensor([getattr(b, name) for b in scenes], dtype=torch.float32, device=device)

    hor = horizon[:, None, None]
    x = ((torch.arange(size, device=device) + 0.5) / size)[None, None, :]
    y = ((torch.arange(size, device=device) + 0.5) / size)[None, :, None]
    up, down = (y / hor).clamp(0, 1), ((y - hor) / (1 - hor)).clamp(0, 1)
    floor = ((y - hor) * size + 0.5).clamp(0, 1)
    kind, pitch = col("wall_pattern")[:, None, None], col("wall_scale")[:, None, None]
    lines = torch.maximum(_line(x / pitch), torch.where(kind == TILES, _line((y - hor) / pitch), 0.0)) * (kind > 0)
    u = (x - 0.5) / (0.35 + down)  # towards the vanishing point
    fk, strength = col("floor_pattern")[:, None, None], col("strength")[:, None, None]
    noise = _grain(size, device)
    fine = torch.stack([torch.roll(noise[int(r) % 2], int(r) * 13 % size, 1) for r in roll])
    coarse = torch.stack([torch.roll(noise[2 + int(r) % 2], int(r) * 7 % size, 1) for r in roll])
    board = torch.floor(u * 6.0 + 40)
    planks = -_line(u * 6.0) - 0.6 * torch.sin(board * 12.9).abs() + 0.5 * coarse
    pattern = torch.where(
        fk == PLANKS, planks, torch.where(fk == SPECKLE, 1.3 * fine, torch.where(fk == SAND, fine + coarse, 0.0))
    )
    texture = 1 + strength * pattern
    lines = 1 - 0.12 * lines + 0.015 * coarse
    seam = 1 - col("edge")[:, None, None] * torch.exp(-(((y - hor) * 60).square()))
    rgb = []
    for c in range(3):
        top, low = col("wall")[:, c, None, None], col("wall_low")[:, c, None, None]
        far, near = col("floor_far")[:, c, None, None], col("floor_near")[:, c, None, None]
        wall = (top + (low - top) * up) * lines
        surface = (far + (near - far) * down) * texture
        rgb.append((wall + (surface - wall) * floor) * seam)
    depth = torch.where(floor > 0.5, 0.25 + 0.75 * down, torch.tensor(0.12, device=device)).expand(-1, size, size)
    return torch.stack(rgb, 1).clamp(0, 1), depth.contiguous()


def _line(t: Tensor) -> Tensor:
    """1 on a thin line at every whole number, 0 between."""
    return (1 - (t - t.round()).abs() * 14).clamp(0, 1)
