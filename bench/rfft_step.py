"""Time and memory of a step of RFFT against the straightforward loop, on the same models in one run. Prints JSON.

    python bench/rfft_step.py --models showroom --steps 8 --reuse 4 --out rfft_step.json
    python bench/rfft_step.py --models random/sd15.toml --sampler-steps 4 --batch 1 --steps 2 --reuse 2

The straightforward loop: each gradient step a rollout from noise, a second model as the reference, texts encoded each
time, a pass for each branch of guidance, nothing decoded in parts or checkpointed. Each way runs in a fresh process.
"""

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from goodeye.ads.step_cost import Trial, compare


def main(arguments: Sequence[str] | None = None) -> dict:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for field in dataclasses.fields(Trial):
        kind = int if isinstance(field.default, int) or field.name == "sampler_steps" else str
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=field.default)
    parser.add_argument("--out", type=Path, help="write the JSON there, too")
    options = vars(parser.parse_args(arguments))
    out = options.pop("out")
    result = compare(Trial(**options))
    print(json.dumps(result, indent=1))
    if out:
        out.write_text(json.dumps(result, indent=1) + "\n")
    return result


if __name__ == "__main__":
    main()
