"""A proof to look at: what lies where in its plots, what it says of an interval, and a page that stands alone."""

import re

import numpy as np
import pytest

from goodeye.synth import prove as P
from goodeye.synth import prove_report as R


def numbers(gains, seeds=(0, 1, 2)):
    """A proof in which each way gains so much on random in AP rare, the same at each seed but for a little."""
    rows = [
        P.Row(seed=seed, name=name, ap=0.3, ap_rare=0.2 + seed / 10 + gain * (1 + 0.1 * seed), pictures=8, score=50.0)
        for seed in seeds
        for name, gain in {"real": -0.05, "random": 0.0, "clip": 0.0, "detector": 0.0, **gains}.items()
    ]
    rows += [
        P.Row(seed=seed, name=f"bin-{n}", ap=0.3 + n / 100, ap_rare=0.2, pictures=2, score=10.0 * n)
        for seed in seeds
        for n in range(8)
    ]
    swap = {"mean": 0.75, "low": 0.7, "high": 0.8}
    about = dict.fromkeys(("real", "test", "layouts", "tries", "steps", "more", "rare"), 5) | {"seed": 0}
    return {**P.summary(rows), "swap": {}, "swap_intervals": dict.fromkeys((*R.SWAPS, *R.LESS), swap), "about": about}


@pytest.mark.parametrize(
    ("low", "high", "written"),
    [
        (0.0, 1.0, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (-0.013, 0.047, ["−0.01", "0.00", "0.01", "0.02", "0.03", "0.04"]),
        (12, 88, ["20", "30", "40", "50", "60", "70", "80"]),
    ],
)
def test_ticks_are_round_and_where_their_values_are(low, high, written):
    axis = R.Axis(low=low, high=high, start=100, end=500)
    assert [words for _, words in axis.ticks] == written
    for place, words in axis.ticks:
        value = float(words.replace("−", "-"))
        assert place == pytest.approx(100 + 400 * (value - low) / (high - low), abs=0.06)


def test_a_rows_dots_are_its_seeds_against_random_of_the_same_seed():
    """Random differs by .1 from seed to seed; the gain does not, but for a tenth of itself."""
    found = numbers({"clis": 0.02})
    plot = R.forest(R._paired(found), 0.0)
    rows = {row["name"]: row for row in plot["rows"]}
    assert "random" not in rows and [words for _, _, words in rows["clis"]["dots"]] == ["0.020", "0.022", "0.024"]
    places = [x for x, _, _ in rows["clis"]["dots"]]
    assert places == sorted(places) and places[0] > plot["line"] > rows["real"]["high"]
    assert rows["clis"]["low"] < places[0] < rows["clis"]["mean"] < places[2] < rows["clis"]["high"]


@pytest.mark.parametrize(
    ("gain", "seeds", "said", "heading"),
    [
        (0.02, (0, 1, 2), "yes", "makes a detector better"),
        (-0.02, (0, 1, 2), "no", "makes a detector worse"),
        (0.0, (0, 1, 2), "open", "better than chance is open"),
        (0.02, (0,), "unknown", "beside what chance picks"),
    ],
)
def test_the_page_says_what_the_interval_says(tmp_path, gain, seeds, said, heading):
    found = numbers({"clis": gain}, seeds)
    assert R.answer(found["minus_random"]["clis"]["ap_rare"]) == said
    page = R.write_report(found, tmp_path).read_text()
    assert heading in " ".join(re.search(r"<h1>(.*?)</h1>", page, re.S)[1].split())
    assert len(re.findall(r"<title>seed \d: CLIS [\d.]+, gain", page)) == 8 * len(seeds)
    assert not re.search(r"<script|https?://|src=\"(?!data:)", page) and "Kept and rejected" not in page
    assert ('class="span"' in page.partition("Boxes swapped")[0]) is (len(seeds) > 1)
    assert "Spearman of score and gain over" in R.table(found)


@pytest.mark.parametrize("missing", [(1,), (0, 1, 2)])
def test_what_no_rare_category_tells_is_a_dash_and_no_ring(tmp_path, missing):
    found = numbers({"clis": 0.02})
    rows = [P.Row(**(one | ({"ap_rare": None} if one["seed"] in missing else {}))) for one in found["trained"]]
    found |= P.summary(rows)
    rings = {one["name"]: one["values"].keys() for one in R._paired(found)}
    assert rings["clis"] == {0, 1, 2} - {*missing}
    page = " ".join(R.write_report(found, tmp_path).read_text().split())
    clis = re.search(r'<tr class="ours">.*?</tr>', page)[0]
    everywhere = len(missing) == 3
    assert (clis.count("<td>-") == 2) is everywhere and "nan" not in page.lower().partition("<body")[2]
    assert ("no rare category is in the test pictures." in page) is everywhere and "one seed has" not in page
    assert ("clis minus random, AP rare: -" in R.table(found).splitlines()) is everywhere
    assert "and where none is, the rarest third" in page


def test_every_way_to_average_stands_beside_clis_l_in_the_table_and_on_the_page(tmp_path):
    found = numbers({"clis": 0.02})
    means = {"clis_l": 0.98, "average": 0.955, "average_exact": 0.898, "average_as_asked": 0.987,
             "clis_l_minus_average": 0.025, "clis_l_minus_average_as_asked": -0.007}  # fmt: skip
    found["swap_intervals"] = {name: {"mean": m, "low": m - 0.01, "high": m + 0.01} for name, m in means.items()}
    table, page = R.table(found), " ".join(R.write_report(found, tmp_path).read_text().split())
    for name, words in R.SWAPS.items():
        said = f"{means[name]:.3f} ({means[name] - 0.01:.3f} to {means[name] + 0.01:.3f})"
        assert f"box swap, {words}: {said}" in table
        assert f"<title>{words}: {said}</title>".replace("'", "&#39;") in page
    assert "box swap, CLIS-L minus averaging, sizes asked for: -0.007 (-0.017 to +0.003)" in table
    assert "<dt>CLIS-L minus averaging, sizes asked for</dt><dd>-0.007 (-0.017 to +0.003)</dd>" in page


def test_the_strip_shows_the_best_and_the_worst_try_and_says_which_is_kept(tmp_path, monkeypatch):
    from test_prove import candidates

    rows = [row | {"file": None} for row in candidates()]
    scores = np.array([float(at % 2) + at / 100 for at in range(len(rows))])  # the second try is always the better
    kept = {rows[at]["key"] for at in P.pick_half(scores, rows)}
    monkeypatch.setattr(P, "usable_rows", lambda folder: rows)
    monkeypatch.setattr(P, "clis_of", lambda rows: scores)
    (tmp_path / "scores").mkdir()
    columns = R.strip(tmp_path)
    assert len(columns) == 7 and all(best["score"] > worst["score"] for best, worst in columns)  # 3 of 8 fell
    assert [best["kept"] for best, _ in columns] == [True] * 4 + [False] * 3
    assert not any(worst["kept"] for _, worst in columns) and len(kept) == 5
    assert R.strip(tmp_path / "elsewhere") == []
