"""A real PostgreSQL server on loopback, to be stopped and started again."""

import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from required import absent


@dataclass(frozen=True)
class Postgres:
    """A server's programs, its folder and its port."""

    programs: Path
    folder: str
    port: int

    @property
    def url(self) -> str:
        """Without a database name."""
        return f"postgresql://goodeye@127.0.0.1:{self.port}"

    def start(self) -> None:
        options = f"-c listen_addresses=127.0.0.1 -c port={self.port} -c unix_socket_directories={self.folder}"
        more = ("-w", "-t", "30", "-l", f"{self.folder}/log", "-o", f"{options} -c fsync=off", "start")
        _as_postgres(self.programs / "pg_ctl", "-D", f"{self.folder}/data", *more)

    def stop(self) -> None:
        """As a crash does: nobody who is connected is waited for."""
        _as_postgres(self.programs / "pg_ctl", "-D", f"{self.folder}/data", "-w", "-m", "immediate", "stop")

    def database(self, name: str) -> str:
        """Makes an empty database and returns its URL."""
        import psycopg

        with psycopg.connect(f"{self.url}/postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return f"{self.url}/{name}"

    def drop(self, name: str) -> None:
        """Ends a database, and whoever is connected to it: a thousand of them make the server slow to stop."""
        import psycopg

        with psycopg.connect(f"{self.url}/postgres", autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@contextmanager
def running() -> Iterator[Postgres]:
    """A server, run by a user who isn't root; where there can be none the test is skipped, or fails if required."""
    if importlib.util.find_spec("psycopg") is None:
        absent("postgres", "psycopg is not installed")
    programs = _programs()
    if programs is None:
        absent("postgres", "no PostgreSQL server is on this machine (initdb and pg_ctl were not found)")
    if os.geteuid() == 0 and shutil.which("runuser") is None:
        absent("postgres", "PostgreSQL doesn't run as root, and there is no runuser to start it as another user")
    with tempfile.TemporaryDirectory(prefix="goodeye-postgres-", dir="/tmp") as folder:
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres")
        server = Postgres(programs, folder, _free_port())
        command = ("-D", f"{folder}/data", "-U", "goodeye", "-A", "trust", "-E", "UTF8", "--no-sync")
        _as_postgres(programs / "initdb", *command)
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _programs() -> Path | None:
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
