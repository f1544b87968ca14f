"""Recurrent generation: try again until the inspector is content, with the batch kept full (ads paper, section 3.2).

A brief wants `want` pictures: each is a slot. A slot gets new noise again and again until an attempt passes or its
attempts run out. Slots of all briefs share one batch, and a slot that ends gives its place to the next one, so the
batch shrinks only when fewer slots are left than it has places. Nothing here knows of pictures or of torch.
"""

import hashlib
from collections import defaultdict, deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple


class Try(NamedTuple):
    """One attempt to make: of which brief, for which slot (from 1), and the how-manieth of the slot (from 1)."""

    brief: str
    slot: int
    number: int

    def again(self) -> "Try":
        return self._replace(number=self.number + 1)


class Outcome(NamedTuple):
    """One attempt already made, as the ledger knows it."""

    brief: str
    slot: int
    number: int
    passed: bool


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
    waiting = iter(slots)
    running: deque[Try] = deque()
    while True:
        running.extend(islice(waiting, size - len(running)))
        if not running:
            return
        batch = list(running)
        passed = yield batch
        if passed is None or len(passed) != len(batch):
            raise ValueError(f"{len(batch)} attempts were handed out; send back as many answers")
        running = deque(one.again() for one, ok in zip(batch, passed, strict=True) if not ok and one.number < attempts)


def send(batches: Generator[list[Try], Sequence[bool], None], passed: Sequence[bool]) -> list[Try] | None:
    """Answers the last batch and returns the next one, or None when every slot is finished."""
    try:
        return batches.send(passed)
    except StopIteration:
        return None


def attempt_seed(run_seed: int, brief: str, slot: int, number: int) -> int:
    """The attempt's own seed, 63 bits, from the run's seed and its place: the same in whatever batch it runs."""
    digest = hashlib.sha256(f"{run_seed}/{brief}/{slot}/{number}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
