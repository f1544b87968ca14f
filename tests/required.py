"""What a test needs from outside: without it the test is skipped, saying why; where it is required, it fails."""

import os
from typing import NoReturn

import pytest

REQUIRED = "GOODEYE_TEST_REQUIRES"  # browser, postgres, or both with a comma between: CI sets it to both


def absent(what: str, why: str) -> NoReturn:
    """Skips the test for want of `what` (browser, postgres), or fails it where that was to be here."""
    if what in os.environ.get(REQUIRED, "").split(","):
        pytest.fail(f"{REQUIRED} names {what}, and {why}", pytrace=False)
    pytest.skip(why)
