"""Plans by a large model: what makes sense is taken, what sticks out a little is cut, the rest has failed: no guess."""

import json

import pytest
from fake_server import Reply, said, serving

from goodeye.judging.large import LargeModel, Server
from goodeye.synth.describe import Failed, Planned, ask_for, ask_for_all
from goodeye.synth.layout import Layout, Relation, Thing

OBJECTS = [("dog-1", "dog"), ("frisbee-1", "frisbee")]
DESCRIBED = {
    "things": [{"object": "dog-1", "attributes": ["brown"]}, {"object": "frisbee-1", "attributes": []}],
    "relations": [{"subject": "frisbee-1", "relation": "Above", "object": "dog-1"}],
    "caption": "A brown dog jumps. A frisbee flies above it.",
}
DOG, FRISBEE = {"object": "dog-1", "bbox": [0.3, 0.4, 0.4, 0.5]}, {"object": "frisbee-1", "bbox": [0.4, 0.1, 0.2, 0.1]}


@pytest.fixture(scope="module")
def planned():
    """What comes of some replies, and the requests; one server and client for all tests."""
    with serving([]) as fake:
        model = LargeModel(Server(url=fake.url, model="small", timeout=60), None)

        def plan(*replies):
            fake.script, fake.requests = list(replies), []
            return ask_for(model, "a", OBJECTS), fake.requests

        yield plan


def test_a_description_and_then_its_layout(planned):
    found, requests = planned(said(DESCRIBED), said({"layout": [FRISBEE, DOG]}))
    dog = Thing(key="dog-1", category="dog", box=(0.3, 0.4, 0.4, 0.5), attributes=("brown",))
    frisbee = Thing(key="frisbee-1", category="frisbee", box=(0.4, 0.1, 0.2, 0.1))
    relations = (Relation("frisbee-1", "above", "dog-1"),)
    assert found == Planned(Layout(key="a", things=(dog, frisbee), relations=relations, caption=DESCRIBED["caption"]))
    assert len(requests) == 2 and "dog-1" in requests[0]["messages"][1]["content"]
    assert "frisbee-1 Above dog-1" in requests[1]["messages"][1]["content"]
    assert requests[1]["response_format"]["json_schema"]["schema"]["required"] == ["layout"]


def test_the_schema_leaves_no_other_objects_and_no_other_number_of_numbers(planned):
    _, requests = planned(said(DESCRIBED), said({"layout": [FRISBEE, DOG]}))
    described, placed = (one["response_format"]["json_schema"]["schema"] for one in requests)
    names = {"enum": ["dog-1", "frisbee-1"], "title": "Object", "type": "string"}
    assert described["$defs"]["DescribedThing"]["properties"]["object"] == names
    assert described["$defs"]["DescribedRelation"]["properties"]["subject"] == names | {"title": "Subject"}
    assert placed["$defs"]["Placed"]["properties"]["object"] == names
    for whole, part in ((described, "things"), (placed, "layout")):
        held = whole["properties"][part]
        assert (held["minItems"], held["maxItems"]) == (2, 2)
    box = placed["$defs"]["Placed"]["properties"]["bbox"]
    assert (box["minItems"], box["maxItems"], box["items"]["type"]) == (4, 4, "number")


def test_a_box_that_sticks_out_a_little_is_cut_and_it_is_said(planned):
    found, _ = planned(said(DESCRIBED), said({"layout": [DOG | {"bbox": [0.3, 0.4, 0.71, 0.59]}, FRISBEE]}))
    assert found.layout.thing("dog-1").box == pytest.approx((0.3, 0.4, 0.7, 0.59))
    assert found.repaired == ("the box of dog-1 is cut at the frame",)


BAD_LAYOUTS = [
    (Reply("The dog is on the left."), "no JSON object"),
    (Reply('{"layout": [{"object": "dog-1", "bbox": [0.3,'), "JSON"),
    (said({"layout": [DOG] * 200}), "it has 200 objects"),
    (said({"layout": [DOG]}), "it has 1 objects"),
    (said({"layout": [DOG, {"object": "cat-1", "bbox": [0.1, 0.1, 0.1, 0.1]}]}), "where exactly"),
    (said({"layout": [DOG, FRISBEE | {"bbox": [0.9, 0.1, 0.3, 0.1]}]}), "outside the frame"),
    (said({"layout": [DOG, FRISBEE | {"bbox": [120, 40, 64, 32]}]}), "outside the frame"),
    (said({"layout": [DOG, FRISBEE | {"bbox": [0.9, 0.1, 0.0, 0.1]}]}), "has a side below"),
    (said({"layout": [DOG, FRISBEE | {"bbox": [0.5, 0.1, -0.2, 0.1]}]}), "has a side below"),
    (said({"layout": [DOG, FRISBEE | {"bbox": [0.9, 0.1, 0.1]}]}), "is not four numbers"),
    (Reply(json.dumps({"layout": [DOG, FRISBEE]}).replace("0.1]", "NaN]")), "not finite"),
    (said({"layout": [DOG, FRISBEE | {"bbox": ["left", 0.1, 0.1, 0.1]}]}), "valid number"),
]


@pytest.mark.parametrize(("bad", "why"), BAD_LAYOUTS)
def test_a_layout_without_sense_is_asked_for_again_and_then_has_failed(bad, why, planned):
    found, requests = planned(said(DESCRIBED), bad, said({"layout": [DOG, FRISBEE]}))
    assert isinstance(found, Planned) and len(requests) == 3
    assert "cannot be used" in requests[2]["messages"][-1]["content"]
    found, requests = planned(said(DESCRIBED), bad)
    assert isinstance(found, Failed) and len(requests) == 4
    assert found.said == bad.text and why in found.message and found.objects == ("dog-1", "frisbee-1")


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"caption": "A dog jumps."}, "does not name frisbee"),
        ({"caption": "A dog jumps, perhaps for a frisbee."}, "is uncertain: it says perhaps"),
        ({"relations": [{"subject": "cat-1", "relation": "on", "object": "dog-1"}]}, "the relation cat-1 on dog-1"),
        ({"relations": [{"subject": "dog-1", "relation": "on", "object": "dog-1"}]}, "the relation dog-1 on dog-1"),
        ({"things": DESCRIBED["things"][:1]}, "it has 1 objects"),
    ],
)
def test_a_description_without_sense_is_asked_for_again_and_then_has_failed(changed, why, planned):
    bad = said(DESCRIBED | changed)
    found, requests = planned(bad, said(DESCRIBED), said({"layout": [DOG, FRISBEE]}))
    assert isinstance(found, Planned) and why in requests[1]["messages"][-1]["content"]
    found, requests = planned(bad)
    assert isinstance(found, Failed) and why in found.message and found.said == bad.text and len(requests) == 3


def test_equal_combinations_are_asked_for_as_other_variations(tmp_path):
    things = tuple(Thing(key=key, category=name, box=(0, 0, 0.5, 0.5)) for key, name in OBJECTS)
    plans = [Layout(key=key, things=things) for key in "ab"]
    with serving([said(DESCRIBED), said({"layout": [DOG, FRISBEE]})] * 2) as fake:
        model = LargeModel(Server(url=fake.url, model="small"), tmp_path)
        made = list(ask_for_all(model, plans))
    assert [one.layout.key for one in made] == ["a", "b"]
    first, second = (fake.requests[at]["messages"][1]["content"] for at in (0, 2))
    assert first != second and "variation 1" in second
