"""The proof's parts: equal numbers picked by every way, intervals and correlation as known by hand, and a whole
proof on a tiny world that goes on where it was stopped."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_world import ColourClip, drawn, two

from goodeye.errors import BadInput
from goodeye.images import save_png, to_pil
from goodeye.synth import prove as P
from goodeye.synth.detector import Pictures
from goodeye.synth.layout import write_layouts
from goodeye.synth.plan import plan
from synth.test_make import CONCEPTS, Drawer, Scoring, small_priors


def row(seed, name, ap, rare=0.0, score=None):
    return P.Row(seed=seed, name=name, ap=ap, ap_rare=rare, pictures=5, score=score)


def candidates():
    """Eight layouts of two tries: four begin with a cherry, three with a leaf, one with the sky."""
    kinds = ["cherry"] * 4 + ["leaf"] * 3 + ["sky"]
    return [
        {"key": f"{at}-{number}", "group": str(at), "layout": two(str(at), kind, "leaf").to_json()}
        for at, kind in enumerate(kinds)
        for number in (1, 2)
    ]


def test_every_way_picks_one_try_of_a_half_of_each_kind():
    rows = candidates()
    for seed in range(5):
        scores = np.random.default_rng(seed).random(len(rows))
        picked = [rows[at] for at in P.pick_half(scores, rows)]
        kinds = [one["layout"]["things"][0]["category"] for one in picked]
        assert sorted(kinds) == ["cherry", "cherry", "leaf", "leaf", "sky"]
        assert len({one["group"] for one in picked}) == 5
    best = np.array([float(one["key"] in ("0-2", "3-1", "4-1", "6-2", "7-2")) for one in rows])
    assert {rows[at]["key"] for at in P.pick_half(best, rows)} == {"0-2", "3-1", "4-1", "6-2", "7-2"}


def test_rare_is_counted_in_pictures():
    labels = [torch.tensor([0, 0, 1])] * 3 + [torch.tensor([0, 2])]
    pool = Pictures(torch.zeros(4, 3, 8, 8), [torch.zeros(len(one), 4) for one in labels], labels, ("a", "b", "c"))
    assert P.rare_of(pool, 1) == ["c"] and P.rare_of(pool, 3) == ["b", "c"] and P.rare_of(pool, 0) == ["c"]


def test_no_rare_category_to_measure_is_no_number_and_not_zero():
    assert P.ap_rare_of({"a": 0.4, "b": 0.2, "c": 0.9}, ["a", "b", "z"]) == pytest.approx(0.3)
    assert P.ap_rare_of({"c": 0.9}, ["a", "b"]) is None
    rows = [row(seed, name, 0.3, None if seed == 1 else 0.1 * seed + 0.02 * at) for seed in (0, 1, 2, 3)
            for at, name in enumerate(["real", *P.METHODS])]  # fmt: skip
    some = P.summary([*rows, *(row(0, f"bin-{n}", 0.3 + 0.01 * n, score=n) for n in range(8))])
    assert some["selection"]["clis"]["ap_rare"] == pytest.approx(0.5 / 3 + 0.08, abs=1e-4)  # of three seeds, not four
    assert some["minus_random"]["clis"]["ap_rare"]["mean"] == pytest.approx(0.06)
    none = P.summary([replace(one, ap_rare=None) for one in [*rows, row(0, "bin-0", 0.3, score=1.0)]])
    nothing = {"mean": None, "low": None, "high": None}
    assert none["minus_random"]["clis"]["ap_rare"] == none["rows"]["real"]["ap_rare"] == nothing
    assert none["selection"]["clis"] == {"ap": 0.3, "ap_rare": None} and none["trained"][0]["ap_rare"] is None
    assert "NaN" not in json.dumps(none, allow_nan=False)


def test_the_interval_over_seeds_is_students():
    found = P.over_seeds(np.array([0.1, 0.2, 0.3]))
    reach = 4.302653 * 0.1 / 3**0.5  # t(.975, 2) by the tables
    assert found["mean"] == pytest.approx(0.2) and found["low"] == pytest.approx(0.2 - reach, abs=1e-3)
    assert P.over_seeds(np.array([0.1])) == {"mean": 0.1, "low": None, "high": None}


def test_scores_that_help_correlate_and_those_that_do_not_do_not():
    def found(gain):
        bins = [
            row(seed, f"bin-{n}", 0.3 * seed + gain(n), score=10.0 * n + seed) for seed in range(3) for n in range(8)
        ]
        return P.correlation([*(row(seed, "real", 0.3 * seed) for seed in range(3)), *bins])

    up, none = found(lambda n: 0.01 * n), found(lambda n: 0.01 * (-1) ** n)
    assert up["spearman"] > 0.97 and up["low"] > 0.9 and len(up["bins"]) == 24
    assert none["low"] < 0 < none["high"] and abs(none["spearman"]) < 0.3
    assert up["bins"][0] == {"seed": 0, "score": 0.0, "gain": 0.0}  # a seed's own level counts for nothing


def test_the_numbers_are_as_they_are_named():
    rows = [row(seed, name, 0.2 + 0.01 * at, 0.1 + 0.02 * at) for seed in (0, 1, 2)
            for at, name in enumerate(["real", *P.METHODS])]  # fmt: skip
    rows += [row(seed, f"bin-{n}", 0.2 + 0.01 * n, score=n) for seed in (0, 1, 2) for n in range(8)]
    numbers = P.summary(rows)
    assert numbers["selection"]["clis"] == {"ap": pytest.approx(0.24), "ap_rare": pytest.approx(0.18)}
    assert numbers["minus_random"]["clis"]["ap_rare"]["mean"] == pytest.approx(0.06)
    assert {"spearman", "low", "high"} <= numbers["correlation"].keys()


def write_world(folder, count, seed):
    """Pictures of plain colours with their boxes."""
    layouts = [one for one in plan(small_priors(), CONCEPTS, count, P.Planning(seed=seed)) if len(one.things)]
    images, annotations = [], []
    for number, one in enumerate(layouts, start=1):
        save_png(to_pil(drawn(one, size=(64, 64))), folder / "images" / f"{one.key}.png")
        images.append({"id": number, "file_name": f"images/{one.key}.png", "width": 64, "height": 64})
        for thing in one.things:
            annotations.append({
                "id": len(annotations) + 1, "image_id": number, "iscrowd": 0,
                "category_id": list(CONCEPTS).index(thing.category) + 1, "bbox": [64 * side for side in thing.box],
            })  # fmt: skip
    categories = [{"id": at + 1, "name": name} for at, name in enumerate(CONCEPTS)]
    write_layouts(folder / "layouts.jsonl", layouts)
    data = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(data))


def test_a_whole_proof_that_was_stopped_goes_on(tmp_path, monkeypatch):
    config = P.Prove(
        seeds=1,
        real=160,
        test=6,
        layouts=6,
        tries=2,
        bins=2,
        binned=1,
        steps=2,
        more=1,
        batch=4,
        width=16,
        size=64,
        references=200,
    )
    ground = P.Ground(
        concepts=CONCEPTS, real=write_world, test=write_world,
        layouts=lambda count, seed: plan(small_priors(), CONCEPTS, count, P.Planning(seed=seed)),
        draw=Drawer(), clip=ColourClip(), scorer=Scoring(), about={"draws": "colours"},
    )  # fmt: skip
    trained = []
    whole = P.train_detector

    def counted(*args, **kwargs):
        trained.append(kwargs["label"])
        if len(trained) == 4:
            raise KeyboardInterrupt
        return whole(*args, **kwargs)

    monkeypatch.setattr(P, "train_detector", counted)
    with pytest.raises(KeyboardInterrupt):
        P.prove(ground, tmp_path / "proof", config)
    numbers = P.prove(ground, tmp_path / "proof", config)
    assert len(trained) == 1 + 5 + 2 + 1  # the base, five rows, two bins, and the one that was stopped
    assert json.loads((tmp_path / "proof/results.json").read_text()) == json.loads(json.dumps(numbers))
    assert numbers["selection"].keys() == {"real", *P.METHODS}
    assert {"clis_l", "average"} <= numbers["swap"].keys() and 0 <= numbers["swap"]["clis_l"] <= 1
    assert len(numbers["correlation"]["bins"]) == 2
    picked = {one["name"]: one["pictures"] for one in numbers["trained"]}
    assert len({picked[name] for name in P.METHODS}) == 1 and picked["real"] == 0
    page = (tmp_path / "proof/report.html").read_text()
    assert page.count("data:image/webp") == 2 * 6 and "kept" in page and "rejected" in page  # two tries of each layout
    assert not list(Path(tmp_path / "proof").rglob("checkpoints"))
    more = P.prove(ground, tmp_path / "proof", replace(config, seeds=2))
    assert len(trained) == 9 + 1 + 5, "the first seed is there already, and the second has no bins"
    assert len(more["correlation"]["bins"]) == 2 and len(more["trained"]) == 2 * 5 + 2
    assert more["minus_random"]["clis"]["ap"]["low"] is not None
    with pytest.raises(BadInput, match="holds another proof"):
        P.prove(ground, tmp_path / "proof", P.Prove(bins=4))
    with pytest.raises(BadInput, match="Ask for more"):
        P.Prove(bins=1)
    with pytest.raises(BadInput, match="Give 0 or more"):
        P.Prove(seed=-1)
