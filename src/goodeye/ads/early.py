"""Stopping an attempt that will fail before its last step, by what the inspector says of its x0 predictions (ours).

A rule is calibrated on attempts recorded whole: readings of p(available) of x0_hat at some steps, and of the finished
picture. Its promise is about good attempts, those whose finished picture passes: at most a share of them is lost, over
all checks together, with a confidence. Plain numbers in, plain numbers out; the recording is in `trajectories`.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from goodeye.ads.maker import Maker, difference
from goodeye.atomic import write_bytes
from goodeye.errors import BadInput
from goodeye.modelset import starts_of

Array = np.ndarray[Any, Any]

SHARE, CONFIDENCE = 0.02, 0.95  # of the good attempts, at most so many are lost; how surely that is so
SHAPED = 4  # every so-manieth good and failed attempt is for choosing the checks, the others are for the promise
FEWEST = 10  # good attempts that the checks are chosen on, at least
MOST = 2  # checks of a rule: each costs a reading of every attempt that comes to it
_NEVER = 1e-6  # probabilities nearer to 0 or 1 than this are taken as this


class Trajectory(NamedTuple):
    """p(available) of one attempt: of x0_hat at each candidate check, in order, and of the finished picture."""

    readings: tuple[float, ...]
    final: float


@dataclass(frozen=True, kw_only=True)
class Setting(Maker):
    """What a rule holds for: what makes and inspects, and when a picture passes."""

    threshold: float

    @property
    def evaluations(self) -> int:
        """Of the denoiser, for a whole attempt."""
        return len(starts_of(self.steps, self.stride))


class Check(NamedTuple):
    """After `step` evaluations, an attempt whose p(available) lies below `below` is stopped."""

    step: int
    below: float


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What a rule rests on. The first line is of all attempts recorded, the others of those that the promise is for.

    lost: good ones that the rule stops. saved: failed ones that it stops. evals_plain, evals: of the denoiser for each
    good picture, without and with the rule.
    """

    recorded: int
    good: int
    promised_on: int  # good attempts
    lost: int
    failed: int
    saved: int
    evals_plain: float
    evals: float


@dataclass(frozen=True, kw_only=True)
class Rule:
    """When to stop an attempt, and what that is promised to lose.

    seconds: of a denoiser evaluation and of a reading, for one picture, as the recording took them.
    """

    setting: Setting
    checks: tuple[Check, ...]
    share: float
    confidence: float
    counts: Counts
    seconds: Mapping[str, float]

    def stops(self, step: int, available: float) -> bool:
        """Whether an attempt with this reading after `step` steps is to be stopped."""
        return any(check.step == step and available < check.below for check in self.checks)

    @property
    def version(self) -> str:
        """Changes whenever another attempt could be stopped."""
        found = json.dumps([asdict(self.setting), self.checks], sort_keys=True)
        return hashlib.sha256(found.encode()).hexdigest()[:12]

    def require(self, setting: Setting) -> None:
        """Raises BadInput where a run is not what the rule was calibrated for: its promise would not hold."""
        if other := difference(self.setting, setting):
            what, ours, theirs = other
            raise BadInput(
                f"The early-stopping rule was calibrated for {what} {ours}, and this run has {theirs}. "
                "Calibrate one for this run with `goodeye ads early`."
            )

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "checks": [check._asdict() for check in self.checks]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Rule":
        """What `as_json` gave. Raises KeyError, TypeError or ValueError for anything else."""
        checks = tuple(Check(int(check["step"]), float(check["below"])) for check in data["checks"])
        if not all(math.isfinite(check.below) for check in checks):
            raise ValueError("a threshold that is no number")
        parts = {"setting": Setting(**data["setting"]), "counts": Counts(**data["counts"]), "checks": checks}
        return cls(**{**data, **parts})

    def save(self, path: str | Path) -> None:
        """Writes the file whole or not at all."""
        write_bytes(path, (json.dumps(self.as_json(), indent=1, allow_nan=False) + "\n").encode())

    @classmethod
    def load(cls, path: str | Path) -> "Rule":
        """Reads what `save` wrote; of a folder, its early.json. Raises BadInput if there is no such rule."""
        file = Path(path) / RULE if Path(path).is_dir() else Path(path)
        try:
            return cls.from_json(json.loads(file.read_text(encoding="utf-8")))
        except OSError as error:
            raise BadInput(f"{file} cannot be read: {error.strerror}. Make one with `goodeye ads early`.") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadInput(f"{file} is not an early-stopping rule. Make one with `goodeye ads early`.") from error


