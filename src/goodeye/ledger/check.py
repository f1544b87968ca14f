"""Proof that files and rows agree."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, func, select, text
from sqlalchemy.exc import DatabaseError

from goodeye.ledger.database import plain_errors
from goodeye.ledger.ledger import Ledger
from goodeye.ledger.schema import Attempt, Base, Image, Pick


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a check found. `unreferenced` files do no harm: a kill leaves them, and a sweep removes them."""

    ledger: str
    rows: dict[str, int]  # how many, by table
    missing: list[str]  # files that a row names and nobody has
    corrupt: list[str]  # files whose bytes are not those that their name says
    dangling: list[str]  # rows that name a row which isn't there, and damage of the database itself
    unreferenced: list[str]

    @property
    def clean(self) -> bool:
        """Whether files and rows agree."""
        return not (self.missing or self.corrupt or self.dangling)


def check(ledger: Ledger, on_file: Callable[[], None] = lambda: None) -> Report:
    """Compares every row with its file and every file with its rows; changes nothing.

    on_file: called after each file that was read, for a progress bar. A process may go on recording meanwhile.
    """
    files = list(ledger.store.files())  # before the rows: so a file written from now on is not taken for unreferenced
    with plain_errors(ledger.where), ledger.engine.connect() as connection:
        rows = {
            name: connection.execute(select(func.count()).select_from(table)).scalar_one()
            for name, table in Base.metadata.tables.items()
        }
        dangling = [*_damage(connection), *_orphans(connection), *_misplaced_picks(connection)]
        images = connection.execute(select(Image.sha256, Image.format, Image.bytes).order_by(Image.sha256))
        sizes = {ledger.store.path(row.sha256, row.format): row.bytes for row in images}
    missing, corrupt = _compare(sizes, on_file)
    return Report(
        ledger=ledger.where,
        rows=rows,
        missing=missing,
        corrupt=corrupt,
        dangling=dangling,
        unreferenced=[str(file) for file in files if file not in sizes],
    )


def describe(report: Report) -> str:
    """The report as lines for a person."""
    counts = ", ".join(f"{report.rows[name]} {name}" for name in ("runs", "briefs", "attempts", "verdicts", "images"))
    lines = [f"{report.ledger}: {counts}."]
    for title, found in (
        ("missing", report.missing),
        ("corrupt", report.corrupt),
        ("dangling", report.dangling),
        ("unreferenced (harmless; `goodeye ledger sweep` removes them)", report.unreferenced),
    ):
        if found:
            lines += [f"{len(found)} {title}:", *(f"  {one}" for one in found)]
    lines.append("Files and rows agree." if report.clean else "Files and rows do NOT agree.")
    return "\n".join(lines)


def _compare(sizes: dict[Path, int], on_file: Callable[[], None]) -> tuple[list[str], list[str]]:
    missing, corrupt = [], []
    for path, size in sizes.items():
        if not path.is_file():
            missing.append(str(path))
        elif path.stat().st_size != size or _hash(path) != path.stem:
            corrupt.append(str(path))
        on_file()
    return missing, corrupt


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _damage(connection: Connection) -> list[str]:
    """What SQLite finds wrong in its own file; PostgreSQL looks after itself."""
    if connection.dialect.name != "sqlite":
        return []
    try:
        said = [str(line) for line in connection.execute(text("PRAGMA integrity_check")).scalars()]
    except DatabaseError as error:
        said = [str(error.orig)]
    return [f"database: {line}" for line in said if line != "ok"]


def _orphans(connection: Connection) -> list[str]:
    """Rows whose foreign key names nothing: only an edit past the ledger, or damage, can leave them."""
    found = []
    for table in Base.metadata.sorted_tables:
        for key in table.foreign_keys:
            column, target = key.parent, key.column.table.alias()
            wanted = target.c[key.column.name]
            query = (
                select(*table.primary_key, column)
                .outerjoin(target, column == wanted)
                .where(column.is_not(None), wanted.is_(None))
            )
            found += [
                f"{table.name} {row[0]}: its {column.name} {row[-1]} is not in {key.column.table.name}"
                for row in connection.execute(query)
            ]
    return found


def _misplaced_picks(connection: Connection) -> list[str]:
    query = (
        select(Pick.id, Pick.attempt_id)
        .join(Attempt, Pick.attempt_id == Attempt.id)
        .where((Pick.brief_id != Attempt.brief_id) | (Pick.slot != Attempt.slot))
    )
    return [f"picks {row[0]}: its attempt {row[1]} is one at another slot" for row in connection.execute(query)]
