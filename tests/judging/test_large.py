"""The large-model client against a server that answers well, badly, slowly, too late, or not at all."""

import json

import pytest
from fake_server import Reply, said, serving
from PIL import Image

from goodeye.errors import BadInput
from goodeye.judging.large import Answer, Asked, BadAnswer, LargeModel, Server, server_from


class Colour(Answer):
    name: str
    sure: int


GOOD = said({"name": "red", "sure": 3})


def model(fake, cache=None, waits=None, **settings):
    settings = {"timeout": 5.0, "tries": 3, **settings}
    return LargeModel(
        Server(url=fake.url, model="small", **settings), cache, (waits if waits is not None else []).append
    )


def test_the_answer_is_typed_and_the_schema_is_sent():
    with serving([GOOD]) as fake:
        assert model(fake).ask(Asked("Which colour?"), Colour) == Colour(name="red", sure=3)
    sent = fake.requests[0]
    assert sent["model"] == "small" and sent["messages"] == [{"role": "user", "content": "Which colour?"}]
    form = sent["response_format"]["json_schema"]
    assert form["strict"] and form["schema"]["required"] == ["name", "sure"]
    assert form["schema"]["additionalProperties"] is False


def test_pictures_go_along_as_png():
    with serving([GOOD]) as fake:
        model(fake).ask(Asked("Which?", [Image.new("RGB", (4, 4), "red")], "You judge."), Colour)
    system, user = fake.requests[0]["messages"]
    assert system == {"role": "system", "content": "You judge."}
    assert user["content"][1]["image_url"]["url"].startswith("data:image/png;base64,iVBOR")


def test_an_equal_question_is_asked_once_and_another_is_not_mixed_up(tmp_path):
    with serving([GOOD, said({"name": "blue", "sure": 1})]) as fake:
        first = model(fake, tmp_path)
        red = Asked("?", [Image.new("RGB", (4, 4), "red")])
        assert first.ask(red, Colour).name == first.ask(red, Colour).name == "red"
        again = model(fake, tmp_path)  # another process finds it, too
        assert again.ask(red, Colour).name == "red" and (first.requests, again.requests) == (1, 0)
        assert again.ask(Asked("?", [Image.new("RGB", (4, 4), "blue")]), Colour).name == "blue"
        assert model(fake, tmp_path, temperature=0.7).ask(red, Colour).name == "blue"
    assert len(fake.requests) == 3


@pytest.mark.parametrize(
    "bad",
    [
        Reply("I like red best."),
        Reply('{"name": "red", "sure":'),
        said({"name": "red"}),
        said({"name": "red", "sure": "very"}),
        said({"name": "red", "sure": 3.5}),
        said({"name": "red", "sure": 3, "more": 1}),
        said(["red", 3]),
        Reply('{"name": "red", "sure": NaN}'),
        Reply(""),
        Reply(raw=b"{}"),
        Reply(raw=b'{"choices": []}'),
        Reply(raw=b'{"choices": "abc"}'),
        Reply(raw=b'{"choices": {"a": 1}}'),
        Reply(raw=b'{"choices": [{"message": "hi"}]}'),
        Reply(raw=b"[1]"),
    ],
)
def test_nonsense_is_asked_again_with_what_is_wrong_and_then_is_no_answer(bad, tmp_path):
    with serving([bad, GOOD]) as fake:
        assert model(fake, tmp_path).ask(Asked("?"), Colour).name == "red"
        again = fake.requests[1]["messages"][-1]["content"]
        assert "cannot be used" in again and '"required": ["name", "sure"]' in again  # some servers drop the schema
    with serving([bad]) as fake, pytest.raises(BadAnswer, match="small gave no usable answer in 3 tries"):
        model(fake, tmp_path / "none").ask(Asked("?"), Colour)
    assert len(fake.requests) == 3 and not (tmp_path / "none").exists()  # what is bad is not kept


@pytest.mark.parametrize("body", [b"", b"<html>", b"\xff\xfe{"])
def test_a_body_that_is_no_json_is_a_server_in_trouble(body):
    """Some proxy's page, or a connection that ended early: another try may do better."""
    with serving([Reply(raw=body), GOOD]) as fake:
        assert model(fake).ask(Asked("?"), Colour).name == "red"
    with serving([Reply(raw=body)]) as fake, pytest.raises(BadInput, match="does not speak the protocol .* 3 times"):
        model(fake).ask(Asked("?"), Colour)


def test_a_count_of_tokens_that_is_none_counts_nothing():
    choice = {"message": {"role": "assistant", "content": GOOD.text}, "finish_reason": "stop", "index": 0}
    body = json.dumps({"choices": [choice], "usage": {"prompt_tokens": "x", "completion_tokens": 7}}).encode()
    with serving([Reply(raw=body)]) as fake:
        asked = model(fake)
        assert asked.ask(Asked("?"), Colour).name == "red" and (asked.read, asked.written) == (0, 7)


def test_json_in_words_or_fences_is_read():
    with serving([Reply('Sure!\n```json\n{"name": "red", "sure": 3}\n```')]) as fake:
        assert model(fake).ask(Asked("?"), Colour).sure == 3


