"""The ledger on PostgreSQL, on a full disk and on a read-only one."""

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from sqlalchemy import insert, select, text

from goodeye.errors import BadInput
from goodeye.ledger import database, schema
from goodeye.ledger.asks import Item
from goodeye.ledger.check import check
from goodeye.ledger.database import DatabaseTrouble
from goodeye.ledger.ledger import Ledger
from goodeye.ledger.schema import Attempt, now
from goodeye.review.items import catch_up, reading, writing
from ledger.recorder import picture, record
from ledger.test_ledger import assert_complete, finish, other_verdict, recorder
from postgres import Postgres

# PostgreSQL


@pytest.fixture
def ledger_on_postgres(postgres_url: str, tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(postgres_url, tmp_path / "images") as opened:
        yield opened


def test_postgres_gives_back_what_was_recorded(ledger_on_postgres: Ledger) -> None:
    ledger = ledger_on_postgres
    run = ledger.start_run("ads", {"b": 1, "a": ["☕", "\0"]}, seed=2**62)
    brief = ledger.add_brief(run, b"tasse-\xe9\x00.png".decode("utf-8", "surrogateescape"), {"title": "☕"}, picture(1))
    attempt = ledger.record_attempt(brief, 0, 1, 2**63 - 1, picture(2), [other_verdict()], 40, 1 / 3)
    ledger.pick(brief, 0, attempt, True, "passed")
    ledger.pick(brief, 0, attempt, False, "no")
    (kept,) = ledger.attempts(run)
    assert (kept.seed, kept.seconds, kept.verdicts) == (2**63 - 1, 1 / 3, [other_verdict()])
    assert list(kept.verdicts[0].scores) == ["z", "a"]
    assert kept.created.utcoffset() is not None and kept.created <= schema.now()
    assert [(one.kept, one.why) for one in ledger.picks(run)] == [(False, "no")]
    assert ledger.run(run).command == {"b": 1, "a": ["☕", "\0"]}
    assert ledger.resume_run(run).status == "running"
    assert check(ledger).clean


def test_several_processes_fill_one_ledger_on_postgres(postgres_url: str, tmp_path: Path) -> None:
    images = tmp_path / "images"
    children = [recorder(postgres_url, images, 1, 0, 0) for _ in range(3)]
    assert [finish(child) for child in children] == [0, 0, 0]
    with Ledger.open(postgres_url, images) as ledger:
        run = ledger.start_run("ads", {}, seed=1)
    children = [recorder(postgres_url, images, run, 3, 4) for _ in range(3)]
    children[0].kill()
    children[0].communicate()
    assert [finish(child) for child in children[1:]] == [0, 0]
    with Ledger.open(postgres_url, images) as ledger:
        assert_complete(ledger, run, 3, 4)


def test_postgres_check_finds_missing_and_changed_files(ledger_on_postgres: Ledger) -> None:
    ledger = ledger_on_postgres
    run = ledger.start_run("ads", {}, seed=1)
    record(ledger, run, briefs=1, attempts=2)
    lost, changed = (ledger.image_path(one.image_sha) for one in ledger.attempts(run))
    lost.unlink()
    changed.write_bytes(b"x")
    report = check(ledger)
    assert (report.missing, report.corrupt) == ([str(lost)], [str(changed)])


def test_postgres_sweep_waits_for_a_recording_process(ledger_on_postgres: Ledger) -> None:
    """A file that a transaction has named but not yet committed is not swept from under it."""
    ledger = ledger_on_postgres
    old = ledger.store.write(ledger._write_file(picture(1)))
    os.utime(old, (0, 0))
    swept: list[Path] = []
    sweeper = threading.Thread(target=lambda: swept.extend(ledger.sweep()))
    with ledger._write() as connection:
        ledger._name_file(connection, ledger._write_file(picture(1)))
        os.utime(old, (0, 0))
        sweeper.start()
        sweeper.join(0.5)
        assert sweeper.is_alive()
    sweeper.join()
    assert swept == [] and old.is_file()


def test_times_are_told_in_utc_wherever_the_server_stands(postgres_url: str, tmp_path: Path) -> None:
    import psycopg

    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {postgres_url.rpartition('/')[2]} SET timezone = 'Asia/Tokyo'".encode())
    with Ledger.open(postgres_url, tmp_path / "images") as ledger:
        found = ledger.run(ledger.start_run("ads", {}, 0)).started
    assert found.utcoffset() == timedelta(0) and abs(now() - found) < timedelta(minutes=1)


def test_what_is_committed_late_is_taken_in_without_anything_newer(ledger_on_postgres: Ledger) -> None:
    """An attempt of a smaller id appears after one of a larger has been seen."""
    ledger = ledger_on_postgres
    brief = ledger.add_brief(ledger.start_run("ads", {}, 0), "cup", {})
    row = {"brief_id": brief, "slot": 0, "seed": 0, "evals": 0, "seconds": 0, "created": now(), "detail": {}}
    with ledger.engine.begin() as slow:
        slow.execute(insert(Attempt).values(number=1, **row))
        with ledger.engine.begin() as quick:
            quick.execute(insert(Attempt).values(number=2, **row))
        catch_up(ledger)
    catch_up(ledger)
    with ledger.reading() as connection:
        assert sorted(connection.scalars(select(Item.attempt_id))) == [1, 2]
        before = connection.execute(select(Item)).all()
    ledger.vote(1, "ann", "available")
    catch_up(ledger)
    assert catch_up(ledger) == 0
    with ledger.reading() as connection:
        after = connection.execute(select(Item)).all()
    assert before != after and {one.attempt_id: one.votes for one in after} == {1: 1, 2: 0}


def test_a_newer_ledger_on_postgres_is_refused(ledger_on_postgres: Ledger, postgres_url: str, tmp_path: Path) -> None:
    with ledger_on_postgres._write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(BadInput, match="newer goodeye"):
        Ledger.open(postgres_url, tmp_path / "images")


def test_a_missing_database_is_refused_in_one_line(postgres_server: Postgres, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="does not exist") as refused:
        Ledger.open(f"{postgres_server.url}/nothing", tmp_path)
    assert "\n" not in str(refused.value)


def test_a_database_without_a_ledger_stays_empty_when_it_was_to_be_there(postgres_url: str, tmp_path: Path) -> None:
    import psycopg

    with pytest.raises(BadInput, match="no ledger in"):
        Ledger.open(postgres_url, tmp_path, create=False)
    with psycopg.connect(postgres_url) as connection:
        tables = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
    assert tables == (0,)


def test_lacking_rights_are_said_in_one_line(postgres_url: str, tmp_path: Path) -> None:
    import psycopg

    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS guest")
        connection.execute("CREATE ROLE guest LOGIN")
    with pytest.raises(BadInput, match=r"permission denied.*your rights") as refused:
        Ledger.open(postgres_url.replace("goodeye@", "guest@"), tmp_path)
    assert "\n" not in str(refused.value)


# Disks


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 600 KB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if mount is None or subprocess.run([mount, "-t", "tmpfs", "-o", "size=600k", "tmpfs", folder]).returncode:
        pytest.skip("a small file system cannot be mounted here (that needs root)")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def noise(seed: int) -> Image.Image:
    return picture(seed, 128)


def test_a_full_disk_is_said_plainly_and_tears_nothing(small_disk: Path) -> None:
    with Ledger.open(small_disk / "ledger") as ledger:
        run = ledger.start_run("ads", {}, seed=1)
        brief = ledger.add_brief(run, "cup", {})
        recorded = []
        with pytest.raises(BadInput, match="(?i)full|no space left"):
            for number in range(50):
                recorded.append(ledger.record_attempt(brief, 0, number, number, noise(number)))
        assert recorded, "the disk was to take some"
        assert [one.id for one in ledger.attempts(run)] == recorded
        report = check(ledger)
        assert report.clean and not report.corrupt
        assert not list(small_disk.rglob("*.part"))


def test_a_disk_that_is_full_for_the_rows_alone(small_disk: Path) -> None:
    """The pictures have room elsewhere; SQLite's own complaint becomes the plain line."""
    with Ledger.open(small_disk / "ledger", small_disk.parent / "images") as ledger:
        run = ledger.start_run("ads", {}, seed=1)
        with (small_disk / "ballast").open("wb", buffering=0) as ballast, pytest.raises(OSError, match="No space"):
            while ballast.write(bytes(4096)):
                pass
        with pytest.raises(BadInput, match=r"ledger .* (disk is full|could not be read or written)"):
            for number in range(50):
                ledger.add_brief(run, f"cup {number}", {"title": "x" * 4000})
        (small_disk / "ballast").unlink()
        before = len(ledger.briefs(run))
        ledger.add_brief(run, "after", {})
        assert len(ledger.briefs(run)) == before + 1 and check(ledger).clean


def test_a_read_only_disk_is_said_plainly(small_disk: Path) -> None:
    with Ledger.open(small_disk / "ledger") as ledger:
        run = ledger.start_run("ads", {}, seed=1)
        brief = ledger.add_brief(run, "cup", {})
        ledger.record_attempt(brief, 0, 0, 0, picture(0))
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with (
        pytest.raises(BadInput, match="may not be written|may only be read|opened for writing"),
        Ledger.open(small_disk / "ledger") as ledger,
    ):
        ledger.start_run("ads", {}, seed=1)
    with pytest.raises(BadInput, match="may not be written"):
        Ledger.open(small_disk / "another")
    with (
        Ledger.open(small_disk.parent / "ledger", small_disk / "images") as ledger,
        pytest.raises(BadInput, match="cannot be written"),
    ):
        ledger.record_attempt(ledger.add_brief(ledger.start_run("ads", {}, seed=1), "cup", {}), 0, 0, 0, picture(0))


def test_reading_from_postgres_begins_no_transaction(ledger_on_postgres: Ledger) -> None:
    from psycopg.pq import TransactionStatus

    with reading(ledger_on_postgres) as connection:
        assert connection.scalar(text("SELECT 1")) == 1
        assert _status(connection) == TransactionStatus.IDLE
    with writing(ledger_on_postgres) as connection:
        connection.execute(text("SELECT 1"))
        assert _status(connection) == TransactionStatus.INTRANS


def _status(connection: Any) -> Any:
    return connection.connection.dbapi_connection.info.transaction_status


@pytest.mark.parametrize("rested", [True, False])
def test_a_connection_that_postgres_has_closed(
    ledger_on_postgres: Ledger, postgres_url: str, monkeypatch: pytest.MonkeyPatch, rested: bool
) -> None:
    """One that rested is tried first, and nobody notices; one used a moment ago fails once, and is replaced."""
    import psycopg

    monkeypatch.setattr(database, "KNOWN", -1.0 if rested else 60.0)
    with reading(ledger_on_postgres) as connection:
        number = connection.scalar(text("SELECT pg_backend_pid()"))
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute("SELECT pg_terminate_backend(%s)", [number])
    if not rested:
        with pytest.raises(DatabaseTrouble), reading(ledger_on_postgres) as connection:
            connection.execute(text("SELECT 1"))
    with reading(ledger_on_postgres) as connection:
        assert connection.scalar(text("SELECT pg_backend_pid()")) != number
