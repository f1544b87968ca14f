"""Does what was picked make a detector better? Picks by CLIS beside random ones, by CLIP and by a detector, equal in
number; and whether pictures of a higher score help more.

For each seed a small detector learns a long-tailed real set. From there it learns on for equally many steps, with every
way's pictures beside the real ones in each batch, and alone with the real ones. So what differs is which pictures were
picked. The paper's study of scores has 3 or 4 bins and one seed; here there are as many as are asked for (ours).
"""

import copy
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float

from goodeye.atomic import append, mend, read_rows, write_bytes
from goodeye.errors import BadInput
from goodeye.images import open_image, to_tensor
from goodeye.synth.clis_l import ClisL, swap_test
from goodeye.synth.detector import (
    Found,
    Pictures,
    average_precision,
    detect,
    new_detector,
    read_pictures,
    train_detector,
)
from goodeye.synth.draw import Draw, draw_all
from goodeye.synth.layout import Layout, write_layouts
from goodeye.synth.plan import Concepts, Planning, plan
from goodeye.synth.score import Scorer, read_scores, read_set, score_set
from goodeye.synth.sources import build_priors
from goodeye.training.loop import Loop

if TYPE_CHECKING:
    from goodeye.judging.clip import Clip

Array = np.ndarray[Any, Any]
METHODS = ("random", "clip", "detector", "clis")
REAL = "real"
RESAMPLES = 2000


@dataclass(frozen=True, kw_only=True)
class Prove:
    """How much is measured. Of each layout `tries` pictures are drawn; of a half of the layouts one is picked."""

    seeds: int = 3
    seed: int = 0
    real: int = 300  # labelled real pictures
    test: int = 720
    layouts: int = 640
    tries: int = 4
    bins: int = 8
    binned: int = 3  # seeds whose bins are trained, too: the first ones
    rare: int = 10  # a category in at most so many real pictures is rare, as in LVIS
    steps: int = 3000  # on the real pictures alone
    more: int = 600  # from there on, of every row
    lr: float = 1e-3
    batch: int = 8
    width: int = 64  # of the detector
    size: int = 128  # pixels a side
    references: int = 3000  # layouts for the box-swap test

    def __post_init__(self) -> None:
        if min(self.seed, self.rare) < 0:
            raise BadInput(f"the seed is {self.seed} and rare {self.rare}. Give 0 or more.")
        if min(self.seeds, self.binned, self.real, self.test) < 1 or min(self.bins, self.layouts, self.tries) < 2:
            raise BadInput("a proof takes 1 seed, 2 bins, 2 layouts of 2 tries, real and test pictures. Ask for more.")


