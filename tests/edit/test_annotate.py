"""Annotation by a large model behind a fake server: what it is shown, what it may say, and going on after a stop."""

import base64
import io
import json

import pytest
from fake_server import Reply, said, serving
from PIL import Image
from tiny_editor import save_triplets

from goodeye.cli import main
from goodeye.edit.annotate import LargeAnnotator, Price, Spent, annotate
from goodeye.edit.triplets import read_triplets
from goodeye.errors import BadInput
from goodeye.judging.large import LargeModel, Server

ABOUT = {"model": "m"}


@pytest.fixture
def folder(tmp_path):
    return save_triplets(tmp_path / "data", {"a": [1], "b": [2], "c": [3]})


def parts(request):
    """The words of a request and the red of each picture's first pixel."""
    content = request["messages"][-1]["content"]
    urls = [one["image_url"]["url"] for one in content if one["type"] == "image_url"]
    images = [Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) for url in urls]
    return next(one["text"] for one in content if one["type"] == "text"), [img.getpixel((0, 0))[0] for img in images]


def answer(request):
    """Following 4 (an int), preserving 2.5, quality by the edited picture's shade."""
    words, reds = parts(request)
    if "Look at this picture alone" in words:
        return said({"failure": "", "score": reds[0] / 100})
    return said(
        {"failure": " too \n blue ", "score": 4} if "what was asked for" in words else {"failure": "", "score": 2.5}
    )


def run(folder, out, script=answer, workers=1, tries=1, about=ABOUT, **more):
    with serving(script) as fake:
        model = LargeModel(Server(url=fake.url, model="m", tries=tries, asks=2), None, sleep=lambda seconds: None)
        done = annotate(
            read_triplets(folder),
            LargeAnnotator(model),
            out,
            about=about,
            spent=lambda: Spent.by(model),
            workers=workers,
            **more,
        )
        return done, fake.requests


def test_three_calls_each_and_quality_sees_the_edited_picture_only(folder, tmp_path):
    done, requests = run(folder, tmp_path / "out")
    shown = [parts(one) for one in requests]
    assert len(shown) == 9 and [reds for _, reds in shown[:3]] == [[1, 101], [1, 101], [101]]
    assert all("make a blue" in words for words, _ in shown[:2]) and "make a blue" not in shown[2][0]
    schema = requests[0]["response_format"]["json_schema"]["schema"]
    assert set(schema["required"]) == {"failure", "score"} and schema["additionalProperties"] is False
    found = json.loads((tmp_path / "out" / "rewards.json").read_text())
    assert found["a"] == [
        {"Score": 4.0, "Negative Prompt": "too blue"},
        {"Score": 2.5, "Negative Prompt": ""},
        {"Score": 1.01, "Negative Prompt": ""},
    ]
    assert done.annotated == 3 and done.spent == Spent(9) and done.means["preserving"] == 2.5
    again = [one.rewards.scores for one in read_triplets(tmp_path / "out" / "triplets.parquet")]
    assert again == [(4, 2.5, pytest.approx(shade)) for shade in (1.01, 1.02, 1.03)]


@pytest.mark.parametrize(
    "bad", ['{"failure": "", "score": 7}', '{"score": 3}', "five", '{"failure": "", "score": NaN}']
)
def test_an_unusable_answer_is_asked_for_again_and_then_missing(folder, tmp_path, bad):
    def script(request):
        first = request["messages"][1]["content"]
        return Reply(bad) if "stay as it was" in first[0]["text"] else answer(request)

    done, requests = run(folder, tmp_path / "out", script)
    assert len(requests) == 3 * 4  # two tries for the one that is never usable
    found = json.loads((tmp_path / "out" / "rewards.json").read_text())
    assert [row["Score"] for row in found["b"]] == [4.0, None, 1.02]
    assert done.missing == {"following": 0, "preserving": 3, "quality": 0} and "preserving" not in done.means
    assert "missing: preserving 3" in done.summary()


def test_it_goes_on_where_the_server_left(folder, tmp_path):
    def failing(request):
        return Reply(status=401) if len(asked := parts(request)) and asked[1][0] == 2 else answer(request)

    with pytest.raises(BadInput, match="refuses"):
        run(folder, tmp_path / "out", failing)
    line = (tmp_path / "out" / "annotations.jsonl").read_text()
    (tmp_path / "out" / "annotations.jsonl").write_text(line + '{"key": "b", "rew')  # a kill in the middle of a line
    done, requests = run(folder, tmp_path / "out")
    assert (done.known, done.annotated, len(requests)) == (1, 2, 6)
    assert list(json.loads((tmp_path / "out" / "rewards.json").read_text())) == ["a", "b", "c"]
    done, requests = run(folder, tmp_path / "out")
    assert (done.known, done.annotated, len(requests)) == (3, 0, 0)
    with pytest.raises(BadInput, match="was annotated with model m"):
        run(folder, tmp_path / "out", about={"model": "other"})


