"""What every test shares: where the test data is, a tiny model set, and quiet, offline libraries."""

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


@pytest.fixture(scope="session")
def tiny_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The TOML file of a whole model set with random weights (32-pixel pictures, 16x16 latents of 4 channels).

    Saved once for all tests: copy its folder to break it.
    """
    from ads.tiny_set import save_tiny_set

    return save_tiny_set(tmp_path_factory.mktemp("tiny-set"))