@dataclass(frozen=True, kw_only=True, eq=False)
class Ground:
    """The world that it is measured on. real, test: write a folder of so many labelled pictures of a seed (images/,
    layouts.jsonl, instances.json), long-tailed and with all categories alike. layouts: so many without pictures."""

    concepts: Concepts
    real: Callable[[Path, int, int], None]
    test: Callable[[Path, int, int], None]
    layouts: Callable[[int, int], Sequence[Layout]]
    draw: Draw
    clip: "Clip"
    scorer: Scorer
    about: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One trained detector. name: a method, `real`, or bin-0 and so on. score: the mean CLIS of its pictures. ap_rare:
    None where no rare category is in the test pictures."""

    seed: int
    name: str
    ap: float
    ap_rare: float | None
    pictures: int
    score: float | None


def prove(ground: Ground, out: str | Path, config: Prove | None = None) -> dict[str, Any]:
    """All rows of all seeds, then the numbers, which go to out/results.json and out/report.html, too; the same call
    goes on where it was stopped. Seeds that `out` has already, from other calls, are taken as they are: processes may
    share them out.

    Raises BadInput where `out` holds another proof.
    """
    from goodeye.synth.prove_report import write_report

    config, out = config or Prove(), Path(out)
    told = {name: value for name, value in asdict(config).items() if name not in ("seed", "seeds", "binned")}
    _claim(out, {**told, "about": json.loads(json.dumps(dict(ground.about)))})
    rows = [row for number in range(config.seeds) for row in _seed(ground, config, out, number)]
    judge = ClisL.fit(build_priors([], [], ground.layouts(config.references, 7_000 + config.seed)), seed=config.seed)
    swap = swap_test(judge, *judge.held, judge.pictures)
    numbers = {
        **summary(rows),
        "swap": {name: round(one.mean, 4) for name, one in swap.items()},
        "swap_intervals": {name: one.to_json() for name, one in swap.items()},
        "about": {**ground.about, **asdict(config)},
    }
    write_bytes(out / "results.json", (json.dumps(numbers, indent=1, allow_nan=False) + "\n").encode())
    write_report(numbers, out)
    return numbers


def _claim(out: Path, told: Mapping[str, Any]) -> None:
    file = out / "config.json"
    if file.exists() and json.loads(file.read_text(encoding="utf-8")) != told:
        raise BadInput(f"{out} holds another proof. Name another folder, or the settings that it was begun with.")
    write_bytes(file, (json.dumps(told, indent=1) + "\n").encode())


# --- one seed


def _seed(ground: Ground, config: Prove, out: Path, number: int) -> list[Row]:
    """The rows of the proof's seed of that number, from 0."""
    seed = config.seed + number
    folder = out / f"seed-{seed}"
    mend(folder / "rows.jsonl")
    known = {row["name"]: Row(**row) for row in read_rows(folder / "rows.jsonl")}
    bins = [f"bin-{one}" for one in range(config.bins)] if number < config.binned else []
    wanted = [REAL, *METHODS, *bins]
    if all(name in known for name in wanted):
        return [known[name] for name in wanted]
    categories = tuple(ground.concepts)
    for name, write, count in (("real", ground.real, config.real), ("test", ground.test, config.test)):
        if not (folder / name / "instances.json").exists():
            write(folder / name, count, 2 * seed + (name == "test"))
    real, test = (read_pictures(folder / name / "instances.json", categories, config.size) for name in ("real", "test"))
    rare = rare_of(real, config.rare)
    scored = _candidates(ground, config, folder, seed)
    pool = _pictures(scored, categories, config.size)
    base = _base(real, config, folder, seed)
    scores = scores_of(scored, pool, detect(base, pool.images), ground.clip, seed)
    chosen = {name: pick_half(scores[name], scored) for name in METHODS}
    order = np.argsort(scores["clis"], kind="stable")
    chosen |= dict(zip(bins, np.array_split(order, config.bins), strict=False))
    for name in wanted:
        if name in known:
            continue
        pools = [real] if name == REAL else [real, pool.pick(chosen[name].tolist())]
        detector = copy.deepcopy(base)
        loop = _loop(config, config.more, config.lr, seed)
        train_detector(detector, pools, folder / name, loop, batch=config.batch, label=f"seed {seed}, {name}")
        ap = average_precision(detect(detector, test.images), test)
        mean = None if name == REAL else float(scores["clis"][chosen[name]].mean())
        known[name] = Row(
            seed=seed, name=name, ap=sum(ap.values()) / len(ap), ap_rare=ap_rare_of(ap, rare),
            pictures=0 if name == REAL else len(chosen[name]), score=mean,
        )  # fmt: skip
        append(folder / "rows.jsonl", asdict(known[name]))
        shutil.rmtree(folder / name / "checkpoints", ignore_errors=True)
    return [known[name] for name in wanted]


