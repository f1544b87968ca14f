"""Time and memory of a step of RFFT against the straightforward loop, on the same models in one run. Prints JSON.

    python bench/rfft_step.py --models showroom --steps 8 --reuse 4 --out rfft_step.json
    python bench/rfft_step.py --models random/sd15.toml --sampler-steps 4 --batch 1 --steps 2 --reuse 2

The saving must not cost effect: with --effect-steps N, LoRA is trained for so many gradient steps twice, with a rollout
for each step, as the straightforward loop has it (tests show that its gradient is the same), and with --reuse; both are
proved on --effect-briefs fresh briefs of the showroom, with intervals. Hours on a CPU.

    python bench/rfft_step.py --reuse 4 --effect-steps 120 --effect-briefs 128 --work effect --out rfft_step.json

The straightforward loop: each gradient step a rollout from noise, a second model as the reference, texts encoded each
time, a pass for each branch of guidance, nothing decoded in parts or checkpointed. Each way runs in a fresh process.
"""

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import new_parser, write

from goodeye.ads.align import Align, align
from goodeye.ads.prove import Prove, prove
from goodeye.ads.step_cost import Trial, compare
from goodeye.modelset import Models, resolve
from goodeye.showroom.briefs import fresh_briefs, training_briefs
from goodeye.showroom.prove import the_oracle

TOLD = ("available_judge", "available_oracle", "diversity")


def effect(trial: Trial, options: argparse.Namespace) -> dict[str, Any]:
    """What equal gradient steps come to with a rollout for each of them and with `reuse` of them a rollout."""
    adapters: dict[str, Path] = {}
    for reuse in sorted({1, trial.reuse}):
        name = f"reuse_{reuse}"
        budget = Align(
            train="lora",
            rank=8,
            lr=1e-3,
            steps=options.effect_steps,
            reuse=reuse,
            evaluate_every=options.effect_steps,
            guard=False,
            seed=trial.seed,
        )
        out = adapters[name] = options.work / name
        briefs = training_briefs(trial.seed, 512)
        align(briefs=briefs, config=budget, models=trial.models, out=out, device=trial.device, resume=True)
    proof = prove(
        fresh_briefs(trial.seed, options.effect_briefs),
        models=Models(resolve(trial.models), device=trial.device),
        held_out=the_oracle(),
        adapters=adapters,
        config=Prove(seed=trial.seed, attempts=1),
        out=options.work / "proof",
        progress=True,
    )
    rows = {name: proof.numbers["rows"][name] for name in ("base", *adapters)}
    minus = {name: proof.numbers["minus_base"][name] for name in adapters}
    return {
        kind: {name: {measure: found[measure] for measure in TOLD} for name, found in table.items()}
        for kind, table in (("rows", rows), ("minus_base", minus))
    }


def main(arguments: Sequence[str] | None = None) -> dict:
    parser = new_parser(__doc__)
    for field in dataclasses.fields(Trial):
        kind = int if isinstance(field.default, int) or field.name == "sampler_steps" else str
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=field.default)
    parser.add_argument("--effect-steps", type=int, default=0, help="gradient steps; 0 measures time and memory alone")
    parser.add_argument("--effect-briefs", type=int, default=128)
    parser.add_argument("--work", type=Path, default=Path("bench-rfft"), help="keeps the runs that show the effect")
    options = parser.parse_args(arguments)
    trial = Trial(**{field.name: getattr(options, field.name) for field in dataclasses.fields(Trial)})
    found = compare(trial)
    if options.effect_steps:
        found["effect"] = effect(trial, options)
    return write(found, options.out)


if __name__ == "__main__":
    main()
