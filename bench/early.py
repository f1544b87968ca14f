"""Denoiser evaluations for each picture that the oracle finds available: early stopping, restarts and longer first
steps against the plain loop, on fresh briefs of the showroom. Beside it, so that nothing is bought with worse pictures:
the oracle's precision on what passed, the diversity of a brief's pictures, how sharp they are, and how many of the
wanted pictures came.

Stopping and going back cannot do better than `floor`, the share of attempts that pass: a picture that passes takes all
steps, however cheap the others are. Only longer steps (--stride) get below it.

A rule is calibrated first for each stride, on other fresh briefs. Every way makes the same briefs from the same seeds.
Intervals are 95 %, by bootstrap over briefs; comparisons are paired by brief. The two branches of guidance count as one
evaluation. Prints JSON.

    python bench/early.py --briefs 96 --want 2 --record 600 --seed 7 --work /tmp/early --out early.json
"""

import argparse
import math
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from common import finish, new_parser

from goodeye.ads.brief import Brief
from goodeye.ads.early import RULE, Rule, calibrate
from goodeye.ads.maker import strided
from goodeye.ads.recurrent import Restart
from goodeye.ads.results import AVAILABLE
from goodeye.ads.rollout import Placed
from goodeye.ads.trajectories import Recorder, Tape, candidates, record_all, setting_of
from goodeye.ads.workshop import Job, Made, Ready, Workshop
from goodeye.images import to_tensor
from goodeye.judging.diversity import Features, pixel_spread
from goodeye.judging.metrics import Interval, bootstrap, paired_bootstrap
from goodeye.ledger.ledger import Ledger
from goodeye.modelset import Models, resolve
from goodeye.scheduler import grouped_batches, open_slots, send
from goodeye.showroom.briefs import fresh_briefs
from goodeye.showroom.prove import the_oracle

CALIBRATION = 500_000  # added to the seed of the briefs that the rule is calibrated on
ATTEMPTS, EVALS, PASSED, GOOD, STOPPED = range(5)  # columns of a way's counts, a row a brief


@dataclass(kw_only=True)
class Shop(Workshop):
    """A workshop whose briefs are on their canvas already."""

    placed: Mapping[str, Placed] = field(default_factory=dict)

    def _prepare(self, brief: Brief) -> Job:
        one = self.placed[brief.key]
        brief_id = self.ledger.add_brief(self.run, brief.key, {"title": one.title, "prompt": one.prompt})
        return Job(brief_id=brief_id, title=one.title, prompt=one.prompt, canvas=one.canvas)


@dataclass(frozen=True, kw_only=True)
class Way:
    """What one way of making the pictures came to. counts: [briefs, 5]; spread: of each brief with two pictures;
    sharpness: mean difference of neighbouring pixels, of each brief with a picture."""

    counts: np.ndarray
    spread: Mapping[str, Mapping[str, float]]
    sharpness: Mapping[str, float]
    wanted: int
    seconds: float
    reading_seconds: float


def calibrated(models: Models, options: argparse.Namespace, stride: int) -> Rule:
    """The rule for this stride, calibrated on other fresh briefs; its recording is kept below --work."""
    folder = options.work / f"stride_{stride}"
    settings = strided(models.model_set.settings, stride)
    steps = tuple(options.checks or candidates(len(settings.starts)))
    setting = setting_of(models, settings, models.rfnet, settings.threshold)
    placed = {f"c{one.key}": one for one in fresh_briefs(options.seed + CALIBRATION, options.record)}
    briefs = [Brief(key=key, image=Path(key), title=one.title, prompt=one.prompt) for key, one in placed.items()]
    recorder = Recorder(models=models, settings=settings, inspector=models.rfnet, steps=steps, seed=options.seed)
    recorder.ready = {key: Ready(title=one.title, prompt=one.prompt, canvas=one.canvas) for key, one in placed.items()}
    tape = Tape(folder)
    tape.begin({**asdict(setting), "checks": list(steps), "seed": options.seed}, resume=True)
    record_all(recorder, tape, briefs, options.record, options.batch, progress=True)
    rule = calibrate(tape.trajectories(options.record), steps, setting, most=options.most, seconds=tape.seconds())
    rule.save(folder / RULE)
    return rule


