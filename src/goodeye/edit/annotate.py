"""Rewards for triplets by a large model: three calls each, a score from 0 to 5 and what failed in words.

The edit paper's perspectives. Following and preserving are asked with both pictures and the instruction; quality is
asked with the edited picture alone, so that nothing else can colour it. Prompts and the JSON schema are ours: the
published parser takes floats in single quotes only. An answer that cannot be used is asked for again and then stays
missing.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageOps
from pydantic import Field

from goodeye.atomic import append, mend, read_rows
from goodeye.edit.rewards import AXES, Rewards, from_json
from goodeye.edit.triplets import REWARDS, TABLE, Triplet, mark_of, usable, write_parquet, write_rewards
from goodeye.errors import BadInput
from goodeye.judging.large import Answer, Asked, BadAnswer
from goodeye.progress import progress
from goodeye.runfolder import RunFolder
from goodeye.tables import Skipped

if TYPE_CHECKING:
    from goodeye.judging.large import LargeModel

LONG_SIDE = 768  # pixels of a picture that is sent
ANSWERS = "annotations.jsonl"

SYSTEM = "You are a careful judge of edited pictures. You say only what can be seen, and answer in JSON."
_SCALE = "First name in `failure`, in at most 25 words, what is wrong in this respect; leave it empty if nothing is."
PROMPTS = {
    "following": (
        "The first picture is the original, the second is the edited one. The instruction was: {instruction}\n"
        "Does the edited picture show what was asked for, nothing misread, nothing left undone? Other readings that "
        f"fulfil the instruction count as right. {_SCALE} Then give a score from 0 (not at all) to 5 (entirely)."
    ),
    "preserving": (
        "The first picture is the original, the second is the edited one. The instruction was: {instruction}\n"
        "Did everything stay as it was that the instruction does not speak of: things, people, their details, "
        f"background, layout, style? {_SCALE} Then give a score from 0 (nothing stayed) to 5 (all of it stayed)."
    ),
    "quality": (
        "Look at this picture alone. Judge its clarity, artefacts and distortions, composition and light. "
        f"{_SCALE} Then give a score from 0 (unusable) to 5 (excellent)."
    ),
}


class Reward(Answer):
    """One perspective of one triplet."""

    failure: str
    score: float = Field(ge=0, le=5, allow_inf_nan=False)


Annotator = Callable[[str, Image.Image, Image.Image], Rewards]  # of an instruction, the original, the edited picture


@dataclass
class LargeAnnotator:
    """Asks a large model three times for each triplet. Several threads may call it. wrong: what was wrong with the last
    answer that could not be used."""

    model: "LargeModel"
    wrong: str = ""

    def __call__(self, instruction: str, original: Image.Image, edited: Image.Image) -> Rewards:
        """An answer that cannot be used is a missing score. Raises BadInput where the server fails."""
        both = [shown(original), shown(edited)]
        said = [self._ask(axis, instruction, both[1:] if axis == "quality" else both) for axis in AXES]
        first, second, third = (None if one is None else one.score for one in said)
        one, two, three = ("" if one is None else " ".join(one.failure.split()) for one in said)
        return Rewards((first, second, third), (one, two, three))

    def _ask(self, axis: str, instruction: str, images: list[Image.Image]) -> Reward | None:
        try:
            return self.model.ask(Asked(PROMPTS[axis].format(instruction=instruction), images, SYSTEM), Reward)
        except BadAnswer as error:
            self.wrong = str(error)
            return None


@dataclass(frozen=True)
class Spent:
    """What a large model was asked: requests, and tokens read and written, as the server counts them."""

    requests: int = 0
    read: int = 0
    written: int = 0

    @classmethod
    def by(cls, model: "LargeModel | None") -> "Spent":
        """So far."""
        return cls() if model is None else cls(model.requests, model.read, model.written)

    def since(self, before: "Spent") -> "Spent":
        """What was added."""
        return Spent(self.requests - before.requests, self.read - before.read, self.written - before.written)


@dataclass(frozen=True, kw_only=True)
class Price:
    """In any currency. request: of one. read, written: of a million tokens."""

    request: float = 0.0
    read: float = 0.0
    written: float = 0.0

    def of(self, spent: Spent) -> float:
        """The cost."""
        return spent.requests * self.request + (spent.read * self.read + spent.written * self.written) / 1e6


@dataclass(frozen=True, kw_only=True)
class Annotated:
    """What came of it. known: annotated before this call. missing: scores that no answer gave, by axis."""

    out: Path
    annotated: int
    known: int
    missing: dict[str, int]
    means: dict[str, float]
    seconds: float
    spent: Spent = Spent()
    cost: float = 0.0
    skipped: list[Skipped] = field(default_factory=list)

    def summary(self) -> str:
        """What a terminal shows."""
        lines = [f"{self.annotated} triplets annotated in {self.seconds:.0f} s; {self.known} were known."]
        lines += [f"{self._spent()}."] * bool(self.spent.requests or self.cost)
        lines += [f"{axis}: mean {self.means[axis]:.2f}" for axis in AXES if axis in self.means]
        lines += [f"missing: {', '.join(f'{axis} {n}' for axis, n in self.missing.items() if n)}"] * any(
            self.missing.values()
        )
        return "\n".join([*lines, f"rewards: {self.out / REWARDS}, {self.out / TABLE}"])

    def _spent(self) -> str:
        spent = self.spent
        rate = f", {60 * spent.requests / self.seconds:.3g} a minute" if spent.requests and self.seconds >= 1 else ""
        tokens = f", {spent.read} tokens read and {spent.written} written" if spent.read or spent.written else ""
        return f"{spent.requests} requests sent{rate}{tokens}{f', {self.cost:.2f} in all' if self.cost else ''}"

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and texts."""
        plain = {"out": str(self.out), "spent": vars(self.spent), "skipped": [vars(one) for one in self.skipped]}
        return {**vars(self), **plain}


