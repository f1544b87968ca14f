"""Several judges as one: a weighted sum of some of their axes."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from goodeye.judging.protocol import Axis, Context, Images, Judge, Need, Scores, check_scores, fingerprint, needs_of


@dataclass(frozen=True)
class Part:
    """One term of the sum. A negative weight is for an axis of which less is better."""

    judge: Judge
    axis: str
    weight: float = 1.0


class CompositeJudge:
    """total = sum of weight x axis, each axis in its own unit. Each judge runs once, however many axes it lends.

    Beside the total, it gives every axis of its judges as judge.axis.
    """

    def __init__(self, parts: Sequence[Part], name: str = "composite") -> None:
        self.name = name
        self.parts = tuple(parts)
        self.judges = list({id(part.judge): part.judge for part in parts}.values())
        names = [judge.name for judge in self.judges]
        if not parts or len(set(names)) != len(names):
            raise ValueError(f"a composite needs parts, and judges of different names, not {names}")
        own = {f"{judge.name}.{axis.name}": axis for judge in self.judges for axis in judge.axes}
        if unknown := [_key(part) for part in parts if _key(part) not in own]:
            raise ValueError(f"no axis {', '.join(unknown)}; there is {', '.join(own)}")
        ends = [sorted((part.weight * own[_key(part)].low, part.weight * own[_key(part)].high)) for part in parts]
        total = Axis("total", sum(low for low, _ in ends), sum(high for _, high in ends))
        self.axes = (total, *(Axis(key, axis.low, axis.high, axis.higher_is_better) for key, axis in own.items()))
        self.differentiable = all(part.judge.differentiable for part in parts)
        self.needs = frozenset[Need]().union(*(needs_of(judge) for judge in self.judges))
        self.licence = " AND ".join(sorted({judge.licence for judge in self.judges}))

    @property
    def version(self) -> str:
        """Changes with any judge's version and any weight."""
        return fingerprint(*(f"{_key(part)} {part.judge.version} {part.weight!r}\n" for part in self.parts))

    def score(self, images: Images, contexts: Sequence[Context]) -> Scores:
        """total: [N], then each judge's own axes."""
        scores: Scores = {}
        for judge in self.judges:
            given = check_scores(judge, judge.score(images, contexts), len(images))
            scores |= {f"{judge.name}.{axis}": values for axis, values in given.items()}
        terms = [part.weight * scores[_key(part)] for part in self.parts]
        return {"total": torch.stack(terms).sum(0)} | scores


def _key(part: Part) -> str:
    return f"{part.judge.name}.{part.axis}"
