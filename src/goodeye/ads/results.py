"""What came of a run: each brief's slots, each slot's attempts, as the ledger has them."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goodeye.ledger.rows import AttemptRow
from goodeye.scheduler import Outcome
from goodeye.tables import Skipped

if TYPE_CHECKING:
    from goodeye.ads.calibrate import Calibration

PASSED, NOT_PASSED = "passed", "not_passed"  # folders of the run for the pictures kept
AVAILABLE = "available"  # the axis by which a picture passes
STOPPED = "stopped"  # the label of an attempt that was stopped early; its picture is a prediction and never passes


@dataclass(frozen=True, kw_only=True)
class AttemptResult:
    """One attempt: its place, its picture in the ledger, and what the inspector said of it."""

    id: int
    slot: int
    number: int
    seed: int
    image: Path
    label: str
    available: float
    passed: bool
    scores: Mapping[str, float]
    failures: Sequence[str]
    seconds: float
    evals: int = 0  # of the denoiser; the two branches of guidance are one

    @property
    def stopped(self) -> bool:
        """True if a check ended it before its last step."""
        return self.label == STOPPED


@dataclass(frozen=True, kw_only=True)
class SlotResult:
    """One wanted picture: passed or not, with all its attempts in order."""

    slot: int
    attempts: Sequence[AttemptResult]

    @property
    def best(self) -> AttemptResult:
        """The attempt that passed, else the finished one with the highest p(available), else such a stopped one; the
        earliest of equals."""
        return max(self.attempts, key=lambda one: (one.passed, not one.stopped, one.available, -one.number))

    @property
    def passed(self) -> bool:
        return any(one.passed for one in self.attempts)


@dataclass(frozen=True, kw_only=True)
class BriefResult:
    """One product with its pictures."""

    key: str
    title: str
    prompt: str
    source: str
    product: Path | None
    slots: Sequence[SlotResult]

    @property
    def attempts(self) -> Iterator[AttemptResult]:
        return (one for slot in self.slots for one in slot.attempts)

    @property
    def passed(self) -> int:
        """How many of its slots have a picture that passed."""
        return sum(slot.passed for slot in self.slots)

    def picture(self, slot: SlotResult) -> str:
        """Where the slot's picture lies in the run's folder."""
        return picture_name(self.key, slot.slot, passed=slot.passed)


@dataclass(frozen=True, kw_only=True)
class Result:
    """What `make` returns: everything that came of a run, and where it is.

    run: its id in the ledger; None if no input was usable. Without briefs nothing was written. promise: what the
    threshold promises of the pictures that passed, if it was asked for.
    """

    out: Path
    ledger: str
    run: int | None
    command: Mapping[str, Any]
    threshold: float
    briefs: Sequence[BriefResult] = ()
    problems: Sequence[Skipped] = ()
    promise: "Calibration | None" = None

    @property
    def report(self) -> Path:
        return self.out / "report.html"

    @property
    def slots(self) -> list[SlotResult]:
        return [slot for brief in self.briefs for slot in brief.slots]

    @property
    def attempts(self) -> list[AttemptResult]:
        return [one for slot in self.slots for one in slot.attempts]

    @property
    def passed(self) -> int:
        """How many of the wanted pictures passed."""
        return sum(slot.passed for slot in self.slots)

    @property
    def failures(self) -> dict[str, int]:
        """How many attempts failed, by the class that the inspector saw, most frequent first."""
        return dict(Counter(failed_as(one) for one in self.attempts if not one.passed).most_common())

    @property
    def evals(self) -> int:
        """Denoiser evaluations of all attempts."""
        return sum(one.evals for one in self.attempts)

    def passed_within(self) -> list[int]:
        """How many slots had passed after 1, 2, … attempts."""
        most = max((len(slot.attempts) for slot in self.slots), default=0)
        return [
            sum(any(one.passed for one in slot.attempts[:number]) for slot in self.slots)
            for number in range(1, most + 1)
        ]

    def summary(self) -> str:
        """One line: how many pictures passed, in how many attempts, at how many products."""
        words = [
            f"{self.passed} of {count(len(self.slots), 'picture')} passed, "
            f"in {count(len(self.attempts), 'attempt')} at {count(len(self.briefs), 'product')}."
        ]
        if without := sum(brief.passed == 0 for brief in self.briefs):
            words.append(f"{count(without, 'product')} without any that passed.")
        return " ".join(words)

    def cost(self) -> str:
        """One line: the denoiser evaluations, in all and for each picture that passed, and how many were stopped."""
        each = f", {self.evals / self.passed:.1f} for each picture that passed" if self.passed else ""
        stopped = sum(one.stopped for one in self.attempts)
        return f"{count(self.evals, 'denoiser evaluation')}{each}. {count(stopped, 'attempt')} stopped early."

    def as_json(self) -> dict[str, Any]:
        """The same as plain data: paths relative to the run's folder where they lie in it."""
        return {
            "run": self.run,
            "ledger": self.ledger,
            "command": dict(self.command),
            "threshold": self.threshold,
            "promise": self.promise.as_json() if self.promise else None,
            "totals": {
                "briefs": len(self.briefs),
                "briefs_without_a_passed_picture": sum(brief.passed == 0 for brief in self.briefs),
                "slots": len(self.slots),
                "slots_passed": self.passed,
                "attempts": len(self.attempts),
                "slots_passed_within_attempts": self.passed_within(),
                "failures": self.failures,
                "evals": self.evals,
                "seconds": round(sum(one.seconds for one in self.attempts), 3),
            },
            "briefs": [_brief_json(brief) for brief in self.briefs],
            "problems": [{"name": problem.name, "message": problem.message} for problem in self.problems],
        }


