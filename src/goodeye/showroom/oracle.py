"""The oracle: inspects pictures of the showroom by rules, independently of every trained model of the house.

A small network (`goodeye.showroom.facts`) reads facts from the pixels: horizon, place, wall, light, the reference thing
and its height, and where something grows from the product. Rules, all in this file, judge the facts. So a verdict has
a reason that can be looked at, and fooling a judge of the house does not fool the oracle by the same means. Nothing is
ever trained with it or on what it says; it measures.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from goodeye.errors import BadInput
from goodeye.judging.protocol import Axis, Context, Images, Scores, Verdict, check_contexts, fingerprint
from goodeye.showroom import facts as X
from goodeye.showroom import looks
from goodeye.showroom import scenes as S
from goodeye.showroom.places import LIGHTS, PLACES, WALLS
from goodeye.showroom.products import GIANT, MINIATURE, REAL

WEIGHTS = Path(__file__).parent / "weights" / "oracle"
# Which fault is named where several hold. A product that vanishes comes first, since in a picture washed over by its
# colour nothing else can be read; then a place that is none or does not carry the product; then what stands in it.
ORDER = ("indistinctiveness", "space_mismatch", "shape_hallucination", "size_mismatch")
FAULTS = S.CLASSES[1:]
SIZES = {"miniature": MINIATURE, "giant": GIANT}


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Where the rules draw their lines; set on the world of seed 33 (ours).

    contrast, near, far: what best parts indistinct pictures from others among 512 degraded scenes of that world: 1 % of
    the others and none of the indistinct lie on the wrong side. The surroundings begin where a generator's glow around
    the product ends. sure, grown, reach: set on that world together with 93 generated pictures that a person had looked
    at, so that glows and smears are not taken for extensions.
    """

    horizon_slack: float = 0.0  # canvas widths by which the horizon may lie under the product's base
    place: float = 0.5  # least probability of the likeliest place
    size_ratio: float = 1.6  # largest factor by which a reference thing may be too large or too small
    contrast: float = 0.2  # least contrast of the product with what surrounds it
    near: float = 0.025  # its surroundings begin here, canvas widths outside of it
    far: float = 0.06  # and end here
    sure: float = 0.7  # least probability of a cell to show an extension
    grown: float = 0.02  # largest area of an extension, as a share of the product's
    reach: float = 0.06  # how far from the product an extension must come; less is an unclean edge
    smooth: int = 1  # pixels over which the background is averaged before its contrast is taken


@dataclass(frozen=True)
class Reading:
    """The numbers that the rules look at, each [N] unless said otherwise; what cannot be judged is NaN."""

    base: Tensor  # the product's lowest edge, canvas widths from the top
    horizon: Tensor  # likeliest height of the horizon
    sunk: Tensor  # probability that the horizon lies under the base
    place: Tensor  # [N,8] probability of each place
    wall: Tensor  # [N,7]
    light: Tensor  # [N,4]
    reference: Tensor  # [N,5] probability of each reference thing, "none" first
    height: Tensor  # of the reference thing, canvas widths
    ratio: Tensor  # its height over the true one (NaN: no thing, or a title that names no known product)
    misfit: Tensor  # probability that the ratio is out of bounds
    contrast: Tensor
    grown: Tensor  # area of extensions over the product's area


