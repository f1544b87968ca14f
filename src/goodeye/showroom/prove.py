"""The showroom's part of a proof: fresh briefs, and the oracle, which nothing was trained against.

Briefs are drawn from worlds that no training used (`goodeye.showroom.briefs`). `goodeye ads prove` measures every
method on them; `prove` here the two that need no training, with more about how far inspector and oracle agree.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from goodeye.ads.measure import Gallery, Judges, Made
from goodeye.ads.prove import Pick, interval, recurrent
from goodeye.modelset import SHOWROOM, Models, resolve
from goodeye.scheduler import Try
from goodeye.showroom import scenes as S
from goodeye.showroom.briefs import fresh_briefs
from goodeye.showroom.oracle import Oracle

ORACLE = "oracle"
SUFFIX = ", beside a plant"  # the long form of its captions, in which most of its generator's training prompts are


def the_oracle() -> Oracle:
    """The shipped oracle."""
    return Oracle.from_pretrained(SHOWROOM / ORACLE)


def summary(picks: Sequence[Pick]) -> dict[str, Any]:
    """The rows of the proof as JSON: each number {mean, low, high} with a 95 % bootstrap interval over briefs."""
    made = [one for pick in picks for one in pick.tried]
    first = [pick.tried[0] for pick in picks]
    passed = [pick.chosen for pick in picks if pick.chosen.passed]
    return {
        "briefs": len(picks),
        "attempts": len(made),
        "rows": {
            "base": {
                "available_judge": interval([one.passed for one in first]),
                "available_oracle": interval([one.good for one in first]),
                "prompt_fidelity": interval(_fidelities(first)),
            },
            "recurrent": {
                "returned": interval([pick.chosen.passed for pick in picks]),
                "available_oracle": interval([one.good for one in passed]),
                "prompt_fidelity": interval(_fidelities(passed)),
                "attempts_per_returned": round(len(made) / max(1, len(passed)), 3),
            },
        },
        "agreement": {
            "available_or_not": interval([one.passed == one.good for one in made]),
            "same_label": interval([one.judge == one.held_out for one in made]),
        },
        "oracle_first_attempts": {label: sum(one.held_out == label for one in first) for label in S.CLASSES},
    }


def _fidelities(made: Sequence[Made]) -> list[float]:
    return [one.numbers.get("prompt_fidelity", 1.0) for one in made]


def prove(
    n: int = 128, seed: int = 0, *, attempts: int = 5, models: str = "showroom", batch: int = 16
) -> dict[str, Any]:
    """Base and recurrent rows on n fresh briefs; JSON-ready."""
    loaded, briefs = Models(resolve(models)), fresh_briefs(seed, n)
    with tempfile.TemporaryDirectory() as folder:
        gallery = Gallery(
            models=loaded,
            briefs={brief.key: brief for brief in briefs},
            judges=Judges(judge=loaded.rfnet, held_out=the_oracle()),
            seed=seed,
            folder=Path(folder),
            batch=batch,
        )
        picks = recurrent(gallery, [Try(brief.key, 1, 1) for brief in briefs], attempts)
    return {"seed": seed, "models": models, **summary(picks)}


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
