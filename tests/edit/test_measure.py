"""Real-Edit's file and measure."""

import json

import pytest
from fake_server import Reply, said, serving
from PIL import Image
from tiny_editor import save_triplets

from goodeye.cli import main
from goodeye.edit.measure import TYPES, Judgement, edited_of, measure, read_real_edit, tables, tasks_of
from goodeye.edit.triplets import read_triplets
from goodeye.errors import BadInput
from goodeye.tables import Skipped


@pytest.fixture
def folder(tmp_path):
    """Two photographs of which one is there, with the seven types; the second writes "Local Edit:"."""
    (tmp_path / "imgs").mkdir()
    Image.new("RGB", (16, 12)).save(tmp_path / "imgs" / "1.jpeg")
    lines = [f"{at}. {kind}: do {at}." for at, kind in enumerate(TYPES, start=1)]
    given = {"1.jpeg": lines, "2.jpeg": lines}
    (tmp_path / "eval_instruct.json").write_text(json.dumps(given))
    return tmp_path


def judge(instruction, original, edited):
    """Yes to all but odd numbers' quality; nothing to say of number 7's following."""
    number = int(instruction.split()[1].rstrip("."))
    answer = {axis: Judgement(failure="", score=number / 2, yes=True) for axis in ("following", "preserving")}
    answer["quality"] = Judgement(failure="dull", score=1.0, yes=number % 2 == 0)
    return answer | ({"following": None} if number == 7 else {})


def test_the_real_file_is_read_whole(shared_data):
    listed = list(read_real_edit(shared_data / "real_edit"))
    tasks = [one for one in listed if not isinstance(one, Skipped)]
    skipped = [one for one in listed if isinstance(one, Skipped)]
    here = len(list((shared_data / "real_edit" / "imgs").iterdir()))
    assert here == 7 and len(tasks) == 7 * here and len(skipped) == 80 - here
    assert {kind: sum(one.kind == kind for one in tasks) for kind in TYPES} == dict.fromkeys(TYPES, here)
    assert all(one.instruction and ":" not in one.instruction.split()[0] for one in tasks)
    assert all(one.original.open().mode == "RGB" for one in tasks[::7])


def test_both_ways_to_write_a_type(folder, shared_data):
    lines = json.loads((shared_data / "real_edit" / "eval_instruct.json").read_text())
    odd = [name for name, some in lines.items() if "Edit:" in some[0]]
    assert len(odd) == 2
    given = {"1.jpeg": lines[odd[0]]}
    (folder / "eval_instruct.json").write_text(json.dumps(given))
    assert [one.kind for one in read_real_edit(folder)] == list(TYPES)
    (folder / "eval_instruct.json").write_text(json.dumps({"1.jpeg": ["1. Wish: a", "2. Local: b", "no line"]}))
    assert [type(one) for one in read_real_edit(folder)] == [Skipped] * 3


def test_shares_means_and_what_is_missing(folder, tmp_path):
    tasks = [one for one in read_real_edit(folder) if not isinstance(one, Skipped)]
    for task in tasks[:-1]:
        Image.new("RGB", (16, 12)).save(tmp_path / f"{task.key}.png")
    skipped = []
    found = measure(tasks, tmp_path, judge, skipped)
    assert [one.name for one in skipped] == ["1-style"] and len(found) == 6
    Image.new("RGB", (16, 12)).save(tmp_path / f"{tasks[-1].key}.webp")
    rows = tables(measure(tasks, tmp_path, judge, []))
    assert rows["Remove"]["yes"] == {name: {"mean": 1, "low": 1, "high": 1} for name in rows["Remove"]["yes"]}
    assert rows["Remove"]["score"]["following"]["mean"] == 1
    whole = rows["all"]
    assert whole["count"] == 7 and whole["missing"] == 1
    assert whole["yes"]["quality"]["mean"] == pytest.approx(3 / 7, abs=1e-4)
    assert whole["score"]["preserving"]["mean"] == pytest.approx(sum(range(1, 8)) / 14, abs=1e-4)
    overall = [(number / 2 + number / 2 + 1) / 3 for number in range(1, 7)]  # of those with all three
    assert whole["score"]["overall"]["mean"] == pytest.approx(sum(overall) / 6, abs=1e-4)