def play(
    models: Models,
    placed: Mapping[str, Placed],
    options: argparse.Namespace,
    rule: Rule | None,
    restart: Restart | None,
    stride: int = 1,
) -> Way:
    """Makes everything one way, and has the oracle look at what passed."""
    briefs = {key: Brief(key=key, image=Path(key), title=one.title, prompt=one.prompt) for key, one in placed.items()}
    made: list[Made] = []
    with tempfile.TemporaryDirectory() as folder, Ledger.open(Path(folder) / "ledger") as ledger:
        shop = Shop(
            models=models,
            settings=strided(models.model_set.settings, stride),
            inspector=models.rfnet,
            ledger=ledger,
            run=ledger.start_run("bench", {}, options.seed),
            out=Path(folder) / "out",
            seed=options.seed,
            threshold=models.model_set.settings.threshold,
            briefs=briefs,
            batch=options.batch,
            early=rule,
            restart=restart,
            placed=placed,
        )
        started = time.monotonic()
        slots = shop.ready(open_slots(briefs, want=options.want, attempts=options.attempts))
        batches = grouped_batches((shop.first(one) for one in slots), size=options.batch)
        batch = next(batches, None)
        while batch:
            done = shop.work(batch)
            made += [one for one in done if isinstance(one, Made)]
            answers = [shop.again(one, options.attempts) if isinstance(one, Made) else one for one in done]
            batch = send(batches, answers)
        return judged(models, placed, made, options.want, time.monotonic() - started, shop.reading_seconds)


def judged(
    models: Models,
    placed: Mapping[str, Placed],
    made: Sequence[Made],
    want: int,
    seconds: float,
    reading_seconds: float,
) -> Way:
    """Counts by brief, the oracle's word on what passed, and how far a brief's pictures lie apart."""
    rows = {key: number for number, key in enumerate(placed)}
    counts = np.zeros((len(rows), 5))
    passed = defaultdict(list)
    for one in made:
        row = counts[rows[one.attempt.brief]]
        row[[ATTEMPTS, EVALS, STOPPED]] += 1, one.outcome.evals, one.outcome.stopped
        if one.passed:
            passed[one.attempt.brief].append(to_tensor(one.image))
    oracle, features = the_oracle(), Features(models.clip)
    spread: dict[str, dict[str, float]] = {"pixels": {}, "features": {}}
    sharpness: dict[str, float] = {}
    with torch.no_grad():
        for key, found in passed.items():
            pictures = torch.stack(found)
            sharpness[key] = float(pictures.diff(dim=-1).abs().mean() + pictures.diff(dim=-2).abs().mean())
            verdicts = oracle.inspect(pictures, [placed[key].context] * len(found))
            counts[rows[key], PASSED] = len(found)
            counts[rows[key], GOOD] = sum(verdict.label == AVAILABLE for verdict in verdicts)
            if len(found) > 1:
                spread["pixels"][key] = float(pixel_spread(pictures))
                spread["features"][key] = float(features.diversity(pictures))
    return Way(
        counts=counts,
        spread=spread,
        sharpness=sharpness,
        wanted=want,
        seconds=seconds,
        reading_seconds=reading_seconds,
    )


def share(over: int, under: int, each: float = 1.0):
    """A ratio of two columns' sums, as a statistic of rows."""

    def ratio(rows: np.ndarray) -> float:
        below = rows[:, under].sum() * each if under >= 0 else len(rows) * each
        return float(rows[:, over].sum() / below) if below else math.nan

    return ratio


def told(interval: Interval) -> dict[str, float | None] | None:
    """None where it cannot be told."""
    return interval.to_json() if all(map(math.isfinite, interval)) else None


