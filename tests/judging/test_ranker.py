"""The large model as judge: both orders, marks, and failures that stay failures."""

import base64
import io

import pytest
from fake_server import Reply, said, serving
from PIL import Image

from goodeye.judging.large import LargeModel, Server
from goodeye.judging.ranker import CELL, compare, rows_of, summary

RED, BLUE = [Image.new("RGB", (40, 30), "red")] * 5, [Image.new("RGB", (30, 40), "blue")] * 5


def model(fake):
    return LargeModel(Server(url=fake.url, model="m", asks=1, tries=1), None)


def shown(request):
    """The picture that a request brings."""
    uri = request["messages"][-1]["content"][1]["image_url"]["url"]
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))


def upper_is_red(request):
    """Looks at the middle of the upper row's first picture."""
    return shown(request).getpixel((40 + 8 + CELL // 2, 8 + CELL // 2)) == (255, 0, 0)


def ranking(accuracy, aesthetics, diversity):
    return said({"analysis": "-", "accuracy": accuracy, "aesthetics": aesthetics, "diversity": diversity})


def marks(value):
    return {"accuracy": value, "aesthetics": value, "diversity": value}


def test_the_ranker_is_asked_in_both_orders_and_only_agreement_wins():
    def reply(request):
        red = 1 if upper_is_red(request) else 2
        return ranking(red, 3 - red, 1)  # red is right, blue is beautiful, and the upper row always differs most

    with serving(reply) as fake:
        found = compare(model(fake), "a colour", RED, BLUE)
    assert found.outcomes == {"accuracy": "win", "aesthetics": "lose", "diversity": "similar"}
    assert (
        len(fake.requests) == 2 and "The query is: a colour" in fake.requests[0]["messages"][-1]["content"][0]["text"]
    )


def test_the_scorer_marks_each_row_alone():
    def reply(request):
        red = shown(request).getpixel((8 + CELL // 2, 8 + CELL // 2)) == (255, 0, 0)
        return said({"analysis": "-", "scores": {**marks(4 if red else 2), "diversity": 3}})

    with serving(reply) as fake:
        found = compare(model(fake), "q", RED, BLUE, "scorer")
    assert found.outcomes == {"accuracy": "win", "aesthetics": "win", "diversity": "similar"}


def test_the_cp_scorer_needs_both_orders_to_agree():
    def reply(request):
        first, second = (5, 3) if upper_is_red(request) else (3, 5)
        one, two = marks(first), marks(second)
        return said({"analysis": "-", "system_1": {**one, "diversity": 4}, "system_2": {**two, "diversity": 2}})

    with serving(reply) as fake:
        found = compare(model(fake), "q", RED, BLUE, "cp-scorer")
    assert found.outcomes == {"accuracy": "win", "aesthetics": "win", "diversity": "similar"}


def test_consistent_is_of_orders_and_not_of_marks():
    """Equal marks in both orders agree; the scorer is shown no order; the ranker who likes a place does not agree."""

    def reply(request):
        name = request["response_format"]["json_schema"]["name"]
        if name == "PairScoring":
            return said({"analysis": "-", "system_1": {**marks(3), "diversity": 4}, "system_2": marks(3)})
        if name == "Scoring":
            return said({"analysis": "-", "scores": marks(3)})
        return ranking(1 if upper_is_red(request) else 2, 1, 1)

    with serving(reply) as fake:
        pair, alone, rank = (
            summary([compare(model(fake), "q", RED, BLUE, method)]) for method in ("cp-scorer", "scorer", "ranker")
        )
    assert pair["accuracy"].counts["similar"] == 1 and pair["accuracy"].consistent.mean == 1.0
    assert pair["diversity"].counts["similar"] == 1 and pair["diversity"].consistent.mean == 0.0
    assert alone["accuracy"].counts["similar"] == 1 and alone["accuracy"].to_json()["consistent"] == [None] * 3
    assert (rank["accuracy"].consistent.mean, rank["aesthetics"].consistent.mean) == (1.0, 0.0)


@pytest.mark.parametrize("bad", [ranking(3, 1, 1), ranking("1", 1, 1), Reply("system 1"), ranking(1, 1, None)])
def test_a_bad_answer_is_recorded_and_never_a_number(bad):
    with serving([bad]) as fake:
        found = compare(model(fake), "q", RED, BLUE)
    assert set(found.outcomes.values()) == {None} and "no usable answer" in found.failure and found.said["last"]
    wins = summary([found])["accuracy"]
    assert wins.missing == 1 and sum(wins.counts.values()) == 0


def test_marks_out_of_one_to_five_are_no_marks():
    with serving([said({"analysis": "-", "scores": marks(7)})]) as fake:
        assert compare(model(fake), "q", RED, BLUE, "scorer").failure


def test_two_rows_of_five_as_one_picture():
    sheet = rows_of(RED, BLUE)
    assert sheet.size == (40 + 5 * (CELL + 8) + 8, 2 * (CELL + 8) + 8)
    assert sheet.getpixel((40 + 8 + CELL // 2, 8 + CELL + 8 + CELL // 2)) == (0, 0, 255)
    assert rows_of(RED).size == (5 * (CELL + 8) + 8, CELL + 16)
    with pytest.raises(ValueError, match="at least one"):
        rows_of(RED, [])
