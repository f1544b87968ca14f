"""The rasteriser: soft-edged parts, painted over a whole batch of pictures at once.

A *part* is one row of numbers: a rounded box, an ellipse, a ring or a slice of these, with a colour gradient, a depth
and the object to which it belongs. Everything in the showroom is drawn from parts, so a new product or prop is a few
lines of `part(...)`. Lengths are in canvas widths (0 is left or top, 1 is right or bottom), so pictures of any size
show the same scene. Source: ours; the distance functions are the well-known ones for boxes and ellipses.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

RGB = tuple[float, float, float]
Row = list[float]

FIELDS = [
    "x",
    "y",
    "hw",
    "hh",
    "cos",
    "sin",
    "sx",
    "sy",
    "radius",
    "taper",
    "ring",
    "top",
    "bottom",
    "r",
    "g",
    "b",
    "r2",
    "g2",
    "b2",
    "axis",
    "cyl",
    "spec",
    "alpha",
    "soft",
    "depth",
    "obj",
]
COLUMN = {name: i for i, name in enumerate(FIELDS)}
NOWHERE: Row = [9.0, 9.0, 0.01, 0.01, 1.0, 0.0, 1.0, 1.0] + [0.0] * 3 + [-9.0, 9.0] + [0.0] * 11 + [-1.0, -1.0]


def part(
    x: float,
    y: float,
    hw: float,
    hh: float,
    colour: RGB,
    *,
    colour2: RGB | None = None,
    axis: float = 0.0,
    rot: float = 0.0,
    round: float = 0.0,
    ellipse: bool = False,
    taper: float = 0.0,
    ring: float = 0.0,
    top: float = -9.0,
    bottom: float = 9.0,
    cyl: float = 0.0,
    spec: float = 0.0,
    alpha: float = 1.0,
    soft: float = 0.0,
    depth: float = -1.0,
    obj: float = -1.0,
) -> Row:
    """One part. `hw`, `hh`: half width and height. `round`: corner radius as a share of the shorter half side.

    `taper` widens the bottom (positive) or the top (negative). `ring` is half the stroke's width (0 fills the shape).
    `top`, `bottom` cut it at that share of `hh`. `colour2` is reached at the bottom (`axis=0`) or right (`axis=1`).
    `cyl` darkens the sides like a cylinder; `spec` adds a highlight. `depth`, `obj` < 0 leave those maps alone (shadows).
    """
    small = min(hw, hh)
    sx, sy, radius = (small / hw, small / hh, small) if ellipse else (1.0, 1.0, round * small)
    c2 = colour if colour2 is None else colour2
    return [x, y, hw, hh, float(np.cos(rot)), float(np.sin(rot)), sx, sy, radius, taper, ring, top, bottom,
            *colour, *c2, axis, cyl, spec, alpha, soft, depth, obj]  # fmt: skip


def move(rows: Sequence[Row], x: float, y: float, scale: float, depth: float, obj: float) -> list[Row]:
    """Parts drawn around the origin, brought to their place, size, depth and object."""
    out = []
    for row in rows:
        r = list(row)
        r[0], r[1] = x + r[0] * scale, y + r[1] * scale
        for i in (2, 3, 8, 10, 23):
            r[i] *= scale
        r[24], r[25] = depth, obj
        out.append(r)
    return out


def table(rows: Sequence[Sequence[Row]], device: str | torch.device = "cpu") -> Tensor:
    """Part lists of N pictures as one tensor [N, K, P]; shorter lists are filled with parts that are out of sight."""
    count = max((len(r) for r in rows), default=0)
    flat = [r for parts in rows for r in [*parts, *([NOWHERE] * (count - len(parts)))]]
    return torch.tensor(np.asarray(flat, dtype=np.float32).reshape(len(rows), count, len(FIELDS)), device=device)


class Layers:
    """Pictures being painted: six planes [N,6,H,W] (red, green, blue, cover, depth, object number)."""

    def __init__(self, planes: Tensor) -> None:
        self.planes = planes

    @classmethod
    def blank(cls, n: int, size: int, device: str | torch.device = "cpu") -> Layers:
        return cls(torch.zeros(n, 6, size, size, device=device))

    @property
    def rgb(self) -> Tensor:
        """[N,3,H,W] in [0,1]."""
        return self.planes[:, :3]

    @property
    def cover(self) -> Tensor:
        """[N,H,W]: the share of each pixel that is painted."""
        return self.planes[:, 3]

    @property
    def depth(self) -> Tensor:
        """[N,H,W] in [0,1], 1 = near."""
        return self.planes[:, 4]

    @property
    def obj(self) -> Tensor:
        """[N,H,W]: the number of the thing that each pixel shows."""
        return self.planes[:, 5]


def paint(layers: Layers, parts: Tensor, window: float = 1.0) -> Layers:
    """Paints parts [N,K,P] in order over the pictures, in place. `window`: the side (of the canvas) that holds any one
    part; what lies outside of a part's window is not painted. Only pictures that have a part, and only the smallest
    rectangle that holds it in each of them, are touched."""
    n, planes, size, _ = layers.planes.shape
    most = min(size, int(np.ceil(window * size)))
    flat = layers.planes.view(n, planes, size * size)
    there = parts[:, :, 0] < NOWHERE[0]
    reach = _reach(parts, size)
    for k in range(parts.shape[1]):
        which = there[:, k].nonzero()[:, 0]
        if not len(which):
            continue
        row = parts[which, k]
        width, height = (min(most, int(side)) for side in torch.ceil(2 * size * reach[which, k].amax(0) + 2).tolist())
        xs, ys = _window(row[:, 0], width, size)[:, None, :], _window(row[:, 1], height, size)[:, :, None]
        p = dict(zip(FIELDS, row[:, :, None, None].unbind(1), strict=True))
        share, colour = _cover_and_colour(p, (xs + 0.5) / size, (ys + 0.5) / size, size)
        solid = (share > 0.5) & (p["obj"] >= 0)
        at = which[:, None, None] * (planes * size * size) + ys * size + xs
        at = (at[:, None] + torch.arange(planes, device=parts.device)[:, None, None] * (size * size)).flatten()
        under = flat.view(-1)[at].view(len(which), planes, height, width)
        for c in range(3):
            under[:, c] += share * (colour[c] - under[:, c])
        under[:, 3] += share * (1 - under[:, 3])
        under[:, 4] = torch.where(solid, p["depth"], under[:, 4])
        under[:, 5] = torch.where(solid, p["obj"], under[:, 5])
        flat.view(-1)[at] = under.flatten()
    return layers


def _window(centre: Tensor, side: int, size: int) -> Tensor:
    """The pixels [N,side] of a window around centres [N], moved so that it lies on the canvas."""
    first = (centre * size - side / 2).round().long().clamp(0, size - side)
    return first[:, None] + torch.arange(side, device=centre.device)


def _reach(parts: Tensor, size: int) -> Tensor:
    """How far from its centre each part can show anything, across and down the canvas, [N,K,2], never too small."""
    p = dict(zip(FIELDS, parts.unbind(2), strict=True))
    edge = p["ring"] + p["soft"].clamp(min=1.0 / size) / 2
    wide = (p["hw"] + edge / p["sx"]) * (1 + p["taper"].abs())
    tall = p["hh"] + edge / p["sy"]
    cos, sin = p["cos"].abs(), p["sin"].abs()
    return torch.stack([cos * wide + sin * tall, sin * wide + cos * tall], 2)


def _cover_and_colour(p: dict[str, Tensor], x: Tensor, y: Tensor, size: int) -> tuple[Tensor, list[Tensor]]:
    """How far each part covers each pixel, [N,h,w], and its colour there, 3 x [N,h,w] (or [N,1,1] where it is flat)."""
    dx, dy = x - p["x"], y - p["y"]
    across = dx * p["cos"] + dy * p["sin"]
    down = dy * p["cos"] - dx * p["sin"]
    if bool((p["taper"] != 0).any()):
        across = across / (1 + p["taper"] * (down / p["hh"]).clamp(-1, 1)).clamp(min=0.05)
    sx, sy, radius = p["sx"], p["sy"], p["radius"]
    qx = across.abs() * sx - (p["hw"] * sx - radius)
    qy = down.abs() * sy - (p["hh"] * sy - radius)
    mx, my = qx.clamp(min=0), qy.clamp(min=0)
    length = torch.sqrt(mx * mx + my * my + 1e-12)
    distance = length + torch.maximum(qx, qy).clamp(max=0) - radius
    if bool(((sx != 1) | (sy != 1)).any()):  # back to true distances where the axes were scaled to make an ellipse
        distance = distance * (length / torch.sqrt((mx * sx) ** 2 + (my * sy) ** 2 + 1e-12))
    if bool((p["ring"] > 0).any()):
        distance = torch.where(p["ring"] > 0, distance.abs() - p["ring"], distance)
    if bool(((p["top"] > -9) | (p["bottom"] < 9)).any()):
        distance = torch.maximum(distance, torch.maximum(p["top"] * p["hh"] - down, down - p["bottom"] * p["hh"]))
    share = (0.5 - distance / p["soft"].clamp(min=1.0 / size)).clamp(0, 1) * p["alpha"]
    flat = bool((p["r"] == p["r2"]).all() and (p["g"] == p["g2"]).all() and (p["b"] == p["b2"]).all())
    u, v = across / p["hw"], down / p["hh"]
    mix = torch.zeros_like(p["r"]) if flat else (0.5 + 0.5 * torch.lerp(v, u, p["axis"])).clamp(0, 1)
    shade: Tensor | float = 1.0
    if bool((p["cyl"] > 0).any()):
        shade = 1 - p["cyl"] * (u + 0.25).square().clamp(max=1.6)
    glow: Tensor | float = 0.0
    if bool((p["spec"] > 0).any()):
        glow = p["spec"] * torch.exp(-8 * ((u + 0.38).square() + 0.5 * (v + 0.45).square()))
    colour = [(p[a] + (p[a + "2"] - p[a]) * mix) * shade + glow for a in "rgb"]
    return share, [c.clamp(0, 1) for c in colour]
