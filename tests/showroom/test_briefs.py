"""Briefs to train on never come from a world that a proof measures on."""

import pytest

from goodeye.showroom import briefs


@pytest.mark.parametrize("seed", [0, 49, 50, 123_456_789])
def test_they_are_of_training_worlds_that_nothing_else_uses(monkeypatch, seed):
    asked = []
    monkeypatch.setattr(briefs, "briefs_of", lambda world, count: asked.append((world, count)) or [])
    briefs.training_briefs(seed, 7)
    briefs.fresh_briefs(seed, 7)
    (training, count), (measured, _) = asked
    assert 50 <= training < 100 and count == 7  # the house's own worlds are 11 to 17, the oracle's 31 and 32
    assert measured == 1_000_000 + seed
