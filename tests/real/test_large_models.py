"""The large-model roles with a real small model behind a real server: SmolLM2-135M-Instruct in llama.cpp's own.

The model is far too small to judge, and sees no pictures. What counts is that each of its answers is either one that
fits or a recorded failure with what was said, and that nothing is made of nonsense.
"""

import dataclasses
import json
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from goodeye.errors import BadInput
from goodeye.judging.large import Answer, Asked, BadAnswer, LargeModel, Server
from goodeye.judging.ranker import AXES, Compared, Method, compare, summary
from goodeye.modelset import Models, resolve
from goodeye.search.ask import Searcher
from goodeye.search.build import index_pictures
from goodeye.search.pseudo import from_model
from goodeye.search.rephrase import BY_MODEL, rephrase
from goodeye.synth.layout import Layout, Thing
from goodeye.synth.told import Judged, Seen, score_told
from real import llama

pytestmark = pytest.mark.real

QUERY = "a red shoe on the sand"
LARGER = Asked("Which is larger, an elephant or a mouse?")
TOO_MUCH = Asked('Give it 100 points out of 100. Answer: {"points": 100, "wrong": ""}')
ENDLESS = Asked("Count from 1 to 100000, each number a line of its own.")
ROWS = [[Image.new("RGB", (32, 32), colour)] * 2 for colour in ("red", "blue")]


class Size(Answer):
    larger: str


class Lines(Answer):
    lines: list[str]


class Blind(LargeModel):
    """Leaves the pictures out, since the model takes none: a judge that says something, whatever it is worth."""

    def ask(self, asked, kind):
        return super().ask(dataclasses.replace(asked, images=()), kind)


def unheld(server: Server, cache: Path | None = None) -> LargeModel:
    """As with a server that does not know response_format: the schema is told in words, and holds nothing."""
    model = LargeModel(server, cache)
    model._plain = True
    return model


@pytest.fixture(scope="module")
def clip():
    return Models(resolve("showroom")).clip


def kept(folder: Path) -> list[Path]:
    return list(folder.rglob("*.json"))


def test_an_answer_that_fits_is_kept_and_asked_for_once(smollm, tmp_path):
    model = LargeModel(smollm, tmp_path)
    answer = model.ask(LARGER, Size)
    assert "elephant" in answer.larger.lower()
    assert model.read > 0 and model.written > 0  # tokens, as the server counts them
    assert model.ask(LARGER, Size) == answer
    assert LargeModel(smollm, tmp_path).ask(LARGER, Size) == answer
    assert model.requests == 1 and len(kept(tmp_path)) == 1


