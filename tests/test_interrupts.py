"""Ctrl-C waits for the end of what must be whole: the handler that was there gets it, once, afterwards."""

import signal
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import event

from goodeye.interrupts import uninterrupted
from goodeye.ledger.ledger import Ledger


@pytest.fixture(autouse=True)
def as_usual() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt, also where the tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_it_waits_for_the_end_of_the_block_and_of_the_outermost_one() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), uninterrupted():
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
            done.append("inner")
        done.append("outer")
    assert done == ["inner", "outer"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_it_comes_once_to_whoever_would_have_had_it() -> None:
    heard: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    with uninterrupted():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        assert not heard
    assert heard == [signal.SIGINT]
    with uninterrupted():
        pass
    assert len(heard) == 1


def test_it_acts_where_the_block_fails_too() -> None:
    with pytest.raises(KeyboardInterrupt) as caught, uninterrupted():
        signal.raise_signal(signal.SIGINT)
        raise ValueError("the block's own")
    assert isinstance(caught.value.__context__, ValueError)


def test_other_threads_and_an_ignored_interrupt_stay_as_they_are() -> None:
    found = []

    def work() -> None:
        with uninterrupted():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with uninterrupted():
        found.append(signal.getsignal(signal.SIGINT))
    assert found == [signal.default_int_handler, signal.SIG_IGN]


@pytest.mark.parametrize("moment", ["begin", "commit"])
def test_an_interrupt_never_leaves_the_ledger_locked(tmp_path: Path, moment: str) -> None:
    """Right after BEGIN, before the first statement, and right before COMMIT: the row is there, another process may
    write at once, and it is still a Ctrl-C. The traceback, which would keep the connection, lives on meanwhile."""
    with Ledger.open(tmp_path / "book") as ledger:
        run = ledger.start_run("test", {}, 0)
        event.listen(ledger.engine, moment, lambda connection: signal.raise_signal(signal.SIGINT), once=True)
        try:
            ledger.finish_run(run, "done")
        except KeyboardInterrupt as error:
            assert ledger.run(run).status == "done" and error.__traceback__
            with closing(sqlite3.connect(tmp_path / "book" / "ledger.db", timeout=0)) as other:
                other.execute("BEGIN IMMEDIATE")
        else:
            pytest.fail("the interrupt was lost")
