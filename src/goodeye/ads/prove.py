"""What each method gains, side by side on fresh briefs: the whole job (`goodeye ads prove`).

Every row makes pictures of the same briefs from the same seeds. Beside each rate by the judge that was trained against
stand the rate by one that was not, diversity within a brief, prompt fidelity and expansion, since a rate alone can be
bought by a picture that nobody wants. Intervals are 95 %, by bootstrap over briefs; differences are paired by brief.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import copy, deepcopy
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

import goodeye
from goodeye.ads.adapt import put_on
from goodeye.ads.measure import FIDELITY, Gallery, Judges, Made
from goodeye.ads.rollout import Placed
from goodeye.ads.settings import SUFFIX, TRAINED, Prove
from goodeye.atomic import write_bytes
from goodeye.errors import BadInput
from goodeye.judging.diversity import Features, pixel_spread
from goodeye.judging.fidelity import PromptFidelity, other_prompts
from goodeye.judging.lpips import Lpips
from goodeye.judging.metrics import Array, Interval, bootstrap, paired_bootstrap
from goodeye.judging.protocol import Images, Inspector, fingerprint
from goodeye.progress import Advance
from goodeye.progress import progress as show_progress
from goodeye.scheduler import Try

if TYPE_CHECKING:
    from goodeye.modelset import Models

ALIGNED = tuple(TRAINED)  # the rows of adapters that a proof is expected to have
LOOPED = "rfft_cc"  # the one that is also shown with recurrent generation, and as what makes the retries of base
BASE = "base"
ABOUT = {
    BASE: "one attempt",
    "prompt": "one attempt, with a fixed suffix to every prompt",
    "recurrent": "tried again until the judge is content; the best if it never is",
    "best_of_n": "the best of several by the judge, with as many attempts in all as recurrent",
    "refl": "one attempt by a generator trained by ReFL",
    "rfft_none": "one attempt after RFFT without a regulariser",
    "rfft_kl": "one attempt after RFFT with a KL regulariser",
    "rfft_cc": "one attempt after RFFT with Consistent Condition",
    "rfft_cc_recurrent": "recurrent generation after RFFT with Consistent Condition",
    "rescued": "one attempt by the start model; only where it fails, recurrent generation after RFFT with Consistent "
    "Condition",
    "dpo": "one attempt by a generator trained by DPO on pairs that it made itself",
}
STRIP = 8  # briefs in the strip of pictures
UNKNOWN = Interval(*[float("nan")] * 3)  # what cannot be told, as the cost of an available picture where none was


@dataclass(frozen=True, kw_only=True)
class Pick:
    """What a row shows for one slot, and all the attempts that it took."""

    chosen: Made
    tried: tuple[Made, ...]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One method: its picks, brief by brief, and the spread of each of the first briefs' pictures."""

    name: str
    picks: Sequence[Sequence[Pick]]
    spread: Float[Array, " B"]


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What came of it. numbers: as results.json has it. strip: for each row, its pictures of the first briefs."""

    out: Path
    numbers: dict[str, Any]
    strip: Mapping[str, Images] = field(repr=False)

    @property
    def report(self) -> Path:
        return self.out / "report.html"


def prove(
    briefs: Sequence[Placed],
    *,
    models: "Models",
    held_out: Inspector | None = None,
    adapters: Mapping[str, Path] | None = None,
    lacking: Mapping[str, str] | None = None,
    config: Prove | None = None,
    lpips: Lpips | None = None,
    out: str | Path = "goodeye-proof",
    progress: bool = False,
) -> Proof:
    """The rows base, prompt, recurrent and best_of_n, and one for each of `adapters` (folders as `align` writes them).

    briefs: products on the model set's canvas, which nothing was trained on. held_out: a judge that nothing was trained
    against. lacking: why a row has no adapter. out gets results.json, report.html and attempts/; the same call again
    goes on where it was stopped. Raises BadInput for an adapter that cannot be loaded, before anything is made.
    """
    from goodeye.ads.prove_report import write_report

    config = config or Prove()
    config.check()
    config = replace(config, suffix=SUFFIX if config.suffix is None else config.suffix)
    if len(briefs) < 2:
        raise BadInput("a proof is on two briefs or more. Give more of them.")
    size, side = models.model_set.settings.size, briefs[0].canvas.product.shape[-1]
    if side != size:
        raise BadInput(
            f"the briefs are {side} pixels wide, and the model set {models.model_set.name} makes pictures of {size}. "
            "Use one of the briefs' size: showroom, or a set based on it."
        )
    started, adapters = time.monotonic(), dict(adapters or {})
    _require_names(adapters)
    for adapter in adapters.values():
        with_adapter(models, adapter)
    bench = _Bench(models, briefs, _judges(models, briefs, held_out), config, lpips, Path(out))
    rows: list[Row] = []
    strip: dict[str, Images] = {}
    total = bench.slots * (2 + len(adapters))
    with _progress(total, progress) as advance:
        for name in (BASE, "prompt", *adapters):
            gallery = bench.gallery(name, adapters.get(name), advance)
            for row, source in bench.rows(name, gallery):
                rows.append(row)
                strip[row.name] = bench.strip(row, source)
    rows.sort(key=lambda row: list(ABOUT).index(row.name) if row.name in ABOUT else len(ABOUT))
    numbers = {
        "seed": config.seed,
        "n": len(briefs),
        "pictures": config.pictures,
        "spread_briefs": bench.spread_briefs,
        "attempts": config.attempts,
        "suffix": config.suffix,
        "models": models.model_set.name,
        "judge": getattr(bench.judges.judge, "version", ""),
        "held_out": getattr(held_out, "name", ""),
        "diversity_by": bench.diversity_by,
        **summary(rows),
        "left_out": {
            name: (lacking or {}).get(name, "no adapter was given for it") for name in ALIGNED if name not in adapters
        },
        "about": {row.name: ABOUT.get(row.name, "one attempt with the adapter given") for row in rows},
        "seconds": round(time.monotonic() - started, 1),
    }
    proof = Proof(out=Path(out), numbers=numbers, strip={row.name: strip[row.name] for row in rows})
    write_bytes(proof.out / "results.json", (json.dumps(numbers, indent=1, allow_nan=False) + "\n").encode())
    write_report(proof, [brief.title for brief in briefs[:STRIP]])
    return proof


def with_adapter(models: "Models", folder: str | Path) -> "Models":
    """The same models with what `align` trained put on; the given ones stay as they are, and share the rest."""
    other = copy(models)
    other.unet = deepcopy(models.unet)  # LoRA is put on in place
    put_on(other, folder)
    return other


# --- making the rows


class _Bench:
    """The briefs of a proof, their slots, and the rows made of them."""

    def __init__(
        self, models: "Models", briefs: Sequence[Placed], judges: Judges, config: Prove, lpips: Lpips | None, out: Path
    ) -> None:
        self.models, self.judges, self.config, self.out = models, judges, config, out
        self.briefs = {brief.key: brief for brief in briefs}
        if len(self.briefs) != len(briefs):
            raise ValueError("two briefs have the same key")
        wanted = max(16, len(briefs) // 6) if config.spread_briefs is None else config.spread_briefs
        self.spread_briefs = min(wanted, len(briefs))
        self.first = [
            Try(brief.key, slot, 1)
            for number, brief in enumerate(briefs)
            for slot in range(1, 1 + (config.pictures if number < self.spread_briefs else 1))
        ]
        self.slots = len(self.first)
        self.diversity_by, self.diversity = _diversity(models, lpips)

    def gallery(self, name: str, folder: Path | None, advance: Advance) -> Gallery:
        """The generator of a row at work."""

        def count(made: Sequence[Made]) -> None:
            advance(sum(one.place.number == 1 for one in made), f"{name}, {sum(one.passed for one in made)} passed")

        models = self.models if folder is None else with_adapter(self.models, folder)
        suffix = (self.config.suffix or "") if name == "prompt" else ""
        kept = frozenset(list(self.briefs)[: self.spread_briefs])
        return Gallery(
            models=models,
            briefs=self.briefs,
            judges=self.judges,
            seed=self.config.seed,
            folder=self.out / "attempts" / self._digest(models, suffix),
            batch=self.config.batch,
            suffix=suffix,
            kept=kept,
            advance=count,
        )

    def rows(self, name: str, gallery: Gallery) -> "list[tuple[Row, Gallery | _Both]]":
        """The rows that this generator makes, base first of all, and where their pictures are."""
        once = [Pick(chosen=made, tried=(made,)) for made in gallery.make(self.first)]
        found: dict[str, tuple[Sequence[Pick], Gallery | _Both]] = {name: (once, gallery)}
        if name == BASE:
            self.base = gallery
            again = recurrent(gallery, self.first, self.config.attempts)
            budget = sum(len(one.tried) for one in again)
            found |= {"recurrent": (again, gallery), "best_of_n": (best_of(gallery, self.first, budget), gallery)}
        if name == LOOPED:
            both = _Both(self.base, gallery)
            found[f"{name}_recurrent"] = recurrent(gallery, self.first, self.config.attempts), gallery
            found["rescued"] = recurrent(self.base, self.first, self.config.attempts, gallery), both
        return [(self._row(row, picks, source), source) for row, (picks, source) in found.items()]

    def _row(self, name: str, picks: Sequence[Pick], gallery: "Gallery | _Both") -> Row:
        by_brief = [list(group) for _, group in groupby(picks, key=lambda one: one.chosen.place.brief)]
        spread = [
            float(self.diversity(torch.stack([gallery.picture(pick.chosen.place) for pick in brief])))
            for brief in by_brief[: self.spread_briefs]
        ]
        return Row(name=name, picks=by_brief, spread=np.array(spread))

    def strip(self, row: Row, gallery: "Gallery | _Both") -> Images:
        """Its first picture of each of the first briefs."""
        shown = row.picks[: min(STRIP, self.spread_briefs)]
        return torch.stack([gallery.picture(picks[0].chosen.place) for picks in shown])

    def _digest(self, models: "Models", suffix: str) -> str:
        """Of all that an attempt is a function of, besides its place."""
        judges = (
            self.judges.judge,
            self.judges.held_out,
            self.judges.saliency,
            getattr(self.judges.fidelity, "clip", None),
        )
        briefs = [(brief.key, brief.title, brief.prompt) for brief in self.briefs.values()]
        parts = [goodeye.__version__, suffix, self.config.seed, asdict(models.model_set.settings), briefs,
                 [getattr(one, "version", "") for one in judges], self.config.pictures, self.spread_briefs]  # fmt: skip
        pixels = hashlib.sha256()
        for brief in self.briefs.values():
            pixels.update((brief.canvas.product * 255).round().byte().numpy().tobytes())
        networks = (models.unet, models.controlnet, models.vae, models.text_encoder)
        return fingerprint(*networks, repr(parts), pixels.hexdigest())


@dataclass(frozen=True)
class _Both:
    """Pictures of two generators, of which one makes each slot's first attempt and the other its retries."""

    first: Gallery
    again: Gallery

    def picture(self, place: Try) -> Tensor:
        return (self.first if place.number == 1 else self.again).picture(place)


