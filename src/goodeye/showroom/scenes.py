"""Scenes with known truth: what is in them, what is wrong with them, how they are drawn.

`sample` draws a scene's facts from a seed; `render` makes pictures of many scenes at once with every map that a judge
could ask for. The product is placed as the ads job places it (in the middle, longer side at a given share of the
canvas), so a scene's picture is a sample of what a perfect, or a faulty, generator would make for that product.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from goodeye.showroom import looks
from goodeye.showroom.parts import RGB, Layers, Row, move, paint, part, table
from goodeye.showroom.places import LIGHTS, PLACES, Prop, backdrop
from goodeye.showroom.products import COLOURS, OWN_PARTS, Product, fitted, grown, sample_product, tone

CLASSES = ("available", "space_mismatch", "size_mismatch", "indistinctiveness", "shape_hallucination")
# Things of known height (centimetres) beside the product: what tells the eye how large it is.
REFERENCES: dict[str, float] = {"strawberry": 3.5, "apple": 8.0, "cup": 10.0, "plant": 40.0}
NONE, PRODUCT, EXTENSION, REFERENCE, FIRST_PROP = 0, 1, 2, 3, 4
# The contrast that a product gets by another background if it lacks it where it is not meant to vanish. Things beside it
# are drawn afterwards, so this bounds no label: see docs/showroom.md for how the two sides come out.
STANDS_OUT = 0.21


@dataclass(frozen=True, kw_only=True)
class Scene:
    """The facts of one picture. Lengths in canvas widths."""

    product: Product
    place: str
    wall: str
    light: str
    defect: str  # one of CLASSES
    scale: float  # longer side of the product
    horizon: float  # where wall and surface meet
    reference: str  # "" or one of REFERENCES
    reference_height: float
    reference_side: float  # -1 left, 1 right
    blur: int  # of the background: 0, 1 or 2
    seed: int

    @property
    def label(self) -> int:
        """Index into CLASSES."""
        return CLASSES.index(self.defect)


@dataclass
class Render:
    """Pictures and their truth. Everything [N, ...], images in [0,1]."""

    image: Tensor  # [N,3,H,W]
    product: Tensor  # [N,4,H,W] straight-alpha cut-out on the canvas
    depth: Tensor  # [N,1,H,W] 1 = near
    saliency: Tensor  # [N,1,H,W] 1 = draws the eye
    obj: Tensor  # [N,H,W] which thing each pixel shows: PRODUCT, EXTENSION, REFERENCE, props from FIRST_PROP on
    label: Tensor  # [N] index into CLASSES
    contrast: Tensor  # [N] how well the product stands out (looks.contrast)
    beauty: Tensor  # [N]
    beauty_parts: dict[str, Tensor]
    captions: list[str]
    titles: list[str]
    names: list[dict[int, str]]  # object number -> name
    scenes: list[Scene]


def fitting_references(product: Product, scale: float) -> dict[str, float]:
    """Reference things whose true height beside this product is well visible: name -> height in canvas widths."""
    per_cm = scale / product.centimetres
    return {name: cm * per_cm for name, cm in REFERENCES.items() if 0.13 <= cm * per_cm <= 0.42}


def sample(
    seed: int, index: int, defects: Sequence[str] = CLASSES, product: Product | None = None, own: float = 0.0
) -> Scene:
    """Scene number `index` of the world `seed`; its defect is drawn evenly from `defects`. own: the share of products
    that have an unusual part of their own, which nobody can tell from something grown who has not seen the product."""
    rng = np.random.default_rng((seed, index))
    defect = str(rng.choice(list(defects)))
    product = product or sample_product(rng)
    unusual = np.random.default_rng((seed, index, 15))
    if unusual.random() < own:
        product = replace(product, own=1 + int(unusual.integers(OWN_PARTS)))
    scale = float(rng.uniform(0.46, 0.56))
    base = 0.5 + fitted(product, scale)[2]
    place = str(rng.choice(list(PLACES)))
    if defect == "space_mismatch":
        horizon = min(base + float(rng.uniform(0.07, 0.2)), 0.94)
    else:
        horizon = max(base - float(rng.uniform(0.1, 0.28)), 0.3)
    true = fitting_references(product, scale)
    name, height = "", 0.0
    if defect == "size_mismatch":
        name, height = _wrong_size(rng, product, scale)
    elif true and rng.random() < 0.8:
        name = str(rng.choice(list(true)))
        height = true[name] * float(rng.uniform(0.88, 1.13))
    return Scene(
        product=product,
        place=place,
        wall=str(rng.choice(list(PLACES[place].walls))),
        light=str(rng.choice(list(LIGHTS), p=[0.35, 0.25, 0.25, 0.15])),
        defect=defect,
        scale=scale,
        horizon=horizon,
        reference=name,
        reference_height=height,
        reference_side=float(rng.choice([-1, 1])),
        blur=int(rng.choice([0, 1, 2], p=[0.6, 0.25, 0.15])),
        seed=int(rng.integers(2**31)),
    )


def _wrong_size(rng: np.random.Generator, product: Product, scale: float) -> tuple[str, float]:
    """A reference thing at least 2.3 times too large or too small beside the product."""
    per_cm = scale / product.centimetres
    options = []
    for name, cm in REFERENCES.items():
        for height in (0.15, 0.2, 0.26, 0.33, 0.4, 0.46):
            ratio = height / (cm * per_cm)
            if ratio >= 2.3 or ratio <= 1 / 2.3:
                options.append((name, height))
    name, height = options[rng.integers(len(options))]
    return name, height * float(rng.uniform(0.97, 1.03))


def caption(scene: Scene, full: bool = True) -> str:
    """The scene in words: title, place, light and, if `full`, what stands beside the product."""
    where = PLACES[scene.place].phrase.format(wall=scene.wall)
    beside = f", beside {article(scene.reference)}" if full and scene.reference else ""
    return f"{article(scene.product.title)} {where}, {scene.light}{beside}"


def article(words: str) -> str:
    """The words with their a or an."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def reference_parts(name: str) -> list[Row]:
    """A thing of known size around the origin, one high, its base at y = 0.5."""
    if name == "strawberry":
        seeds = [
            part(x, y, 0.025, 0.035, (0.98, 0.85, 0.5))
            for x, y in ((-0.15, 0.0), (0.12, -0.05), (0, 0.2), (-0.05, -0.15), (0.2, 0.1))
        ]
        return [part(0, 0.06, 0.36, 0.44, (0.86, 0.12, 0.16), round=0.95, taper=-0.4, spec=0.3), *seeds,
                part(0, -0.38, 0.25, 0.07, (0.25, 0.58, 0.2), ellipse=True), part(0, -0.45, 0.03, 0.06, (0.25, 0.5, 0.2))]  # fmt: skip
    if name == "apple":
        return [part(0.02, -0.4, 0.025, 0.11, (0.36, 0.24, 0.14), rot=0.2), part(0.13, -0.4, 0.12, 0.06, (0.3, 0.6, 0.2), rot=-0.5, ellipse=True),
                part(0, 0.08, 0.45, 0.42, (0.55, 0.75, 0.22), colour2=(0.42, 0.6, 0.15), ellipse=True, spec=0.3)]  # fmt: skip
    if name == "cup":
        return [part(0.4, 0, 0.16, 0.2, (0.88, 0.88, 0.9), ellipse=True, ring=0.045),
                part(0, 0.02, 0.38, 0.46, (0.96, 0.96, 0.97), taper=-0.2, round=0.15, cyl=0.3), part(0, 0.05, 0.42, 0.06, (0.25, 0.45, 0.75), cyl=0.3)]  # fmt: skip
    leaves = [part(x, y, 0.1, 0.26, tone((0.2, 0.52, 0.22), t), rot=r, ellipse=True)
              for x, y, r, t in ((-0.22, -0.1, -0.7, -0.2), (0.22, -0.1, 0.7, -0.2), (-0.1, -0.22, -0.3, 0.1), (0.1, -0.22, 0.3, 0.0), (0, -0.24, 0, 0.15))]  # fmt: skip
    return [
        *leaves,
        part(0, 0.28, 0.22, 0.22, (0.88, 0.88, 0.85), taper=-0.2, cyl=0.3),
        part(0, 0.1, 0.24, 0.04, (0.78, 0.78, 0.75)),
    ]


