"""The database goes away or is locked while people vote: no answer is lost, and nobody learns where it is."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from goodeye.ledger import database
from goodeye.ledger.ledger import DATABASE, Ledger
from postgres import Postgres, running
from review.conftest import Browser, fill, settle
from review.test_browser import complaints, page, server

__all__ = ["complaints", "page", "server"]  # fixtures


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """A server of these tests alone, who stop it."""
    with running() as started:
        yield started


@pytest.fixture
def ledger(postgres: Postgres, tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(postgres.database(f"trouble{abs(hash(tmp_path))}"), tmp_path / "images") as opened:
        yield opened
        settle()


@pytest.fixture
def options(tmp_path: Path) -> list[str]:
    return ["--repeat-share", "0", "--images", str(tmp_path / "images")]


def test_a_server_that_went_away_takes_the_answer_when_it_is_back(ledger: Ledger, postgres: Postgres) -> None:
    fill(ledger, [0.5])
    ada = Browser(ledger, "Ada")
    (ask,) = ada.desk()
    postgres.stop()
    try:
        refused = [ada.answer(ask["id"], "available"), ada.call("/api/desk", kind="label"), ada.client.get("/look")]
    finally:
        postgres.start()
    for answer in refused:
        assert answer.status_code == 503 and answer.headers["retry-after"]
        assert "127.0.0.1" not in answer.text and "postgres" not in answer.text and "connection" not in answer.text
    assert ada.answer(ask["id"], "available").json() == {"outcome": "answered"}
    assert [vote.label for vote in ledger.votes()] == ["available"]


def test_a_page_keeps_its_answers_while_the_server_of_the_ledger_is_away(
    page: Any, ledger: Ledger, postgres: Postgres, complaints: list[str]
) -> None:
    page.wait_for_selector(".frame img")
    page.keyboard.press("1")
    page.wait_for_selector("#tally:text-is('1 today')")
    page.wait_for_selector("#desk[data-unsent='0']")
    postgres.stop()
    try:
        for number in (2, 3):
            page.keyboard.press(str(number))
            page.wait_for_selector(f"#tally:text-is('{number} today')")
        page.wait_for_selector("#sync:text('Your votes wait here.')")
        assert page.get_attribute("#desk", "data-unsent") == "2"
    finally:
        postgres.start()
    page.wait_for_selector("#desk[data-unsent='0']")
    assert sorted(vote.label for vote in ledger.votes()) == ["available", "size_mismatch", "space_mismatch"]
    complaints[:] = [said for said in complaints if "503" not in said]


def test_a_locked_file_takes_the_answer_when_it_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "LOCK_WAIT", 0.1)
    with Ledger.open(tmp_path / "ledger") as ledger:
        fill(ledger, [0.5])
        ada = Browser(ledger, "Ada")
        (ask,) = ada.desk()
        other = sqlite3.connect(tmp_path / "ledger" / DATABASE, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        answer = ada.answer(ask["id"], "available")
        page = ada.client.post("/sign-out", data={"form_token": ada.token}, headers={"accept": "text/html"})
        other.execute("ROLLBACK")
        other.close()
        assert answer.status_code == page.status_code == 503
        assert str(tmp_path) not in answer.text + page.text and "locked" not in answer.text
        assert ada.answer(ask["id"], "available").json() == {"outcome": "answered"}
        assert len(ledger.votes()) == 1
        settle()
