"""Ledgers with something to vote on, and browsers without a screen."""

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from PIL import Image
from starlette.testclient import TestClient

from goodeye.ledger.ledger import Ledger
from goodeye.ledger.rows import VerdictRow
from goodeye.review.app import Review, Settings, create_app
from goodeye.review.items import catch_up, key_of
from goodeye.review.queue import Rules

ORIGIN = "http://127.0.0.1:8060"
PLAIN = Rules(votes=2, random_share=0, repeat_share=0)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Ledger]:
    """A ledger in a folder, for tests that are of SQLite, or that name it to a command."""
    with Ledger.open(tmp_path / "ledger") as opened:
        yield opened
        settle()


@pytest.fixture(params=["sqlite", "postgres"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    """A ledger in a folder, and one in a PostgreSQL database where there is a server."""
    if request.param == "sqlite":
        yield request.getfixturevalue("folder")
        return
    with Ledger.open(request.getfixturevalue("postgres_url"), tmp_path / "images") as opened:
        yield opened
        settle()


def fill(ledger: Ledger, scores: Sequence[float], runs: int = 1, title: str = "cup") -> list[int]:
    """Runs of one brief each, with an attempt for each score, kept from 0.5 on. Returns the attempts, run by run."""
    found = []
    for run in range(runs):
        run_id = ledger.start_run("ads", {"want": len(scores)}, seed=run)
        brief = ledger.add_brief(run_id, "cup", {"title": title, "prompt": "on a table"})
        for number, score in enumerate(scores):
            label = "available" if score >= 0.5 else "size_mismatch"
            verdict = VerdictRow(judge="rfnet", version="1", label=label, scores={"available": score}, failures=[])
            image = Image.new("RGB", (8, 8), (run * 40, number, 9))
            attempt = ledger.record_attempt(brief, number, 1, number, image, [verdict])
            ledger.pick(brief, number, attempt, score >= 0.5, "as the judge said")
            found.append(attempt)
    catch_up(ledger)
    return found


def edits(ledger: Ledger, count: int = 2) -> list[int]:
    """Edits of one picture on the ledger, as `goodeye edit make` records them. Returns the attempts."""
    brief = ledger.add_brief(
        ledger.start_run("edit", {}, 0), "room", {"title": "make it night", "instruction": "make it night"},
        Image.new("RGB", (8, 8), "white"),
    )  # fmt: skip
    found = [
        ledger.record_attempt(brief, 1, number, number, Image.new("RGB", (8, 8), (number, 0, 99)))
        for number in range(1, count + 1)
    ]
    catch_up(ledger)
    return found


def drawn(ledger: Ledger, count: int = 2) -> list[int]:
    """Pictures of one layout on the ledger, as `goodeye synth make` records them. Returns the attempts."""
    brief = ledger.add_brief(ledger.start_run("synth", {}, 0), "a000000-1f", {"title": "mug, table", "prompt": "a mug"})
    boxes = [{"name": "mug", "bbox": [4.0, 6.5, 20.0, 16.0]}, {"name": "table", "bbox": [0, 20, 64, 28]}]
    found = []
    for number in range(1, count + 1):
        verdicts = [
            VerdictRow(judge="clis_i", version="1", label="", scores={"clis_i": 50, "mug-1": 40}, failures=["mug-1"]),
            VerdictRow(judge="clis_l", version="1", label="", scores={"clis_l": 10}, failures=[]),
        ]
        image = Image.new("RGB", (64, 48), (number, 99, 0))
        attempt = ledger.record_attempt(brief, 1, number, number, image, verdicts, detail={"boxes": boxes})
        ledger.pick(brief, 1, attempt, number == 1, "1 of 2 things labelled")
        found.append(attempt)
    catch_up(ledger)
    return found


APPS: list[Review] = []  # of this test


def settle() -> None:
    """Waits for what apps take in beside the requests, before their ledger is closed."""
    while APPS:
        assert APPS.pop().looking.acquire(timeout=60)


class Browser:
    """A signed-in person's browser: it keeps cookies and sends the page's token with what its scripts call."""

    def __init__(self, ledger: Ledger, name: str = "", **settings: object) -> None:
        settings.setdefault("rules", PLAIN)
        settings.setdefault("fresh", 0.0)
        self.key = key_of(ledger)
        self.client = TestClient(create_app(ledger, Settings(seed=1, **settings)), base_url=ORIGIN)  # type: ignore[arg-type]
        APPS.append(self.client.app.state.review)  # type: ignore[attr-defined]
        self.token = ""
        if name:
            self.sign_in(name)

    def sign_in(self, name: str, **fields: str) -> object:
        page = self.client.get("/sign-in").text
        hidden = re.search(r'name="form_token" value="(\w+)"', page)
        assert hidden
        form = {"name": name, "to": "/label", "form_token": hidden[1], **fields}
        answer = self.client.post("/sign-in", data=form, follow_redirects=False)
        if answer.status_code == 303:
            self.token = re.search(r'"form-token" content="(\w+)"', self.client.get("/label").text)[1]  # type: ignore[index]
        return answer

    def call(self, path: str, **body: object):  # type: ignore[no-untyped-def]
        if path in ("/api/answers", "/api/undo"):
            body.setdefault("ledger", self.key)
        return self.client.post(path, json=body, headers={"x-form-token": self.token})

    def desk(self, kind: str = "label", count: int = 1) -> list[dict]:  # type: ignore[type-arg]
        return self.call("/api/desk", kind=kind, count=count).json()["asks"]

    def answer(self, ask: int, said: str, **more: object):  # type: ignore[no-untyped-def]
        return self.call("/api/answers", ask=ask, outcome="answered", answer=said, **more)


@pytest.fixture
def browser(ledger: Ledger) -> Callable[..., Browser]:
    def start(name: str = "Ada", **settings: object) -> Browser:
        return Browser(ledger, name, **settings)

    return start
