"""Ledgers to test: one in a folder, one in a real PostgreSQL server started for the session."""

import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from goodeye.ledger.ledger import Ledger
from required import absent


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "ledger") as opened:
        yield opened


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a server on loopback, without a database name, run by a user who isn't root."""
    if importlib.util.find_spec("psycopg") is None:
        absent("postgres", "psycopg is not installed")
    programs = _postgres_programs()
    if programs is None:
        absent("postgres", "no PostgreSQL server is on this machine (initdb and pg_ctl were not found)")
    if os.geteuid() == 0 and shutil.which("runuser") is None:
        absent("postgres", "PostgreSQL doesn't run as root, and there is no runuser to start it as another user")
    with tempfile.TemporaryDirectory(prefix="goodeye-postgres-", dir="/tmp") as folder:
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres")
        data = f"{folder}/data"
        port = _free_port()
        options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={folder} -c fsync=off"
        _as_postgres(programs / "initdb", "-D", data, "-U", "goodeye", "-A", "trust", "-E", "UTF8", "--no-sync")
        _as_postgres(programs / "pg_ctl", "-D", data, "-w", "-t", "30", "-l", f"{folder}/log", "-o", options, "start")
        try:
            yield f"postgresql://goodeye@127.0.0.1:{port}"
        finally:
            _as_postgres(programs / "pg_ctl", "-D", data, "-w", "-m", "immediate", "stop")


@pytest.fixture
def postgres_url(postgres_server: str, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database."""
    import psycopg

    name = f"db{abs(hash(tmp_path))}"
    with psycopg.connect(f"{postgres_server}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    yield f"{postgres_server}/{name}"


def _postgres_programs() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    if found:
        return found[-1].parent
    path = shutil.which("pg_ctl")
    return Path(path).resolve().parent if path and shutil.which("initdb") else None


def _as_postgres(*command: object) -> None:
    prefix = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    done = subprocess.run([*prefix, *map(str, command)], capture_output=True, text=True, cwd="/tmp", timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
