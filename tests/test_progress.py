"""Progress: silent or a plain line where nobody watches, a bar on a terminal, never on stdout."""

import os
import subprocess
import sys

import pytest

from goodeye import progress as module
from goodeye.progress import duration, plain_line, progress, track


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (250, "4 min 10 s"), (7500, "2 h 5 min")]
)
def test_duration(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_a_plain_line_tells_rate_and_time_left() -> None:
    assert plain_line("making ads", 12, 40, 8.0, "images") == "making ads: 12 of 40 images, 1.5 images/s, 19 s left"
    assert plain_line("training", 3, 10, 60.0, "steps", "loss 0.5") == (
        "training: 3 of 10 steps, 3 steps/min, 2 min 20 s left, loss 0.5"
    )
    assert plain_line("reading", 4, None, 2.0, "files") == "reading: 4 files, 2 files/s"
    assert plain_line("reading", 0, 4, 0.0, "files") == "reading: 0 of 4 files"


def test_short_work_is_silent_where_nobody_watches(capfd: pytest.CaptureFixture[str]) -> None:
    assert list(track([1, 2, 3], "counting")) == [1, 2, 3]
    assert capfd.readouterr() == ("", "")


def test_long_work_says_a_line_now_and_then(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    with progress("counting", 100, "sheep") as advance:
        for second in range(100):
            clock[0] = float(second + 1)
            advance(note="one fell" if second == 9 else None)
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "counting: 10 of 100 sheep, 1 sheep/s, 1 min 30 s left, one fell",
        "counting: 70 of 100 sheep, 1 sheep/s, 30 s left",
    ]


def test_a_terminal_gets_a_bar() -> None:
    pty = pytest.importorskip("pty", reason="no pseudo-terminals here")
    code = "from goodeye.progress import track\nfor _ in track(range(5), 'counting', unit='sheep'): pass"
    ours, theirs = pty.openpty()
    done = subprocess.Popen([sys.executable, "-c", code], stderr=theirs, stdout=subprocess.PIPE)
    out, _ = done.communicate(timeout=30)
    os.close(theirs)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert out == b"" and "counting" in shown and "5/5" in shown
