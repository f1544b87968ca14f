"""Lets the tests of this folder import `tiny_editor`, what they share, and the fake server of tests/judging."""

import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "judging")]


@pytest.fixture(autouse=True)
def ledger(tmp_path, monkeypatch):
    """Where `edit make` writes when no ledger is named."""
    monkeypatch.setenv("GOODEYE_LEDGER", str(tmp_path / "ledger"))
    return tmp_path / "ledger"
