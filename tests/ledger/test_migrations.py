"""A ledger that an older goodeye wrote is brought up to date with everything in it."""

from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, text

from goodeye.ledger.check import check
from goodeye.ledger.database import MIGRATIONS, postgres_engine, sqlite_engine
from goodeye.ledger.ledger import Ledger
from goodeye.ledger.rows import ComparisonRow
from ledger.recorder import picture

SHA = "ab" * 32
WHEN = "2026-01-02 03:04:05.000000"


def before_0003(engine: Engine) -> None:
    """A ledger as it was at 0002: two runs of one brief, votes, and comparisons by two people and a judge."""
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
    with engine.begin() as connection:

        def put(table: str, **values: Any) -> None:
            names = ", ".join(values)
            marks = ", ".join(f":{name}" for name in values)
            connection.execute(text(f"INSERT INTO {table} ({names}) VALUES ({marks})"), values)

        put("images", sha256=SHA, format="png", width=8, height=8, bytes=3)
        for run in (1, 2):
            put("runs", id=run, job="ads", command="{}", seed=1, version="0", status="done", started=WHEN)
            put("briefs", id=run, run_id=run, key="cup", job="ads", content='{"title": "a cup"}', product_sha=SHA)
            put("attempts", id=run, brief_id=run, slot=0, number=1, seed=7, image_sha=SHA, evals=2, seconds=0.5,
                created=WHEN)  # fmt: skip
            put("verdicts", id=run, attempt_id=run, judge="clip", version="3 f", label="", scores="{}", failures="[]")
            put("votes", id=run, attempt_id=run, person="ann", label="available", axes="{}", seconds=1.5, created=WHEN)
            put("picks", id=run, brief_id=run, slot=0, attempt_id=run, kept=True, why="passed")
        put("pairs", id=1, left_attempt=1, right_attempt=2, axis="overall", answers=2)
        for number, who in enumerate(("ann", "clip 3 f", "clip 3 f", "clip 3 f", "bo"), start=1):
            put("comparisons", id=number, left_attempt=1, right_attempt=2, judge_or_person=who, axis="overall",
                choice="left", swapped=number in (1, 3), created=WHEN)  # fmt: skip
        put("asks", id=1, kind="compare", person="ann", pair_id=1, chosen="unsure", swapped=True, handed=WHEN,
            outcome="answered", answer="left", note="", seconds=1.5, comparison_id=1)  # fmt: skip
        put("asks", id=2, kind="label", person="ann", attempt_id=1, chosen="random", swapped=False, handed=WHEN,
            outcome="answered", answer="available", note="", seconds=1.5, vote_id=1)  # fmt: skip


def assert_is_up_to_date(ledger: Ledger) -> None:
    def who(row: ComparisonRow) -> tuple[str | None, str | None, str | None]:
        return row.person, row.judge, row.version

    said = ledger.comparisons()
    judge, again = (None, "clip", "3 f"), ("clip 3 f", None, None)  # what it said twice stays, under its old name
    assert [who(row) for row in said] == [("ann", None, None), judge, judge, again, ("bo", None, None)]
    assert [(row.id, row.choice, row.swapped) for row in said] == [
        (number, "left", number in (1, 3)) for number in range(1, 6)
    ]
    for run in (1, 2):
        (attempt,) = ledger.attempts(run)
        assert (attempt.id, attempt.image_sha, attempt.seed, attempt.detail) == (run, SHA, 7, {})
        assert [vote.person for vote in ledger.votes(run)] == ["ann"] and ledger.picks(run)[0].kept
    found = check(ledger)
    assert found.dangling == [] and found.rows["asks"] == 2
    assert [vote.chosen for vote in ledger.votes()] == ["random", ""]
    brief = ledger.briefs(1)[0].id
    ledger.record_attempt(brief, 1, 1, 1, None, detail={"why": "prose"})
    row = ledger.record_attempt(brief, 2, 1, 1, None, shown=[picture(1), picture(2)])
    assert len(ledger.attempt(row).shown) == 2
    assert ledger.compare(1, 2, "clip", "overall", "right", version="3 f") == 2


def test_a_ledger_in_a_folder_is_brought_from_0002_to_the_newest(tmp_path: Path) -> None:
    engine = sqlite_engine(tmp_path / "ledger.db")
    before_0003(engine)
    engine.dispose()
    with Ledger.open(tmp_path, create=False) as ledger:
        assert_is_up_to_date(ledger)
        with ledger.engine.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
            assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []
    with Ledger.open(tmp_path, create=False) as ledger:
        assert len(ledger.comparisons()) == 5


def test_a_migration_that_fails_leaves_the_old_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = sqlite_engine(tmp_path / "ledger.db")
    before_0003(engine)

    def fail(*_anything: object) -> None:
        raise RuntimeError("the power went")

    with monkeypatch.context() as patched:
        patched.setattr("alembic.operations.Operations.batch_alter_table", fail)
        with pytest.raises(RuntimeError, match="power"):
            Ledger.open(tmp_path)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() == "0002"
        assert connection.exec_driver_sql("SELECT count(judge_or_person) FROM comparisons").scalar() == 5
    engine.dispose()
    with Ledger.open(tmp_path) as ledger:
        assert_is_up_to_date(ledger)


def test_a_ledger_in_postgres_is_brought_from_0002_to_the_newest(postgres_url: str, tmp_path: Path) -> None:
    engine = postgres_engine(postgres_url)
    before_0003(engine)
    with engine.begin() as connection:  # the ids above were given by hand
        for table in ("attempts", "comparisons"):
            connection.exec_driver_sql(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), 100)")
    engine.dispose()
    with Ledger.open(postgres_url, tmp_path) as ledger:
        assert_is_up_to_date(ledger)
