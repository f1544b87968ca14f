"""HPIR by a model, and two systems before a large model."""

import base64
import io
import json
import math

import pytest
import torch
from fake_server import Reply, said, serving
from PIL import Image
from safetensors.torch import save_file
from tiny_clip import COLOURS, ColourClip, save_picture

from goodeye.cli import main
from goodeye.errors import BadInput
from goodeye.judging.large import LargeModel, Server
from goodeye.search.benchmark import compare_answers, judge_hpir, measure_hpir


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
    of_another = {"goodeye": json.dumps({"version": "another"})}
    tensors = {"weight": torch.ones(1, 4), "bias": torch.zeros(1)}
    save_file(tensors, benchmark / "other.safetensors", metadata=of_another)
    (benchmark / "damaged.safetensors").write_bytes(b"junk")
    for name, words in (
        ("seven", "7 numbers, where this one gives 4"),
        ("other", "another CLIP"),
        ("damaged", "whole"),
    ):
        with pytest.raises(BadInput, match=words):
            measure_hpir(benchmark / "hpir.json", ColourClip(), head=benchmark / f"{name}.safetensors")
    with pytest.raises(BadInput, match="taste is nan"):
        measure_hpir(benchmark / "hpir.json", ColourClip(), taste=float("nan"))


def ranker(request):
    """Finds the queried colour in the picture that it is shown, whichever row it is in; thinks the upper row the more
    beautiful, whatever it is; and has no words for blue."""
    content = request["messages"][-1]["content"]
    if isinstance(content, str) or "a blue cup" in content[0]["text"]:
        return Reply("blue?")
    data = base64.b64decode(content[1]["image_url"]["url"].split(",")[1])
    upper = Image.open(io.BytesIO(data)).convert("RGB").getpixel((150, 100))
    query = next(name for name in COLOURS if f"a {name} cup" in content[0]["text"])
    found = 1 if upper == COLOURS[query] else 2
    return said({"analysis": "-", "accuracy": found, "aesthetics": 1, "diversity": 1})


def test_a_large_model_chooses_in_both_orders(benchmark, tmp_path, monkeypatch, capsys):
    entries = json.loads((benchmark / "hpir.json").read_text())
    swapped = {**entries[1], "A": entries[1]["B"], "B": entries[1]["A"], "accuracy": {"votes": [10, 20]}}
    misled = {**entries[0], "accuracy": {"votes": [9, 21]}, "aesthetic": {"votes": [15, 15]}}
    gone = {**entries[0], "A": ["gone.png"]}
    path = benchmark / "more.json"
    path.write_text(json.dumps([entries[0], swapped, misled, entries[2], gone]))  # right, right, wrong, no answer
    with serving(ranker) as fake:
        model = LargeModel(Server(url=fake.url, model="m", asks=1), tmp_path / "cache")
        found = judge_hpir(path, model)
        asked = model.requests
        judge_hpir(path, model)
        assert model.requests - asked == 1  # the one that it had no answer to
        monkeypatch.setenv("GOODEYE_CACHE", str(tmp_path / "cache"))
        line = ["search", "hpir", str(path), "--server", fake.url, "--model", "m", "--json", str(tmp_path / "j.json")]
        assert main(line) == 2
    accuracy, aesthetic = found.accuracy["accuracy"], found.accuracy["aesthetic"]
    assert (accuracy.answered, accuracy.missing, found.even) == (3, 2, {"accuracy": 0, "aesthetic": 1})
    assert (accuracy.consistent.mean, accuracy.coverage.mean) == (pytest.approx(2 / 3), 1.0)
    weights = [20 / 30, 10 / 30, 12 / 30]
    assert accuracy.weighted.mean == pytest.approx(sum(weights[:2]) / sum(weights))
    assert (aesthetic.answered, aesthetic.missing, aesthetic.coverage.mean) == (2, 2, 0.0)  # it likes a place alone
    assert math.isnan(aesthetic.consistent.mean) and aesthetic.on_all.mean == 0.5
    assert len(found.failures) == 1 and found.failures[0].startswith("a blue cup: m gave no usable answer")
    assert len(found.skipped) == 1 and "gone.png" in found.skipped[0].message
    told = capsys.readouterr()
    assert "right 0.667" in told.out and "3 queries, 2 without an answer" in told.out and "gone.png" in told.err
    written = json.loads((tmp_path / "j.json").read_text())
    assert written["aesthetic"]["consistent"]["mean"] is None and written["accuracy"]["answered"] == 3


def test_a_large_model_takes_no_taste(benchmark, capsys):
    line = ["search", "hpir", str(benchmark / "hpir.json"), "--server", "http://127.0.0.1:9/v1", "--model", "m"]
    assert main([*line, "--taste", "0.5"]) == 2
    assert "takes no head and no taste" in capsys.readouterr().err


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


def test_one_bad_entry_is_counted_and_ends_nothing(benchmark, tmp_path, monkeypatch, capsys):
    red, blue, gone = ([benchmark / f"{name}.png"] for name in ("red", "blue", "gone"))
    ours = answers(tmp_path / "ours.json", {"a red cup": red, "q1": gone, "q2": [], "only ours": red})
    twice = json.loads(ours.read_text())
    ours.write_text(json.dumps([*twice, {**twice[0], "images": [{"name": str(blue[0])}]}]))
    theirs = answers(tmp_path / "theirs.json", {"a red cup": blue, "q1": red, "q2": red, "only theirs": red})
    written = tmp_path / "j.json"
    monkeypatch.setenv("GOODEYE_CACHE", str(tmp_path / "cache"))
    with serving(ranker) as fake:
        line = ["search", "compare", str(ours), str(theirs), "--server", fake.url, "--model", "m"]
        assert main([*line, "--json", str(written)]) == 2
    found, told = json.loads(written.read_text()), capsys.readouterr()
    accuracy = found["axes"]["accuracy"]
    assert accuracy["counts"] == {"win": 1, "similar": 0, "lose": 0} and accuracy["missing"] == 2  # the first answer
    assert [bool(one["failure"]) for one in found["queries"]] == [False, True, True]
    assert [one["name"] for one in found["skipped"]] == ["only ours", "only theirs", "a red cup"]
    for words in ("gone.png", "q2: an answer has no pictures", "only ours is in", "a red cup more than once"):
        assert words in told.err
    assert "win 1" in told.out


def test_answers_that_do_not_fit_together(benchmark, tmp_path):
    one = answers(tmp_path / "one.json", {"q": [benchmark / "red.png"]})
    other = answers(tmp_path / "other.json", {"p": [benchmark / "red.png"]})
    (tmp_path / "bad.json").write_text('[{"q": 1}]')
    model = LargeModel(Server(url="http://127.0.0.1:9/v1", model="m"))
    bad = {other: "no query in common"}
    bad |= {tmp_path / "bad.json": "holds no answers", tmp_path / "x.json": "cannot be read"}
    for theirs, words in bad.items():
        with pytest.raises(BadInput, match=words):
            compare_answers(one, theirs, model)
