"""The rasteriser: areas by geometry, edges, depth and numbers; and that its short cuts leave the picture as it is."""

import math

import numpy as np
import pytest
import torch

from goodeye.showroom import parts as P

RED, BLUE = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)


def painted(*rows, size=128, window=1.0):
    return P.paint(P.Layers.blank(1, size), P.table([list(rows)]), window)


@pytest.mark.parametrize(
    ("row", "area"),
    [
        (P.part(0.5, 0.5, 0.2, 0.1, RED), 0.4 * 0.2),
        (P.part(0.5, 0.5, 0.2, 0.1, RED, rot=0.7), 0.4 * 0.2),
        (P.part(0.45, 0.55, 0.3, 0.3, RED, round=1), math.pi * 0.09),
        (P.part(0.5, 0.5, 0.3, 0.1, RED, ellipse=True), math.pi * 0.03),
        (P.part(0.5, 0.5, 0.25, 0.25, RED, round=1, ring=0.02), math.pi * (0.27**2 - 0.23**2)),
        (P.part(0.5, 0.5, 0.3, 0.3, RED, round=1, bottom=0.0), math.pi * 0.09 / 2),
        (P.part(0.5, 0.5, 0.2, 0.2, RED, alpha=0.5), 0.16 / 2),
        (P.part(0.5, 0.5, 0.2, 0.1, RED, soft=0.05), 0.4 * 0.2),
    ],
)
def test_areas_are_those_of_geometry(row, area):
    assert float(painted(row).cover.mean()) == pytest.approx(area, rel=0.02)


def test_a_taper_widens_the_bottom():
    cover = painted(P.part(0.5, 0.5, 0.2, 0.3, RED, taper=0.4)).cover[0]
    assert float(cover[90:100].sum()) > 1.5 * float(cover[28:38].sum())


def test_later_parts_cover_earlier_ones_and_shadows_leave_depth_and_number():
    big = P.part(0.5, 0.5, 0.3, 0.3, RED, depth=0.4, obj=3)
    small = P.part(0.5, 0.5, 0.1, 0.1, BLUE, depth=0.7, obj=5)
    shadow = P.part(0.5, 0.5, 0.4, 0.4, (0, 0, 0), alpha=0.5)
    made = painted(big, small, shadow)
    assert made.rgb[0, :, 64, 64].tolist() == [0, 0, 0.5]
    assert made.obj[0, 64, 64] == 5 and made.obj[0, 30, 64] == 3 and made.obj[0, 2, 2] == 0
    assert made.depth[0, 64, 64] == pytest.approx(0.7) and made.depth[0, 30, 64] == pytest.approx(0.4)


def random_row(rng):
    def some(value):  # or none
        return value if rng.random() < 0.5 else 0.0

    return P.part(
        *rng.uniform(-0.1, 1.1, 2),
        *rng.uniform(0.01, 0.4, 2),
        tuple(rng.random(3)),
        colour2=tuple(rng.random(3)),
        axis=float(rng.integers(2)),
        rot=rng.uniform(-3, 3),
        round=rng.random(),
        ellipse=rng.random() < 0.4,
        taper=some(rng.uniform(-0.5, 0.5)),
        ring=some(0.03),
        top=rng.choice([-9, -0.3]),
        bottom=rng.choice([9, 0.4]),
        cyl=some(0.3),
        spec=some(0.4),
        alpha=rng.uniform(0.3, 1),
        soft=some(rng.uniform(0, 0.08)),
        depth=rng.random(),
        obj=float(rng.integers(9)),
    )


def test_painting_only_what_a_part_reaches_paints_all_of_it(monkeypatch):
    rng = np.random.default_rng(1)
    rows = P.table([[random_row(rng) for _ in range(int(rng.integers(1, 12)))] for _ in range(12)])
    quick = P.paint(P.Layers.blank(12, 64), rows).planes
    monkeypatch.setattr(P, "_reach", lambda parts, size: torch.full((*parts.shape[:2], 2), 9.0))
    whole = P.paint(P.Layers.blank(12, 64), rows).planes
    assert torch.equal(quick, whole)


def test_a_window_cuts_off_what_lies_outside():
    made = painted(P.part(0.5, 0.5, 0.4, 0.4, RED), window=0.5)
    assert float(made.cover.mean()) == pytest.approx(0.25)


def test_lists_of_different_length_do_not_disturb_each_other():
    one, two = P.part(0.3, 0.3, 0.1, 0.1, RED), P.part(0.6, 0.6, 0.2, 0.1, BLUE)
    both = P.paint(P.Layers.blank(2, 64), P.table([[one], [one, two]]))
    assert torch.equal(both.planes[0], painted(one, size=64).planes[0])
    assert torch.equal(both.planes[1], painted(one, two, size=64).planes[0])


def test_moved_parts_grow_with_their_distances():
    (row,) = P.move([P.part(0.1, -0.2, 0.3, 0.1, RED, ring=0.05, soft=0.02)], 0.5, 0.6, 0.5, 0.8, 7.0)
    assert row[:4] == pytest.approx([0.55, 0.5, 0.15, 0.05])
    assert [row[P.COLUMN[n]] for n in ("ring", "soft", "depth", "obj")] == pytest.approx([0.025, 0.01, 0.8, 7])
