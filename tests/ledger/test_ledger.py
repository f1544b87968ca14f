"""The ledger's promises: what is recorded is there, once, whole, whoever else writes and whenever a process dies."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sqlalchemy.exc import IntegrityError, StatementError

import goodeye
from goodeye.errors import BadInput
from goodeye.ledger import schema
from goodeye.ledger.check import check
from goodeye.ledger.ledger import Ledger
from goodeye.ledger.rows import AttemptRow, VerdictRow
from ledger.recorder import picture, record, seed_of, verdict

RECORDER = Path(__file__).with_name("recorder.py")


def new_brief(ledger: Ledger) -> tuple[int, int]:
    run = ledger.start_run("ads", {"want": 4}, seed=7)
    return run, ledger.add_brief(run, "cup", {"title": "a cup"})


def recorder(place: object, images: object, run: int, briefs: int, attempts: int) -> "subprocess.Popen[str]":
    command = [sys.executable, str(RECORDER), str(place), str(images), str(run), str(briefs), str(attempts)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def is_whole(attempt: AttemptRow) -> bool:
    return attempt.verdicts == [verdict(attempt.seed)] and attempt.evals == 20


def test_what_is_recorded_is_given_back(ledger: Ledger) -> None:
    run = ledger.start_run("ads", {"products": ["cup.png"], "want": 2}, seed=2**62)
    product = picture(1).convert("RGBA")
    brief = ledger.add_brief(run, "cup.png", {"title": "чашка ☕"}, product)
    attempt = ledger.record_attempt(brief, 1, 3, 2**63 - 1, picture(2), [verdict(2), other_verdict()], 40, 1.5)
    ledger.pick(brief, 1, attempt, kept=False, why="the cup floats")
    ledger.finish_run(run, "done")

    assert [(one.key, one.content) for one in ledger.briefs(run)] == [("cup.png", {"title": "чашка ☕"})]
    (kept,) = ledger.attempts(run)
    assert (kept.brief_id, kept.brief_key, kept.slot, kept.number, kept.seed) == (brief, "cup.png", 1, 3, 2**63 - 1)
    assert (kept.evals, kept.seconds) == (40, 1.5)
    assert kept.verdicts == [verdict(2), other_verdict()]
    assert list(kept.verdicts[1].scores) == ["z", "a"], "the order of a judge's axes is its own"
    (pick,) = ledger.picks(run)
    assert (pick.attempt_id, pick.kept, pick.why) == (attempt, False, "the cup floats")
    done = ledger.run(run)
    assert (done.job, done.command, done.seed) == ("ads", {"products": ["cup.png"], "want": 2}, 2**62)
    assert (done.status, done.version) == ("done", goodeye.__version__)
    assert done.ended is not None and timedelta(0) <= done.ended - done.started < timedelta(minutes=1)
    assert ledger.runs("ads") == [done] and ledger.runs("edit") == []


def other_verdict() -> VerdictRow:
    return VerdictRow(judge="clip", version="2", label="", scores={"z": 0.25, "a": -1.0}, failures=["too small"])


def test_pictures_come_back_pixel_for_pixel(ledger: Ledger) -> None:
    run, brief = new_brief(ledger)
    product = Image.merge("RGBA", (*picture(1).split(), picture(2).split()[0]))
    ledger.add_brief(run, "plate", {}, product)
    ledger.record_attempt(brief, 0, 0, 1, picture(3))
    sha = ledger.briefs(run)[1].product_sha
    assert sha is not None
    with Image.open(ledger.image_path(sha)) as read:
        assert read.mode == "RGBA" and np.array_equal(read, product)
    with Image.open(ledger.image_path(ledger.attempts(run)[0].image_sha)) as read:
        assert read.mode == "RGB" and np.array_equal(read, picture(3))


def test_recording_again_changes_nothing(ledger: Ledger) -> None:
    run = ledger.start_run("ads", {}, seed=1)
    record(ledger, run, briefs=2, attempts=3)
    before = ledger.attempts(run), ledger.picks(run), ledger.briefs(run)
    record(ledger, run, briefs=2, attempts=3)
    assert (ledger.attempts(run), ledger.picks(run), ledger.briefs(run)) == before


def test_an_attempt_on_record_keeps_its_picture_and_gains_new_judges(ledger: Ledger) -> None:
    run, brief = new_brief(ledger)
    first = ledger.record_attempt(brief, 0, 0, 1, picture(1), [verdict(1)])
    again = ledger.record_attempt(brief, 0, 0, 1, picture(2), [verdict(2), other_verdict()])
    assert again == first
    (attempt,) = ledger.attempts(run)
    assert attempt.verdicts == [verdict(1), other_verdict()]
    assert [file.stem for file in ledger.store.files()] == [attempt.image_sha]


def test_one_picture_recorded_twice_is_one_file(ledger: Ledger) -> None:
    run, brief = new_brief(ledger)
    ledger.record_attempt(brief, 0, 0, 1, picture(1))
    ledger.record_attempt(brief, 1, 0, 2, picture(1))
    assert len(list(ledger.store.files())) == 1 and len(ledger.attempts(run)) == 2


def test_a_later_word_on_a_pick_replaces_the_earlier(ledger: Ledger) -> None:
    run, brief = new_brief(ledger)
    attempt = ledger.record_attempt(brief, 0, 0, 1, picture(1))
    assert ledger.pick(brief, 0, attempt, True, "passed") == ledger.pick(brief, 0, attempt, False, "a person said no")
    assert [(one.kept, one.why) for one in ledger.picks(run)] == [(False, "a person said no")]


def test_a_pick_of_another_slots_attempt_is_refused(ledger: Ledger) -> None:
    _run, brief = new_brief(ledger)
    attempt = ledger.record_attempt(brief, 0, 0, 1, picture(1))
    with pytest.raises(ValueError, match="slot 1"):
        ledger.pick(brief, 1, attempt, True, "")


def test_a_row_of_pictures_is_one_attempt(ledger: Ledger) -> None:
    run, brief = new_brief(ledger)
    sheet = ledger.record_attempt(brief, 0, 0, 1, picture(9), shown=[picture(number) for number in (3, 1, 3)])
    ledger.record_attempt(brief, 0, 1, 1, None, shown=[picture(1), picture(2)])
    assert ledger.record_attempt(brief, 0, 0, 1, picture(8), shown=[picture(7)]) == sheet  # as it was
    with_sheet, without = ledger.attempts(run)
    for sha, seed in zip((with_sheet.image_sha, *with_sheet.shown), (9, 3, 1, 3), strict=True):
        with Image.open(ledger.image_path(sha)) as read:
            assert np.array_equal(read, picture(seed))
    assert without.image_sha == without.shown[0] == with_sheet.shown[1]
    for file in ledger.store.files():
        age(file, 61)
    assert ledger.sweep() == [] and check(ledger).clean and check(ledger).rows["shown"] == 5


def test_an_attempt_without_a_picture_says_why(ledger: Ledger) -> None:
    run, brief = new_brief(ledger)
    ledger.record_attempt(brief, 0, 0, 1, None, detail={"why": "prose", "said": "Sorry, \u2615"})
    ledger.record_attempt(brief, 0, 1, 1, picture(1))
    failed, made = ledger.attempts(run)
    assert (failed.image_sha, failed.detail) == ("", {"why": "prose", "said": "Sorry, \u2615"})
    assert made.detail == {} and check(ledger).clean


def test_an_attempt_is_found_by_its_id(ledger: Ledger) -> None:
    run, brief = new_brief(ledger)
    verdict = VerdictRow(judge="clip", version="1", label="", scores={"similarity": 0.5}, failures=[])
    ids = [ledger.record_attempt(brief, 0, number, number, picture(number), [verdict]) for number in (0, 1)]
    assert [ledger.attempt(one) for one in ids] == ledger.attempts(run)
    with pytest.raises(BadInput, match="no attempt 99"):
        ledger.attempt(99)


def test_every_vote_is_kept_with_who_gave_it(ledger: Ledger) -> None:
    run, brief = new_brief(ledger)
    attempt = ledger.record_attempt(brief, 0, 0, 1, picture(1))
    other = ledger.start_run("ads", {}, seed=1)
    ledger.vote(attempt, "ann", "available", {"beauty": 0.5}, seconds=2.5)
    ledger.vote(attempt, "ann", "size_mismatch")
    first, second = ledger.votes(run)
    assert (first.attempt_id, first.person, first.label) == (attempt, "ann", "available")
    assert (first.axes, first.seconds) == ({"beauty": 0.5}, 2.5) and first.created <= second.created
    assert (second.label, second.axes) == ("size_mismatch", {})
    assert ledger.votes() == [first, second] and ledger.votes(other) == []
    assert check(ledger).clean and check(ledger).rows["votes"] == 2


def test_a_vote_on_nothing_or_with_no_number_is_refused(ledger: Ledger) -> None:
    _run, brief = new_brief(ledger)
    with pytest.raises(ValueError, match="no attempt 7"):
        ledger.vote(7, "ann", "bad")
    attempt = ledger.record_attempt(brief, 0, 0, 1, picture(1))
    with pytest.raises(ValueError, match="ann scored"):
        ledger.vote(attempt, "ann", "bad", {"beauty": float("nan")})
    assert ledger.votes() == []


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_is_never_recorded(ledger: Ledger, score: float) -> None:
    run, brief = new_brief(ledger)
    bad = VerdictRow(judge="clip", version="1", label="", scores={"similarity": score}, failures=[])
    with pytest.raises(ValueError, match="similarity"):
        ledger.record_attempt(brief, 0, 0, 1, picture(1), [verdict(1), bad])
    assert ledger.attempts(run) == [] and list(ledger.store.files()) == []


def test_a_command_or_brief_with_no_number_in_it_is_refused(ledger: Ledger) -> None:
    with pytest.raises(StatementError, match="not JSON compliant"):
        ledger.start_run("ads", {"threshold": float("nan")}, seed=1)


def test_an_attempt_is_all_or_nothing(ledger: Ledger) -> None:
    """The second verdict breaks a rule of the table, so the attempt and the first verdict go too."""
    run, brief = new_brief(ledger)
    broken = VerdictRow(judge="clip", version="1", label=None, scores={}, failures=[])  # type: ignore[arg-type]
    with pytest.raises(IntegrityError):
        ledger.record_attempt(brief, 0, 0, 1, picture(1), [verdict(1)])  # the row that must not be torn
        ledger.record_attempt(brief, 0, 1, 1, picture(2), [verdict(1), broken])
    assert [one.number for one in ledger.attempts(run)] == [0]
    assert check(ledger).clean


def test_a_brief_of_no_run_is_refused(ledger: Ledger) -> None:
    with pytest.raises(IntegrityError):
        ledger.add_brief(99, "cup", {})


def test_a_file_name_that_is_no_text_can_be_a_key(ledger: Ledger) -> None:
    run = ledger.start_run("ads", {}, seed=1)
    key = b"tasse-\xe9\x00.png".decode("utf-8", "surrogateescape")
    assert ledger.add_brief(run, key, {"image": key}) == ledger.add_brief(run, key, {"image": key})
    (brief,) = ledger.briefs(run)
    assert brief.content["image"] == key


def test_resume_marks_a_run_as_running(ledger: Ledger) -> None:
    run = ledger.start_run("ads", {"want": 4}, seed=3)
    ledger.finish_run(run, "stopped")
    resumed = ledger.resume_run(run)
    assert (resumed.status, resumed.ended, resumed.command, resumed.seed) == ("running", None, {"want": 4}, 3)


def test_resuming_a_run_that_is_not_there_says_so(ledger: Ledger) -> None:
    with pytest.raises(BadInput, match="no run 12"):
        ledger.resume_run(12)


def test_the_place_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GOODEYE_LEDGER", str(tmp_path / "named"))
    Ledger.open().close()
    monkeypatch.delenv("GOODEYE_LEDGER")
    Ledger.open().close()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["goodeye-ledger", "named"]


def test_pictures_may_be_in_another_folder(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "ledger", tmp_path / "pictures") as ledger:
        _run, brief = new_brief(ledger)
        ledger.record_attempt(brief, 0, 0, 1, picture(1))
        assert check(ledger).clean
    assert len(list((tmp_path / "pictures").rglob("*.png"))) == 1


def test_sqlite_waits_for_other_writers(ledger: Ledger) -> None:
    """WAL, foreign keys and a wait: without any of them, several processes lose work or tear it."""
    with ledger.engine.connect() as connection:
        asked = {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in PRAGMAS}
    assert asked == PRAGMAS


PRAGMAS = {"journal_mode": "wal", "foreign_keys": 1, "synchronous": 2, "busy_timeout": 60_000}


def test_sweep_takes_only_old_files_that_no_row_names(ledger: Ledger) -> None:
    run, brief = new_brief(ledger)
    ledger.record_attempt(brief, 0, 0, 1, picture(1))
    (named,) = ledger.store.files()
    stray = ledger.store.path("00" * 32)
    half = named.with_name(".cut.png.1234.part")
    stray.parent.mkdir(exist_ok=True)
    for file in (stray, half):
        file.write_bytes(b"left by a kill")
    assert ledger.sweep() == []
    for file in (stray, half, named):
        age(file, 61)
    assert sorted(ledger.sweep()) == sorted([stray, half])
    assert list(ledger.store.files()) == [named] and check(ledger).clean
    assert [one.image_sha for one in ledger.attempts(run)] == [named.stem]


def test_a_picture_that_waits_for_a_sweep_is_kept_when_it_is_recorded(ledger: Ledger) -> None:
    _run, brief = new_brief(ledger)
    file = ledger.store.write(ledger._write_file(picture(1)))
    age(file, 3600)
    ledger.record_attempt(brief, 0, 0, 1, picture(1))
    assert ledger.sweep() == [] and file.is_file()


def age(file: Path, seconds: float) -> None:
    os.utime(file, (time.time() - seconds,) * 2)


def test_sweep_takes_the_pictures_of_rows_deleted_by_hand(ledger: Ledger) -> None:
    run = ledger.start_run("ads", {}, seed=1)
    record(ledger, run, briefs=2, attempts=2)
    files = list(ledger.store.files())
    kept = {one.image_sha for one in ledger.attempts(run) if one.brief_key == "brief 0"}
    kept |= {str(one.product_sha) for one in ledger.briefs(run) if one.key == "brief 0"}
    with ledger._write() as connection:
        for table in ("verdicts", "picks"):
            connection.exec_driver_sql(f"DELETE FROM {table} WHERE attempt_id IN (3, 4)")
        connection.exec_driver_sql("DELETE FROM attempts WHERE id IN (3, 4)")
        connection.exec_driver_sql("DELETE FROM briefs WHERE id = 2")
    for file in files:
        age(file, 61)
    assert len(ledger.sweep()) == 3
    assert {file.stem for file in ledger.store.files()} == kept
    report = check(ledger)
    assert report.clean and report.rows["images"] == 3 and not report.unreferenced


# Killed and crowded


def test_killed_at_any_moment_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    """A process that records is killed again and again at random times; whoever goes on completes it."""
    place, briefs, attempts = tmp_path / "ledger", 10, 10
    with Ledger.open(place) as ledger:
        run = ledger.start_run("ads", {}, seed=1)
    dice = random.Random(5)
    acknowledged: set[tuple[int, int]] = set()
    for _kill in range(8):
        child = recorder(place, "", run, briefs, attempts)
        assert child.stdout is not None and child.stdout.readline() == "open\n"
        said = [child.stdout.readline() for _ in range(len(acknowledged) + dice.randint(1, 4))]
        time.sleep(dice.uniform(0, 0.02))  # it is now at work on what nobody has recorded yet
        child.send_signal(signal.SIGKILL)
        rest, _ = child.communicate()
        whole_lines = ("".join(said) + rest).rpartition("\n")[0].splitlines()
        acknowledged |= {(int(brief), int(number)) for brief, number in map(str.split, whole_lines)}
        with Ledger.open(place) as ledger:
            assert check(ledger).clean
            there = {(one.brief_key, one.number): one for one in ledger.attempts(run)}
            assert {(f"brief {brief}", number) for brief, number in acknowledged} <= set(there)
            assert all(map(is_whole, there.values()))
    assert len(acknowledged) >= 8, "each life was to record something new"
    with Ledger.open(place) as ledger:
        record(ledger, run, briefs, attempts)
        assert_complete(ledger, run, briefs, attempts)


def test_killed_while_the_ledger_is_created(tmp_path: Path) -> None:
    dice = random.Random(3)
    for number in range(4):
        place = tmp_path / f"ledger {number}"
        child = recorder(place, "", 1, 0, 0)
        deadline = time.monotonic() + 20
        while not (place / "ledger.db").exists() and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(dice.uniform(0, 0.2))
        child.kill()
        child.communicate()
        with Ledger.open(place) as ledger:
            new_brief(ledger)
            assert check(ledger).clean


def test_several_processes_create_and_fill_one_ledger(tmp_path: Path) -> None:
    """All of them open a ledger that isn't there yet, then record the same attempts."""
    place = tmp_path / "ledger"
    children = [recorder(place, "", 1, 0, 0) for _ in range(3)]
    assert [finish(child) for child in children] == [0, 0, 0]
    with Ledger.open(place) as ledger:
        run = ledger.start_run("ads", {}, seed=1)
    children = [recorder(place, "", run, 3, 4) for _ in range(3)]
    assert [finish(child) for child in children] == [0, 0, 0]
    with Ledger.open(place) as ledger:
        assert_complete(ledger, run, 3, 4)


