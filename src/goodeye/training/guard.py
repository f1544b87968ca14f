"""The guard against reward hacking: it looks at a run at every evaluation, and stops one that fools its own judge.

A network that is trained against a judge ends by pleasing that judge alone (over-optimisation: Gao et al. 2023). What
gives it away is a judge that was not trained against: when the trained judge rises while the held-out one falls, what
is learnt is no longer the task. The guard measures both, and diversity and prompt fidelity beside them, on the same
briefs and seeds each time; `goodeye.training.loop.fit` asks it, stops where it says so, and leaves the best weights in
the modules. It knows no job: a job gives it pictures, or what was measured of them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from goodeye.images import open_image, save_png, to_pil
from goodeye.judging.pixels import resize
from goodeye.judging.protocol import BadScores, Context, Images

MEASURES = ("trained", "held_out", "diversity", "fidelity")
SHOWN, SIDE, GAP = 12, 192, 4  # pictures in samples/, their largest side and the gap between them in pixels

Score = Callable[[Images, Sequence[Context]], Float[Tensor, " N"]]
Spread = Callable[[Images], Float[Tensor, ""]]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """When a run must stop. All ours.

    **The rule.** The briefs and seeds of all evaluations are the same, so two moments are compared brief by brief: the
    mean of the differences d, with its standard error SE = sd(d) / sqrt(briefs), which holds nothing of how unlike the
    briefs are. Each moment is the mean of `window` evaluations. The run stops when, against the moment at which the
    held-out judge was highest,

        mean(held-out now - then) < -fall x SE    and    mean(trained now - then) > rise x SE

    **Why noise does not stop it.** The highest of many noisy moments is partly luck, and everything after it looks like
    a fall. So the moment is chosen by one half of the briefs and the difference is taken on the other half, both ways
    (cross-fitting): luck that chose it is not in what is compared. What is left is that a run is looked at many times,
    and for that a margin of 3 SE, where one look would need 2. The margin for the trained judge is small: it adds only
    that this is over-optimisation and not mere damage, and near its ceiling that judge rises by little.

    **Collapse.** Both judges can be fooled by one washed-out picture. So the run also stops when diversity or prompt
    fidelity is surely (by `fall` x SE) below a share of what the start model has; 0 switches that off.

    window: evaluations. fall, rise: standard errors. least_*: shares of the start model's. With few briefs the standard
    error is itself uncertain: 32 or more are wanted.
    """

    window: int = 2
    fall: float = 3.0
    rise: float = 1.0
    least_diversity: float = 0.5
    least_fidelity: float = 0.5


@dataclass(frozen=True, kw_only=True, eq=False)
class Look:
    """What one evaluation saw. Each measure is [B], a number for each of the B briefs; higher is better.

    trained: the judge that is trained against. held_out: one that is not. diversity: spread within the brief's
    pictures. fidelity: how far they show what was asked for. pictures: [P, 3, H, W] in [0, 1], to look at, of the same
    briefs and seeds each time. more: other numbers for metrics.jsonl.
    """

    trained: Float[Tensor, " B"]
    held_out: Float[Tensor, " B"]
    diversity: Float[Tensor, " B"]
    fidelity: Float[Tensor, " B"]
    pictures: Images
    more: Mapping[str, float] = field(default_factory=dict)


class Guard:
    """Remembers every evaluation of a run, and judges the run by them. Give it to `goodeye.training.loop.fit`.

    look: makes pictures with the networks as they are now, always of the same briefs and seeds, and measures them
    (`measured`). samples: the folder in which pictures are put beside the start model's.
    """

    def __init__(self, look: Callable[[], Look], samples: str | Path, limits: Limits | None = None) -> None:
        self.look, self.samples, self.limits = look, Path(samples), limits or Limits()
        self.steps: list[int] = []
        self.values: dict[str, list[list[float]]] = {name: [] for name in MEASURES}  # evaluations of briefs
        self.stopped = ""  # why the run must stop

    def evaluate(self, step: int) -> dict[str, float]:
        """Looks once. Returns each measure's mean over the briefs and its standard error, for metrics.jsonl.

        Raises BadScores where a measure is not finite or has another number of briefs than before.
        """
        look = self.look()
        found = {name: _checked(name, getattr(look, name)) for name in MEASURES}
        briefs = {len(values) for values in found.values()} | {len(rows[0]) for rows in self.values.values() if rows}
        if len(briefs) != 1:
            raise BadScores("the guard's measures are not all of the same briefs")
        self.steps.append(step)
        for name, values in found.items():
            self.values[name].append(values.tolist())
        self.stopped = self.stopped or self._verdict()
        show(look.pictures, step, self.samples)
        means = {name: float(values.mean()) for name, values in found.items()}
        return means | {f"{name}_se": float(_error(values)) for name, values in found.items()} | dict(look.more)

    @property
    def best(self) -> int:
        """The step of the best evaluation so far: the held-out judge's highest mean, collapsed ones left out."""
        collapsed = [bool(self._collapse(at)) for at in range(len(self.steps))]
        means = self._table("held_out").mean(1).tolist()
        return self.steps[max(range(len(means)), key=lambda at: (not collapsed[at], means[at], -at))]

    def state(self) -> dict[str, Any]:
        """All that it remembers, as JSON: numbers come back to the bit."""
        return {"steps": [*self.steps], "values": {k: [*v] for k, v in self.values.items()}, "stopped": self.stopped}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Remembers what `state` gave, or nothing where that is empty."""
        self.steps = list(state.get("steps", []))
        self.values = {name: list(state.get("values", {}).get(name, [])) for name in MEASURES}
        self.stopped = state.get("stopped", "")

    def about(self) -> dict[str, Any]:
        """Its settings, as JSON."""
        return asdict(self.limits)

    def _table(self, name: str) -> Float[Tensor, "T B"]:
        return torch.tensor(self.values[name], dtype=torch.float64)

    def _verdict(self) -> str:
        if over_optimised(self._table("trained"), self._table("held_out"), self.limits):
            return "the trained judge rises while the held-out one falls"
        return self._collapse(len(self.steps) - 1)

    def _collapse(self, at: int) -> str:
        """In words what has collapsed by that evaluation, "" if nothing has."""
        for name, least in (("diversity", self.limits.least_diversity), ("fidelity", self.limits.least_fidelity)):
            table = self._table(name)
            now = table[max(0, at + 1 - self.limits.window) : at + 1].mean(0)
            if surely_positive(least * table[0] - now, self.limits.fall):
                return f"{name} has fallen below {least:.0%} of the start model's"
        return ""


def over_optimised(trained: Float[Tensor, "T B"], held_out: Float[Tensor, "T B"], limits: Limits) -> bool:
    """The rule of `Limits`, on T evaluations of B briefs."""
    window = limits.window
    if len(held_out) < 2 * window:
        return False
    held, pleased = (table.unfold(0, window, 1).mean(-1) for table in (held_out, trained))  # [T - window + 1, B]
    earlier = held[:-window]  # moments that share no evaluation with the last one
    even = torch.arange(held.shape[1]) % 2 == 0
    lost, gained = torch.empty_like(held[0]), torch.empty_like(held[0])
    for half in (even, ~even):
        peak = earlier[:, ~half].mean(1).argmax()
        lost[half] = held[peak, half] - held[-1, half]
        gained[half] = pleased[-1, half] - pleased[peak, half]
    return surely_positive(lost, limits.fall) and surely_positive(gained, limits.rise)


def surely_positive(differences: Float[Tensor, " B"], margin: float) -> bool:
    """Whether their mean is above 0 by more than `margin` standard errors."""
    return bool(differences.mean() > margin * _error(differences))


def measured(
    pictures: Float[Tensor, "B K 3 H W"],
    contexts: Sequence[Context],
    *,
    trained: Score,
    held_out: Score,
    fidelity: Score,
    diversity: Spread,
) -> Look:
    """The look at K pictures (two or more) of each of B briefs. Shown are the first picture of each.

    contexts: one a brief. trained, held_out, fidelity: a number for each of the pictures of one brief, given them and
    their contexts; diversity: one number for them all. Scores are averaged over a brief's pictures.
    """
    if pictures.ndim != 5 or pictures.shape[1] < 2 or len(contexts) != len(pictures):
        raise ValueError(
            f"the guard takes two or more pictures of each brief, [B, K, 3, H, W], and one context a brief, not "
            f"{list(pictures.shape)} and {len(contexts)}"
        )

    def of(score: Score) -> Float[Tensor, " B"]:
        scored = [score(images, [one] * len(images)) for images, one in zip(pictures, contexts, strict=True)]
        return torch.stack([values.double().mean() for values in scored])

    return Look(
        trained=of(trained),
        held_out=of(held_out),
        diversity=torch.stack([diversity(images) for images in pictures]),
        fidelity=of(fidelity),
        pictures=pictures[:, 0],
    )


def _checked(name: str, values: Tensor) -> Float[Tensor, " B"]:
    values = values.detach().double().cpu()
    if values.ndim != 1 or len(values) < 2:
        raise BadScores(f"the guard's {name} is {list(values.shape)} where a number for each of two briefs or more is")
    if not bool(values.isfinite().all()):
        raise BadScores(f"the guard's {name} is not finite for brief {int((~values.isfinite()).nonzero()[0])}")
    return values


def _error(values: Float[Tensor, " B"]) -> Tensor:
    """The standard error of their mean."""
    return values.std() / len(values) ** 0.5


def show(pictures: Images, step: int, folder: Path) -> None:
    """Writes samples/STEP.png: the start model's pictures above, those of the same briefs and seeds now below."""
    start, now = folder / f"{0:08d}.png", _row(pictures)
    if step == 0:
        save_png(now, start)
        return
    rows = [open_image(start), now] if start.exists() else [now]
    sheet = Image.new("RGB", (now.width, now.height * len(rows) + GAP * (len(rows) - 1)), "white")
    for number, row in enumerate(rows):
        sheet.paste(row, (0, number * (now.height + GAP)))
    save_png(sheet, folder / f"{step:08d}.png")


def _row(pictures: Images) -> Image.Image:
    """The first pictures side by side."""
    pictures = pictures[:SHOWN].detach().float().cpu()
    shrink = min(1.0, SIDE / max(pictures.shape[-2:]))
    size = round(shrink * pictures.shape[-2]), round(shrink * pictures.shape[-1])
    tiles = [torch.nn.functional.pad(one, (0, GAP, 0, 0), value=1.0) for one in resize(pictures, size)]
    return to_pil(torch.cat(tiles, -1)[..., :-GAP])