def annotate(
    triplets: Iterable[Triplet | Skipped],
    annotator: Annotator,
    out: str | Path,
    *,
    about: Mapping[str, Any] | None = None,
    spent: Callable[[], Spent] = Spent,
    price: Price | None = None,
    workers: int = 4,
    again: bool = False,
) -> Annotated:
    """Annotates those triplets that `out` does not know yet, and writes rewards.json (RewardEdit's) and our Parquet.

    about: by what, and of what; a folder that was begun otherwise is refused. spent: what the annotator was asked so
    far; price: of that. workers: triplets asked about at once. again: those with a missing score are asked about once
    more. Killed at any moment, the same call goes on. A triplet whose pictures are gone, or are others than when it was
    annotated here, is skipped. Raises BadInput where the server fails: what was answered is kept, and a folder in which
    nothing was is free again; and for no workers.
    """
    if workers < 1:
        raise BadInput(f"workers is {workers}. Give 1 or more.")
    folder, began = RunFolder(Path(out)), time.monotonic()
    record = _begun(folder, about or {})
    known = {key: said for key, (_, said) in record.items() if said.complete or not again}
    before, sent, price = len(known), spent(), price or Price()
    skipped: list[Skipped] = []
    listed = [one for one in usable(triplets, skipped) if _as_before(one, record, skipped)]
    waiting = (one for one in listed if one.key not in known)
    new = sum(one.key not in known for one in listed)
    with _freed_if_empty(folder, known), progress("annotating", new, "triplets") as advance:
        for triplet, answer in _answers(waiting, annotator, workers):
            if isinstance(answer, Skipped):
                skipped.append(answer)
            else:
                mark, known[triplet.key] = answer
                said = {"key": triplet.key, "mark": mark, "rewards": known[triplet.key].to_json()}
                append(folder.path / ANSWERS, said)
            now = spent().since(sent)
            advance(note=f"{now.requests} requests" + (f", {price.of(now):.2f}" if price.of(now) else ""))
    whole = [replace(one, rewards=known[one.key]) for one in listed if one.key in known]
    write_rewards(whole, folder.path / REWARDS)
    unread = write_parquet(whole, folder.path / TABLE, str((about or {}).get("model", "")))
    skipped += [one for one in unread if one.name not in {other.name for other in skipped}]
    return _result(
        whole,
        out=folder.path,
        annotated=len(known) - before,
        known=before,
        seconds=time.monotonic() - began,
        spent=spent().since(sent),
        cost=round(price.of(spent().since(sent)), 6),
        skipped=skipped,
    )