def test_the_command(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("GOODEYE_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "edited"
    out.mkdir()
    line = ["edit", "measure", str(out), "--of", str(folder)]
    with serving([said({"failure": "", "score": 4, "yes": True})]) as fake:
        line += ["--server", fake.url, "--model", "m"]
        assert main(line) == 2 and "no picture of a task" in capsys.readouterr().err
        Image.new("RGB", (16, 12)).save(out / "1-add.png")
        assert main([*line, "--json", str(tmp_path / "m.json")]) == 2  # the others are not there
        shown = fake.requests[-1]["messages"][-1]["content"]
    assert sum(one["type"] == "image_url" for one in shown) == 1  # quality: the edited picture alone
    told = capsys.readouterr()
    assert "100 %  4.00" in told.out and "2.jpeg is not there" in told.err
    assert json.loads((tmp_path / "m.json").read_text())["rows"]["Add"]["score"]["overall"]["mean"] == 4


def test_an_empty_instruction_is_skipped_and_the_others_go_on(folder):
    given = {"1.jpeg": ["1. Local: ", "2. Remove: the cup"]}
    (folder / "eval_instruct.json").write_text(json.dumps(given))
    first, second = read_real_edit(folder)
    assert isinstance(first, Skipped) and "1-local: the instruction is empty" in first.message
    assert second.instruction == "the cup"


def test_a_mask_that_leaves_only_the_rim_is_no_number_and_no_error(tmp_path, capsys):
    root = save_triplets(tmp_path / "data", {"a": [10]}, size=16)
    mask = Image.new("L", (16, 16))
    mask.paste(255, (5, 5, 11, 11))
    mask.save(root / "a" / "10_mask.png")
    (tmp_path / "edited").mkdir()
    Image.new("RGB", (16, 16), (61, 0, 0)).save(tmp_path / "edited" / "a.png")
    line = ["edit", "measure", str(tmp_path / "edited"), "--of", str(root), "--pixels"]
    assert main([*line, "--json", str(tmp_path / "m.json")]) == 0
    found = json.loads((tmp_path / "m.json").read_text())["rows"]["all"]
    assert found["outside"]["ssim"] is None and found["missing"] == 0  # nobody was asked
    head, *_, last, note = capsys.readouterr().out.splitlines()
    assert head.split() == ["type", "n", "L1", "PSNR", "SSIM"] and last.endswith(" -") and "outside" in note
    (root / "a" / "10_mask.png").unlink()
    assert main(line) == 2 and "has a mask" in capsys.readouterr().err


def test_missing_answers_are_told(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("GOODEYE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "edited").mkdir()
    Image.new("RGB", (16, 12)).save(tmp_path / "edited" / "1-add.png")
    good, bad = said({"failure": "", "score": 4, "yes": True}), Reply("a fine edit")
    with serving([good, good, bad]) as fake:
        line = ["edit", "measure", str(tmp_path / "edited"), "--of", str(folder), "--server", fake.url, "--model", "m"]
        assert main(line) == 2  # the other pictures are not there
    told = capsys.readouterr()
    assert "1 of 3 answers are missing and left out" in told.out and "no JSON object in it" in told.err


def test_triplets_with_masks_are_a_benchmark_for_pixels(tmp_path, capsys):
    root = save_triplets(tmp_path / "data", {"a": [10], "b": [20]}, size=16)
    Image.new("L", (16, 16)).save(root / "a" / "10_mask.png")
    tasks = tasks_of(read_triplets(root))
    assert [(one.kind, one.mask is not None) for one in tasks] == [("make", True), ("make", False)]
    (tmp_path / "edited").mkdir()
    Image.new("RGB", (16, 16), (61, 0, 0)).save(tmp_path / "edited" / "a.png")
    with pytest.raises(BadInput, match="no picture b.png"):
        edited_of(tmp_path / "edited", tasks[1])
    line = ["edit", "measure", str(tmp_path / "edited"), "--of", str(root), "--pixels"]
    assert main([*line, "--json", str(tmp_path / "m.json")]) == 2
    outside = json.loads((tmp_path / "m.json").read_text())["rows"]["all"]["outside"]
    assert outside["l1"] == pytest.approx(0.2 / 3, abs=1e-6)  # 51 / 255 in one of three channels
