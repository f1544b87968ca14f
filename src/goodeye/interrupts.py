"""Ctrl-C at a moment when nothing may be left half done."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C waits until the end of the block, then acts as it would have, also where the block raises.

    For short work that must be whole or not there, such as a transaction: an interrupt between its beginning and its
    body would keep the lock for as long as the traceback lives. Does nothing outside of the main thread, which is the
    only one that Ctrl-C reaches.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    came: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came:
            before(came[0], None)