RULE = "early.json"


def allowed(good: int, share: float, confidence: float) -> int:
    """How many of `good` recorded good attempts a rule may lose; -1: there are too few for any rule.

    The largest k with P(Binomial(good, share) <= k) <= 1 - confidence. A threshold just above the k-th smallest of
    `good` independent readings then lies, with at least that confidence, where at most `share` of all lie below: a
    distribution-free tolerance limit (Wilks 1941).
    """
    below, k = 0.0, -1
    while k < good:
        below += math.exp(_log_binomial(good, k + 1, share))
        if below > 1 - confidence:
            break
        k += 1
    return k


def needed(share: float, confidence: float) -> int:
    """How many good attempts the promise must be made on: the fewest for which `allowed` is not -1."""
    return math.ceil(math.log(1 - confidence) / math.log(1 - share))


def needed_in_all(share: float, confidence: float) -> int:
    """How many good attempts a recording must hold, those included that the checks are chosen on."""
    return max(math.ceil(needed(share, confidence) * SHAPED / (SHAPED - 1)), FEWEST * SHAPED)


def _log_binomial(n: int, k: int, p: float) -> float:
    choose = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return choose + k * math.log(p) + (n - k) * math.log1p(-p)


def calibrate(
    trajectories: Sequence[Trajectory],
    steps: Sequence[int],
    setting: Setting,
    *,
    share: float = SHARE,
    confidence: float = CONFIDENCE,
    most: int = MOST,
    seconds: Mapping[str, float] | None = None,
) -> Rule:
    """The rule that saves most evaluations among those that keep the promise: with `confidence`, a new good attempt is
    stopped at any of the checks with probability at most `share`.

    trajectories: independent attempts; steps: the candidate checks that their readings were taken after. Every fourth
    one says how good readings are spread at each check and which of the checks, at most `most`, are worth it. That
    leaves one number free, how many spreads below the middle the thresholds are, and it is set on the others: by the
    order statistic of each good attempt's worst reading, which is exact over all checks together. Raises BadInput, with
    how many are needed, where there are too few good attempts.
    """
    check_options(share, confidence, most)
    steps = check_steps(steps, setting.evaluations)
    odds = _log_odds(np.array([one.readings for one in trajectories], dtype=float).reshape(-1, len(steps)))
    good = np.array([one.final >= setting.threshold for one in trajectories], dtype=bool)
    chosen_on = np.where(good, good.cumsum(), (~good).cumsum()) % SHAPED == 0
    for_choice, for_promise = int((good & chosen_on).sum()), int((good & ~chosen_on).sum())
    may_lose = allowed(for_promise, share, confidence)
    if may_lose < 0 or for_choice < FEWEST:
        raise BadInput(_too_few(len(good), int(good.sum()), share, confidence))
    centre, spread = _spread(odds[good & chosen_on])
    distance = (odds - centre) / spread  # of each reading from the good ones' middle: the same scale at every check
    at_choice = may_lose * for_choice // for_promise
    subsets = [subset for size in range(1, most + 1) for subset in combinations(range(len(steps)), size)]
    chosen = min(
        subsets,
        key=lambda subset: _cost(
            distance[chosen_on][:, list(subset)],
            good[chosen_on],
            [steps[i] for i in subset],
            setting.evaluations,
            _limit(distance[good & chosen_on][:, list(subset)], at_choice),
        ),
    )
    columns = list(chosen)
    limit = _limit(distance[good & ~chosen_on][:, columns], may_lose)
    checks = tuple(Check(steps[i], _probability(centre[i] + limit * spread[i])) for i in columns)
    counts = _counts(trajectories, steps, setting, checks, ~chosen_on)
    return Rule(
        setting=setting,
        checks=checks,
        share=share,
        confidence=confidence,
        counts=replace(counts, recorded=len(good), good=int(good.sum())),
        seconds=dict(seconds or {}),
    )


