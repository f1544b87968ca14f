"""One process or several (accelerate launch): whose device this is, who writes, who waits for whom."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from accelerate import PartialState

# The others wait while one makes pairs, asks a large model or looks at the watched briefs; NCCL's own limit is minutes.
PATIENCE = timedelta(hours=24)


def state(cpu: bool) -> "PartialState":
    """Accelerate's view of the processes, begun with our patience."""
    from accelerate import PartialState

    return PartialState(cpu=cpu, timeout=PATIENCE)


def own_device(device: str) -> str:
    """The device of this process: the one named, or its own where there are several processes.

    A numbered one becomes torch's own, since accelerate puts a single process on that.
    """
    found = state(is_cpu(device))
    if found.num_processes > 1:
        return str(found.device)
    if device.startswith("cuda:"):
        torch.cuda.set_device(device)
    return device


def is_cpu(device: str) -> bool:
    """Whether this names a CPU."""
    return device.startswith("cpu")


def is_main(cpu: bool) -> bool:
    """Whether this process is the one that writes."""
    return bool(state(cpu).is_main_process)


def of_processes(cpu: bool) -> tuple[int, int]:
    """How many processes train, and which of them this is."""
    found = state(cpu)
    return int(found.num_processes), int(found.process_index)


@contextmanager
def main_process_first(cpu: bool) -> Iterator[None]:
    """The main process does what follows before the others, which then find it done."""
    with state(cpu).main_process_first():
        yield