@contextmanager
def _freed_if_empty(folder: RunFolder, known: Mapping[str, Rewards]) -> Iterator[None]:
    """Where the server refuses at once, as for a model's name that it does not know, the folder is not bound to it."""
    try:
        yield
    except BadInput:
        if not known and not read_rows(folder.path / ANSWERS):
            folder.forget(ANSWERS)
        raise


def _as_before(triplet: Triplet, record: Mapping[str, tuple[str, Rewards]], skipped: list[Skipped]) -> bool:
    """Whether the triplet is the one that is on record under its key, if any is: else its scores are another's."""
    mark, _ = record.get(triplet.key, ("", None))
    try:
        if not mark or mark == mark_of(triplet):
            return True
    except BadInput:  # a picture that is gone is named where the table is written
        return True
    why = "it was annotated here with other pictures or another instruction. Name another folder with --out."
    skipped.append(Skipped(triplet.key, f"{triplet.key}: {why}"))
    return False


def _begun(folder: RunFolder, about: Mapping[str, Any]) -> dict[str, tuple[str, Rewards]]:
    """What the folder knows already: of each triplet its mark, "" where that is not told, and its rewards."""
    if not folder.holds_a_run():
        require_no_rewards(folder)
        folder.require_free()
        folder.begin(about)
        return {}
    require_same(folder, about)
    mend(folder.path / ANSWERS)
    try:
        rows = read_rows(folder.path / ANSWERS)
        return {row["key"]: (str(row.get("mark", "")), from_json(row["rewards"])) for row in rows}
    except (ValueError, KeyError) as error:
        raise folder.damaged(ANSWERS) from error


def require_same(folder: RunFolder, about: Mapping[str, Any]) -> None:
    """Raises BadInput where the folder was annotated otherwise: by another judge, or of other triplets."""
    if (before := folder.config()) != about:
        changed = next(name for name in {**before, **about} if before.get(name) != about.get(name))
        raise BadInput(
            f"{folder.path} was annotated with {changed} {before.get(changed)}. Go on so, or name another folder."
        )


def require_no_rewards(folder: RunFolder) -> None:
    """Raises BadInput where someone else's annotations lie there, such as published ones beside their pictures."""
    for name in (REWARDS, TABLE):
        if (folder.path / name).exists():
            raise BadInput(f"{folder.path / name} was not made by this command. Name another folder with --out.")


def _answers(
    triplets: Iterator[Triplet], annotator: Annotator, workers: int
) -> Iterator[tuple[Triplet, tuple[str, Rewards] | Skipped]]:
    """Each triplet with its mark and what the annotator says, in order, `workers` of them asked about at once."""

    def call(triplet: Triplet) -> tuple[str, Rewards] | Skipped:
        try:
            mark, pictures = mark_of(triplet), (triplet.original.open(), triplet.edited.open())
        except BadInput as error:
            return Skipped(triplet.key, f"{triplet.key}: {error}")
        return mark, annotator(triplet.instruction, *pictures)

    with ThreadPoolExecutor(workers) as pool:
        asked: deque[tuple[Triplet, Future[tuple[str, Rewards] | Skipped]]] = deque()
        try:
            for triplet in triplets:
                asked.append((triplet, pool.submit(call, triplet)))
                if len(asked) >= 2 * workers:
                    first, answer = asked.popleft()
                    yield first, answer.result()
            while asked:
                first, answer = asked.popleft()
                yield first, answer.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _result(whole: list[Triplet], **values: Any) -> Annotated:
    missing, means = missing_and_means(whole)
    return Annotated(missing=missing, means=means, **values)


def missing_and_means(whole: Iterable[Triplet]) -> tuple[dict[str, int], dict[str, float]]:
    """By axis, of triplets with rewards: how many scores are missing, and the mean of the others, if there are any."""
    rows = [one.rewards.scores for one in whole if one.rewards]
    given = {axis: [row[at] for row in rows if row[at] is not None] for at, axis in enumerate(AXES)}
    missing = {axis: len(rows) - len(scores) for axis, scores in given.items()}
    return missing, {axis: sum(filter(None, scores)) / len(scores) for axis, scores in given.items() if scores}


def shown(img: Image.Image) -> Image.Image:
    """At most LONG_SIDE pixels a side."""
    return ImageOps.contain(img, (LONG_SIDE, LONG_SIDE)) if max(img.size) > LONG_SIDE else img
