"""What every test shares: where the test data is, and quiet, offline libraries."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test never asks a hub; a hub id that is not cached fails at once
os.environ.setdefault("MPLBACKEND", "Agg")

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real test pictures and weights, which the project does not ship.

    Named by GOODEYE_TEST_DATA; else looked for beside the repository. Where it is absent, the test is skipped.
    """
    named = os.environ.get("GOODEYE_TEST_DATA")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder}; name its folder in GOODEYE_TEST_DATA")
    return folder
