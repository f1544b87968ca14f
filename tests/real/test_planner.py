"""Layouts by a real small model behind llama.cpp's server: a layout that makes sense, or a failure with what was said.

SmolLM2-135M-Instruct has one idea: the example that it is shown. Held to the schema, it says it of the objects that are
wanted; where that makes sense it is a layout, and else it has failed.
"""

import dataclasses
import json

import pytest

from goodeye.cli import BAD_INPUT, DONE, main
from goodeye.judging.large import Asked, LargeModel
from goodeye.synth.describe import LAY_OUT, SYSTEM, Failed, LaidOut, Planned, ask_for, ask_for_all
from goodeye.synth.layout import Layout, Thing, layout_of, read_layouts
from goodeye.synth.sources import build_priors

pytestmark = pytest.mark.real

EXAMPLE = [("dog-1", "dog"), ("frisbee-1", "frisbee")]
OBJECTS = (("cup", "table"), ("dog",))


def plans() -> list[Layout]:
    boxes = ((0.1, 0.1, 0.3, 0.3), (0.5, 0.5, 0.4, 0.4))
    return [
        Layout(
            key=str(number),
            things=tuple(
                Thing(key=f"{name}-1", category=name, box=box) for name, box in zip(names, boxes, strict=False)
            ),
        )
        for number, names in enumerate(OBJECTS)
    ]


def assert_sound(one: Planned, keys: list[str]) -> None:
    assert layout_of(json.loads(json.dumps(one.layout.to_json())), "the layout") == one.layout
    assert [thing.key for thing in one.layout.things] == keys
    assert all(thing.category in one.layout.caption.lower() for thing in one.layout.things)


def test_what_the_model_can_say_becomes_a_layout(smollm, tmp_path):
    """The example's own objects: it repeats the example, which makes sense."""
    model = LargeModel(smollm, tmp_path)
    found = ask_for(model, "a", EXAMPLE)
    assert isinstance(found, Planned), found
    assert_sound(found, ["dog-1", "frisbee-1"])
    requests = model.requests
    assert ask_for(model, "a", EXAMPLE) == found and model.requests == requests  # a stopped run goes on where it was


def test_every_plan_makes_sense_or_has_failed(smollm, tmp_path):
    found = list(ask_for_all(LargeModel(dataclasses.replace(smollm, max_tokens=120), tmp_path), plans()))
    for one, plan in zip(found, plans(), strict=True):
        keys = [thing.key for thing in plan.things]
        if isinstance(one, Planned):
            assert_sound(one, keys)
        else:
            assert (one.key, one.objects) == (plan.key, tuple(keys))
            assert "no usable answer in 2 tries: " in one.message and one.said.strip()
    assert any(isinstance(one, Failed) for one in found)  # its captions are of dogs, whatever is wanted


class Described:
    """Describes the cup on the table by hand, and leaves the layout to the model."""

    def __init__(self, model: LargeModel) -> None:
        self.model = model

    def ask(self, asked, kind):
        if "layout" in kind.model_fields:
            return self.model.ask(asked, kind)
        things = [{"object": "cup-1", "attributes": ["red"]}, {"object": "table-1", "attributes": []}]
        on = {"subject": "cup-1", "relation": "on", "object": "table-1"}
        return kind.model_validate({"things": things, "relations": [on], "caption": "A red cup stands on a table."})


def test_the_command_writes_what_was_made_and_what_was_said(smollm, shared_data, tmp_path, monkeypatch):
    """Combinations from the boxes of real photographs; what failed lies beside the layouts, with the raw answer."""
    monkeypatch.setenv("GOODEYE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("GOODEYE_MAX_TOKENS", "120")
    priors, concepts, out = tmp_path / "priors.parquet", tmp_path / "concepts.txt", tmp_path / "layouts.jsonl"
    build_priors([shared_data / "coco128" / "instances.json"]).save(priors)
    concepts.write_text("dog\nfrisbee\n")
    line = ["synth", "plan", str(concepts), "--priors", str(priors), "--out", str(out), "-n", "2", "--things", "2", "2"]
    line += ["--by-model", "--server", smollm.url, "--model", "smollm", "--json", str(tmp_path / "made.json")]
    ended = main(line)
    made = json.loads((tmp_path / "made.json").read_text())
    beside = tmp_path / "layouts.failed.jsonl"
    failed = [json.loads(one) for one in beside.read_text().splitlines()] if beside.exists() else []
    assert made["layouts"] + len(failed) == 2 and ended == (BAD_INPUT if failed else DONE)
    assert all(one["said"].strip() and "in 3 tries" in one["message"] for one in failed)
    assert len(read_layouts(out) if made["layouts"] else []) == made["layouts"]


def test_the_schema_holds_a_layout_to_its_objects_and_to_four_numbers(smollm):
    """Held to any layout at all, the model lays out the example's dog; held to these objects, the cup and the table."""
    question = LAY_OUT.format(
        caption="A red cup stands on a table.", objects="cup-1 (red), table-1", relations="cup-1 on table-1"
    )
    free = LargeModel(smollm).ask(Asked(question, system=SYSTEM), LaidOut)
    assert "dog-1" in [one.object for one in free.layout]
    found = ask_for(Described(LargeModel(smollm)), "a", [("cup-1", "cup"), ("table-1", "table")])
    assert isinstance(found, Planned), found
    assert_sound(found, ["cup-1", "table-1"])