def summary(way: Way, plain: Way | None) -> dict:
    """A way's figures, and what they are to the plain loop's."""
    cost, precision = share(EVALS, GOOD), share(GOOD, PASSED)
    found = {
        "attempts": int(way.counts[:, ATTEMPTS].sum()),
        "stopped": int(way.counts[:, STOPPED].sum()),
        "evals": int(way.counts[:, EVALS].sum()),
        "evals_per_available": told(bootstrap(way.counts, cost)),
        "oracle_precision": told(bootstrap(way.counts, precision)),
        "returned": told(bootstrap(way.counts, share(PASSED, -1, way.wanted))),
        "diversity": {
            name: told(bootstrap(np.array(list(by.values())), np.mean)) if by else None
            for name, by in way.spread.items()
        },
        "seconds": round(way.seconds, 2),
        "reading_seconds": round(way.reading_seconds, 2),
    }
    if plain is not None:
        both = np.concatenate([way.counts, plain.counts], 1)
        columns = way.counts.shape[1]
        found["to_plain"] = {
            "evals_per_available_ratio": told(
                bootstrap(both, lambda rows: cost(rows[:, :columns]) / cost(rows[:, columns:]))
            ),
            "oracle_precision_difference": told(paired_bootstrap(way.counts, plain.counts, precision)),
            "diversity_ratio": {name: _ratio(way.spread[name], plain.spread[name]) for name in way.spread},
            "sharpness_ratio": _ratio(way.sharpness, plain.sharpness),
        }
    return found


def _ratio(way: Mapping[str, float], plain: Mapping[str, float]) -> dict[str, float | None] | None:
    """Of the mean spread, over the briefs for which both ways have two pictures."""
    keys = sorted(way.keys() & plain.keys())
    if not keys:
        return None
    pairs = np.array([(way[key], plain[key]) for key in keys])
    return told(bootstrap(pairs, lambda rows: float(rows[:, 0].mean() / rows[:, 1].mean())))


def main(arguments: Sequence[str] | None = None) -> dict:
    parser = new_parser(__doc__)
    parser.add_argument("--models", default="showroom", help="model set")
    parser.add_argument("--briefs", type=int, default=96)
    parser.add_argument("--want", type=int, default=2, help="pictures of each brief; diversity needs 2")
    parser.add_argument("--attempts", type=int, default=5)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--record", type=int, default=600, help="attempts to calibrate on")
    parser.add_argument("--checks", type=int, nargs="*", help="candidates; steps")
    parser.add_argument("--most", type=int, default=2, help="checks that are used")
    parser.add_argument("--restart", type=float, nargs="*", default=[0.5], help="strengths")
    parser.add_argument("--stride", type=int, default=2, help="first steps at once; 1 leaves these rows out")
    parser.add_argument("--times", type=int, default=4, help="restarts in a row")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--work", type=Path, default=Path("bench-early"), help="keeps the recording")
    options = parser.parse_args(arguments)
    models = Models(resolve(options.models), device=options.device)
    placed = {one.key: one for one in fresh_briefs(options.seed, options.briefs)}
    plain = play(models, placed, options, None, None)
    rows = {"plain": summary(plain, None)}
    rules: dict[int, Rule] = {}
    for stride in sorted({1, options.stride}):
        rule = rules[stride] = calibrated(models, options, stride)
        ways: dict[str, tuple[Rule | None, Restart | None]] = {"": (None, None), "early": (rule, None)}
        for strength in options.restart:
            back = Restart(strength=strength, times=options.times)
            ways |= {f"restart_{strength:g}": (None, back), f"early_restart_{strength:g}": (rule, back)}
        for way, (stop, back) in ways.items():
            name = "_".join(filter(None, [f"stride_{stride}" if stride > 1 else "", way]))
            if name:
                rows[name] = summary(play(models, placed, options, stop, back, stride), plain)
                print(f"{name}: {rows[name]['to_plain']['evals_per_available_ratio']}", flush=True)
    found = {
        "floor": told(bootstrap(plain.counts, share(PASSED, ATTEMPTS))),
        "rows": rows,
        "rules": {stride: rule.as_json() for stride, rule in rules.items()},
    }
    return finish(found, options, threads=torch.get_num_threads())


if __name__ == "__main__":
    main()
