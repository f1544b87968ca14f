"""What the shipped ads models do on fresh briefs, judged by the oracle, which nothing was trained against.

Briefs are products of the showroom in settings of the showroom, drawn from a seed that no training used (training
worlds have seeds below 100; add `FRESH`). Rows: one attempt, and recurrent generation with the inspector choosing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from goodeye.ads.canvas import Canvas
from goodeye.ads.generate import Prompts, eight_bit, generate
from goodeye.ads.recurrent import Try, attempt_seed, full_batches, open_slots, send
from goodeye.judging.metrics import Interval, bootstrap
from goodeye.judging.protocol import Context
from goodeye.modelset import SHOWROOM, Models, resolve
from goodeye.showroom import scenes as S
from goodeye.showroom.inspected import canvas_of
from goodeye.showroom.oracle import Oracle

FRESH = 1_000_000
ORACLE = "oracle"


@dataclass(frozen=True)
class Brief:
    """One brief of the proof."""

    canvas: Canvas
    title: str
    prompt: str

    @property
    def context(self) -> Context:
        """What judges get to know."""
        return Context(product=self.canvas.product, title=self.title, prompt=self.prompt)


@dataclass(frozen=True)
class Made:
    """One attempt of the proof: its place, p(available) by the inspector, and both labels."""

    place: Try
    available: float
    judge: str
    oracle: str
    fidelity: float


def fresh_briefs(seed: int, count: int) -> list[Brief]:
    """Products on their canvas, with titles and prompts (place and light; nothing beside the product is asked for)."""
    scenes = [S.sample(FRESH + seed, i, S.CLASSES[:1]) for i in range(count)]
    out = []
    for r in S.render_many(scenes):
        products = (r.product * 255).round().byte().numpy()
        for scene, product in zip(r.scenes, products, strict=True):
            out.append(Brief(canvas_of(product), scene.product.title, S.caption(scene, full=False)))
    return out


def attempt_all(
    models: Models,
    oracle: Oracle,
    briefs: Sequence[Brief],
    *,
    seed: int,
    attempts: int,
    batch: int = 16,
    keep: Callable[[Try, Tensor], None] | None = None,
) -> list[Made]:
    """Recurrent generation over all briefs (one slot each); every attempt judged by inspector and oracle."""
    known = {f"{i:04d}": b for i, b in enumerate(briefs)}
    embed, made = Prompts(models), []
    batches = full_batches(open_slots(known, want=1, attempts=attempts), attempts=attempts, size=batch)
    todo = next(batches, None)
    while todo:
        now = [known[t.brief] for t in todo]
        seeds = [attempt_seed(seed, *t) for t in todo]
        pictures = eight_bit(
            generate(
                models,
                [b.canvas for b in now],
                [b.prompt for b in now],
                seeds,
                settings=models.model_set.settings,
                embed=embed,
            )  # fmt: skip
        )
        contexts = [b.context for b in now]
        verdicts, truths = models.rfnet.inspect(pictures, contexts), oracle.inspect(pictures, contexts)
        for t, picture, verdict, truth in zip(todo, pictures, verdicts, truths, strict=True):
            made.append(
                Made(
                    t, verdict.scores["available"], verdict.label, truth.label, truth.scores.get("prompt_fidelity", 1.0)
                )
            )
            if keep is not None:
                keep(t, picture)
        todo = send(batches, [v.label == "available" for v in verdicts])
    return made


def summary(made: Sequence[Made], briefs: int) -> dict[str, Any]:
    """The rows of the proof as JSON: each number {mean, low, high} with a 95 % bootstrap interval over briefs."""
    first = [m for m in made if m.place.number == 1]
    passed = {m.place.brief: m for m in made if m.judge == "available"}
    evals = len(made) / max(1, len(passed))
    reasons = {label: sum(m.oracle == label for m in first) for label in S.CLASSES}
    return {
        "briefs": briefs,
        "attempts": len(made),
        "rows": {
            "base": {
                "available_judge": _rate([m.judge == "available" for m in first]),
                "available_oracle": _rate([m.oracle == "available" for m in first]),
                "prompt_fidelity": _rate([m.fidelity for m in first]),
            },
            "recurrent": {
                "returned": _rate([f"{i:04d}" in passed for i in range(briefs)]),
                "available_oracle": _rate([m.oracle == "available" for m in passed.values()]),
                "prompt_fidelity": _rate([m.fidelity for m in passed.values()]),
                "attempts_per_returned": round(evals, 3),
            },
        },
        "agreement": {
            "available_or_not": _rate([(m.judge == "available") == (m.oracle == "available") for m in made]),
            "same_label": _rate([m.judge == m.oracle for m in made]),
        },
        "oracle_first_attempts": reasons,
    }


def _rate(values: Sequence[float | bool]) -> Mapping[str, float] | None:
    if not values:
        return None
    interval: Interval = bootstrap(np.asarray(values, dtype=float), lambda v: float(v.mean()), seed=0)
    return {"mean": round(interval.mean, 4), "low": round(interval.low, 4), "high": round(interval.high, 4)}


def prove(
    n: int = 128,
    seed: int = 0,
    *,
    attempts: int = 5,
    models: str = "showroom",
    batch: int = 16,
    keep: Callable[[Try, Tensor], None] | None = None,
) -> dict[str, Any]:
    """Base and recurrent rows on n fresh briefs; JSON-ready."""
    loaded = Models(resolve(models))
    oracle = Oracle.from_pretrained(SHOWROOM / ORACLE)
    with torch.no_grad():
        made = attempt_all(loaded, oracle, fresh_briefs(seed, n), seed=seed, attempts=attempts, batch=batch, keep=keep)
    return {"seed": seed, "models": models, **summary(made, n)}


def table(result: Mapping[str, Any]) -> str:
    """The proof in words, a number a line."""
    lines = [f"{result['briefs']} fresh briefs, seed {result['seed']}, {result['attempts']} attempts in all"]
    for row, numbers in [*result["rows"].items(), ("agreement of RFNet with the oracle", result["agreement"])]:
        for name, value in numbers.items():
            if isinstance(value, Mapping):
                lines.append(f"{row}, {name}: {value['mean']:.3f} ({value['low']:.3f} to {value['high']:.3f})")
            else:
                lines.append(f"{row}, {name}: {'none passed' if value is None else value}")
    reasons = ", ".join(f"{count} {label}" for label, count in result["oracle_first_attempts"].items())
    return "\n".join([*lines, f"first attempts by the oracle: {reasons}"])
