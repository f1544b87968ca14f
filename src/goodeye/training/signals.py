"""Ctrl-C and SIGTERM as a wish to stop at the next good moment."""

import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """A list that holds the signal once Ctrl-C or SIGTERM has come. A second one acts as always."""
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    before = {number: handler for number, handler in before.items() if handler != signal.SIG_IGN}  # as under nohup

    def note(number: int, frame: object) -> None:
        caught.append(number)
        _restore(before)

    for number in before:
        signal.signal(number, note)
    try:
        yield caught
    finally:
        _restore(before)


def _restore(handlers: Mapping[signal.Signals, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler if handler is not None else signal.SIG_DFL)
