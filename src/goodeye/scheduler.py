"""Try again until a judge is content, with the batch kept full (ads paper, section 3.2).

A brief wants `want` pictures: each is a slot. A slot gets new noise again and again until an attempt passes or its
attempts run out. Slots of all briefs share one batch, and a slot that ends gives its place to the next one, so the
batch shrinks only when fewer slots are left than it has places. Nothing here knows of pictures or of torch.

An attempt may run in several legs, with a check between two of them. Attempts that go the same leg share a batch,
whatever batch they came from, so that a place that a check freed does not stay empty.
"""

from collections import defaultdict
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar


class Try(NamedTuple):
    """One attempt to make: of which brief, for which slot (from 1), and the how-manieth of the slot (from 1)."""

    brief: str
    slot: int
    number: int

    def again(self) -> "Try":
        return self._replace(number=self.number + 1)


class Outcome(NamedTuple):
    """One attempt already made, as the ledger knows it. evals: of the denoiser; stopped: early, by a check."""

    brief: str
    slot: int
    number: int
    passed: bool
    evals: int = 0
    stopped: bool = False


class Leg(NamedTuple):
    """A stretch of the sampler that an attempt runs in one go: from `start` steps done to `stop` steps done. by: which
    generator, where a run has two."""

    attempt: Try
    start: int
    stop: int
    by: int = 0


def open_slots(briefs: Iterable[str], *, want: int, attempts: int, made: Iterable[Outcome] = ()) -> Iterator[Try]:
    """The next attempt of each slot that is not finished, brief by brief.

    `made` is any state of the ledger: a slot with an attempt that passed, or with all its attempts made, is finished,
    and the others go on after their last attempt. Briefs are taken from the iterator only as they are needed.
    """
    passed: set[tuple[str, int]] = set()
    last: dict[tuple[str, int], int] = defaultdict(int)
    for one in made:
        place = (one.brief, one.slot)
        last[place] = max(last[place], one.number)
        if one.passed:
            passed.add(place)
    for brief in briefs:
        for slot in range(1, want + 1):
            number = last[(brief, slot)] + 1
            if (brief, slot) not in passed and number <= attempts:
                yield Try(brief, slot, number)


def full_batches(slots: Iterable[Try], *, attempts: int, size: int) -> Generator[list[Try], Sequence[bool], None]:
    """Yields batches of at most `size` attempts, each of another slot; send back which of them passed, in that order.

    A slot that failed tries again in the next batch; one that passed or ran out gives its place to the next of `slots`.
    A batch is short only when no slot waits. The order depends on `slots` and the answers alone.

        batches = full_batches(open_slots(...), attempts=5, size=16)
        batch = next(batches, None)
        while batch: batch = send(batches, [attempt(one) for one in batch])
    """
    legs = grouped_batches((Leg(one, 0, 1) for one in slots), size=size)
    batch = next(legs, None)
    while batch:
        passed = yield [leg.attempt for leg in batch]
        if passed is None or len(passed) != len(batch):
            raise ValueError(f"{len(batch)} attempts were handed out; send back as many answers")
        again = [
            leg._replace(attempt=leg.attempt.again()) if not ok and leg.attempt.number < attempts else None
            for leg, ok in zip(batch, passed, strict=True)
        ]
        batch = send(legs, again)


def grouped_batches(legs: Iterable[Leg], *, size: int) -> Generator[list[Leg], Sequence[Leg | None], None]:
    """Yields batches of at most `size` equal stretches; send back what comes next at each place, in that order.

    What comes next is the attempt's next leg, the first leg of its slot's next attempt, or None when the slot has
    ended. `legs` are the first ones of the slots that wait, taken one by one as places are free. A batch is short only
    when no slot waits and no stretch has enough for a full one; then the earliest goes first, so that its survivors
    fill the later ones. The order depends on `legs` and the answers alone.
    """
    waiting = iter(legs)
    groups: dict[tuple[int, int, int], list[Leg]] = {}
    while True:
        full = [stretch for stretch, group in groups.items() if len(group) >= size]
        if not full and (new := next(waiting, None)) is not None:
            groups.setdefault(new[1:], []).append(new)
            continue
        if not full and not groups:
            return
        stretch = max(full) if full else min(groups)
        group = groups.pop(stretch)
        batch, rest = group[:size], group[size:]
        if rest:
            groups[stretch] = rest
        answers = yield batch
        if answers is None or len(answers) != len(batch):
            raise ValueError(f"{len(batch)} legs were handed out; send back as many answers")
        for leg in answers:
            if leg is not None:
                groups.setdefault(leg[1:], []).append(leg)


Batch = TypeVar("Batch")
Answer = TypeVar("Answer")


def send(batches: Generator[Batch, Sequence[Answer], None], answers: Sequence[Answer]) -> Batch | None:
    """Answers the last batch and returns the next one, or None when every slot is finished."""
    try:
        return batches.send(answers)
    except StopIteration:
        return None
