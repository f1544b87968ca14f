"""The tiny model set, as models and as a diffusers pipeline."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "ads"))  # for `tiny_set`


@pytest.fixture(scope="session")
def tiny_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The TOML file of a model set with random weights (32-pixel pictures, 16x16 latents of 4 channels)."""
    from tiny_set import save_tiny_set

    return save_tiny_set(tmp_path_factory.mktemp("tiny-set"))