def test_the_schema_holds_the_model_to_its_form(smollm, tmp_path):
    """The same question with no schema is answered in prose; with one in words alone it ends as a recorded failure."""
    body = {"messages": LARGER.messages(), "temperature": 0, "max_tokens": 40}
    request = urllib.request.Request(
        f"{smollm.url}/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=120) as reply:
        prose = json.load(reply)["choices"][0]["message"]["content"]
    assert prose.strip() and "{" not in prose
    with pytest.raises(BadAnswer, match="no usable answer in 2 tries") as failed:
        unheld(smollm, tmp_path).ask(LARGER, Size)
    assert failed.value.said.strip() and not kept(tmp_path)
    assert LargeModel(smollm).ask(LARGER, Size).larger


def test_the_schema_holds_numbers_to_their_range(smollm):
    """Told to give 100 points, where 0 to 5 can be given: a number of that range, or none, never 100 made to fit."""
    model = LargeModel(smollm)
    assert model.ask(TOO_MUCH, Judged).points in range(6) and model.requests == 1
    with pytest.raises(BadAnswer, match="points: Input should be"):
        unheld(smollm).ask(TOO_MUCH, Judged)


def test_an_answer_without_end_is_cut_and_has_failed(smollm, tmp_path):
    """In the form that was asked for, but never done: it would go on until the server's context is full."""
    short = dataclasses.replace(smollm, max_tokens=40)
    model = LargeModel(short, tmp_path)
    with pytest.raises(BadAnswer, match="no usable answer in 2 tries: it does not end within 40 tokens") as failed:
        model.ask(ENDLESS, Lines)
    assert json.loads(failed.value.said.rsplit(",", 1)[0] + "]}")["lines"][0].startswith("1")
    assert model.requests == 2 and model.written == 80 and not kept(tmp_path)


def test_each_method_of_rephrasing_gives_words_or_a_recorded_failure(smollm, clip, tmp_path):
    model = LargeModel(smollm, tmp_path)
    found, failed = [], []
    for method in BY_MODEL:
        try:
            found.append(rephrase(QUERY, method, clip, model))
        except BadAnswer as error:
            failed.append(error)
    assert all("no usable answer in 2 tries" in str(error) and error.said for error in failed)
    assert len(found) >= 2 and len(kept(tmp_path)) == len(found)
    for one in found:
        assert "shoe" in one.text.lower() and not set("{}[]\n") & set(one.text)
        parts = one.text.split(". " if one.method == "reorg" else ", ")
        assert len({part.lower() for part in parts}) == len(parts)  # it says the same again and again: once is enough


def test_a_search_goes_on_with_the_query_as_it_was(smollm, tmp_path, monkeypatch, clip):
    monkeypatch.setenv("GOODEYE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "pictures").mkdir()
    for colour in ("red", "blue", "green"):
        Image.new("RGB", (32, 32), colour).save(tmp_path / "pictures" / f"{colour}.png")
    index_pictures(tmp_path / "pictures", tmp_path / "index", clip, "showroom")
    short = dataclasses.replace(smollm, max_tokens=5)
    cut = Searcher(tmp_path / "index", server=short).ask(QUERY, k=3, method="detail")
    assert cut.found.hits and cut.read == QUERY
    assert any("stands as it was" in note and "within 5 tokens" in note for note in cut.notes)
    whole = Searcher(tmp_path / "index", server=smollm).ask(QUERY, k=3, method="detail")
    assert whole.found.hits and "shoe" in whole.read.lower() and not any("stands" in note for note in whole.notes)


@pytest.mark.parametrize("method", ["ranker", "scorer", "cp-scorer"])
def test_a_blind_judge_never_makes_a_winner(smollm, tmp_path, method: Method):
    """It is asked the same whatever it is shown, and so, by both orders, nothing wins: similar, or missing."""
    model = Blind(dataclasses.replace(smollm, asks=1, max_tokens=100), tmp_path)
    found = [compare(model, query, *ROWS, method) for query in ("sunset over the sea", "a dog")]
    assert_recorded(found)
    assert {outcome for one in found for outcome in one.outcomes.values()} <= {"similar", None}


def assert_recorded(found: Sequence[Compared]) -> None:
    for one in found:
        assert set(one.outcomes) == set(AXES)
        assert all((outcome is None) == bool(one.failure) for outcome in one.outcomes.values())
        assert json.dumps(one.said) and (not one.failure or one.said["last"])
    failures = sum(bool(one.failure) for one in found)
    assert all(wins.missing == failures for wins in summary(found).values())


def test_a_judge_that_fails_is_missing_and_keeps_what_it_said(smollm, tmp_path):
    found = compare(Blind(dataclasses.replace(smollm, max_tokens=8), tmp_path), QUERY, *ROWS)
    assert set(found.outcomes.values()) == {None} and "it does not end within 8 tokens" in found.failure
    assert_recorded([found])
    assert not kept(tmp_path)


def test_pictures_for_a_model_of_words_end_in_a_plain_line(smollm, tmp_path):
    """The server says why it fails; that is passed on after as many tries as any failure gets."""
    waits: list[float] = []
    model = LargeModel(dataclasses.replace(smollm, tries=3), tmp_path, sleep=waits.append)
    with pytest.raises(BadInput, match="image input is not supported.*3 times") as refused:
        compare(model, QUERY, *ROWS)
    assert "\n" not in str(refused.value) and smollm.url in str(refused.value)
    assert len(waits) == 2 and not kept(tmp_path)


def test_pseudo_queries_are_lines_or_a_plain_message(smollm, tmp_path):
    captions = ["a red shoe on the sand, soft light", "a dog runs over a lawn"]
    try:
        found = from_model(LargeModel(dataclasses.replace(smollm, asks=1, max_tokens=100), tmp_path), captions, 3)
    except BadInput as error:
        assert "no query came of it" in str(error) and "within 100 tokens" in str(error)
    else:
        assert 1 <= len(found) <= 3 and len(set(found)) == len(found)
        assert all(one and one == " ".join(one.split()) for one in found)
    with pytest.raises(BadInput, match="no query came of it.*within 4 tokens"):
        from_model(LargeModel(dataclasses.replace(smollm, asks=1, max_tokens=4)), captions, 3)


class Told:
    """Stands in for a captioner, who must see."""

    def ask(self, asked, kind):
        assert kind is Seen
        return Seen(description="A red mug stands on a table.")


def test_clis_i_by_a_real_judge_has_points_or_is_unknown(smollm, tmp_path):
    """Judging what was seen needs words alone. Points are steps of 20; a judge that fails leaves the score open."""
    layout = Layout(
        key="a",
        things=(Thing(key="mug-1", category="mug", box=(0.2, 0.2, 0.5, 0.5), attributes=("red",)),),
        caption="A red mug stands on a table.",
    )
    found = score_told(ROWS[0][0], layout, Told(), LargeModel(smollm, tmp_path))
    assert found.whole in range(0, 101, 20)
    assert set(found.things[0].parts) == {"marked", "cut"}
    assert all(points in range(0, 101, 20) for points in found.things[0].parts.values())
    cut = LargeModel(dataclasses.replace(smollm, asks=1, max_tokens=4))
    failed = score_told(ROWS[0][0], layout, Told(), cut)
    assert failed.whole is None and failed.things[0].score is None and not failed.things[0].parts
    assert "could not be judged" in " ".join(failed.things[0].reasons)


def test_a_server_that_is_killed_is_a_plain_line_and_what_was_answered_stays(smollm_gguf, tmp_path):
    with llama.served(smollm_gguf) as (url, process):
        server = Server(url=url, model="smollm", tries=2)
        model = LargeModel(server, tmp_path, sleep=lambda seconds: None)
        answer = model.ask(LARGER, Size)
        process.kill()
        process.wait(timeout=30)
        with pytest.raises(BadInput, match="cannot be reached.*2 times"):
            model.ask(TOO_MUCH, Judged)
        assert model.ask(LARGER, Size) == answer and len(kept(tmp_path)) == 1
