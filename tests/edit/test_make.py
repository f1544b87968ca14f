"""`goodeye edit make`: several edits, the best by a judge, a sheet, and plain words for what cannot be used."""

import json

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from fake_server import Reply, said, serving
from PIL import Image
from tiny_editor import save_editor, save_triplets

from goodeye.cli import main
from goodeye.edit import make as makes
from goodeye.edit.generate import Settings, load_editor
from goodeye.edit.make import make
from goodeye.edit.rewards import Rewards
from goodeye.errors import BadInput
from goodeye.images import open_image
from goodeye.ledger.ledger import Ledger
from goodeye.modelset import Models, resolve


@pytest.fixture(scope="module")
def toml(tiny_set, tmp_path_factory):
    return save_editor(tiny_set, tmp_path_factory.mktemp("editor"))


@pytest.fixture
def photo(tmp_path):
    Image.new("RGB", (50, 30), (200, 30, 30)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def run(toml, photo, out, *more):
    return main(
        ["edit", "make", str(photo), "a red shoe", "--models", str(toml), "--steps", "1", "--out", str(out), *more]
    )


def test_files_and_sheet(toml, photo, tmp_path, capsys):
    assert run(toml, photo, tmp_path / "out", "-n", "3", "--batch", "2", "--json", str(tmp_path / "j")) == 0
    made = [open_image(tmp_path / "out" / f"{number}.png") for number in (1, 2, 3)]
    assert {img.size for img in made} == {(50, 30)} and made[0].tobytes() != made[1].tobytes()
    assert open_image(tmp_path / "out" / "sheet.png").width > 4 * 300
    found = json.loads((tmp_path / "j").read_text())
    assert found == json.loads((tmp_path / "out" / "results.json").read_text()) and found["best"] is None
    assert len({one["seed"] for one in found["attempts"]}) == 3
    assert "sheet:" in capsys.readouterr().out
    assert run(toml, photo, tmp_path / "again", "-n", "1", "--rewards", "5,5,5") == 0  # 5,5,5 is what is usual
    assert open_image(tmp_path / "again" / "1.png").tobytes() == made[0].tobytes()
    assert run(toml, photo, tmp_path / "other", "-n", "1", "--rewards", "0,0,0") == 0
    assert open_image(tmp_path / "other" / "1.png").tobytes() != made[0].tobytes()
    assert run(toml, photo, tmp_path / "out") == 2 and "was begun otherwise (changed: n)" in capsys.readouterr().err


def test_the_judges_best_wins_and_a_missing_score_cannot(toml, photo, tmp_path):
    editor = load_editor(Models(resolve(toml)))
    given = iter([Rewards((5, 5, None)), Rewards((4, 3, 3)), Rewards((3, 4, 4)), Rewards((3, 3, 3))])
    seen = []

    def judge(instruction, original, edited):
        seen.append((instruction, original.size, edited.size))
        return next(given)

    settings = resolve(toml).table("edit", Settings)
    made = make(photo, " a  red shoe ", editor, tmp_path / "out", n=4, judge=judge, settings=settings)
    assert made.best is made.attempts[2] and seen == [("a red shoe", (50, 30), (50, 30))] * 4
    assert made.attempts[0].score is None and made.attempts[1].score == pytest.approx(10 / 3)


def test_where_every_score_is_missing_none_is_the_best(toml, photo, tmp_path, ledger, monkeypatch, capsys):
    monkeypatch.setenv("GOODEYE_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "out"
    with serving(lambda request: Reply("a fine edit")) as fake:
        given = ("-n", "2", "--server", fake.url, "--model", "m", "--json", str(tmp_path / "j"))
        assert run(toml, photo, out, *given) == 0
    told = capsys.readouterr()
    assert "some scores are missing, so none is the best. m gave no usable answer" in told.err
    assert "best" not in told.out and json.loads((tmp_path / "j").read_text())["best"] is None
    with Ledger.open(ledger) as book:
        (done,) = book.runs("edit")
        assert [(pick.kept, pick.why) for pick in book.picks(done.id)] == [(False, "a score is missing")] * 2


def test_edits_are_kept_where_the_judge_is_away(toml, photo, tmp_path, monkeypatch):
    editor, settings, calls = load_editor(Models(resolve(toml))), Settings(size=32, steps=1), []
    real = makes.edit_images
    monkeypatch.setattr(makes, "edit_images", lambda *some, **more: calls.append(1) or real(*some, **more))

    def away(*given):
        raise BadInput("the server is not there")

    with pytest.raises(BadInput, match="not there"):
        make(photo, "a red shoe", editor, tmp_path / "out", n=2, settings=settings, judge=away)
    assert (tmp_path / "out" / "1.png").is_file() and (tmp_path / "out" / "2.png").is_file()
    said = iter([Rewards((3, 3, 3)), Rewards((4, 4, 4))])
    made = make(photo, "a red shoe", editor, tmp_path / "out", n=2, settings=settings, judge=lambda *_: next(said))
    assert len(calls) == 1 and made.best is made.attempts[1]


def test_an_instruction_that_cannot_be_read_begins_no_run(toml, photo, tmp_path, capsys):
    line = ["edit", "make", str(photo), "red " * 100, "--models", str(toml), "--out", str(tmp_path / "out")]
    assert main(line) == 2
    told = capsys.readouterr().err
    assert "tokens and the model reads" in told and len(told.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_long_instruction_is_cut_where_the_sheet_ends(tmp_path):
    red = Image.new("RGB", (50, 30), (200, 30, 30))
    red.save(tmp_path / "1.png")
    (one,) = [makes.Attempt(file=tmp_path / "1.png", seed=1)]
    sheet = makes.before_after(red, [one], None, "make the wall a little more blue " * 8)
    title = np.asarray(sheet.convert("L"))[8:36]
    assert (title[:, -makes.GAP :] > 240).all() and (title < 100).any()


def test_a_large_model_judges(toml, photo, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("GOODEYE_CACHE", str(tmp_path / "cache"))
    with serving([said({"failure": "", "score": 2})] * 3 + [said({"failure": "", "score": 3.5})]) as fake:
        assert run(toml, photo, tmp_path / "out", "-n", "2", "--server", fake.url, "--model", "m") == 0
    told = capsys.readouterr().out.splitlines()
    assert "following 2.0" in told[0] and told[1].endswith("following 3.5  preserving 3.5  quality 3.5  best")


def test_all_is_on_the_ledger_and_a_stopped_call_goes_on(toml, photo, tmp_path, ledger, monkeypatch):
    editor, settings = load_editor(Models(resolve(toml))), Settings(size=32, steps=1)
    given = {"n": 3, "batch": 1, "settings": settings, "judged_by": ("large", "m")}
    said = [Rewards((4, 3, 3)), Rewards((5, 4, 4), ("", "the cup is gone", "")), Rewards((5, 5, None))]
    real, calls = makes.edit_images, []

    def stopping(*some, **more):
        calls.append(some)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*some, **more)

    monkeypatch.setattr(makes, "edit_images", stopping)
    with pytest.raises(KeyboardInterrupt):
        make(photo, "a red shoe", editor, tmp_path / "out", judge=lambda *_: said[0], **given)
    with Ledger.open(ledger) as book:
        (stopped,) = book.runs("edit")
        assert stopped.status == "stopped" and len(book.attempts(stopped.id)) == 1
    answers = iter(said)
    make(photo, "a red shoe", editor, tmp_path / "out", judge=lambda *_: next(answers), **given)
    assert len(calls) == 4  # the first edit was not made again
    with Ledger.open(ledger) as book:
        (done,) = book.runs("edit")
        (brief,) = book.briefs(done.id)
        attempts = book.attempts(done.id)
        picks = {pick.attempt_id: (pick.kept, pick.why) for pick in book.picks(done.id)}
    assert done.status == "done" and brief.content["instruction"] == "a red shoe" and brief.product_sha
    assert [one.verdicts[0].scores for one in attempts] == [
        {"following": 4, "preserving": 3, "quality": 3}, {"following": 5, "preserving": 4, "quality": 4},
        {"following": 5, "preserving": 5},
    ]  # fmt: skip
    assert attempts[1].verdicts[0].failures == ["preserving: the cup is gone"]
    assert (attempts[0].verdicts[0].judge, attempts[0].verdicts[0].version, attempts[0].evals) == ("large", "m", 1)
    assert [picks[one.id][0] for one in attempts] == [False, True, False]
    assert picks[attempts[2].id][1] == "a score is missing"


@pytest.mark.parametrize(
    ("words", "more", "message"),
    [
        ("", (), "the instruction is empty"),
        ("blue " * 2000, (), "has 2000 words"),
        ("red", ("--rewards", "5,5"), "the rewards are 5,5"),
        ("red", ("--rewards", "5,5,6"), "the rewards are 5, 5, 6"),
        ("red", ("-n", "0"), "n is 0"),
        ("red", ("--steps", "0"), "steps 0"),
        ("red", ("--text-guidance", "nan"), "weights of instruction and picture are nan and 1.5"),
    ],
)
def test_bad_input_is_told(toml, photo, tmp_path, capsys, words, more, message):
    line = ["edit", "make", str(photo), words, "--models", str(toml), "--out", str(tmp_path / "out"), *more]
    assert main(line) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_pictures_that_are_none_and_editors_without_rewards_are_told(tiny_set, toml, photo, tmp_path, capsys):
    assert run(toml, tmp_path / "gone.png", tmp_path / "out") == 2 and "gone.png" in capsys.readouterr().err
    plain = load_editor(Models(resolve(toml)), rewards=False)
    with pytest.raises(BadInput, match="no reward module"):
        make(photo, "red", plain, tmp_path / "out", rewards=(5, 5, 5))


def test_a_benchmark_is_edited_whole_and_gone_on_with(toml, tmp_path, capsys):
    root, out = save_triplets(tmp_path / "data", {"x/a": [10], "b": [20]}, size=16), tmp_path / "out"
    made = out / "pictures" / "x-a.png"
    line = ["edit", "make", str(root), "--models", str(toml), "--steps", "1", "--out", str(out)]
    assert main(line) == 0 and "2 pictures edited" in capsys.readouterr().out
    first = made.read_bytes()
    made.unlink()
    (root / "b" / "20_0.png").write_bytes(b"no picture")
    (root / "c").mkdir()
    (root / "c" / "prompt.json").write_text("{}")
    assert main(line) == 2
    told = capsys.readouterr()
    assert "1 pictures edited" in told.out and "c: " in told.err
    assert made.read_bytes() == first  # by its own seed, whatever else is made
    assert main([*line, "--rewards", "0,5,5"]) == 2 and "(changed: rewards)" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main([*line[:2], str(tmp_path / "empty"), *line[3:]]) == 2 and "prompt.json" in capsys.readouterr().err
    assert main([*line[:2], str(root / "x" / "a" / "10_0.png"), *line[3:]]) == 2
    assert "the instruction is empty" in capsys.readouterr().err


def lighter(folder, by):
    """The saved editor with other weights."""
    unet = UNet2DConditionModel.from_pretrained(folder)
    with torch.no_grad():
        unet.conv_out.bias.add_(by)
    unet.save_pretrained(folder)


@pytest.mark.parametrize("name", ["2.png", "sheet.png", "results.json"])
def test_pictures_of_ones_own_are_neither_taken_for_edits_nor_written_over(toml, photo, tmp_path, name):
    editor = load_editor(Models(resolve(toml)))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_bytes(b"mine")
    with pytest.raises(BadInput, match=f"{name} was not made by this command"):
        make(photo, "a red shoe", editor, tmp_path / "out", settings=Settings(size=32, steps=1))
    assert [one.read_bytes() for one in (tmp_path / "out").iterdir()] == [b"mine"]


def test_another_picture_instruction_or_editor_is_another_run_and_the_message_names_it(tiny_set, photo, tmp_path):
    toml = save_editor(tiny_set, tmp_path / "editor")
    given = {"n": 1, "settings": Settings(size=32, steps=1)}

    def call(words="a red shoe"):
        return make(photo, words, load_editor(Models(resolve(toml))), tmp_path / "out", **given)

    before = open_image(call().best.file).tobytes()
    assert open_image(call().best.file).tobytes() == before
    with pytest.raises(BadInput, match=r"begun otherwise \(changed: instruction\)"):
        call("a blue shoe")
    Image.new("RGB", (50, 30), (0, 200, 30)).save(photo)
    with pytest.raises(BadInput, match=r"\(changed: image\)"):
        call()
    Image.new("RGB", (50, 30), (200, 30, 30)).save(photo)
    lighter(tmp_path / "editor" / "editor", 0.1)
    with pytest.raises(BadInput, match=r"\(changed: weights\)"):
        call()


def test_a_benchmark_takes_no_edits_of_other_pictures_editors_or_hands(tiny_set, tmp_path, capsys):
    toml = save_editor(tiny_set, tmp_path / "editor")
    root, out = save_triplets(tmp_path / "data", {"a": [10], "b": [20]}, size=16), tmp_path / "out"
    line = ["edit", "make", str(root), "--models", str(toml), "--steps", "1", "--out"]
    (tmp_path / "mine" / "pictures").mkdir(parents=True)
    assert main([*line, str(tmp_path / "mine")]) == 2 and "pictures was not made by this" in capsys.readouterr().err
    assert main([*line, str(out)]) == main([*line, str(out)]) == 0
    Image.new("RGB", (16, 16), (0, 90, 0)).save(root / "b" / "20_0.png")
    (root / "a" / "prompt.json").write_text(json.dumps({"edit": "make a green"}))
    capsys.readouterr()
    assert main([*line, str(out)]) == 2
    told = capsys.readouterr().err
    assert (
        "a: it was edited here with another instruction" in told and "b: it was edited here with another pict" in told
    )
    lighter(tmp_path / "editor" / "editor", 0.1)
    assert main([*line, str(out)]) == 2 and "(changed: weights)" in capsys.readouterr().err


def test_a_stopped_call_goes_on_in_the_ledger_where_it_was_and_in_no_other(toml, photo, tmp_path, ledger, monkeypatch):
    """Runs of every ledger are counted from 1: the number alone does not tell whose it is."""
    editor, given = load_editor(Models(resolve(toml))), {"n": 2, "batch": 1, "settings": Settings(size=32, steps=1)}
    with Ledger.open(ledger) as book:
        others = book.start_run("ads", {"of": "somebody else"}, 0)
    real = makes.edit_images

    def stopping(*some, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr(makes, "edit_images", stopping)
    with pytest.raises(KeyboardInterrupt):
        make(photo, "a red shoe", editor, tmp_path / "out", ledger=tmp_path / "first", **given)
    monkeypatch.setattr(makes, "edit_images", real)
    with pytest.raises(BadInput, match=r"first, and not on .* Name that one with --ledger"):
        make(photo, "a red shoe", editor, tmp_path / "out", ledger=ledger, **given)
    make(photo, "a red shoe", editor, tmp_path / "out", **given)
    with Ledger.open(tmp_path / "first") as book:
        (done,) = book.runs("edit")
        assert done.id == others and done.status == "done" and len(book.attempts(done.id)) == 2
    with Ledger.open(ledger) as book:
        (untouched,) = book.runs()
        assert untouched.id == others and untouched.job == "ads" and not book.attempts(others)