def failed_as(attempt: AttemptResult) -> str:
    """Why an attempt failed, as a class: its label, or "unsure" where available led, but stayed below the threshold."""
    if attempt.stopped:
        return STOPPED
    likeliest = max(attempt.scores, key=lambda name: attempt.scores[name])
    return "unsure" if AVAILABLE in (likeliest, attempt.label) else attempt.label


def picture_name(key: str, slot: int, *, passed: bool) -> str:
    """Where a brief's picture lies in the run's folder; distinct for distinct keys and slots."""
    return f"{PASSED if passed else NOT_PASSED}/{key}-{slot}.png"


def why(passed: bool, label: str, available: float, threshold: float, best_of: int = 0) -> str:
    """The reason that goes with a pick. best_of: of how many failed attempts it is the best, 0 if it is not."""
    figures = f"p(available) {available:.3f}, threshold {threshold:g}"
    if passed:
        return f"passed: {figures}"
    return f"best of {best_of}, not passed: {label}, {figures}" if best_of else f"{label}: {figures}"


def count(number: int, what: str) -> str:
    """`1 picture`, `2 pictures`."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def passes(row: AttemptRow, threshold: float) -> bool:
    """Whether the inspector's verdict, the first on record, reaches the threshold. A stopped attempt never passes."""
    return bool(row.verdicts) and not stopped(row) and row.verdicts[0].scores[AVAILABLE] >= threshold


def stopped(row: AttemptRow) -> bool:
    """Whether a check ended the attempt before its last step."""
    return bool(row.verdicts) and row.verdicts[0].label == STOPPED


def outcomes(rows: Sequence[AttemptRow], threshold: float) -> list[Outcome]:
    """The ledger's attempts as the scheduler takes them."""
    return [
        Outcome(row.brief_key, row.slot, row.number, passes(row, threshold), row.evals, stopped(row)) for row in rows
    ]


def slot_results(rows: Sequence[AttemptRow], threshold: float, image_path: Any) -> list[SlotResult]:
    """The slots of one brief, in order, each with its attempts in order. image_path: where a picture is."""
    slots: dict[int, list[AttemptResult]] = {}
    for row in sorted(rows, key=lambda row: (row.slot, row.number)):
        verdict = row.verdicts[0]
        slots.setdefault(row.slot, []).append(
            AttemptResult(
                id=row.id,
                slot=row.slot,
                number=row.number,
                seed=row.seed,
                image=image_path(row.image_sha),
                label=verdict.label,
                available=verdict.scores[AVAILABLE],
                passed=passes(row, threshold),
                scores=verdict.scores,
                failures=verdict.failures,
                seconds=row.seconds,
                evals=row.evals,
            )
        )
    return [SlotResult(slot=number, attempts=tuple(tries)) for number, tries in slots.items()]


def _brief_json(brief: BriefResult) -> dict[str, Any]:
    return {
        "key": brief.key,
        "title": brief.title,
        "prompt": brief.prompt,
        "image": brief.source,
        "passed": brief.passed,
        "slots": [
            {
                "slot": slot.slot,
                "passed": slot.passed,
                "picture": brief.picture(slot),
                "chosen": slot.best.number,
                "attempts": [_attempt_json(one) for one in slot.attempts],
            }
            for slot in brief.slots
        ],
    }


def _attempt_json(one: AttemptResult) -> dict[str, Any]:
    return {
        "number": one.number,
        "seed": one.seed,
        "passed": one.passed,
        "label": one.label,
        "available": one.available,
        "scores": dict(one.scores),
        "failures": list(one.failures),
        "image": str(one.image),
        "evals": one.evals,
        "seconds": round(one.seconds, 3),
    }
