"""Rendered scenes that the tests of this folder share."""

import pytest

from goodeye.showroom import scenes as S

SEED = 501  # of no world that anything learns from
EACH = 12


@pytest.fixture(scope="session")
def made() -> S.Render:
    """Twelve scenes of each class, in the order of the classes."""
    return S.render([S.sample(SEED, i, [defect]) for defect in S.CLASSES for i in range(EACH)])
