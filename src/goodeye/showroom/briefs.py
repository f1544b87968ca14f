"""Briefs to train on: the showroom's own products in its own settings, from worlds that no proof measures on."""

from __future__ import annotations

from goodeye.ads.rollout import Placed
from goodeye.showroom.prove import FRESH, fresh_briefs

WORLDS = range(50, 100)  # of the seeds below 100, those that no other training uses


def training_briefs(seed: int, count: int) -> list[Placed]:
    """Like a proof's fresh briefs, from a training world chosen by the seed."""
    return fresh_briefs(WORLDS[seed % len(WORLDS)] - FRESH, count)
