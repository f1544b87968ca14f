"""Time and memory of a step of RFFT against the straightforward loop, on the same models in one run. Prints JSON.

    python bench/rfft_step.py --models showroom --steps 8 --reuse 4 --out rfft_step.json
    python bench/rfft_step.py --models random/sd15.toml --sampler-steps 4 --batch 1 --steps 2 --reuse 2

The straightforward loop: each gradient step a rollout from noise, a second model as the reference, texts encoded each
time, a pass for each branch of guidance, nothing decoded in parts or checkpointed. Each way runs in a fresh process.
"""

import dataclasses
from collections.abc import Sequence

from common import new_parser, write

from goodeye.ads.step_cost import Trial, compare


def main(arguments: Sequence[str] | None = None) -> dict:
    parser = new_parser(__doc__)
    for field in dataclasses.fields(Trial):
        kind = int if isinstance(field.default, int) or field.name == "sampler_steps" else str
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=field.default)
    options = vars(parser.parse_args(arguments))
    out = options.pop("out")
    return write(compare(Trial(**options)), out)


if __name__ == "__main__":
    main()
