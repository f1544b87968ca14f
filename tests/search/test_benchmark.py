"""HPIR by a model, and two systems before a large model."""

import json

import pytest
import torch
from fake_server import Reply, said, serving
from safetensors.torch import save_file
from tiny_clip import COLOURS, ColourClip, save_picture

from goodeye.errors import BadInput
from goodeye.judging.large import LargeModel, Server
from goodeye.search.benchmark import compare_answers, measure_hpir


@pytest.fixture
def benchmark(tmp_path):
    """People find the queried colour right, and white beautiful."""
    for name, colour in COLOURS.items():
        save_picture(tmp_path / f"{name}.png", colour)
    entries = [
        {"query": f"a {name} cup", "A": [f"{name}.png"] * 2, "B": ["white.png"] * 2,
         "accuracy": {"votes": [25, 5]}, "aesthetic": {"votes": [3, 27]}}
        for name in ("red", "green", "blue")
    ]  # fmt: skip
    (tmp_path / "hpir.json").write_text(json.dumps(entries))
    save_file({"weight": torch.tensor([[1.0, 1.0, 1.0, 0.0]]), "bias": torch.zeros(1)}, tmp_path / "head.safetensors")
    return tmp_path


def test_a_model_chooses_by_similarity_and_taste_moves_it(benchmark):
    plain = measure_hpir(benchmark / "hpir.json", ColourClip()).agreement
    assert (plain.measured["accuracy"].mean, plain.measured["aesthetic"].mean) == (1.0, 0.0)
    moved = measure_hpir(
        benchmark / "hpir.json", ColourClip(), head=benchmark / "head.safetensors", taste=50.0
    ).agreement
    assert (moved.measured["accuracy"].mean, moved.measured["aesthetic"].mean) == (0.0, 1.0)


def test_a_picture_that_is_gone_leaves_its_query_without_a_choice(benchmark):
    (benchmark / "green.png").unlink()
    found = measure_hpir(benchmark / "hpir.json", ColourClip())
    assert len(found.skipped) == 1 and (found.agreement.count, found.agreement.missing) == (2, 1)


def test_a_taste_needs_a_head_of_this_model(benchmark):
    with pytest.raises(BadInput, match="needs an aesthetic head"):
        measure_hpir(benchmark / "hpir.json", ColourClip(), taste=1.0)
    save_file({"weight": torch.ones(1, 7), "bias": torch.zeros(1)}, benchmark / "seven.safetensors")
    with pytest.raises(BadInput, match="7 numbers and the model gives 4"):
        measure_hpir(benchmark / "hpir.json", ColourClip(), head=benchmark / "seven.safetensors")


def answers(path, names):
    path.write_text(json.dumps([{"query": q, "images": [{"name": str(n)} for n in rows]} for q, rows in names.items()]))
    return path


def test_two_systems_before_a_judge_who_fails_once(benchmark, tmp_path):
    reds, blues = [benchmark / "red.png"] * 5, [benchmark / "blue.png"] * 5
    ours = answers(tmp_path / "ours.json", {"q1": reds, "q2": reds, "only ours": reds})
    theirs = answers(tmp_path / "theirs.json", {"q1": blues, "q2": blues})
    upper = {"analysis": "-", "accuracy": 1, "aesthetics": 1, "diversity": 1}

    def reply(request):
        query = request["messages"][-1]["content"]
        return Reply("no idea") if "q2" in str(query)[:200] or isinstance(query, str) else said(upper)

    with serving(reply) as fake:
        model = LargeModel(Server(url=fake.url, model="m", asks=2, tries=1), tmp_path / "cache")
        found = compare_answers(ours, theirs, model)
        asked = model.requests
        compare_answers(ours, theirs, model)
    assert found.wins["accuracy"].counts == {"win": 0, "similar": 1, "lose": 0} and found.wins["accuracy"].missing == 1
    assert len(found.failures) == 1 and found.failures[0].startswith("q2: m gave no usable answer")
    assert json.dumps(found.to_json(), allow_nan=False)
    assert model.requests - asked < asked  # what was answered is not asked again


def test_answers_that_do_not_fit_together(benchmark, tmp_path):
    one = answers(tmp_path / "one.json", {"q": [benchmark / "red.png"]})
    other = answers(tmp_path / "other.json", {"p": [benchmark / "red.png"]})
    (tmp_path / "bad.json").write_text('[{"q": 1}]')
    none = answers(tmp_path / "none.json", {"q": []})
    model = LargeModel(Server(url="http://127.0.0.1:9/v1", model="m"))
    bad = {other: "no query in common", none: "without pictures"}
    bad |= {tmp_path / "bad.json": "holds no answers", tmp_path / "x.json": "cannot be read"}
    for theirs, words in bad.items():
        with pytest.raises(BadInput, match=words):
            compare_answers(one, theirs, model)
