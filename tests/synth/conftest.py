"""Lets the tests of this folder import what they share, and the fake server; priors of a small world."""

import sys
from pathlib import Path

import pytest

from goodeye.synth.sources import build_priors

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "judging"))  # for `fake_server`


@pytest.fixture(autouse=True)
def ledger(tmp_path, monkeypatch):
    """Where `synth make` writes when no ledger is named."""
    monkeypatch.setenv("GOODEYE_LEDGER", str(tmp_path / "ledger"))
    return tmp_path / "ledger"


@pytest.fixture(scope="session")
def coco128(shared_data):
    return shared_data / "coco128" / "instances.json"


@pytest.fixture(scope="session")
def real_priors(coco128):
    """Of the real boxes of 128 photographs."""
    return build_priors([coco128])
