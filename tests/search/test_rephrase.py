"""Rewriting: five methods with their tokens in budget, and phrases chosen by what they do on the index."""

import json

import numpy as np
import pytest
from fake_server import Reply, said, serving
from tiny_clip import COLOURS, ColourClip, save_picture

from goodeye.errors import BadInput
from goodeye.judging.large import BadAnswer, LargeModel, Server
from goodeye.search.build import index_pictures
from goodeye.search.embed import token_count
from goodeye.search.index import Index
from goodeye.search.lexicon import Rules, choose_phrases, known_phrases, read_lexicon
from goodeye.search.rephrase import METHODS, rephrase

CLIP = ColourClip(limit=12)  # ten words
ANSWERS = {
    "detail": {"description": "a red cup of  bright light"},
    "k_list": {"phrases": ["a red cup", "bright light,", "a picture in blue", "a picture of a green cup"]},
    "kw_dict": {"keywords": [{"word": "cup", "description": "red"}, {"word": "light", "description": "bright"}]},
    "reorg": {"versions": ["a red cup", "a cup in red.", "a picture of a red cup in light"]},
}
TEXTS = {
    "detail": "a red cup of bright light",
    "k_list": "a red cup, bright light, a picture in blue",
    "kw_dict": "cup: red, light: bright",
    "reorg": "a red cup. a cup in red",
}


def model(fake):
    return LargeModel(Server(url=fake.url, model="m", tries=1, asks=2))


@pytest.mark.parametrize("method", list(ANSWERS))
def test_the_methods_of_the_paper(method):
    with serving([said(ANSWERS[method])]) as fake:
        made = rephrase("red cup", method, CLIP, model(fake))
    assert made.text == TEXTS[method] and token_count(made.text, CLIP) <= 12
    prompt = fake.requests[0]["messages"][-1]["content"]
    assert "with the query: red cup" in prompt and "about 8 words" in prompt
    left = {"k_list": ("a picture of a green cup",), "reorg": ("a picture of a red cup in light",)}
    assert made.left_out == left.get(method, ())  # what does not fit is named, not cut


def test_what_a_model_says_twice_counts_once():
    """A small model says the same again and again, which would be the control."""
    with serving([said({"phrases": ["red cup", "Red  cup", "bright", "red cup"]})]) as fake:
        assert rephrase("red cup", "k_list", CLIP, model(fake)).text == "red cup, bright"
    held = fake.requests[0]["response_format"]["json_schema"]["schema"]["properties"]["phrases"]
    assert held["maxItems"] == 25  # where the schema is kept to, the list ends


def test_the_control_repeats_the_query_as_far_as_it_fits():
    assert rephrase("red cup", "repeat", CLIP).text == "red cup, red cup, red cup, red cup, red cup"


NONSENSE = [
    ("k_list", said({"phrases": []}), "at least 1 item"),
    ("k_list", said({"phrases": "red"}), "phrases"),
    ("k_list", said({"words": ["red"]}), "phrases"),
    ("k_list", Reply("red"), "no JSON object"),
    ("k_list", said({"phrases": [" ", ""]}), "say it in words"),
    ("k_list", said({"phrases": [","]}), "say it in words"),
    ("detail", said({"description": "   "}), "say it in words"),
    ("detail", said({"description": "shoe " * 600}), "at most 900 characters"),
    ("reorg", said({"versions": ["shoe " * 600]}), "at most 900 characters"),
    ("kw_dict", said({"keywords": [{"word": "-", "description": "red"}] * 2}), "say it in words"),
]


@pytest.mark.parametrize(("method", "bad", "why"), NONSENSE)
def test_nonsense_is_a_failure_and_no_query(method, bad, why, tmp_path):
    with serving([bad]) as fake, pytest.raises(BadAnswer, match=why):
        rephrase("red cup", method, CLIP, LargeModel(model(fake).server, tmp_path / "kept"))
    assert not (tmp_path / "kept").exists(), "what is bad is asked anew the next time"


def test_the_methods_are_those_of_the_answers():
    assert set(METHODS) == {*ANSWERS, "repeat", "lexicon"}
    with pytest.raises(ValueError, match="needs a large model"):
        rephrase("red cup", "detail", CLIP)


# The lexicon


@pytest.fixture
def index(tmp_path):
    """Reds, from plain to white-ish and to dark, and some of other colours."""
    for number in range(8):
        save_picture(tmp_path / "p" / f"light{number}.png", (255, 20 * number, 20 * number))
        save_picture(tmp_path / "p" / f"dark{number}.png", (255 - 25 * number, 0, 0))
        save_picture(tmp_path / "p" / f"blue{number}.png", (0, 10 * number, 255))
    index_pictures(tmp_path / "p", tmp_path / "i", CLIP, "showroom", duplicates=0)
    return Index(tmp_path / "i")


def mean_beauty(index, text, head, top):
    rows = np.argsort(-(index.vectors @ CLIP.embed_texts([text]).numpy()[0]))[:top]
    return float((index.vectors[rows] @ head).mean())


def test_the_phrase_that_pulls_toward_beauty_is_chosen(index):
    head = np.array([0, 1, 1, 0], np.float32)  # beauty: far from dark red
    chosen = choose_phrases("red cup", index, CLIP, head, ["dark", "white", "of"], Rules(top=5, keep=-1))
    phrase, gain, _ = chosen.pulls[0]
    assert phrase == "white" and chosen.text.startswith("red cup, white")
    spread = float((index.vectors @ head).std())
    lift = mean_beauty(index, "red cup, white", head, 5) - mean_beauty(index, "red cup", head, 5)
    assert gain == pytest.approx(lift / spread, rel=1e-4)
    assert np.prod([gain for _, gain, _ in chosen.pulls]) > 0


def test_a_phrase_that_leads_away_from_the_query_is_not(index):
    head = np.array([0, 0, 5, 0], np.float32)  # blue is beautiful, and not what was asked for
    rules = Rules(top=5, keep=0.95)
    assert choose_phrases("red cup", index, CLIP, head, ["blue blue blue blue"], rules).text == "red cup"
    assert choose_phrases("red cup", index, CLIP, head, ["blue blue blue blue"], Rules(top=5, keep=-99)).pulls


def test_what_does_not_fit_or_is_not_known_is_no_phrase(index):
    head = np.array([0, 1, 1, 0], np.float32)
    assert known_phrases(["white", "zeitgeist light", "bright"], CLIP) == ["white", "bright"]
    full = "red cup of a picture in light of"  # eight words of ten
    chosen = choose_phrases(full, index, CLIP, head, ["white white white"], Rules(top=5, keep=0))
    assert chosen.text == full and not chosen.pulls and not chosen.room
    long = "of a picture in light of a picture in light, red"  # its last word is the eleventh of ten
    chosen = choose_phrases(long, index, CLIP, head, ["white"], Rules(top=5, keep=0))
    assert chosen.text == long and not chosen.room
    assert choose_phrases("red cup", index, CLIP, -head, ["white"], Rules(top=5, keep=-1)).room  # fits, and pulls not


def test_lexicon_files(tmp_path):
    (tmp_path / "l.txt").write_text("soft  light\n\nsoft light\nsharp\n")
    assert read_lexicon(tmp_path / "l.txt") == ("soft light", "sharp")
    (tmp_path / "e.txt").write_text("\n")
    for name in ("e.txt", "none.txt"):
        with pytest.raises(BadInput, match=name):
            read_lexicon(tmp_path / name)
    assert len(set(read_lexicon(None))) == len(read_lexicon(None)) > 40
    assert json.dumps(read_lexicon(None)) and "white" in COLOURS
