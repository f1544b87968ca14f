"""What the reward module costs a step of an editor, on the same U-Net in one run, plain and rewarded steps in turn.

    python bench/edit_step.py --pairs 6 --out edit_step.json
    python bench/edit_step.py --train --size 32 --batch 1

At the size of Stable Diffusion 1.5, with random weights (--unet: a folder of another config.json). A sampler's step is
one call on three branches; a training step is one call and its gradient for all weights. Prints JSON: median seconds of
each, and of each pair how much longer the rewarded step took: median, and 95 % bootstrap interval of the mean.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import numpy as np
import torch
from common import finish, new_parser
from diffusers import UNet2DConditionModel

from goodeye.edit.module import Rewarded, RewardModule
from goodeye.judging.metrics import bootstrap
from goodeye.random_set import CONFIGS


def main(arguments: Sequence[str] | None = None) -> dict:
    parser = new_parser(__doc__)
    parser.add_argument("--unet", type=Path, default=CONFIGS / "unet", help="folder of a U-Net's config.json")
    parser.add_argument("--text", type=int, default=768, help="size of the pooled failure texts")
    parser.add_argument("--size", type=int, default=64, help="latent pixels a side")
    parser.add_argument("--batch", type=int, default=1, help="pictures; a sampler's step has three branches of them")
    parser.add_argument("--pairs", type=int, default=6, help="plain and rewarded steps")
    parser.add_argument("--train", action="store_true", help="training steps")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args(arguments)
    editor = _editor(options.unet, options.text).to(options.device)
    plain, rewarded = _steps(editor, options)
    plain(), rewarded()  # not timed
    pairs = [_pair(plain, rewarded, turned=bool(number % 2)) for number in range(options.pairs)]
    ratios = np.array([slow / fast - 1 for fast, slow in pairs])
    found = {
        "parameters": {"unet": _count(editor.unet), "rewards": _count(editor.module)},
        "seconds_plain": round(median(one for one, _ in pairs), 4),
        "seconds_rewarded": round(median(one for _, one in pairs), 4),
        "longer_median": round(float(np.median(ratios)), 4),
        "longer_mean": bootstrap(ratios, lambda some: float(some.mean())).to_json(),
        "pairs": [[round(value, 4) for value in pair] for pair in pairs],
    }
    return finish(found, options, threads=torch.get_num_threads())


def _editor(config: Path, text: int) -> Rewarded:
    torch.manual_seed(0)
    made = UNet2DConditionModel.load_config(str(config))
    unet = UNet2DConditionModel.from_config({**made, "in_channels": 2 * made["out_channels"]})
    return Rewarded(unet, RewardModule.beside(unet, text))


def _steps(editor: Rewarded, options) -> tuple[Callable[[], None], Callable[[], None]]:
    rows, config = options.batch * (1 if options.train else 3), editor.unet.config
    where = {"device": options.device}
    sample = torch.randn(rows, config.in_channels, options.size, options.size, **where)
    states = torch.randn(rows, 77, config.cross_attention_dim, **where)
    more = {"rewards": torch.full((rows, 3), 5.0, **where), "feedback": torch.randn(rows, options.text, **where)}

    def call(network, given) -> None:
        with torch.set_grad_enabled(options.train):
            found = network(sample, 500, encoder_hidden_states=states, return_dict=False, **given)[0]
        if options.train:
            found.square().mean().backward()
            editor.zero_grad(set_to_none=False)
        if found.is_cuda:
            torch.cuda.synchronize()

    return lambda: call(editor.unet, {}), lambda: call(editor, more)


def _pair(plain: Callable[[], None], rewarded: Callable[[], None], turned: bool) -> tuple[float, float]:
    """Seconds of both, one right after the other; which is first changes from pair to pair."""
    times = {}
    for one in (rewarded, plain) if turned else (plain, rewarded):
        began = time.perf_counter()
        one()
        times[one] = time.perf_counter() - began
    return times[plain], times[rewarded]


def _count(network: torch.nn.Module) -> int:
    return sum(one.numel() for one in network.parameters())


if __name__ == "__main__":
    main()
