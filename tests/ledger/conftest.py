"""A ledger to test in a folder; tests/conftest.py has a real PostgreSQL server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from goodeye.ledger.ledger import Ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "ledger") as opened:
        yield opened
