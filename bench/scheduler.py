"""How much faster the batch scheduler is than a loop brief by brief: same models, same attempts, one run.

Both ways make exactly the same attempts (each has its own seed, and whether it passes depends on that alone), with
everything that belongs to one: generation, inspection, ledger. Prints JSON.

    python bench/scheduler.py --models showroom --briefs 32 --out scheduler.json
"""

import argparse
import dataclasses
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from common import finish, new_parser
from PIL import Image, ImageDraw

from goodeye.ads.brief import Brief
from goodeye.ads.workshop import Made, Workshop
from goodeye.diffusion.batch import attempt_seed
from goodeye.judging.protocol import Context, Verdict
from goodeye.ledger.ledger import Ledger
from goodeye.modelset import Models, resolve
from goodeye.scheduler import Try, full_batches, open_slots, send


@dataclasses.dataclass
class FixedRate:
    """The model set's inspector at its full cost, with verdicts that pass a given share of attempts.

    So the bench does not depend on how good the weights are. The share is the paper's for one attempt, .564.
    """

    models: Models
    rate: float
    seed: int
    batch: Sequence[Try] = ()

    def inspect(self, images: torch.Tensor, contexts: Sequence[Context]) -> list[Verdict]:
        found = self.models.rfnet.inspect(images, contexts)
        luck = [attempt_seed(self.seed, *one) / 2**63 for one in self.batch]
        return [
            Verdict(
                verdict.judge, verdict.version, "available" if draw < self.rate else "fails", {"available": 1 - draw}
            )
            for verdict, draw in zip(found, luck, strict=True)
        ]


def cut_outs(folder: Path, count: int) -> dict[str, Brief]:
    """Simple products, each another shape and colour."""
    rng = random.Random(0)
    briefs = {}
    for number in range(count):
        img = Image.new("RGBA", (160, 160))
        width, height = rng.randint(60, 150), rng.randint(60, 150)
        colour = tuple(rng.randint(0, 255) for _ in range(3))
        ImageDraw.Draw(img).rounded_rectangle([5, 5, 5 + width, 5 + height], rng.randint(0, 40), fill=(*colour, 255))
        path = folder / f"product-{number:03}.png"
        img.save(path)
        briefs[path.stem] = Brief(key=path.stem, image=path, title="box")
    return briefs


@contextmanager
def workshop(models: Models, briefs: dict[str, Brief], options: argparse.Namespace) -> Iterator[Workshop]:
    settings = dataclasses.replace(models.model_set.settings, steps=options.steps or models.model_set.settings.steps)
    with tempfile.TemporaryDirectory() as folder, Ledger.open(Path(folder) / "ledger") as ledger:
        yield Workshop(
            models=models,
            settings=settings,
            inspector=FixedRate(models, options.pass_rate, options.seed),
            ledger=ledger,
            run=ledger.start_run("bench", {}, options.seed),
            out=Path(folder) / "out",
            seed=options.seed,
            threshold=1 - options.pass_rate,
            briefs=briefs,
            batch=options.batch,
        )


def play(shop: Workshop, keys: Sequence[str], options: argparse.Namespace, done: list[Try]) -> list[int]:
    """Makes all slots of these briefs together; returns the batches' sizes."""
    slots = shop.ready(open_slots(keys, want=options.want, attempts=options.attempts))
    batches = full_batches(slots, attempts=options.attempts, size=options.batch)
    batch, sizes = next(batches, None), []
    while batch:
        shop.inspector.batch = batch  # type: ignore[attr-defined]
        made = shop.work([shop.first(one) for one in batch])
        done += batch
        sizes.append(len(batch))
        batch = send(batches, [isinstance(one, Made) and one.passed for one in made])
    return sizes


def measure(models: Models, briefs: dict[str, Brief], groups: list[list[str]], options: argparse.Namespace) -> dict:
    """Runs group after group of briefs. One group of all is the scheduler; a group a brief is the loop."""
    done: list[Try] = []
    sizes: list[int] = []
    with workshop(models, briefs, options) as shop:
        started = time.monotonic()
        for keys in groups:
            sizes += play(shop, keys, options, done)
        seconds = time.monotonic() - started
    return {
        "seconds": round(seconds, 3),
        "attempts": len(done),
        "attempts_per_second": round(len(done) / seconds, 4),
        "mean_batch": round(sum(sizes) / len(sizes), 2),
        "done": sorted(done),
    }


def main(arguments: Sequence[str] | None = None) -> dict:
    parser = new_parser(__doc__)
    parser.add_argument("--models", default="showroom", help="model set")
    parser.add_argument("--briefs", type=int, default=32)
    parser.add_argument("--want", type=int, default=1, help="pictures of each brief")
    parser.add_argument("--attempts", type=int, default=5)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, help="of the sampler; default the model set's")
    parser.add_argument("--pass-rate", type=float, default=0.564)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args(arguments)
    models = Models(resolve(options.models), device=options.device)
    with tempfile.TemporaryDirectory() as folder:
        briefs = cut_outs(Path(folder), options.briefs)
        warm_up = argparse.Namespace(**{**vars(options), "want": 1, "attempts": 1, "steps": 1})
        measure(models, briefs, [list(briefs)[:2]], warm_up)
        loop = measure(models, briefs, [[key] for key in briefs], options)
        scheduler = measure(models, briefs, [list(briefs)], options)
    if loop.pop("done") != scheduler.pop("done"):
        raise AssertionError("the two ways did not make the same attempts")
    result = {
        "loop": loop,
        "scheduler": scheduler,
        "ratio": round(scheduler["attempts_per_second"] / loop["attempts_per_second"], 3),
    }
    return finish(result, options, threads=torch.get_num_threads())


if __name__ == "__main__":
    main()
