"""Opening the ledger's database: SQLite in WAL mode or PostgreSQL, brought to the newest tables, with plain errors."""

import json
import math
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.exc import ArgumentError, DBAPIError, DisconnectionError, OperationalError
from sqlalchemy.exc import TimeoutError as NoneFree

from goodeye.errors import BadInput
from goodeye.ledger.schema import REVISION

MIGRATIONS = Path(__file__).parent / "migrations"
LOCK_WAIT = 60  # seconds that a writer waits for the others before it gives up
POOL = 48  # connections at most, opened as they are needed: more than the 40 threads in which the web app works
KNOWN = 1.0  # seconds that a connection to PostgreSQL rests before it is tried: trying asks the server once more
MIGRATION_LOCK = 0x60_0D_E1E  # PostgreSQL advisory lock of this name: one process migrates
JSON = partial(json.dumps, allow_nan=False)  # what isn't a number is never stored as one
DENIED = {"42501", "25006"}  # PostgreSQL's codes for lacking a right, and for a database that may only be read
WRITING = {"begin": "BEGIN IMMEDIATE"}  # takes SQLite's write lock at the start, so that no upgrade of a lock fails

# What SQLite says, as a person says it. Codes: https://www.sqlite.org/rescode.html
SQLITE_REASONS = {
    sqlite3.SQLITE_BUSY: "stayed locked by another process for a minute. Wait for that one, or stop it, and try again.",
    sqlite3.SQLITE_READONLY: "may only be read. Give yourself the right to write there, or name another folder.",
    sqlite3.SQLITE_IOERR: "could not be read or written: the disk may be full or failing. Free space, then resume.",
    sqlite3.SQLITE_CORRUPT: "is damaged. Restore it from a copy, or name another folder.",
    sqlite3.SQLITE_FULL: "could not be written: the disk is full. Free some space, then resume.",
    sqlite3.SQLITE_CANTOPEN: "could not be opened for writing. Check the rights of its folder, or name another folder.",
    sqlite3.SQLITE_NOTADB: "is not a ledger. Name another folder.",
}


class DatabaseTrouble(BadInput):
    """The database is away, locked, full or refuses: nobody's words are at fault, and later they may be taken."""


@contextmanager
def plain_errors(where: str) -> Iterator[None]:
    """Turns what the database says of its disk, rights or server into DatabaseTrouble; programming errors pass
    through."""
    try:
        yield
    except NoneFree as error:
        raise DatabaseTrouble(f"The ledger {where} is busy: every connection is in use. Try again.") from error
    except (DBAPIError, sqlite3.Error) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        if isinstance(cause, sqlite3.Error):
            reason = SQLITE_REASONS.get(getattr(cause, "sqlite_errorcode", 0) & 0xFF)
            if reason is None:
                raise
            raise DatabaseTrouble(f"The ledger {where} {reason}") from error
        lost = isinstance(error, DBAPIError) and error.connection_invalidated
        if not (lost or isinstance(error, OperationalError) or getattr(cause, "sqlstate", None) in DENIED):
            raise
        said = str(cause).strip().splitlines() or ["no reason given"]
        raise DatabaseTrouble(
            f"The ledger {where} cannot be used: {said[0]}. Check the server, the URL and your rights there."
        ) from error


def sqlite_engine(file: Path) -> Engine:
    """An engine for one SQLite file: foreign keys kept, WAL, writers wait for each other."""
    engine = create_engine(
        URL.create("sqlite", database=str(file)),
        connect_args={"timeout": LOCK_WAIT},
        json_serializer=JSON,
        pool_size=POOL,
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions begin by the rule below, not by the driver's
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))

    return engine


def postgres_engine(url: str) -> Engine:
    """An engine for a PostgreSQL URL, with the psycopg driver."""
    scheme, _, rest = url.partition("://")
    if scheme not in ("postgresql", "postgres", "postgresql+psycopg"):
        raise BadInput(f"{scheme}://… is not a kind of ledger. Name a folder (SQLite) or a postgresql:// URL.")
    try:
        engine = create_engine(
            f"postgresql+psycopg://{rest}",
            pool_size=POOL,
            pool_use_lifo=True,  # the one that rested least, so that it need not be tried
            json_serializer=JSON,
        )
    except ModuleNotFoundError as error:
        raise BadInput(
            "A ledger in PostgreSQL needs the psycopg driver. Install it with: pip install 'goodeye[postgres]'"
        ) from error
    except (ArgumentError, ValueError) as error:
        raise BadInput(
            "The ledger's URL cannot be read. Write it as postgresql://user:password@host:5432/database"
        ) from error

    @event.listens_for(engine, "checkin")
    def _note(_connection: Any, record: Any) -> None:
        record.info["rested"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def _try(connection: Any, record: Any, _proxy: Any) -> None:
        """Whether the server is still there, where that was not known a moment ago; if not, a newer one is taken."""
        if time.monotonic() - record.info.get("rested", math.inf) <= KNOWN:
            return
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            raise DisconnectionError from error

    return engine


def no_ledger(where: str) -> BadInput:
    """What to say where there is no ledger and none was to be made."""
    return BadInput(f"There is no ledger in {where}. Name another place, or make one with `goodeye ads make`.")


def upgrade(engine: Engine, where: str, *, create: bool = True) -> None:
    """Creates or migrates the tables, once, however many processes open the ledger together.

    Raises BadInput for a ledger that a newer goodeye wrote, that cannot be opened, or that isn't there and was not to
    be created.
    """
    with plain_errors(where):
        if engine.dialect.name == "sqlite":
            _use_wal(engine)
        with engine.connect() as connection:
            found = _revision(connection, where)
        if found == REVISION:
            return
        if found is None and not create:
            raise no_ledger(where)
        with _changing_tables(engine) as connection:
            if engine.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
            if _revision(connection, where) != REVISION:
                _migrate(connection)


@contextmanager
def _changing_tables(engine: Engine) -> Iterator[Connection]:
    """A transaction in which tables may change. SQLite copies a table to change it and drops the old one, which the
    rows that refer to it must not hinder: so foreign keys rest meanwhile, as its own manual says to do."""
    with engine.execution_options(**WRITING).connect() as connection:
        sqlite = engine.dialect.name == "sqlite"
        if sqlite:  # before the transaction: within one this has no effect
            connection.connection.cursor().execute("PRAGMA foreign_keys = OFF")
        try:
            with connection.begin():
                yield connection
        finally:
            if sqlite:
                connection.connection.cursor().execute("PRAGMA foreign_keys = ON")


def _use_wal(engine: Engine) -> None:
    """Write-ahead logging: readers and one writer at a time don't wait for each other. The file remembers it."""
    deadline = time.monotonic() + LOCK_WAIT
    while True:  # SQLite doesn't wait by itself for the lock that this change needs
        connection = engine.raw_connection()
        try:
            connection.cursor().execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
        finally:
            connection.close()
        time.sleep(0.05)


def _revision(connection: Connection, where: str) -> str | None:
    """The newest migration that the ledger has had, None for an empty database."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    if found is not None and found > REVISION:
        raise BadInput(
            f"The ledger {where} was written by a newer goodeye: its tables are at {found}, this one knows "
            f"{REVISION}. Upgrade goodeye, or name another ledger."
        )
    return found


def _migrate(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