def test_what_is_wrong_is_told_by_its_place():
    """The model is shown each fault in words of its own, and none of pydantic's links."""
    with serving([said({"name": 4, "more": 1}), GOOD]) as fake:
        model(fake).ask(Asked("?"), Colour)
    told = fake.requests[1]["messages"][-1]["content"]
    for fault in ("name: Input should be a valid string", "sure: Field required", "more: Extra inputs"):
        assert fault in told
    assert "http" not in told


def test_an_answer_without_end_is_cut_said_and_not_shown_again_whole():
    endless = Reply('{"name": "' + "red " * 500, finish="length")
    with serving([endless]) as fake, pytest.raises(BadAnswer, match="it does not end within 50 tokens") as failed:
        model(fake, max_tokens=50).ask(Asked("?"), Colour)
    assert failed.value.said == endless.text
    assert [request["max_tokens"] for request in fake.requests] == [50, 50, 50]
    assert len(fake.requests[1]["messages"][1]["content"]) == 200
    with serving([Reply(GOOD.text, finish="length")]) as fake:  # it came to its end in time
        assert model(fake, max_tokens=50).ask(Asked("?"), Colour).name == "red"


def test_a_busy_server_is_asked_again_later_and_later():
    waits = []
    busy = Reply(status=429, raw=b'{"error": {"message": "slow down"}}')
    with serving([busy, busy, GOOD]) as fake:
        assert model(fake, waits=waits).ask(Asked("?"), Colour).name == "red"
    assert 1 <= waits[0] <= 1.25 and 2 <= waits[1] <= 2.5


def test_the_server_says_how_long_to_wait():
    waits = []
    with serving([Reply(status=429, raw=b"{}", headers={"Retry-After": "17"}), GOOD]) as fake:
        model(fake, waits=waits).ask(Asked("?"), Colour)
    assert waits == [17.0]


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply(status=429, raw=b"{}"), "is too busy"),
        (Reply(status=503, raw=b"<html>"), "failed with status 503 \\(<html>\\)"),
        (Reply(status=502, raw=b""), "failed with status 502 \\(no reason given\\)"),
        (Reply(status=500, raw=b'{"error": {"message": "no pictures.\\nNone"}}'), "500 \\(no pictures. None\\)"),
        (Reply(slow=1.0, raw=b"{}"), "gave no answer within 0.2 seconds"),
    ],
)
def test_a_server_that_goes_on_failing_is_one_plain_line(reply, words):
    waits = []
    with serving([reply]) as fake, pytest.raises(BadInput, match=f"{words}.*3 times"):
        model(fake, waits=waits, timeout=0.2).ask(Asked("?"), Colour)
    assert len(waits) == 2  # no waiting after the last try


def test_a_server_that_is_down(tmp_path):
    with serving([GOOD]) as fake:
        pass
    with pytest.raises(BadInput, match="cannot be reached"):
        model(fake, tmp_path / "cache").ask(Asked("?"), Colour)
    assert not (tmp_path / "cache").exists()


def test_a_refusal_is_not_tried_again():
    refused = Reply(status=401, raw=b'{"error": {"message": "no such key"}}')
    with serving([refused]) as fake, pytest.raises(BadInput, match="401.*GOODEYE_API_KEY"):
        model(fake).ask(Asked("?"), Colour)
    assert len(fake.requests) == 1


@pytest.mark.parametrize("status", [400, 422])
def test_a_server_without_schemas_gets_them_in_words(status):
    def reply(request):
        return Reply(status=status, raw=b'{"error": "unknown field"}') if "response_format" in request else GOOD

    with serving(reply) as fake:
        assert model(fake).ask(Asked("?"), Colour).name == "red"
    assert '"required": ["name", "sure"]' in fake.requests[1]["messages"][-1]["content"]


def test_settings_come_from_the_line_or_the_environment(monkeypatch):
    for name in ("GOODEYE_SERVER", "GOODEYE_MODEL", "GOODEYE_API_KEY", "GOODEYE_MAX_TOKENS"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(BadInput, match="--server URL and --model NAME"):
        server_from("http://localhost:1/v1")
    monkeypatch.setenv("GOODEYE_SERVER", "http://localhost:2/v1")
    monkeypatch.setenv("GOODEYE_MODEL", "m")
    monkeypatch.setenv("GOODEYE_API_KEY", "secret")
    found = server_from(None, "other")
    assert (found.url, found.model, found.key) == ("http://localhost:2/v1", "other", "secret")
    assert "secret" not in repr(found) and found.max_tokens == 2048
    monkeypatch.setenv("GOODEYE_MAX_TOKENS", "300")
    assert server_from().max_tokens == 300 and server_from(max_tokens=9).max_tokens == 9
    for bad in ("many", "0", "-3", "1.5"):
        monkeypatch.setenv("GOODEYE_MAX_TOKENS", bad)
        with pytest.raises(BadInput, match=f"GOODEYE_MAX_TOKENS is {bad}"):
            server_from()
    monkeypatch.delenv("GOODEYE_MAX_TOKENS")
    for bad in ("localhost:8000", "http://h:notaport/v1", "http://[::1", "http:///v1", "ftp://h/v1"):
        with pytest.raises(BadInput, match="is no URL"):
            server_from(bad, "m")