def extension_parts(scene: Scene, hw: float, hh: float, colour: RGB) -> list[Row]:
    """Something that the product does not have, in its own colour, growing out from behind it."""
    rows = grown(np.random.default_rng((scene.seed, 2)), hw, hh, colour)
    return [[0.5 + row[0], 0.5 + row[1], *row[2:]] for row in rows]


def render(scenes: Sequence[Scene], size: int = 128, device: str | torch.device = "cpu") -> Render:
    """Pictures of scenes with all maps. Same scenes, same device: same pixels."""
    scenes = list(scenes)
    places = [PLACES[s.place].draw(np.random.default_rng((s.seed, 1)), s.wall, s.horizon) for s in scenes]
    horizon = torch.tensor([s.horizon for s in scenes], device=device)
    roll = torch.tensor([s.seed % 9973 for s in scenes], device=device)
    image, depth = backdrop([b for b, _ in places], horizon, roll, size)
    bodies = [fitted(s.product, s.scale) for s in scenes]

    cut = paint(Layers.blank(len(scenes), size, device), table([b[0] for b in bodies], device), window=0.66)
    alpha = cut.cover[:, None]
    product = torch.cat([cut.rgb / alpha.clamp(min=1e-3), alpha], 1).clamp(0, 1)  # rgb was painted over black

    base = Layers(
        torch.cat([image, torch.zeros_like(depth)[:, None], depth[:, None], torch.zeros_like(depth)[:, None]], 1)
    )
    props, names = zip(*(_props(p, s) for (_, p), s in zip(places, scenes, strict=True)), strict=True)
    for low, high, window in (
        (0.24, 9.0, 1.0),
        (0.1, 0.24, 0.52),
        (0.0, 0.1, 0.25),
    ):  # small things lie upon large ones
        chosen = [[r for r in rows if low < max(r[2], r[3]) <= high] for rows in props]
        paint(base, table(chosen, device), window)
    base.rgb[:] = _matched(lit(base.rgb, scenes), product, scenes)

    paint(base, table([_standing(s, b) for s, b in zip(scenes, bodies, strict=True)], device), window=1.0)
    front = (base.obj == REFERENCE) | (base.obj == EXTENSION)
    base.rgb[:] = torch.where(
        _faint(scenes, device) & front[:, None], base.rgb.lerp(_mean_colour(product), 0.75), base.rgb
    )

    solid = alpha[:, 0] > 0.5
    feet = torch.tensor([_depth_at(s, 0.5 + b[2]) for s, b in zip(scenes, bodies, strict=True)], device=device)
    image = product[:, :3] * alpha + base.rgb * (1 - alpha)
    obj = torch.where(solid, torch.tensor(float(PRODUCT), device=device), base.obj)
    depth = torch.where(solid, feet[:, None, None], base.depth)
    stands_out = looks.contrast(image, product[:, :3], alpha)
    parts = looks.beauty_parts(image, obj == PRODUCT, torch.tensor([len(n) - 1.0 for n in names], device=device))
    return Render(
        image=image, product=product, depth=depth[:, None].clamp(0, 1), saliency=_saliency(obj, stands_out), obj=obj,
        label=torch.tensor([s.label for s in scenes], device=device), contrast=stands_out, beauty=looks.beauty(parts),
        beauty_parts=parts, captions=[caption(s) for s in scenes], titles=[s.product.title for s in scenes],
        names=list(names), scenes=scenes,
    )  # fmt: skip