class Oracle:
    """Judges pictures of the showroom by facts and rules. Each context needs the product on its canvas.

    Axes: "available" and the four faults, each in [0,1] and at or over 0.5 where its rule fails; "available" is one
    minus the worst of them. They are not a distribution: a picture can have several faults.
    """

    name = "oracle"
    differentiable = False
    licence = "Apache-2.0"
    axes = tuple(Axis(name, 0.0, 1.0, higher_is_better=name == "available") for name in S.CLASSES)

    def __init__(self, reader: X.FactsReader, rules: Rules | None = None) -> None:
        self.reader = reader.eval().requires_grad_(False)
        self.rules = rules or Rules()
        self.version = fingerprint(self.reader, repr(self.rules), "read both ways")

    @classmethod
    def from_pretrained(cls, folder: str | Path = WEIGHTS, device: str | torch.device = "cpu") -> Oracle:
        """The oracle with the reader of that folder (shipped weights if not given); BadInput where there is none."""
        if not (Path(folder) / "config.json").is_file():
            raise BadInput(f"{folder} holds no facts reader. Train one with goodeye.showroom.oracle_fit.train_oracle.")
        reader = X.FactsReader.from_pretrained(str(folder), use_safetensors=True, dtype=torch.float32)
        return cls(reader.to(device))

    def score(self, images: Images, contexts: Sequence[Context]) -> Scores:
        """images: [N,3,H,W] in [0,1]. Each axis's [N], on the CPU."""
        return self.judged(self.read(images, contexts))

    def judged(self, reading: Reading) -> Scores:
        """The rules, applied to what was read. A fault that cannot be judged is not held against a picture."""
        rules = self.rules
        nowhere = falls_under(reading.place.amax(1), rules.place, 2)
        faults = {
            "space_mismatch": torch.maximum(reading.sunk, nowhere),
            "size_mismatch": torch.nan_to_num(reading.misfit, nan=0.0),
            "indistinctiveness": falls_under(reading.contrast, rules.contrast, 8),
            "shape_hallucination": 1 - falls_under(reading.grown, rules.grown, 1),
        }
        available = 1 - torch.stack(list(faults.values())).amax(0)
        return {"available": available, **faults}

    def inspect(self, images: Images, contexts: Sequence[Context]) -> list[Verdict]:
        """One verdict an image: its label, the axes and the numbers behind them, and each failed rule in words.

        Where several rules fail, the label is the first in `ORDER`. A number that a picture does not have (no title
        that names a product, no prompt) is left out of `scores`.
        """
        reading = self.read(images, contexts)
        axes = self.judged(reading)
        fidelity = prompt_fidelity(reading, [context.prompt for context in contexts])
        return [self._verdict(reading, axes, fidelity[i], i) for i in range(len(images))]

    def _verdict(self, reading: Reading, axes: Scores, fidelity: dict[str, float], i: int) -> Verdict:
        failed = [fault for fault in ORDER if axes[fault][i] >= 0.5]
        names = ("base", "horizon", "sunk", "height", "ratio", "misfit", "contrast", "grown")
        numbers = {name: float(getattr(reading, name)[i]) for name in names}
        numbers["place_probability"] = float(reading.place[i].amax())
        scores = {name: float(values[i]) for name, values in axes.items()} | numbers | fidelity
        return Verdict(
            self.name, self.version, failed[0] if failed else "available",
            {name: value for name, value in scores.items() if not math.isnan(value)},
            [self._why(fault, reading, i) for fault in failed],
        )  # fmt: skip

    def _why(self, fault: str, reading: Reading, i: int) -> str:
        if fault == "indistinctiveness":
            return f"the product hardly stands out from what surrounds it (contrast {float(reading.contrast[i]):.2f})"
        if fault == "shape_hallucination":
            return f"something grows from the product, {float(reading.grown[i]):.0%} of its area"
        if fault == "size_mismatch":
            thing = X.REFERENCE_NAMES[int(reading.reference[i].argmax())]
            return f"the {thing} beside the product is {float(reading.ratio[i]):.1f} times its true size"
        if reading.sunk[i] >= 0.5:
            return "the product stands on nothing: where wall and surface meet lies under its base"
        return f"no place can be recognised (the likeliest with {float(reading.place[i].amax()):.0%})"

    @torch.no_grad()
    def read(self, images: Images, contexts: Sequence[Context]) -> Reading:
        """What the rules need to know of each image. Raises BadInput where a context has no product."""
        check_contexts(self.name, images, contexts)
        if any(context.product is None for context in contexts):
            raise BadInput("the oracle compares an image with its product, and none was given. Give the cut-out.")
        device = self.reader.device
        images = scaled(images.to(device).float())
        products = scaled(torch.stack([c.product for c in contexts if c.product is not None]).to(device).float())
        seen = both_ways(self.reader, images, products[:, 3:])
        base, extent, area = outline(products[:, 3])
        rows = X.horizon_bins(seen.horizon.shape[1]).to(device)
        horizon = seen.horizon.softmax(1)
        reference = seen.reference.softmax(1)
        lengths = [centimetres(context.title) for context in contexts]
        sizes = torch.tensor([length or math.nan for length in lengths], device=device)
        height, ratio, misfit = self._size(reference, seen.height.softmax(1), extent / sizes)
        reading = Reading(
            base=base,
            horizon=(horizon * rows).sum(1),
            sunk=(horizon * (rows > base[:, None] + self.rules.horizon_slack)).sum(1),
            place=seen.place.softmax(1)[:, : len(PLACES)],
            wall=seen.wall.softmax(1),
            light=seen.light.softmax(1),
            reference=reference,
            height=height,
            ratio=ratio,
            misfit=misfit,
            contrast=quiet_contrast(images, products, self.rules),
            grown=extensions(seen.extension.sigmoid() > self.rules.sure, products[:, 3], self.rules.reach)
            / area.clamp(min=1e-4),
        )
        return Reading(**{name: value.cpu() for name, value in vars(reading).items()})

    def _size(self, reference: Tensor, heights: Tensor, per_cm: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Height of the reference thing, its ratio to the true one, and the probability that this is out of bounds.

        reference [N,5] and heights [N,B]: probabilities; per_cm [N]: canvas widths a centimetre at the product (NaN
        where the title does not tell the product's size). The probability sums over what the thing may be and how
        high, so that an unsure reading is an unsure verdict; where most likely nothing stands there, it is 0.
        """
        logs = X.height_bins(heights.shape[1]).to(heights.device)
        mean = (heights * logs).sum(1)
        true = torch.tensor([S.REFERENCES[name] for name in X.REFERENCE_NAMES[1:]], device=heights.device)
        wanted = (per_cm[:, None] * true).log()  # [N,4]
        off = (logs[None, None] - wanted[:, :, None]).abs() > math.log(self.rules.size_ratio)
        misfit = (reference[:, 1:, None] * heights[:, None] * off).sum((1, 2))
        thing = reference.argmax(1)
        ratio = (mean - wanted.gather(1, (thing - 1).clamp(min=0)[:, None])[:, 0]).exp()
        none = thing == 0
        misfit = misfit.masked_fill(none, 0.0)
        height = mean.exp().masked_fill(none, math.nan)
        return height, ratio.masked_fill(none, math.nan), misfit.masked_fill(per_cm.isnan(), math.nan)


def both_ways(reader: X.FactsReader, images: Tensor, alpha: Tensor) -> X.Facts:
    """What the reader makes of the pictures and of their mirror images, averaged: it was taught on both alike, and
    where it is unsure they differ (ours). images [N,3,H,W], alpha [N,1,H,W] -> logits of the mean probabilities."""
    here, there = reader(images, alpha), reader(images.flip(-1), alpha.flip(-1))
    facts = {}
    for name, logits in vars(here).items():
        if name == "extension":
            facts[name] = ((logits.sigmoid() + there.extension.flip(-1).sigmoid()) / 2).logit(1e-6)
        else:
            facts[name] = (logits.softmax(1) + getattr(there, name).softmax(1)).div(2).log()
    return X.Facts(**facts)


def falls_under(value: Tensor, line: float, steepness: float) -> Tensor:
    """1 far under the line, 0.5 on it, 0 far over it: 1 / (1 + (value / line)^steepness)."""
    return 1 / (1 + (value / line).clamp(min=0) ** steepness)


def scaled(pictures: Tensor) -> Tensor:
    """Pictures [N,C,H,W] at the reader's size; transparent colours do not bleed in, as alpha is scaled by itself."""
    if pictures.shape[-2:] == (X.SIZE, X.SIZE):
        return pictures
    if pictures.shape[1] == 4:
        alpha = scaled(pictures[:, 3:])
        return torch.cat([scaled(pictures[:, :3] * pictures[:, 3:]) / alpha.clamp(min=1e-3), alpha], 1).clamp(0, 1)
    return F.interpolate(pictures, (X.SIZE, X.SIZE), mode="bilinear", antialias=True, align_corners=False).clamp(0, 1)


def outline(alpha: Float[Tensor, "N H W"]) -> tuple[Tensor, Tensor, Tensor]:
    """Of each product: its base (lowest edge, from the top), the longer side of its box, and its area, all [N] in
    canvas widths. Raises BadInput for a product of which nothing is to be seen."""
    solid = alpha > 0.5
    if not bool(solid.any((1, 2)).all()):
        raise BadInput("a product is fully transparent, so there is nothing to judge. Use one with visible pixels.")
    size = alpha.shape[-1]
    ends = []
    for dim in (2, 1):  # rows, columns
        line = solid.any(dim).float()
        first, last = line.argmax(1), size - line.flip(1).argmax(1)
        ends.append((first, last))
    (top, bottom), (left, right) = ends
    return bottom / size, torch.maximum(bottom - top, right - left) / size, solid.float().mean((1, 2))


def extensions(found: Tensor, alpha: Float[Tensor, "N H W"], reach: float) -> Tensor:
    """Area [N] in canvas widths squared of what grows from the product: cells `found` [N,32,32] that hang together,
    touch the product and come at least `reach` canvas widths away. What lies apart from it does not grow from it."""
    cells = found.shape[-1]
    product = F.adaptive_avg_pool2d(alpha[:, None], cells)[:, 0] > 0.5
    areas = []
    for here, solid in zip(found.cpu().numpy(), product.cpu().numpy(), strict=True):
        away = cv2.distanceTransform((~solid).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        count, parts = cv2.connectedComponents(here.astype(np.uint8), connectivity=8)
        grown = [parts == part for part in range(1, count)]
        sizes = [one.sum() for one in grown if away[one].min() < 2 and away[one].max() >= reach * cells]
        areas.append(float(sum(sizes)) / cells**2)
    return torch.tensor(areas, device=found.device)


def quiet_contrast(images: Tensor, products: Tensor, rules: Rules) -> Tensor:
    """`looks.contrast` [N] on a background averaged over 2·smooth+1 pixels, so that noise is not taken for contrast.

    The average leaves the product's own pixels out, which would otherwise bleed into its surroundings.
    """
    rgb, alpha = products[:, :3], products[:, 3:]
    around = (looks.grow((alpha[:, 0] > 0.02).float(), 1) == 0).float()[:, None]
    mean = looks.box(images * around, rules.smooth) / looks.box(around, rules.smooth).clamp(min=1e-4)
    return looks.contrast(torch.where(around > 0, mean, images), rgb, alpha, (rules.near, rules.far))


def centimetres(title: str) -> float | None:
    """Length of the product's longer side in life by its title, as "miniature red chair"; None if it names none."""
    words = re.findall(r"[a-z]+", title.lower())
    kinds = [w if w in REAL else w.removesuffix("s") for w in words if w in REAL or w.removesuffix("s") in REAL]
    if not kinds:
        return None
    factor = next((SIZES[word] for word in words if word in SIZES), 1.0)
    return REAL[kinds[-1]] * factor


@dataclass(frozen=True)
class Wanted:
    """The place, wall and light that a prompt names ("" where it names none)."""

    place: str
    wall: str
    light: str


def wanted(prompt: str) -> Wanted:
    """What a prompt asks for, by the showroom's words (see `scenes.caption`)."""
    text = " ".join(re.findall(r"[a-z]+", prompt.lower()))
    wall = re.search(rf"\b({'|'.join(WALLS)}) (?:walls?|tiles?|backdrop|panels?)\b", text)
    return Wanted(
        place=next((name for name in PLACES if re.search(rf"\b{name}\b", text)), ""),
        wall=wall[1] if wall else "",
        light=next((name for name in LIGHTS if name in text), ""),
    )


def prompt_fidelity(reading: Reading, prompts: Sequence[str]) -> list[dict[str, float]]:
    """For each picture, the probability of each thing its prompt names: place_fidelity, wall_fidelity, light_fidelity;
    and prompt_fidelity, their product. Empty where the prompt names nothing that the oracle knows."""
    out = []
    for i, prompt in enumerate(prompts):
        asked = wanted(prompt)
        named = {
            "place": (reading.place, list(PLACES)),
            "wall": (reading.wall, list(WALLS)),
            "light": (reading.light, list(LIGHTS)),
        }
        found = {f"{fact}_fidelity": float(table[i, names.index(getattr(asked, fact))])
                 for fact, (table, names) in named.items() if getattr(asked, fact)}  # fmt: skip
        out.append(found | ({"prompt_fidelity": math.prod(found.values())} if found else {}))
    return out
