"""The real server in a process of its own: killed in the middle, no vote is lost and none is doubled."""

import http.client
import http.cookiejar
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from sqlalchemy import select

from goodeye.cli import main
from goodeye.errors import BadInput
from goodeye.ledger.asks import Item
from goodeye.ledger.check import check
from goodeye.ledger.ledger import Ledger
from goodeye.review.items import reading
from goodeye.review.queue import Rules
from goodeye.review.serve import check_rules, listening
from review.conftest import fill

SERVE = "import sys; from goodeye.cli import main; sys.exit(main(sys.argv[1:]))"


@pytest.fixture
def ledger(folder: Ledger) -> Ledger:
    """In a folder, which is named here."""
    return folder


class Server:
    """`goodeye review` in a process of its own, and a browser of it."""

    def __init__(self, ledger: str, *more: str) -> None:
        command = [sys.executable, "-c", SERVE, "review", "--ledger", ledger, "--port", "0", "--votes", "1", *more]
        environment = {name: value for name, value in os.environ.items() if name != "GOODEYE_REVIEW_PASSWORD"}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.url = re.search(r"http://127\.0\.0\.1:\d+", line)[0]  # type: ignore[index]
        self.jar = http.cookiejar.CookieJar()
        self.browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.jar))

    def get(self, path: str) -> str:
        with self.browser.open(self.url + path, timeout=60) as answer:
            return answer.read().decode()

    def sign_in(self, name: str) -> None:
        token = re.search(r'name="form_token" value="(\w+)"', self.get("/sign-in"))[1]  # type: ignore[index]
        form = urllib.parse.urlencode({"name": name, "form_token": token, "to": "/label"})
        with self.browser.open(self.url + "/sign-in", form.encode(), timeout=60) as answer:
            page = answer.read().decode()
        self.token, self.ledger = re.findall(r'"(?:form-token|ledger)" content="(\w+)"', page)

    def call(self, path: str, **body: object) -> Any:
        if path == "/api/answers":
            body["ledger"] = self.ledger
        headers = {"content-type": "application/json", "x-form-token": self.token}
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), headers)
        with self.browser.open(request, timeout=60) as answer:
            return json.load(answer)

    def stop(self, how: signal.Signals) -> int:
        self.process.send_signal(how)
        self.process.communicate(timeout=60)
        return self.process.returncode


def test_a_killed_server_loses_and_doubles_no_vote(ledger: Ledger) -> None:
    attempts = fill(ledger, [number / 12 for number in range(12)])
    server = Server(ledger.where)
    server.sign_in("Ada")
    confirmed = []
    for _vote in range(5):
        ask = server.call("/api/desk", kind="label", count=2)["asks"][0]["id"]
        server.call("/api/answers", ask=ask, outcome="answered", answer="available", seconds=1)
        confirmed.append(ask)
    cookies, token = server.jar, server.token
    server.stop(signal.SIGKILL)
    assert len(ledger.votes()) == 5 and check(ledger).clean

    again = Server(ledger.where)
    again.token, again.ledger = token, server.ledger
    for cookie in cookies:
        again.jar.set_cookie(cookie)  # the browser's page is still open: its session and its token hold
    for ask in confirmed:  # the page did not hear the answer, so it sends them again
        again.call("/api/answers", ask=ask, outcome="answered", answer="size_mismatch", seconds=1)
    while asks := again.call("/api/desk", kind="label", count=1)["asks"]:
        again.call("/api/answers", ask=asks[0]["id"], outcome="answered", answer="available", seconds=1)
    assert again.stop(signal.SIGINT) == 0
    votes = ledger.votes()
    assert Counter(vote.attempt_id for vote in votes) == dict.fromkeys(attempts, 1)
    assert {vote.label for vote in votes} == {"available"}
    assert check(ledger).clean


def test_answers_on_a_connection_that_is_kept_open_do_not_wait_for_each_other(ledger: Ledger) -> None:
    """Without TCP_NODELAY the second part of every answer waits 40 ms for the first to be acknowledged."""
    server = Server(ledger.where)
    kept = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=60)
    took = []
    for _answer in range(20):
        began = time.monotonic()
        kept.request("GET", "/static/desk.js")
        assert kept.getresponse().read()
        took.append(time.monotonic() - began)
    kept.close()
    assert server.stop(signal.SIGINT) == 0
    assert sorted(took)[10] < 0.03, took


def test_others_cannot_be_served_without_a_password(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("GOODEYE_REVIEW_PASSWORD", raising=False)
    assert main(["review", "--ledger", ledger.where, "--host", "0.0.0.0"]) == 2
    assert "GOODEYE_REVIEW_PASSWORD" in capsys.readouterr().err


def test_a_ledger_that_is_not_there_is_not_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["review", "--ledger", str(tmp_path / "none")]) == 2
    assert "There is no ledger" in capsys.readouterr().err and not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [(["--run", "99"], "no run 99"), (["--votes", "0"], "--votes"), (["--port"], "cannot be served at")],
)
def test_what_cannot_be_served_is_said_before_anything_is_read(
    ledger: Ledger, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    brief = ledger.add_brief(ledger.start_run("ads", {}, 0), "cup", {})
    ledger.record_attempt(brief, 0, 1, 0, Image.new("RGB", (8, 8)))
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = [str(other.getsockname()[1])] if options[-1] == "--port" else ["--port", "0"]
        assert main(["review", "--ledger", ledger.where, *options, *port]) == 2
    assert words in capsys.readouterr().err
    with reading(ledger) as connection:
        assert connection.scalar(select(Item)) is None


@pytest.mark.parametrize("rules", [Rules(votes=0), Rules(random_share=1.5), Rules(repeat_share=-0.1)])
def test_rules_that_make_no_sense_are_refused(rules: Rules) -> None:
    with pytest.raises(BadInput, match="--"):
        check_rules(rules)


@pytest.mark.parametrize("port", [-1, 65536, 70000])
def test_a_port_that_is_none_is_refused(port: int) -> None:
    with pytest.raises(BadInput, match=f"--port is {port}"):
        listening("127.0.0.1", port, Rules())
