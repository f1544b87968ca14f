"""HPIR: raw votes in, weighted agreement out."""

import json

import pytest

from goodeye.errors import BadInput
from goodeye.search import hpir
from goodeye.search.hpir import Votes, agreement, choose, load


def entry(accuracy=(21, 9), aesthetic=(12, 18), **changes):
    base = {"id": 7, "query": "a red shoe", "A": ["a1.png", "a2.png"], "B": ["b1.png", "b2.png"]}
    votes = {"accuracy": {"votes": list(accuracy)}, "aesthetic": {"votes": list(aesthetic)}}
    return {**base, **votes, **changes}


def write(folder, entries):
    path = folder / "hpir.json"
    path.write_text(json.dumps(entries))
    return path


def test_golden_label_and_weight_come_from_the_raw_votes():
    assert (Votes(21, 9).golden, Votes(21, 9).weight) == ("A", pytest.approx(0.4))
    assert (Votes(0, 30).golden, Votes(0, 30).weight) == ("B", 1.0)
    assert (Votes(15, 15).golden, Votes(15, 15).weight) == (None, 0.0)


def test_agreement_is_weighed_by_how_sure_people_were(tmp_path):
    votes = [(30, 0), (18, 12), (15, 15)]  # weights 1, .2, 0
    pairs = load(write(tmp_path, [entry(accuracy=one, aesthetic=one) for one in votes]))
    found = agreement(pairs, ["A", "B", "B"])
    assert found.measured["accuracy"].mean == pytest.approx(1 / 1.2)
    assert found.even == {"accuracy": 1, "aesthetic": 1} and found.count == 3
    assert agreement(pairs, ["B", "A", None]).measured["aesthetic"].mean == pytest.approx(0.2 / 1.2)
    assert agreement(pairs, ["B", "A", None]).missing == 1


def test_the_interval_of_150_queries_is_about_as_wide_as_its_standard_error_says(tmp_path):
    """Equal weights: the standard error of a share p of n is sqrt(p (1 - p) / n), 3.8 points here."""
    pairs = load(write(tmp_path, [entry(accuracy=(20, 10)) for _ in range(150)]))
    found = agreement(pairs, ["A"] * 102 + ["B"] * 48).measured["accuracy"]
    assert found.mean == pytest.approx(0.68)
    assert found.high - found.low == pytest.approx(2 * 1.96 * (0.68 * 0.32 / 150) ** 0.5, rel=0.15)


def test_the_higher_mean_is_chosen():
    assert choose({"A": [0.1, 0.2], "B": [0.3, 0.1]}) == "B"
    assert choose({"A": [1.0], "B": [0.4, 0.9]}) == "A"
    with pytest.raises(ValueError, match="NaN"):
        choose({"A": [float("nan")], "B": [0.4]})


def test_paths_are_read_from_the_files_own_folder(tmp_path):
    pair = load(write(tmp_path, [entry()]))[0]
    assert pair.groups["B"] == (tmp_path / "b1.png", tmp_path / "b2.png") and pair.id == "7"
    assert pair.votes == {"accuracy": (21, 9), "aesthetic": (12, 18)}


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([], "not a list of queries"),
        ({"query": "x"}, "not a list of queries"),
        ([entry(), entry(query=" ")], "entry 2 has no query"),
        ([entry(A=[])], "group A is not a list"),
        ([entry(B="b1.png")], "group B is not a list"),
        ([entry(accuracy=(0, 0))], "accuracy has no votes"),
        ([entry(aesthetic=(1, 2, 3))], "aesthetic has no votes"),
        ([entry(aesthetic=(-1, 2))], "aesthetic has no votes"),
        ([entry(accuracy=("a", 2))], "accuracy has no votes"),
    ],
)
def test_a_file_that_is_not_right_is_bad_input(tmp_path, entries, words):
    with pytest.raises(BadInput, match=words):
        load(write(tmp_path, entries))


def test_a_file_that_is_no_json_or_not_there(tmp_path):
    (tmp_path / "bad.json").write_text("[{")
    with pytest.raises(BadInput, match="not JSON"):
        load(tmp_path / "bad.json")
    with pytest.raises(BadInput, match="cannot be read"):
        load(tmp_path / "none.json")


def test_even_votes_alone_measure_nothing(tmp_path):
    pairs = load(write(tmp_path, [entry(accuracy=(5, 5))]))
    with pytest.raises(BadInput, match="majority on accuracy"):
        hpir.agreement(pairs, ["A"])
