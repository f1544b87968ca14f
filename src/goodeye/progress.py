"""Progress of long work, on stderr: a bar with rate and time left on a terminal, else a plain line now and then."""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import Protocol, TypeVar

Item = TypeVar("Item")


class Advance(Protocol):
    """Counts work as done. `note`, if given, replaces the words at the end of the line."""

    def __call__(self, count: int = 1, note: str | None = None) -> None: ...


FIRST_LINE = 10.0  # seconds until the first plain line; shorter work stays silent
NEXT_LINE = 60.0  # seconds between plain lines after it


@contextmanager
def progress(label: str, total: int | None = None, unit: str = "items") -> Iterator[Advance]:
    """Gives a function `advance(count=1, note=None)` to call as work gets done.

    label: what is being done, in a few words. total: how many units there are, None if that is not known.
    """
    if sys.stderr.isatty():
        with _bar(label, total, unit) as advance:
            yield advance
    else:
        yield _plain(label, total, unit)


def track(items: Iterable[Item], label: str, total: int | None = None, unit: str = "items") -> Iterator[Item]:
    """Yields the items and counts each as done when the next one is asked for."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with progress(label, total, unit) as advance:
        for item in items:
            yield item
            advance()


@contextmanager
def _bar(label: str, total: int | None, unit: str) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task(label, total=total, rate="", note="")
        started = time.monotonic()
        done = 0

        def advance(count: int = 1, note: str | None = None) -> None:
            nonlocal done
            done += count
            rate = _rate(done, time.monotonic() - started, unit)
            if note is None:
                bars.update(task, advance=count, rate=rate)
            else:
                bars.update(task, advance=count, rate=rate, note=note)

        yield advance


def _plain(label: str, total: int | None, unit: str) -> Advance:
    started = time.monotonic()
    next_line = started + FIRST_LINE
    done = 0

    def advance(count: int = 1, note: str | None = None) -> None:
        nonlocal done, next_line
        done += count
        now = time.monotonic()
        if now >= next_line:
            next_line = now + NEXT_LINE
            print(plain_line(label, done, total, now - started, unit, note or ""), file=sys.stderr, flush=True)

    return advance


def plain_line(label: str, done: int, total: int | None, seconds: float, unit: str, note: str = "") -> str:
    """One line on how far the work is: `making ads: 12 of 40 images, 1.5 images/s, 19 s left`."""
    parts = [f"{done} of {total} {unit}" if total is not None else f"{done} {unit}", _rate(done, seconds, unit)]
    if total is not None and done:
        parts.append(f"{duration((total - done) * seconds / done)} left")
    return f"{label}: {', '.join(part for part in [*parts, note] if part)}"


def duration(seconds: float) -> str:
    """Seconds as a person says them: `8 s`, `4 min 10 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _rate(done: int, seconds: float, unit: str) -> str:
    if not done or seconds <= 0:
        return ""
    rate = done / seconds
    return f"{rate:.3g} {unit}/s" if rate >= 0.1 else f"{rate * 60:.2g} {unit}/min"
