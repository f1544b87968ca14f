"""What RFNet's trunk learns beside the labels, in the showroom (ours).

The paper starts from encoders that millions of pictures have taught; here they start from nothing, and a label is
little to learn from. So heads that are thrown away afterwards ask the trunk for the scene's true facts: the pooled
tokens for the numbers, the image's tokens for where something grows from the product and where which thing stands.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from goodeye.judging.baseline import SingleImage
from goodeye.judging.rfnet import RFNet
from goodeye.showroom.guideline import CELLS, REFERENCES
from goodeye.showroom.places import PLACES

WEIGHT = 0.3  # of all side tasks together, beside the labels' loss
BINS = {  # the values that each number's logits stand for
    "sunk": torch.linspace(-0.34, 0.24, 30),
    "height": torch.linspace(math.log(0.1), math.log(0.5), 24),
    "length": torch.linspace(math.log(2.5), math.log(120), 24),
    "ratio": torch.linspace(-1.3, 1.3, 27),
    "contrast": torch.linspace(0.02, 0.5, 25),
}
NAMES = {"place": len(PLACES) + 1, "reference": len(REFERENCES)}


def side_tasks(judge: RFNet | SingleImage) -> SideTasks:
    """Untrained heads that fit this judge's trunk."""
    if isinstance(judge, RFNet):
        return SideTasks(judge.config.width, judge.config.part_tokens)
    size, _ = judge.pixels.size or (0, 0)
    return SideTasks(judge.model.config.hidden_sizes[-1], (size // 32) ** 2)


class SideTasks(nn.Module):
    """Heads on the trunk; called with its tokens and a batch with `guideline.Facts`, gives a loss for each fact."""

    def __init__(self, width: int, tokens: int) -> None:
        super().__init__()
        self.side = math.isqrt(tokens)
        self.fine = CELLS // self.side  # cells along a token
        if self.fine * self.side != CELLS:
            raise ValueError(f"{tokens} tokens a picture do not divide {CELLS} cells a side")
        self.sizes = [len(values) for values in BINS.values()] + list(NAMES.values())
        self.numbers = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, sum(self.sizes)))
        self.cells = nn.Linear(width, 2 * self.fine**2 + len(REFERENCES))

    def forward(
        self, pooled: Float[Tensor, "N width"], tokens: Float[Tensor, "N L width"], batch: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """A weighted loss for each fact. What a picture does not show, or lost with its place, teaches nothing."""
        shown = batch["place"] < len(PLACES)
        logits = dict(zip([*BINS, *NAMES], self.numbers(pooled).split(self.sizes, 1), strict=True))
        losses = {name: self._number(logits[name], batch, name, shown) for name in BINS}
        losses["place"] = F.cross_entropy(logits["place"], batch["place"])
        kind = F.cross_entropy(logits["reference"], batch["reference"], reduction="none")
        losses["reference"] = _mean(kind, shown.float())
        extension, thing, which = self.cells(tokens).split([self.fine**2, self.fine**2, len(REFERENCES)], 2)
        losses["extension"] = 4 * self._map(extension, batch["extension"], shown)
        losses["thing"] = 2 * self._map(thing, batch["thing"], shown)
        losses["which"] = self._which(which, batch, shown)
        return {name: WEIGHT * loss for name, loss in losses.items()}

    def _number(self, logits: Tensor, batch: Mapping[str, Tensor], name: str, shown: Tensor) -> Tensor:
        """Cross-entropy with a bell around the true value."""
        bins = BINS[name].to(logits)
        value = batch[name].log() if name == "height" else batch[name]
        known = shown & ~value.isnan()
        value = value.nan_to_num().clamp(bins[0], bins[-1])
        bell = (-0.5 * ((bins - value[:, None]) / (bins[1] - bins[0])).square()).softmax(1)
        return _mean(-(bell * logits.log_softmax(1)).sum(1), known.float())

    def _map(self, logits: Tensor, share: Tensor, shown: Tensor) -> Tensor:
        """Where: cell by cell, covered cells counting up to four times."""
        goal = share[:, 0].float() / 255
        fine = logits.view(-1, self.side, self.side, self.fine, self.fine).permute(0, 1, 3, 2, 4).reshape(goal.shape)
        cells = F.binary_cross_entropy_with_logits(fine, goal, weight=1 + 3 * goal, reduction="none")
        return (cells.mean((1, 2)) * shown).mean()

    def _which(self, logits: Tensor, batch: Mapping[str, Tensor], shown: Tensor) -> Tensor:
        """Which thing, token by token; the many tokens without one count a tenth."""
        covered = F.adaptive_avg_pool2d(batch["thing"].float() / 255, self.side).flatten(1) > 0.25
        kind = torch.where(covered, batch["reference"][:, None], 0)
        weight = torch.where(covered, 1.0, 0.1) * shown[:, None]
        return _mean(F.cross_entropy(logits.transpose(1, 2), kind, reduction="none"), weight)


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    return (values * weight).sum() / weight.sum().clamp(min=1)