def _loop(config: Prove, steps: int, lr: float, seed: int) -> Loop:
    return Loop(
        steps=steps, lr=lr, schedule="cosine", floor=0.05, warmup=min(30, steps // 5), ema=0.99, weight_decay=1e-4,
        clip=1.0, seed=seed, log_every=20, save_seconds=60,
    )  # fmt: skip


def _base(real: Pictures, config: Prove, folder: Path, seed: int) -> Any:
    """The detector that has seen the real pictures alone."""
    from transformers import RTDetrV2ForObjectDetection

    if not (folder / "base" / "config.json").exists():
        torch.manual_seed(seed)
        detector = new_detector(real.categories, config.width)
        loop = _loop(config, config.steps, config.lr, seed)
        train_detector(detector, [real], folder / "base-run", loop, batch=config.batch, label=f"seed {seed}, real")
        detector.save_pretrained(folder / "base.part")
        (folder / "base.part").rename(folder / "base")
        shutil.rmtree(folder / "base-run" / "checkpoints", ignore_errors=True)
    return RTDetrV2ForObjectDetection.from_pretrained(folder / "base", use_safetensors=True).eval()


def rare_of(real: Pictures, most: int) -> list[str]:
    """The categories in at most so many pictures; the rarest third where there is none such."""
    counts = dict.fromkeys(real.categories, 0)
    for labels in real.labels:
        for at in labels.unique().tolist():
            counts[real.categories[at]] += 1
    rare = [name for name, count in counts.items() if count <= most]
    return rare or sorted(counts, key=lambda name: counts[name])[: max(1, len(counts) // 3)]


def ap_rare_of(ap: Mapping[str, float], rare: Sequence[str]) -> float | None:
    """The mean over the rare categories that are in the test pictures; None where none is."""
    found = [ap[one] for one in rare if one in ap]
    return sum(found) / len(found) if found else None


def _candidates(ground: Ground, config: Prove, folder: Path, seed: int) -> list[dict[str, Any]]:
    """Planned, drawn and scored pictures: the rows of their run."""
    priors = build_priors([folder / "real" / "layouts.jsonl"])
    known = {name: words for name, words in ground.concepts.items() if name in priors.frequency}
    plans = plan(priors, known, config.layouts, Planning(tail=0.5, rare=2 * config.rare, seed=seed))
    write_layouts(folder / "layouts.jsonl", plans)
    draw_all(ground.draw, plans, folder / "drawn", tries=config.tries, seed=seed)
    items = read_set(folder / "layouts.jsonl", folder / "drawn")
    told = {"seed": seed, **ground.about}
    score_set(items, folder / "scores", ClisL.fit(priors), ground.scorer, json.loads(json.dumps(told)))
    if len(read_scores(folder / "scores")) < len(plans) * config.tries:
        raise BadInput(f"{folder} has drawn pictures that cannot be read. Remove the folder and start again.")
    return usable_rows(folder)


def usable_rows(folder: Path) -> list[dict[str, Any]]:
    """The scored pictures of a seed's folder, by name, without those whose score is unknown."""
    rows = [row for row in read_scores(folder / "scores") if row["clis_i"]["score"] is not None]
    return sorted(rows, key=lambda row: str(row["key"]))


def _pictures(rows: Sequence[Mapping[str, Any]], categories: Sequence[str], size: int) -> Pictures:
    images, boxes, labels = [], [], []
    for row in rows:
        picture = open_image(row["file"]).convert("RGB").resize((size, size))
        images.append((to_tensor(picture) * 255).round().to(torch.uint8))
        boxes.append(torch.tensor([thing["box"] for thing in row["layout"]["things"]], dtype=torch.float32))
        labels.append(torch.tensor([categories.index(thing["category"]) for thing in row["layout"]["things"]]))
    return Pictures(torch.stack(images), boxes, labels, tuple(categories))


def scores_of(
    rows: Sequence[Mapping[str, Any]], pool: Pictures, found: Sequence[Found], clip: "Clip", seed: int
) -> dict[str, Float[Array, " N"]]:
    """Each way's score of each picture. clip: cosine of picture and caption. detector: how surely and how well it finds
    the wanted things. clis: CLIS-I, by which `goodeye.synth.pick` ranks, too."""
    with torch.no_grad():
        captions = [row["layout"]["caption"] for row in rows]
        texts = torch.cat([clip.embed_texts(captions[at : at + 64]) for at in range(0, len(rows), 64)])
        seen = torch.cat([clip.embed_images(some.float() / 255) for some in pool.images.split(64)])
    return {
        "random": np.random.default_rng((seed, 9)).random(len(rows)),
        "clip": (texts * seen).sum(1).cpu().numpy(),
        "detector": np.array([_found(one, pool, at) for at, one in enumerate(found)]),
        "clis": clis_of(rows),
    }


def clis_of(rows: Sequence[Mapping[str, Any]]) -> Float[Array, " N"]:
    """CLIS-I of each picture. CLIS-L has no part in it: all these layouts were planned from real ones, and how usual a
    layout is says nothing of whether its picture shows what the labels say."""
    return np.array([row["clis_i"]["score"] for row in rows], dtype=float)


def _found(found: Found, pool: Pictures, at: int) -> float:
    """The mean over wanted things of the best answer's score times its overlap."""
    values = []
    for box, label in zip(pool.boxes[at], pool.labels[at], strict=True):
        low = torch.maximum(found.boxes[:, :2], box[:2])
        high = torch.minimum(found.boxes[:, :2] + found.boxes[:, 2:], box[:2] + box[2:])
        shared = (high - low).clamp(min=0).prod(1)
        iou = shared / (found.boxes[:, 2:].prod(1) + box[2:].prod() - shared)
        values.append(float((iou * found.scores * (found.labels == label)).max()))
    return sum(values) / len(values)


def pick_half(scores: Float[Array, " N"], rows: Sequence[Mapping[str, Any]]) -> Array:
    """Rows of a half of the layouts, the best try of each: of all layouts that begin with the same category the better
    half, so that every way picks equally many of each and rare ones are not dropped for being hard."""
    best: dict[str, int] = {}
    for at, row in enumerate(rows):
        if row["group"] not in best or scores[at] > scores[best[row["group"]]]:
            best[row["group"]] = at
    kinds: dict[str, list[int]] = {}
    for at in best.values():
        kinds.setdefault(rows[at]["layout"]["things"][0]["category"], []).append(at)
    kept = [at for some in kinds.values() for at in sorted(some, key=lambda one: -scores[one])[: (len(some) + 1) // 2]]
    return np.array(sorted(kept))


# --- the numbers


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """`selection`, what each has more than random, and `correlation`. Intervals over seeds are Student's; a seed
    without an AP of rare categories has no part in theirs, and they are None where no seed has one."""
    found = {name: sorted((row for row in rows if row.name == name), key=_seed_of) for name in (REAL, *METHODS)}
    values = {
        name: {measure: np.array([getattr(row, measure) for row in some], dtype=float) for measure in ("ap", "ap_rare")}
        for name, some in found.items()
    }
    return {
        "selection": {name: {measure: over_seeds(one)["mean"] for measure, one in both.items()}
                      for name, both in values.items()},
        "rows": {name: {measure: over_seeds(one) for measure, one in both.items()} for name, both in values.items()},
        "minus_random": {
            name: {measure: over_seeds(one - values["random"][measure]) for measure, one in both.items()}
            for name, both in values.items() if name != "random"
        },
        "correlation": correlation(rows),
        "trained": [asdict(row) for row in rows],
    }  # fmt: skip


def _seed_of(row: Row) -> int:
    return row.seed


def over_seeds(values: Float[Array, " S"]) -> dict[str, float | None]:
    """Mean and Student's 95 % interval; none of one seed, and no mean of none. NaN: a seed that has no value."""
    from scipy.stats import t

    values = values[~np.isnan(values)]
    if not len(values):
        return {"mean": None, "low": None, "high": None}
    mean, low, high = float(values.mean()), None, None
    if len(values) > 1:
        reach = float(t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
        low, high = round(mean - reach, 4), round(mean + reach, 4)
    return {"mean": round(mean, 4), "low": low, "high": high}


def correlation(rows: Sequence[Row]) -> dict[str, Any]:
    """Spearman's correlation of a bin's mean CLIS with what it gained over the real pictures alone: all bins of all
    seeds, each seed around its own mean; a bootstrap interval over the bins."""
    from scipy.stats import spearmanr

    base = {row.seed: row.ap for row in rows if row.name == REAL}
    bins = [row for row in rows if row.name.startswith("bin-")]
    seeds = np.array([row.seed for row in bins])
    score = np.array([row.score for row in bins], dtype=float)
    gain = np.array([row.ap - base[row.seed] for row in bins])
    for seed in set(seeds.tolist()):
        for values in (score, gain):
            values[seeds == seed] -= values[seeds == seed].mean()
    random = np.random.default_rng(0)
    replicates = []
    for _ in range(RESAMPLES):
        some = random.integers(len(bins), size=len(bins))
        if np.ptp(score[some]) and np.ptp(gain[some]):
            replicates.append(float(spearmanr(score[some], gain[some]).statistic))
    told = [{"seed": row.seed, "score": row.score, "gain": round(row.ap - base[row.seed], 4)} for row in bins]
    if not replicates:
        return {"spearman": None, "low": None, "high": None, "bins": told}
    low, high = np.percentile(replicates, [2.5, 97.5])
    found = float(spearmanr(score, gain).statistic)
    return {"spearman": round(found, 4), "low": round(float(low), 4), "high": round(float(high), 4), "bins": told}