def check_steps(steps: Sequence[int], last: int) -> tuple[int, ...]:
    """The candidate checks. Raises BadInput unless they rise, and lie before the last step."""
    if not steps or list(steps) != sorted(set(steps)) or not 0 < steps[0] <= steps[-1] < last:
        raise BadInput(
            f"checks are {' '.join(map(str, steps)) or 'none'}. Give rising numbers of steps below {last}, "
            "which is how many the sampler takes."
        )
    return tuple(steps)


def check_options(share: float, confidence: float, most: int) -> None:
    """Raises BadInput for a promise that makes no sense."""
    for name, value in (("lose", share), ("confidence", confidence)):
        if not 0 < value < 1:
            raise BadInput(f"{name} is {value}. Give a number between 0 and 1.")
    if most < 1:
        raise BadInput(f"most is {most}. Give 1 check or more.")


def _too_few(recorded: int, good: int, share: float, confidence: float) -> str:
    wanted = needed_in_all(share, confidence)
    rate = max(good, 1) / max(recorded, 1)
    return (
        f"{good} of {recorded} recorded attempts are good, and to lose at most {share:.3g} of such with confidence "
        f"{confidence:.3g} takes {wanted}. Record about {math.ceil(1.1 * wanted / rate)}: "
        "go on with --resume and a higher --attempts."
    )


def _log_odds(probabilities: Float[Array, "N C"]) -> Float[Array, "N C"]:
    if not np.isfinite(probabilities).all():
        raise ValueError("a reading that is no number")
    p = probabilities.clip(_NEVER, 1 - _NEVER)
    return np.log(p / (1 - p))


def _probability(odds: float) -> float:
    """A threshold by its log odds: never above by rounding; 0, which stops nothing, below what is told apart."""
    p = 1 / (1 + math.exp(-odds)) if odds > -100 else 0.0
    return p * (1 - 1e-9) if p > _NEVER * 1.001 else 0.0


def _spread(odds: Float[Array, "N C"]) -> tuple[Float[Array, "C"], Float[Array, "C"]]:
    """The middle of the good ones' log odds at each check, and how far below it their lowest tenth begins."""
    centre, low = np.quantile(odds, [0.5, 0.1], axis=0)
    return centre, np.maximum(centre - low, 1e-3)


def _limit(distance: Float[Array, "N C"], may_lose: int) -> float:
    """The highest limit below which at most `may_lose` of these attempts have their worst reading."""
    return float(np.sort(distance.min(1))[may_lose])


def _cost(
    distance: Float[Array, "N C"], good: Bool[Array, "N"], steps: Sequence[int], last: int, limit: float
) -> tuple[float, int]:
    """Evaluations for each good attempt that is kept, and the number of checks: of equals, the fewer."""
    stopped = distance < limit
    spent = np.where(stopped.any(1), np.array(steps)[stopped.argmax(1)], last)
    kept = int((good & ~stopped.any(1)).sum())
    return (float(spent.sum()) / kept if kept else math.inf), len(steps)


def _counts(
    trajectories: Sequence[Trajectory],
    steps: Sequence[int],
    setting: Setting,
    checks: Sequence[Check],
    rows: Bool[Array, "N"],
) -> Counts:
    """What the checks do to the attempts that the promise was made on."""
    found = [one for one, used in zip(trajectories, rows, strict=True) if used]
    good = [one.final >= setting.threshold for one in found]
    whole = setting.evaluations
    spent = [evaluations(one, steps, whole, checks) for one in found]
    lost = sum(ok and cost < whole for ok, cost in zip(good, spent, strict=True))
    saved = sum(not ok and cost < whole for ok, cost in zip(good, spent, strict=True))
    return Counts(
        recorded=len(found),
        good=sum(good),
        promised_on=sum(good),
        lost=lost,
        failed=len(found) - sum(good),
        saved=saved,
        evals_plain=round(whole * len(found) / sum(good), 3),
        evals=round(sum(spent) / (sum(good) - lost), 3),
    )


def evaluations(one: Trajectory, steps: Sequence[int], last: int, checks: Sequence[Check]) -> int:
    """What an attempt costs under these checks: the steps up to the one that stops it, or all."""
    readings = dict(zip(steps, one.readings, strict=True))
    return next((check.step for check in checks if readings[check.step] < check.below), last)
