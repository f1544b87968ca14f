"""Layouts as files: what is written comes back, and what cannot be used is told by its line."""

import json

import pytest

from goodeye.errors import BadInput
from goodeye.synth.layout import Layout, Relation, Thing, keys_of, read_layouts, write_layouts

DOG = {"key": "dog-1", "category": "dog", "box": [0.1, 0.1, 0.2, 0.2], "attributes": ["brown"]}
CAT = {"key": "cat-1", "category": "cat", "box": [0.5, 0.5, 0.5, 0.5]}
GOOD = {"key": "a", "things": [DOG, CAT], "relations": [{"subject": "dog-1", "relation": "near", "object": "cat-1"}]}


def test_layouts_come_back(tmp_path):
    dog = Thing(key="dog-1", category="dog", box=(0.1, 0.1, 0.2, 0.2), attributes=("brown",))
    cat = Thing(key="cat-1", category="cat", box=(0.5, 0.5, 0.5, 0.5))
    layout = Layout(key="a", things=(dog, cat), relations=(Relation("dog-1", "near", "cat-1"),), caption="Ä dog.")
    write_layouts(tmp_path / "l.jsonl", [layout])
    assert read_layouts(tmp_path / "l.jsonl") == [layout]
    assert layout.triplets() == [(dog, "near", cat)] and dog.text == "brown dog"
    assert keys_of(["dog", "cat", "dog"]) == ["dog-1", "cat-1", "dog-2"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({}, "line 1 is no layout"),
        (GOOD | {"things": []}, "no list of 1 to 100 things"),
        (GOOD | {"things": [DOG] * 200}, "no list of 1 to 100 things"),
        (GOOD | {"things": [DOG, DOG]}, "names two things alike"),
        (GOOD | {"things": [DOG, CAT | {"box": [0.6, 0.5, 0.5, 0.5]}]}, "lies outside the frame"),
        (GOOD | {"things": [DOG, CAT | {"box": [0.6, 0.5, 0.0, 0.5]}]}, "has a side below"),
        (GOOD | {"things": [DOG, CAT | {"box": [0.6, 0.5, 0.1]}]}, "is not four numbers"),
        (GOOD | {"things": [DOG, CAT | {"box": None}]}, "is not four numbers"),
        (GOOD | {"things": [DOG, CAT | {"box": [0.6, float("nan"), 0.1, 0.1]}]}, "not finite"),
        (GOOD | {"things": [DOG, CAT | {"box": [0.6, 10**400, 0.1, 0.1]}]}, "not finite"),
        (GOOD | {"relations": 5}, "relations that are no list"),
        (GOOD | {"things": [DOG, CAT | {"category": ""}]}, "thing without key or category"),
        (GOOD | {"things": [DOG, CAT | {"attributes": "red"}]}, "no list of texts"),
        (
            GOOD | {"relations": [{"subject": "dog-1", "relation": "near", "object": "bird-1"}]},
            "relates dog-1 to bird-1",
        ),
        (GOOD | {"relations": [{"subject": "dog-1", "object": "cat-1"}]}, "without subject, relation or object"),
    ],
)
def test_what_cannot_be_used_is_told(data, words, tmp_path):
    (tmp_path / "l.jsonl").write_text(json.dumps(data) + "\n")
    with pytest.raises(BadInput, match=words):
        read_layouts(tmp_path / "l.jsonl")


def test_a_repeated_key_half_a_line_and_nothing_are_told(tmp_path):
    file = tmp_path / "l.jsonl"
    file.write_text(2 * (json.dumps(GOOD) + "\n"))
    with pytest.raises(BadInput, match="line 2 repeats the key a"):
        read_layouts(file)
    file.write_text(json.dumps(GOOD)[:40])
    with pytest.raises(BadInput, match="line 1 is not JSON"):
        read_layouts(file)
    file.write_text(json.dumps(GOOD).replace("0.1", "1" * 5000, 1))
    with pytest.raises(BadInput, match="line 1 has a number of thousands of digits"):
        read_layouts(file)
    file.write_text("\n")
    with pytest.raises(BadInput, match="holds no layouts"):
        read_layouts(file)
    with pytest.raises(BadInput, match="cannot be read"):
        read_layouts(tmp_path / "none.jsonl")


def test_marks_of_a_lines_end_within_a_text_end_no_line(tmp_path):
    one = Layout(key="a", things=(Thing(key="m", category="mug", box=(0.1, 0.1, 0.3, 0.3)),), caption="x\u2028y\x85z")
    write_layouts(tmp_path / "l.jsonl", [one])
    assert read_layouts(tmp_path / "l.jsonl") == [one]
    (tmp_path / "l.jsonl").write_text(json.dumps(one.to_json()).replace("u2028", "ud83d"))
    with pytest.raises(BadInput, match="line 1 has half of a character"):  # which no file can hold
        read_layouts(tmp_path / "l.jsonl")
