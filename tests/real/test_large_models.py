"""The large-model roles behind a real server: transformers' own, which serves chat completions on loopback.

SmolLM2-135M-Instruct is far too small to judge pictures, which it does not even see: what counts here is that each of
its answers is either one that fits, or a recorded failure, and never a number made of nonsense. The server takes no
notice of the JSON schema that goes along, as some do.
"""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from goodeye.errors import BadInput
from goodeye.judging.large import Answer, Asked, BadAnswer, LargeModel, Server
from goodeye.judging.ranker import AXES, Method, compare, summary
from goodeye.modelset import Models, resolve
from goodeye.search.ask import Searcher
from goodeye.search.build import index_pictures
from goodeye.search.pseudo import from_model
from goodeye.search.rephrase import BY_MODEL, rephrase

pytestmark = pytest.mark.real

QUERY = "a red shoe on the sand"


@contextmanager
def served() -> Iterator[str]:
    """transformers' server on a free port; gives the URL of its API."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = Path(sys.executable).with_name("transformers")
    line = [program, "serve", "--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "float32"]
    server = subprocess.Popen(
        line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "HF_HUB_OFFLINE": "1"}
    )
    try:
        for _ in range(600):
            assert server.poll() is None, "the server has ended"
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait(timeout=60)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with served() as found:
        yield found


@pytest.fixture(scope="module")
def smollm(url, smollm_gguf) -> Server:
    """SmolLM2-135M-Instruct, quantised to four bits."""
    return Server(url=url, model=f"{smollm_gguf.parent}:{smollm_gguf.name}", timeout=600.0, asks=2)


@pytest.fixture(scope="module")
def babbler(url, tmp_path_factory) -> Server:
    """A Llama of random weights: it says words, none of which make sense."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("babbler")
    words = PreTrainedTokenizerFast.from_pretrained(resolve("showroom").roles["clip"])
    words.chat_template = "{% for one in messages %}{{ one['content'] }} {% endfor %}"
    words.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=8192,
        eos_token_id=words.eos_token_id,
        pad_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return Server(url=url, model=str(folder), timeout=120.0, asks=2)


def cached(folder: Path) -> list[Path]:
    return list(folder.rglob("*.json"))


class Size(Answer):
    """One question with one small answer."""

    larger: str


def test_a_real_small_model_answers_in_the_form_that_is_asked_for(smollm, tmp_path):
    """Its one easy task: copy a word into a form that it is shown. What fits is kept, and asked once."""
    model = LargeModel(smollm, tmp_path)
    asked = Asked('Which is larger, an elephant or a mouse? Answer with this JSON alone: {"larger": "elephant"}')
    answer = model.ask(asked, Size)
    assert "elephant" in answer.larger.lower()
    requests = model.requests
    assert model.ask(asked, Size) == answer and model.requests == requests and len(cached(tmp_path)) == 1


def test_each_method_of_rephrasing_gives_words_or_a_failure(smollm, tmp_path):
    model, clip = LargeModel(smollm, tmp_path), Models(resolve("showroom")).clip
    fitting = 0
    for method in BY_MODEL:
        try:
            found = rephrase(QUERY, method, clip, model)
        except BadAnswer as error:
            assert "no usable answer in 2 tries" in str(error) and isinstance(error.said, str)
        else:
            fitting += 1
            assert found.method == method and found.text.strip() and "{" not in found.text
    assert len(cached(tmp_path)) == fitting  # what cannot be used is not kept


@pytest.mark.parametrize("method", ["ranker", "scorer", "cp-scorer"])
def test_a_judge_that_sees_nothing_ends_in_outcomes_or_failures(smollm, tmp_path, method: Method):
    rows = [[Image.new("RGB", (32, 32), colour)] * 2 for colour in ("red", "blue")]
    found = compare(LargeModel(smollm, tmp_path), QUERY, *rows, method)
    assert_recorded([found])


def assert_recorded(compared) -> None:
    for one in compared:
        assert set(one.outcomes) == set(AXES)
        missing = [axis for axis, outcome in one.outcomes.items() if outcome is None]
        assert bool(missing) == bool(one.failure)
        assert all(outcome in ("win", "similar", "lose", None) for outcome in one.outcomes.values())
        json.dumps(one.said)  # what was said stays, as a record
    wins = summary(compared)
    for axis in AXES:
        assert wins[axis].missing == sum(one.outcomes[axis] is None for one in compared)


def test_pseudo_queries_are_lines_or_a_plain_message(smollm, tmp_path):
    try:
        found = from_model(LargeModel(smollm, tmp_path), ["a red shoe on the sand, soft light"], 3)
    except BadInput as error:
        assert "no query came of it" in str(error)
    else:
        assert 1 <= len(found) <= 3 and all(one == " ".join(one.split()) and one for one in found)


def test_a_model_of_random_weights_is_a_failure_in_every_role(babbler, tmp_path):
    """Nonsense from a real model: no words, no choice, no number, nothing kept; a query stands as it was."""
    model, clip = LargeModel(babbler, tmp_path / "cache"), Models(resolve("showroom")).clip
    with pytest.raises(BadAnswer, match="no usable answer in 2 tries"):
        rephrase(QUERY, "k_list", clip, model)
    rows = [[Image.new("RGB", (32, 32), colour)] for colour in ("red", "blue")]
    found = compare(model, QUERY, *rows)
    assert set(found.outcomes.values()) == {None} and "no usable answer" in found.failure
    assert_recorded([found])
    with pytest.raises(BadInput, match="no query came of it"):
        from_model(model, ["a red shoe"], 1)
    assert not cached(tmp_path / "cache")


def test_a_search_goes_on_with_the_query_as_it_was(babbler, tmp_path, monkeypatch):
    monkeypatch.setenv("GOODEYE_CACHE", str(tmp_path / "cache"))
    for number, colour in enumerate(("red", "blue", "green")):
        (tmp_path / "p").mkdir(exist_ok=True)
        Image.new("RGB", (32, 32), colour).save(tmp_path / "p" / f"{number}.png")
    index_pictures(tmp_path / "p", tmp_path / "i", Models(resolve("showroom")).clip, "showroom")
    answer = Searcher(tmp_path / "i", server=babbler).ask(QUERY, k=3, method="k_list")
    assert len(answer.found.hits) == 3 and any("stands as it was" in note for note in answer.notes)