def finish(child: "subprocess.Popen[str]") -> int:
    _out, err = child.communicate(timeout=120)
    assert err == ""
    return child.returncode


def assert_complete(ledger: Ledger, run: int, briefs: int, attempts: int) -> None:
    rows = ledger.attempts(run)
    wanted = [seed_of(brief, 0, number) for brief in range(briefs) for number in range(attempts)]
    assert sorted(row.seed for row in rows) == wanted
    assert all(map(is_whole, rows))
    assert Counter(pick.attempt_id for pick in ledger.picks(run)) == Counter(row.id for row in rows)
    report = check(ledger)
    assert report.clean
    assert report.rows["attempts"] == report.rows["verdicts"] == briefs * attempts


# Refused


def test_a_ledger_of_a_newer_goodeye_is_refused(ledger: Ledger, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "ledger" / "ledger.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(BadInput, match=r"written by a newer goodeye.*Upgrade goodeye"):
        Ledger.open(tmp_path / "ledger")


def test_a_file_that_is_no_ledger_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_bytes(b"this is a diary" * 400)
    with pytest.raises(BadInput, match="is not a ledger"):
        Ledger.open(tmp_path)


def test_a_missing_ledger_is_not_made_when_it_was_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no ledger in"):
        Ledger.open(tmp_path / "nowhere", create=False)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cup.png").write_bytes(b"")
    with pytest.raises(BadInput, match="cannot be a folder"):
        Ledger.open(tmp_path / "cup.png")
    with pytest.raises(BadInput, match="cannot be a folder"):
        Ledger.open(tmp_path / "cup.png" / "ledger")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://localhost/x", "not a kind of ledger"),
        ("postgresql://user:secret@127.0.0.1:1/x", "cannot be used"),
        ("postgresql://localhost:port/x", "cannot be read"),
    ],
)
def test_a_url_that_leads_nowhere_is_refused_in_one_line(tmp_path: Path, url: str, message: str) -> None:
    with pytest.raises(BadInput, match=message) as refused:
        Ledger.open(url, tmp_path)
    assert "\n" not in str(refused.value) and "secret" not in str(refused.value)


def test_a_url_needs_a_folder_for_the_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOODEYE_IMAGES", raising=False)
    with pytest.raises(BadInput, match="GOODEYE_IMAGES"):
        Ledger.open("postgresql://localhost/x")


def test_the_schema_is_what_the_migrations_make(ledger: Ledger) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with ledger.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, schema.Base.metadata) == []