def recurrent(gallery: Gallery, first: Sequence[Try], attempts: int, retries: Gallery | None = None) -> list[Pick]:
    """Each slot tried again until it passes or has had its attempts; then its best by p(available). retries: what makes
    all attempts but the first ones, if not the same generator."""
    tried = {(one.brief, one.slot): [made] for one, made in zip(first, gallery.make(first), strict=True)}
    for _ in range(1, attempts):
        again = {slot: made[-1].place.again() for slot, made in tried.items() if not made[-1].passed}
        for slot, made in zip(again, (retries or gallery).make(again.values()), strict=True):
            tried[slot].append(made)
    return [Pick(chosen=_best(made), tried=tuple(made)) for made in tried.values()]


def best_of(gallery: Gallery, first: Sequence[Try], budget: int) -> list[Pick]:
    """Each slot's best by p(available) of as many attempts as all slots together have `budget` for, shared evenly."""
    ends = [budget * (at + 1) // len(first) - budget * at // len(first) for at in range(len(first))]
    places = [
        [one._replace(number=number) for number in range(1, end + 1)] for one, end in zip(first, ends, strict=True)
    ]
    gallery.make(place for slot in places for place in slot)
    tried = [gallery.make(slot) for slot in places]
    return [Pick(chosen=_best(made), tried=tuple(made)) for made in tried]


def _best(made: Sequence[Made]) -> Made:
    """The one that passed, else the one with the highest p(available); the earliest of equals."""
    return max(made, key=lambda one: (one.passed, one.available, -one.place.number))


def _judges(models: "Models", briefs: Sequence[Placed], held_out: Inspector | None) -> Judges:
    roles, contexts = models.model_set.roles, [brief.context for brief in briefs]
    differ = all(one.prompt for one in contexts) and all(other_prompts(contexts))
    return Judges(
        judge=models.rfnet,
        held_out=held_out,
        fidelity=PromptFidelity(models.clip, contexts) if differ and "clip" in roles else None,
        saliency=models.saliency if "saliency" in roles else None,
    )


def _diversity(models: "Models", lpips: Lpips | None) -> tuple[str, Callable[[Images], Tensor]]:
    """The measure of diversity within a brief, and its name: the best of those at hand."""
    if lpips is not None:
        return "lpips", lpips.diversity
    if "clip" in models.model_set.roles:
        features = Features(models.clip)
        return "clip features", torch.no_grad()(features.diversity)
    return "pixels", pixel_spread


def _require_names(adapters: Mapping[str, Path]) -> None:
    taken = {BASE, "prompt", "recurrent", "best_of_n", f"{LOOPED}_recurrent", "rescued"} & set(adapters)
    if taken:
        raise BadInput(f"a row cannot be called {min(taken)}, which is one of the proof's own. Give it another name.")


def _progress(total: int, shown: bool) -> AbstractContextManager[Advance]:
    return show_progress("proving", total, "slots") if shown else nullcontext(lambda count=1, note=None: None)


# --- the numbers


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """rows: for each row each measure as {mean, low, high}; None where a row has none. minus_base: paired differences
    to base. share_of_base: of diversity and cost, as a part of base's."""
    tables = {row.name: measures(row) for row in rows}
    base = tables[BASE]
    others = {name: table for name, table in tables.items() if name != BASE}
    return {
        "rows": {name: {measure: _told(values) for measure, values in table.items()} for name, table in tables.items()},
        "minus_base": {
            name: {measure: _minus(values, base[measure]) for measure, values in table.items() if measure in base}
            for name, table in others.items()
        },
        "share_of_base": {
            name: {measure: _share(table[measure], base[measure]) for measure in ("diversity", "evals_per_available")}
            for name, table in others.items()
        },
        "made": {
            row.name: {
                "slots": sum(map(len, row.picks)),
                "attempts": sum(len(pick.tried) for brief in row.picks for pick in brief),
                "evals": sum(made.evals for brief in row.picks for pick in brief for made in pick.tried),
            }
            for row in rows
        },
    }


def measures(row: Row) -> dict[str, Float[Array, "B K"]]:
    """Each measure, a line a brief: [B, 1], of which the mean is taken, or [B, 2], whose sums' ratio is."""

    def mean(of: Callable[[Pick], float]) -> Array:
        return np.array([[np.mean([of(pick) for pick in brief])] for brief in row.picks])

    def ratio(over: Callable[[Pick], float], under: Callable[[Pick], float]) -> Array:
        """Sums over a brief are divided by its number of pictures: each brief weighs the same."""
        return np.array([[np.mean([of(pick) for pick in brief]) for of in (over, under)] for brief in row.picks])

    def good(pick: Pick) -> float:
        return float(pick.chosen.good)

    picks = [pick for brief in row.picks for pick in brief]
    held_out = all(pick.chosen.held_out for pick in picks)
    found = {"available_judge": mean(lambda pick: float(pick.chosen.passed))}
    if held_out:
        found["available_oracle"] = mean(good)
        found["precision"] = ratio(
            lambda pick: float(pick.chosen.passed and pick.chosen.good), lambda pick: float(pick.chosen.passed)
        )
    found["diversity"] = row.spread[:, None]
    known = set.intersection(*(set(pick.chosen.numbers) for pick in picks))
    fidelity = FIDELITY if FIDELITY in known else "clip_fidelity"
    for name, number in ((FIDELITY, fidelity), *((name, name) for name in sorted(known - {FIDELITY}))):
        if number in known:
            found[name] = mean(lambda pick, number=number: pick.chosen.numbers[number])  # type: ignore[misc]
    found["evals_per_available"] = ratio(lambda pick: float(sum(one.evals for one in pick.tried)), good)
    found["seconds_per_available"] = ratio(lambda pick: sum(one.seconds for one in pick.tried), good)
    return found


def _statistic(values: Array) -> float:
    """The mean of [B, 1]; of [B, 2] the ratio of the sums, NaN where the second is 0."""
    if values.shape[1] == 1:
        return float(values.mean())
    over, under = values.sum(0)
    return float(over / under) if under > 0 else float("nan")


def _told(values: Array) -> dict[str, float | None]:
    return (bootstrap(values, _statistic) if np.isfinite(_statistic(values)) else UNKNOWN).to_json()


def _minus(values: Array, base: Array) -> dict[str, float | None]:
    whole = _statistic(values) - _statistic(base)
    return (paired_bootstrap(values, base, _statistic) if np.isfinite(whole) else UNKNOWN).to_json()


def _share(values: Array, base: Array) -> dict[str, float | None]:
    """A measure as a part of base's, both resampled alike."""
    columns = values.shape[1]

    def part(both: Array) -> float:
        under = _statistic(both[:, columns:])
        return _statistic(both[:, :columns]) / under if under else float("nan")

    both = np.concatenate([values, base], 1)
    return (bootstrap(both, part) if np.isfinite(part(both)) else UNKNOWN).to_json()


def interval(values: Sequence[float | bool]) -> dict[str, float | None] | None:
    """The mean of single numbers with its interval, as JSON; None where there are none."""
    return _told(np.asarray(values, dtype=float)[:, None]) if values else None
