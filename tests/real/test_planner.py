"""Layouts by a real small model: each plan is a layout that makes sense, or has failed and keeps what was said.

SmolLM2-135M-Instruct behind transformers' own server, which takes no notice of the JSON schema: most plans may fail.
"""

import pytest

from goodeye.judging.large import LargeModel
from goodeye.synth.describe import Failed, ask_for_all
from goodeye.synth.layout import Layout, Thing, layout_of
from real.test_large_models import babbler, smollm, url  # noqa: F401 (fixtures)

pytestmark = pytest.mark.real

OBJECTS = (("cup", "table"), ("dog",))


def plans() -> list[Layout]:
    boxes = ((0.1, 0.1, 0.3, 0.3), (0.5, 0.5, 0.4, 0.4))
    return [
        Layout(
            key=f"{number}",
            things=tuple(
                Thing(key=f"{name}-1", category=name, box=box) for name, box in zip(names, boxes, strict=False)
            ),
        )
        for number, names in enumerate(OBJECTS)
    ]


@pytest.mark.parametrize("name", ["smollm", "babbler"])
def test_every_plan_makes_sense_or_has_failed(name, request, tmp_path):
    model = LargeModel(request.getfixturevalue(name), tmp_path)
    found = list(ask_for_all(model, plans()))
    for one, plan in zip(found, plans(), strict=True):
        keys = tuple(thing.key for thing in plan.things)
        if isinstance(one, Failed):
            assert one.key == plan.key and one.objects == keys
            assert "no usable answer" in one.message and isinstance(one.said, str)
        else:
            assert layout_of(one.layout.to_json(), "its layout") == one.layout
            assert tuple(thing.key for thing in one.layout.things) == keys
            assert all(thing.category in one.layout.caption.lower() for thing in one.layout.things)
    if name == "babbler":
        assert all(isinstance(one, Failed) for one in found)
