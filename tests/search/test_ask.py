"""The commands from end to end, with the showroom's own CLIP on a few pictures."""

import json

import numpy as np
import pytest
from fake_server import Reply, said, serving
from PIL import Image, ImageDraw

from goodeye import cli
from goodeye.images import open_image
from goodeye.search.ask import Searcher, is_picture, load_clip, set_name
from goodeye.search.index import Index
from goodeye.search.towers import save_clip


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Twelve pictures, one of them twice, and an index of them by the command."""
    folder = tmp_path_factory.mktemp("shop")
    random = np.random.default_rng(0)
    for number in range(12):
        img = Image.new("RGB", (96, 96), tuple(int(v) for v in random.integers(0, 255, 3)))
        box = sorted(random.integers(5, 90, 2).tolist())
        ImageDraw.Draw(img).ellipse(
            [box[0], 10, box[1] + 5, 80], fill=tuple(int(v) for v in random.integers(0, 255, 3))
        )
        img.save(folder / f"{number:02}.png")
    Image.open(folder / "03.png").resize((90, 90)).save(folder / "03-again.png")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def index(shop):
    arguments = ["search", "index", str(shop), "--out", str(shop / "index"), "--batch", "8"]
    assert cli.main(arguments) == cli.BAD_INPUT  # one picture is broken; the others are in
    assert cli.main(["search", "fit-taste", str(shop / "index"), str(scores(shop))]) == cli.DONE
    return shop / "index"


def scores(shop):
    """Beauty: how blue a picture is."""
    rows = [(path, np.asarray(Image.open(path)).mean((0, 1))) for path in sorted(shop.glob("[01]*.png"))]
    lines = [f"{path},{mean[2] - mean[0]:.2f}" for path, mean in rows]
    (shop / "scores.csv").write_text("\n".join(["image,score", *lines]) + "\n")
    return shop / "scores.csv"


def test_the_index_remembers_its_models_and_groups_the_copy(index, shop):
    opened = Index(index)
    assert len(opened) == 13 and opened.card.models == "showroom" == set_name("showroom")
    names = opened.names()
    pair = [names[str(shop / name)] for name in ("03.png", "03-again.png")]
    assert opened.groups[pair[0]] == opened.groups[pair[1]]


def test_a_text_query_with_everything(index, tmp_path, capsys):
    line = ["search", "query", str(index), "a blue shoe", "-k", "4", "--taste", "1", "--not", "a red bag",
            "--cutoff", "0", "--json", str(tmp_path / "a.json"), "--sheet", str(tmp_path / "a.png")]  # fmt: skip
    assert cli.main(line) == cli.DONE
    answer = json.loads((tmp_path / "a.json").read_text())
    assert len(answer["images"]) == 4 and answer["taste"] == 1.0 and answer["lambda"] > 0
    assert answer["images"][0]["score"] >= answer["images"][3]["score"]
    assert open_image(tmp_path / "a.png").size[0] >= 480
    assert answer["images"][0]["name"] in capsys.readouterr().out


def test_with_taste_the_same_number_of_pictures_is_more_beautiful(index, tmp_path):
    beauty = []
    for taste in ("0", "1"):
        line = ["search", "query", str(index), "a blue shoe", "-k", "4", "--cutoff", "0", "--taste", taste]
        assert cli.main([*line, "--json", str(tmp_path / "a.json")]) == cli.DONE
        images = json.loads((tmp_path / "a.json").read_text())["images"]
        assert len(images) == 4
        beauty.append(np.mean([one["beauty"] for one in images]))
    assert beauty[1] > beauty[0]


def test_nothing_relevant_enough_is_said(index, tmp_path, capsys):
    line = ["search", "query", str(index), "a blue shoe", "--cutoff", "1.5", "--json", str(tmp_path / "a.json")]
    assert cli.main(line) == cli.DONE
    told = capsys.readouterr()
    assert "nothing in" in told.err and "lower --cutoff" in told.err and not told.out
    assert json.loads((tmp_path / "a.json").read_text())["images"] == []


def test_a_picture_finds_itself(index, shop, tmp_path):
    picture = str(shop / "07.png")
    assert is_picture(picture) and not is_picture("a red shoe.") and not is_picture("pictures like shoe.jpg")
    line = ["search", "query", str(index), picture, "--taste", "0", "--json", str(tmp_path / "p.json")]
    assert cli.main(line) == cli.DONE
    first = json.loads((tmp_path / "p.json").read_text())["images"][0]
    assert first["name"] == picture and first["similarity"] == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("words", "said_so"),
    [
        (["a shoe", "-k", "0"], "0 pictures cannot be asked for"),
        (["  "], "the query is empty"),
        (["x" * 10_000], "10,000 characters"),
        (["./none.png"], "does not exist"),
        (["none.jpg"], "does not exist"),
        (["none.HEIC"], "does not exist"),
        (["a shoe", "--head", "none.safetensors"], "does not exist"),
        (["a shoe", "--rephrase", "k_list"], "no large model is named"),
        (["a shoe", "--models", "none.toml"], "neither a model set nor a file"),
        (["a shoe", "--server", "http://127.0.0.1:9/v1"], "no large model is named"),
    ],
)
def test_bad_questions_are_one_plain_line(index, words, said_so, capsys, monkeypatch):
    for name in ("GOODEYE_SERVER", "GOODEYE_MODEL"):
        monkeypatch.delenv(name, raising=False)
    assert cli.main(["search", "query", str(index), *words]) == cli.BAD_INPUT
    told = capsys.readouterr().err
    assert said_so in told and told.count("\n") == 1


def test_a_question_by_another_model_is_refused(index, tmp_path, capsys):
    """The same CLIP but for one weight: its texts do not fit this index."""
    clip = load_clip("showroom")
    clip.model.logit_scale.data.mul_(1.5)
    save_clip(clip, tmp_path / "clip")
    (tmp_path / "mine.toml").write_text('name = "mine"\nbase = "showroom"\n[roles]\nclip = "clip"\n')
    assert cli.main(["search", "query", str(index), "a shoe", "--models", str(tmp_path / "mine.toml")]) == cli.BAD_INPUT
    told = capsys.readouterr().err
    assert "was made by the CLIP of showroom" in told and told.count("\n") == 1


@pytest.mark.parametrize(
    ("reply", "words"),
    [(Reply(status=401, raw=b"{}"), "refuses the request (401"), (Reply(status=404, raw=b"{}"), "refuses the request")],
)
def test_a_server_that_refuses_ends_the_command_in_one_line(index, tmp_path, capsys, monkeypatch, reply, words):
    monkeypatch.setenv("GOODEYE_CACHE", str(tmp_path / "cache"))
    with serving([reply]) as fake:
        line = ["search", "query", str(index), "shoe", "--server", fake.url, "--model", "m", "--rephrase", "detail"]
        assert cli.main([*line, "--json", str(tmp_path / "a.json")]) == cli.BAD_INPUT
    told = capsys.readouterr().err
    assert words in told and told.count("\n") == 1
    assert not (tmp_path / "a.json").exists() and not (tmp_path / "cache").exists()


def test_rephrasing_by_a_server_is_shown_and_its_nonsense_is_said(index, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("GOODEYE_CACHE", str(tmp_path / "cache"))
    with serving([said({"phrases": ["blue shoe", "soft light"]}), Reply("nonsense")]) as fake:
        line = ["search", "query", str(index), "shoe", "--server", fake.url, "--model", "m", "--rephrase"]
        assert cli.main([*line, "k_list"]) == cli.DONE
        assert "Rewritten by k_list: blue shoe, soft light" in capsys.readouterr().out
        assert cli.main([*line, "k_list"]) == cli.DONE and len(fake.requests) == 1  # cached
        capsys.readouterr()
        assert cli.main([*line, "reorg", "--json", str(tmp_path / "r.json")]) == cli.FAILED
        told = capsys.readouterr()
        assert "The query stands as it was" in told.err and "Rewritten" not in told.out and ".png" in told.out
        answer = json.loads((tmp_path / "r.json").read_text())
        assert (answer["rephrased"], answer["read"], answer["said"]) == ("", "shoe", "nonsense")
        assert "no usable answer" in answer["failure"] and answer["images"]
        only = ["search", "rephrase", str(index), "shoe", "--server", fake.url, "--model", "m", "--method", "detail"]
        assert cli.main(only) == cli.FAILED and capsys.readouterr().out == "shoe\n"


def test_the_lexicon_works_offline(index, capsys):
    line = ["search", "rephrase", str(index), "a shoe", "--method"]
    assert cli.main([*line, "lexicon"]) == cli.DONE
    assert capsys.readouterr().out.startswith("a shoe")
    assert cli.main([*line, "repeat"]) == cli.DONE
    assert capsys.readouterr().out.startswith("a shoe, a shoe")
    for query, words in ((" ", "is empty"), ("x" * 9999, "9,999 characters")):
        assert cli.main(["search", "rephrase", str(index), query, "--method", "repeat"]) == cli.BAD_INPUT
        assert words in capsys.readouterr().err


def test_a_searcher_answers_many_questions_with_one_model(index):
    searcher = Searcher(index)
    texts = ["a red shoe", "a blue bag", "a green chair"]
    tops = [searcher.ask(text, k=3).found.hits[0] for text in texts]
    assert all(hit.beauty is not None for hit in tops) and searcher.usual_taste == 0.3
    long = searcher.ask("a red shoe on the sand at a beach, " * 5, k=2)
    assert "the mean of" in long.notes[-1]
    assert searcher.ask("a red shoe", k=1).notes == []
    strange = searcher.ask("a dog and a red shoe 狗", k=1)
    assert strange.notes == ["The model does not know: dog 狗. What they mean has no part in the answer."]


def test_removing_and_what_is_not_there(index, shop, capsys):
    line = ["search", "remove", str(index), str(shop / "11.png"), "nothing.png"]
    assert cli.main(line) == cli.BAD_INPUT
    told = capsys.readouterr()
    assert "1 pictures removed" in told.out and "nothing.png is not in" in told.err
    assert str(shop / "11.png") not in Index(index).names()


def test_recall_and_hpir_commands(index, shop, tmp_path, capsys):
    (shop / "captions.csv").write_text("image,caption\n00.png,a red shoe\n01.png,a blue bag\n")
    assert cli.main(["search", "recall", str(shop / "captions.csv")]) == cli.DONE
    entry = {"query": "a shoe", "A": ["00.png"], "B": ["01.png"], "accuracy": {"votes": [2, 1]},
             "aesthetic": {"votes": [1, 2]}}  # fmt: skip
    (shop / "hpir.json").write_text(json.dumps([entry]))
    assert cli.main(["search", "hpir", str(shop / "hpir.json"), "--json", str(tmp_path / "h.json")]) == cli.DONE
    found = json.loads((tmp_path / "h.json").read_text())
    assert found["accuracy"]["mean"] + found["aesthetic"]["mean"] == 1.0
    told = capsys.readouterr().out
    assert "text to image: recall@1" in told and "accuracy:" in told
