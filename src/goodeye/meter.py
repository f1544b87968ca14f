"""Seconds and peak memory of the parts of a computation, taken by hooks on the networks that do it."""

import resource
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from goodeye.errors import BadInput

_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


@dataclass
class Part:
    """What one part took. peak: bytes in use by everything at its highest while the part ran."""

    name: str
    calls: int = 0
    seconds: float = 0.0
    peak: int = 0

    @property
    def each(self) -> float:
        """Seconds a call."""
        return self.seconds / max(1, self.calls)


def table_of(title: str, parts: Iterable[Part]) -> list[str]:
    """A table for a terminal: the title before the columns' names, then a line for each part, its peak in GB."""
    return [f"{title:50}{'times':>8}{'s each':>10}{'seconds':>10}{'peak GB':>10}"] + [
        f"  {one.name:48}{one.calls:>8}{one.each:>10.3f}{one.seconds:>10.2f}{one.peak / 1e9:>10.2f}" for one in parts
    ]


@contextmanager
def fitting(what: str, device: str, instead: str) -> Iterator[None]:
    """A memory that is too small becomes BadInput, which says what to try instead."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise BadInput(f"{what} does not fit into the memory of {device}. Try {instead}.") from error


@dataclass
class Meter:
    """Parts by name, in the order in which they first began. Parts may lie in each other.

    Memory is what torch has allocated on an accelerator, and the process's resident memory on a CPU: on Linux its peak
    within each part, elsewhere the highest so far.
    """

    device: torch.device
    parts: dict[str, Part] = field(default_factory=dict)
    _open: list[tuple[Part, float]] = field(default_factory=list)

    @contextmanager
    def part(self, name: str) -> Iterator[Part]:
        """Measures what happens within."""
        measured = self._begin(name)
        try:
            yield measured
        finally:
            self._end()

    def watch(self, name: str, module: nn.Module) -> None:
        """Measures each forward call of a module as a part, from now on; calls with gradient as a part of their own."""

        def before(*_: Any) -> None:
            self._begin(f"{name}, with gradient" if torch.is_grad_enabled() else name)

        def after(*_: Any) -> None:
            self._end()

        module.register_forward_pre_hook(before)
        module.register_forward_hook(after, always_call=True)

    def take(self) -> dict[str, Part]:
        """The parts measured so far, which are then forgotten."""
        parts, self.parts = self.parts, {}
        return parts

    def _begin(self, name: str) -> Part:
        self._settle()
        found = self.parts.setdefault(name, Part(name))
        self._open.append((found, time.perf_counter()))
        return found

    def _end(self) -> None:
        self._settle()
        found, began = self._open.pop()
        found.seconds += time.perf_counter() - began
        found.calls += 1

    def _settle(self) -> None:
        """Waits for the device and gives the peak since the last call to every open part."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        peak = reset_peak(self.device)
        for part, _ in self._open:
            part.peak = max(part.peak, peak)


def reset_peak(device: torch.device) -> int:
    """The peak of memory in bytes since the last call; from here a new one counts, where the system can."""
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        return peak
    if device.type == "cpu" and _STATUS.is_file():
        lines = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines() if ":" in line)
        peak = int(lines["VmHWM"].split()[0]) * 1024
        with suppress(OSError):  # where this is not allowed it is the highest so far
            _CLEAR.write_text("5")  # proc(5): sets the peak resident set size to the present one
        return peak
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return highest if sys.platform == "darwin" else highest * 1024
