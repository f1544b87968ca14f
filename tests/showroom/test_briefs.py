"""Briefs to train on never come from a world that a proof measures on."""

import pytest

from goodeye.showroom import briefs
from goodeye.showroom.prove import FRESH


@pytest.mark.parametrize("seed", [0, 49, 50, 123_456_789])
def test_they_are_of_training_worlds_that_nothing_else_uses(monkeypatch, seed):
    asked = []
    monkeypatch.setattr(briefs, "fresh_briefs", lambda world, count: asked.append((world + FRESH, count)) or [])
    briefs.training_briefs(seed, 7)
    ((world, count),) = asked
    assert 50 <= world < 100 and count == 7  # the house's own worlds are 11 to 15, the oracle's 31 and 32