def test_scores_of_other_pictures_are_not_taken_for_those_of_the_new(folder, tmp_path):
    run(folder, tmp_path / "out")
    Image.new("RGB", (8, 8), (50, 0, 0)).save(folder / "b" / "2_1.png")
    (folder / "c" / "prompt.json").write_text('{"edit": "make it red"}')
    done, requests = run(folder, tmp_path / "out")
    assert requests == [] and [one.name for one in done.skipped] == ["b", "c"]
    assert "annotated here with other pictures" in done.skipped[0].message
    assert list(json.loads((tmp_path / "out" / "rewards.json").read_text())) == ["a"]
    assert [one.key for one in read_triplets(tmp_path / "out" / "triplets.parquet")] == ["a"]


def test_missing_scores_are_asked_for_again_only_where_that_is_wanted(folder, tmp_path):
    def dumb(request):
        shown = parts({"messages": request["messages"][1:2]})[1]  # the question itself; what follows is asked once more
        return Reply("no") if len(shown) == 2 and shown[0] == 2 else answer(request)

    assert run(folder, tmp_path / "out", dumb)[0].missing["following"] == 1
    assert run(folder, tmp_path / "out")[1] == []
    done, requests = run(folder, tmp_path / "out", again=True)
    assert (done.annotated, done.known, len(requests)) == (1, 2, 3) and not any(done.missing.values())
    assert run(folder, tmp_path / "out")[0].known == 3


def test_a_folder_in_which_nothing_was_annotated_is_not_bound_to_a_model(folder, tmp_path):
    with pytest.raises(BadInput, match="refuses"):
        run(folder, tmp_path / "out", lambda request: Reply(status=404), about={"model": "mistyped"})
    assert run(folder, tmp_path / "out")[0].annotated == 3


def test_tokens_and_their_cost_are_told_where_the_server_counts_them(folder, tmp_path, monkeypatch):
    counted = LargeModel._request

    def request(self, messages, kind):
        found = counted(self, messages, kind)
        self.read, self.written = self.read + 1000, self.written + 20
        return found

    monkeypatch.setattr(LargeModel, "_request", request)
    done, _ = run(folder, tmp_path / "out", price=Price(request=0.5, read=2.0, written=10.0))
    assert done.spent == Spent(9, 9000, 180)
    assert done.cost == pytest.approx(9 * 0.5 + 9000 * 2e-6 + 180 * 1e-5)
    assert "9000 tokens read and 180 written, 4.52 in all" in done.summary()
    assert done.to_json()["spent"] == {"requests": 9, "read": 9000, "written": 180}


def test_several_at_once_give_the_same(folder, tmp_path):
    run(folder, tmp_path / "one")
    run(folder, tmp_path / "four", workers=4)
    both = [(tmp_path / name / "rewards.json").read_text() for name in ("one", "four")]
    assert both[0] == both[1]


def test_a_triplet_whose_pictures_are_gone_is_skipped(folder, tmp_path):
    (folder / "b" / "2_1.png").write_bytes(b"no picture")
    done, _ = run(folder, tmp_path / "out")
    assert done.annotated == 2 and [one.name for one in done.skipped] == ["b"]
    assert "not a picture" in done.skipped[0].message


def test_published_rewards_are_not_written_over(folder, tmp_path):
    (folder / "rewards.json").write_text("{}")
    with pytest.raises(BadInput, match="rewards.json was not made by this command"):
        run(folder, folder)
    assert (folder / "rewards.json").read_text() == "{}"


def test_the_command(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("GOODEYE_CACHE", str(tmp_path / "cache"))
    line = ["edit", "annotate", str(folder), "--out", str(tmp_path / "out"), "--price", "0.01"]
    assert main(line) == 2 and "no large model is named" in capsys.readouterr().err
    with serving(answer) as fake:
        monkeypatch.setenv("GOODEYE_SERVER", fake.url)
        monkeypatch.setenv("GOODEYE_MODEL", "m")
        (folder / "c" / "3_0.png").unlink()
        assert main([*line, "--json", str(tmp_path / "done.json")]) == 2
        told = capsys.readouterr()
        assert "c: " in told.err and "6 requests sent" in told.out and "0.06 in all" in told.out
        assert json.loads((tmp_path / "done.json").read_text())["annotated"] == 2
        assert (
            main([*line[:3], "--out", str(tmp_path / "other")]) == 2
        )  # in another folder: answers come from the cache
        assert len(fake.requests) == 6


def test_the_command_says_why_scores_are_missing_and_keeps_out_of_the_triplets(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("GOODEYE_CACHE", str(tmp_path / "cache"))
    line = ["edit", "annotate", str(folder), "--model", "m"]
    with serving(lambda request: Reply("a fine edit")) as fake:
        assert main([*line, "--server", fake.url, "--out", str(folder)]) == 2
        assert "holds the triplets" in capsys.readouterr().err and not (folder / "triplets.parquet").exists()
        assert main([*line, "--server", fake.url, "--out", str(tmp_path / "out")]) == 0
    told = capsys.readouterr()
    assert "some scores are missing. m gave no usable answer" in told.err and "no JSON object in it" in told.err
    assert "missing: following 3, preserving 3, quality 3" in told.out


def test_nobody_to_ask_is_told(folder, tmp_path):
    with pytest.raises(BadInput, match="workers is 0"):
        annotate(read_triplets(folder), lambda *given: None, tmp_path / "out", workers=0)
    assert not (tmp_path / "out").exists()
