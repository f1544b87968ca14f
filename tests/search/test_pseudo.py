"""Pseudo-queries from captions, from a large model, from a file."""

import pytest
from fake_server import said, serving

from goodeye.errors import BadInput
from goodeye.judging.large import LargeModel, Server
from goodeye.search.pseudo import from_captions, from_model, read_queries

CAPTIONS = ["a red shoe on the sand, bright daylight, beside a cup", "a blue chair. soft light", "", "a lamp"]


def test_captions_give_beginnings_of_themselves():
    found = from_captions(CAPTIONS * 3, 50, seed=1)
    shoe = "a red shoe on the sand"
    starts = {"a lamp", "a blue chair", "a blue chair, soft light", shoe, f"{shoe}, bright daylight"}
    starts |= {f"{shoe}, bright daylight, beside a cup"}
    assert len(set(found)) == len(found) and set(found) <= starts and "a lamp" in found
    assert from_captions(CAPTIONS * 3, 50, seed=1) == found and len(from_captions(CAPTIONS, 2)) == 2
    assert set(from_captions(CAPTIONS * 3, 50, most=1)) == {"a lamp", "a blue chair", shoe}
    assert from_captions(["", " , ."], 5) == []


def model(fake):
    return LargeModel(Server(url=fake.url, model="m", asks=1), None, sleep=lambda seconds: None)


def test_a_large_model_is_asked_until_there_are_enough_different_ones():
    with serving([said({"queries": ["a cat", "a dog"]}), said({"queries": ["a dog", " a  cow "]})]) as fake:
        assert from_model(model(fake), CAPTIONS[:1], 3) == ["a cat", "a dog", "a cow"]
    assert "red shoe" in fake.requests[0]["messages"][-1]["content"]


def test_a_model_that_says_nothing_usable_is_a_plain_line():
    with serving([said({"queries": []})]) as fake, pytest.raises(BadInput, match="no query came of it"):
        from_model(model(fake), [], 3)


def test_a_file_of_queries(tmp_path):
    (tmp_path / "q.txt").write_text("a  cat\n\na dog\na cat\n")
    assert read_queries(tmp_path / "q.txt") == ["a cat", "a dog"]
    (tmp_path / "empty.txt").write_text("\n")
    for name in ("empty.txt", "none.txt"):
        with pytest.raises(BadInput, match=name):
            read_queries(tmp_path / name)
