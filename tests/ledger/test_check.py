"""A check finds every way in which files and rows can disagree, and nothing else."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from goodeye.ledger.check import check, describe
from goodeye.ledger.ledger import Ledger
from ledger.recorder import picture, record


@pytest.fixture
def filled(ledger: Ledger) -> Ledger:
    record(ledger, ledger.start_run("ads", {}, seed=1), briefs=2, attempts=2)
    assert check(ledger).clean
    return ledger


@contextmanager
def edited(ledger: Ledger) -> Iterator[sqlite3.Connection]:
    """The database file, past all that the ledger guards."""
    connection = sqlite3.connect(Path(ledger.where) / "ledger.db")
    try:
        yield connection
        connection.commit()
    finally:
        connection.close()


def a_file(ledger: Ledger) -> Path:
    return ledger.image_path(ledger.attempts(1)[0].image_sha)


def test_an_agreeing_ledger_is_clean_and_counted(filled: Ledger) -> None:
    report = check(filled)
    assert report.rows["attempts"] == 4 and report.rows["images"] == 6
    assert not (report.missing or report.corrupt or report.dangling or report.unreferenced)
    assert describe(report).endswith("Files and rows agree.")


def test_a_missing_file_is_found(filled: Ledger) -> None:
    lost = a_file(filled)
    lost.unlink()
    report = check(filled)
    assert report.missing == [str(lost)] and not report.clean
    assert str(lost) in describe(report) and "do NOT agree" in describe(report)


@pytest.mark.parametrize("how", ["one bit", "cut short", "emptied"])
def test_a_changed_file_is_found(filled: Ledger, how: str) -> None:
    file = a_file(filled)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes({"one bit": bytes(data), "cut short": bytes(data[:-1]), "emptied": b""}[how])
    report = check(filled)
    assert report.corrupt == [str(file)] and not report.clean


def test_recording_the_picture_again_heals_a_missing_file(filled: Ledger) -> None:
    file = a_file(filled)
    file.unlink()
    brief = filled.add_brief(1, "another", {})
    filled.record_attempt(brief, 0, 0, 1, picture(filled.attempts(1)[0].seed))
    assert file.is_file() and check(filled).clean


def test_a_file_that_no_row_names_is_harmless_and_listed(filled: Ledger) -> None:
    stray = filled.store.write(filled._write_file(picture(99)))
    report = check(filled)
    assert report.unreferenced == [str(stray)] and report.clean
    assert str(stray) in describe(report)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        ("DELETE FROM attempts WHERE id = 1", "verdicts 1: its attempt_id 1 is not in attempts"),
        ("DELETE FROM runs", "briefs 1: its run_id 1 is not in runs"),
        ("UPDATE picks SET slot = 5 WHERE id = 2", "picks 2: its attempt 2 is one at another slot"),
        ("UPDATE briefs SET product_sha = 'x' WHERE id = 2", "briefs 2: its product_sha x is not in images"),
    ],
)
def test_a_row_that_names_nothing_is_found(filled: Ledger, edit: str, words: str) -> None:
    with edited(filled) as connection:
        connection.execute(edit)
    report = check(filled)
    assert words in report.dangling and not report.clean


def test_a_damaged_database_is_found(filled: Ledger) -> None:
    """An index that lost its entries: rows and files still agree, and still the file is not to be trusted."""
    with edited(filled) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(
            "UPDATE sqlite_master SET rootpage ="
            " (SELECT rootpage FROM sqlite_master WHERE name = 'ix_votes_attempt_id')"
            " WHERE name = 'ix_attempts_image_sha'"
        )
        connection.execute("PRAGMA schema_version = 999")  # so that open connections read the tables anew
    report = check(filled)
    assert any(line.startswith("database: ") for line in report.dangling) and not report.clean


def test_progress_is_told_of_each_file(filled: Ledger) -> None:
    calls = []
    check(filled, on_file=lambda: calls.append(1))
    assert len(calls) == 6