def render_many(scenes: Sequence[Scene], size: int = 128, batch: int = 16, workers: int = 2) -> Iterator[Render]:
    """Renders batch after batch on the CPU, a few at a time in threads (the work is array code, which runs beside)."""
    chunks = [scenes[i : i + batch] for i in range(0, len(scenes), batch)]
    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(lambda chunk: render(chunk, size), chunks)


def _depth_at(scene: Scene, y: float) -> float:
    """Depth of something whose base is at height y; what hangs above the surface is as near as the middle of it."""
    return 0.25 + 0.75 * max(0.35, (y - scene.horizon) / (1 - scene.horizon))


def _props(props: list[Prop], scene: Scene) -> tuple[list[Row], dict[int, str]]:
    """The place's props as parts with numbers and depth, and the names of all numbered things."""
    names = {PRODUCT: scene.product.title}
    if scene.defect == "shape_hallucination":
        names[EXTENSION] = "extension"
    if scene.reference:
        names[REFERENCE] = scene.reference
    rows = []
    for number, (name, parts) in enumerate(props, start=FIRST_PROP):
        names[number] = name
        rows += [[*r[:-2], 0.16, float(number)] for r in parts]
    return rows, names


def _standing(scene: Scene, body: tuple[list[Row], float, float]) -> list[Row]:
    """Shadows, the reference thing and, where that is the defect, the extension: all behind the product."""
    _, hw, hh = body
    foot, side = 0.5 + hh, scene.reference_side
    floats = scene.defect == "space_mismatch"
    lean = 0.05 if scene.seed % 2 else -0.05
    ground = max(foot, scene.horizon + 0.05) if floats else foot
    rows = []
    if not floats:
        rows = [part(0.5 + lean, foot - 0.005, hw * 1.05, 0.035, (0.04, 0.03, 0.05), ellipse=True, alpha=0.38, soft=0.06),
                part(0.5, foot - 0.004, hw * 0.85, 0.014, (0.02, 0.02, 0.03), ellipse=True, alpha=0.6, soft=0.025)]  # fmt: skip
    if scene.reference:
        h = scene.reference_height
        rng = np.random.default_rng((scene.seed, 3))
        x = 0.5 + side * min(hw + 0.42 * h + float(rng.uniform(0.01, 0.05)), 0.49 - 0.25 * h)
        y = min(max(ground + float(rng.uniform(-0.02, 0.03)), scene.horizon + 0.03), 0.97)
        rows.append(
            part(
                x + lean / 2,
                y - 0.005,
                0.42 * h,
                0.1 * h + 0.008,
                (0.03, 0.03, 0.05),
                ellipse=True,
                alpha=0.45,
                soft=0.04,
            )
        )
        rows += move(reference_parts(scene.reference), x, y - h / 2, h, _depth_at(scene, y), float(REFERENCE))
    if scene.defect == "shape_hallucination":
        rows += [
            [*r[:-2], _depth_at(scene, foot), float(EXTENSION)]
            for r in extension_parts(scene, hw, hh, COLOURS[scene.product.colour])
        ]
    return rows


