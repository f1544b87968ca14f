"""CLIS-I by large models: what is asked, what counts, and that what cannot be used is unknown and never a number."""

import base64
import io

import pytest
from fake_server import Reply, said, serving
from PIL import Image
from tiny_world import drawn, two

from goodeye.images import to_pil
from goodeye.judging.large import LargeModel, Server
from goodeye.synth.told import boxed, score_told

LAYOUT = two(caption="A cherry left of a leaf.")


def text_of(request):
    content = request["messages"][-1]["content"]
    return content if isinstance(content, str) else content[0]["text"]


def pictures_of(request):
    content = request["messages"][-1]["content"]
    urls = [part["image_url"]["url"] for part in content[1:]] if isinstance(content, list) else []
    return [Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) for url in urls]


def answering(points):
    """Describes every picture; gives points by what was wanted, or what a test writes instead."""

    def reply(request):
        text = text_of(request)
        if not text.startswith("Wanted: "):
            return said({"description": "something"})
        given = points(text.partition("\n")[0][8:])
        return (
            given if isinstance(given, Reply) else said({"points": given, "wrong": "" if given == 5 else "it is pale"})
        )

    return reply


@pytest.fixture(scope="module")
def told():
    with serving([]) as fake:
        model = LargeModel(Server(url=fake.url, model="small", timeout=60, asks=2), None)

        def score(points):
            fake.script, fake.requests = answering(points), []
            return score_told(to_pil(drawn(LAYOUT)), LAYOUT, model, model), fake.requests

        yield score


def test_every_region_is_described_with_its_place_and_judged(told):
    found, requests = told({"A cherry left of a leaf.": 4, "cherry": 5, "leaf": 2}.__getitem__)
    assert len(requests) == 2 * (1 + 2 * 2)
    assert found.whole == 80 and [one.score for one in found.things] == [100, 40]
    assert found.score == 0.5 * 80 + 0.5 * 70
    assert found.things[0].reasons == () and found.things[1].reasons == ("leaf-1: it is pale",)
    region = next(one for one in requests if "red box" in text_of(one))
    assert "from 0.10 to 0.35 of the width and from 0.30 to 0.70 of the height" in text_of(region)
    (picture,) = pictures_of(region)
    assert picture.size == (64, 48) and picture.getpixel((6, 14)) == (255, 0, 0)
    cut = next(one for one in requests if text_of(one).startswith("Describe the one thing that this"))
    assert max(pictures_of(cut)[0].size) < 30


@pytest.mark.parametrize(
    "bad", [Reply("Good."), Reply('{"points": '), said({"points": 9, "wrong": ""}), said({"points": 3.5, "wrong": ""})]
)
def test_a_judgement_that_cannot_be_used_is_unknown(told, bad):
    found, _ = told(lambda wanted: bad if wanted == "leaf" else 5)
    assert found.things[0].score == 100 and found.things[1].score is None and found.score is None
    assert found.whole == 100 and "leaf-1 could not be judged" in found.reasons
    assert any("It said: " in reason for reason in found.reasons)


def test_a_picture_whose_whole_cannot_be_judged_says_why(told):
    found, _ = told(lambda wanted: Reply("Lovely!") if wanted == LAYOUT.caption else 5)
    assert found.score is None and found.whole is None and [one.score for one in found.things] == [100, 100]
    assert "the whole could not be judged" in found.reasons[0] and "It said: {" in found.reasons[0]


def test_without_a_caption_nothing_is_asked_of_the_whole():
    from goodeye.synth.layout import Layout

    with serving(answering(lambda wanted: 5)) as fake:
        model = LargeModel(Server(url=fake.url, model="small", timeout=60), None)
        found = score_told(to_pil(drawn(LAYOUT)), Layout(key="a", things=LAYOUT.things), model, model)
        assert (found.score, found.whole, len(fake.requests)) == (100, None, 8)


def test_a_drawn_box_stays_in_the_picture():
    edge = two().things[0].__class__(key="a", category="a", box=(0.9, 0.9, 0.1, 0.1))
    assert boxed(Image.new("RGB", (16, 16)), edge).getpixel((15, 15)) == (255, 0, 0)
