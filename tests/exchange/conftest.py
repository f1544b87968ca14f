"""Two ledgers: one to give, one to take."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from goodeye.ledger.ledger import Ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "ledger") as opened:
        yield opened


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "other") as opened:
        yield opened