def lit(rgb: Tensor, scenes: Sequence[Scene]) -> Tensor:
    """The background in its light: tint, brightness, a lit side, darker corners, and blur where the lens is open."""
    device, size = rgb.device, rgb.shape[-1]
    tint = torch.tensor([LIGHTS[s.light][0] for s in scenes], device=device)[:, :, None, None]
    bright = torch.tensor([LIGHTS[s.light][1] for s in scenes], device=device)[:, None, None, None]
    dark = torch.tensor([LIGHTS[s.light][2] for s in scenes], device=device)[:, None, None, None]
    left = torch.tensor([1.0 if s.seed % 2 else -1.0 for s in scenes], device=device)[:, None, None, None]
    at = (torch.arange(size, device=device) + 0.5) / size - 0.5
    x, y = at[None, None, None, :], at[None, None, :, None]
    rgb = rgb * tint * bright * (1 - 0.14 * left * x) * (1 - dark * (x * x + y * y) * 1.3)
    for level in (1, 2):
        chosen = torch.tensor([s.blur == level for s in scenes], device=device)
        if bool(chosen.any()):
            rgb[chosen] = looks.blur(rgb[chosen], max(1, round(0.008 * size * level)))
    return rgb.clamp(0, 1)


def _faint(scenes: Sequence[Scene], device: str | torch.device) -> Tensor:
    return torch.tensor([s.defect == "indistinctiveness" for s in scenes], device=device)[:, None, None, None]


def _mean_colour(product: Tensor) -> Tensor:
    alpha = product[:, 3:]
    return (product[:, :3] * alpha).sum((2, 3), keepdim=True) / alpha.sum((2, 3), keepdim=True).clamp(min=1.0)


def _matched(rgb: Tensor, product: Tensor, scenes: Sequence[Scene]) -> Tensor:
    """Backgrounds that hide the product where that is the defect, and that do not where it is not."""
    colour, faint = _mean_colour(product), _faint(scenes, rgb.device)
    local = looks.blur(product[:, :3] * product[:, 3:], max(2, rgb.shape[-1] // 12))
    weight = looks.blur(product[:, 3:], max(2, rgb.shape[-1] // 12))
    near = (local + 0.05 * colour) / (weight + 0.05)
    rgb = torch.where(faint, (rgb * 0.2 + 0.8 * (0.6 * near + 0.4 * colour)).clamp(0, 1), rgb)
    seen = looks.contrast(product[:, :3] * product[:, 3:] + rgb * (1 - product[:, 3:]), product[:, :3], product[:, 3:])
    lost = (seen < STANDS_OUT)[:, None, None, None] & ~faint
    away = torch.where(looks.luma(colour)[:, None] > 0.45, rgb * 0.5, 1 - (1 - rgb) * 0.45)
    return torch.where(lost, away, rgb)


def _saliency(obj: Tensor, stands_out: Tensor) -> Tensor:
    """What draws the eye: product and extension as far as they stand out (0.25 to 1), the reference thing 0.35, other
    things 0.1; smoothed over about 3 % of the canvas."""
    weight = (stands_out / 0.35).clamp(0.25, 1)[:, None, None]
    main = ((obj == PRODUCT) | (obj == EXTENSION)).float() * weight
    rest = (obj == REFERENCE).float() * 0.35 + (obj >= FIRST_PROP).float() * 0.1
    return looks.blur((main + rest)[:, None], max(1, obj.shape[-1] // 64)).clamp(0, 1)
