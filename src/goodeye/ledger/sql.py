"""How the ledger's rows are written and found, in either database."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

from sqlalchemy import BindParameter, Connection, Select, bindparam, select
from sqlalchemy.dialects import postgresql, sqlite

from goodeye.ledger.schema import Attempt, Base, Brief

T = TypeVar("T")


def of_run(run_id: int) -> Select[Any]:
    """The ids of a run's attempts."""
    return select(Attempt.id).join(Brief, Attempt.brief_id == Brief.id).where(Brief.run_id == run_id)


def named(name: str, many: bool = False) -> BindParameter[Any]:
    """A place in a statement that is made once and given its values by name, a sequence of them for IN where many."""
    return bindparam(name, expanding=many)


def columns(table: type[Base]) -> list[Any]:
    """All columns, to select rows as plain data."""
    return list(table.__table__.columns)


def without(row: Mapping[Any, Any], *names: str) -> dict[str, Any]:
    """A row as a dict, less some of its columns."""
    return {name: value for name, value in row.items() if name not in names}


def portions(things: Sequence[T], size: int = 500) -> Iterator[Sequence[T]]:
    """The things in their order, so many at a time: fewer than either database takes in one statement."""
    return (things[start : start + size] for start in range(0, len(things), size))


def upsert(dialect: str) -> Any:
    """The dialect's own INSERT, which knows ON CONFLICT."""
    return postgresql.insert if dialect == "postgresql" else sqlite.insert


def insert_if_new(connection: Connection, table: type[Base], values: Mapping[str, Any]) -> Any:
    """Inserts a row unless its unique names are taken; returns its primary key, or None if they were."""
    return connection.execute(_insert_if_new(connection.dialect.name, table), dict(values)).scalar()


@cache
def _insert_if_new(dialect: str, table: type[Base]) -> Any:
    """Made once: that takes longer than executing it."""
    return upsert(dialect)(table).on_conflict_do_nothing().returning(*table.__table__.primary_key)


def insert_row(connection: Connection, table: type[Base], values: Mapping[str, Any], known: Any = None) -> int:
    """Inserts a row, or finds the one that another process has inserted (by the query `known`); returns its id."""
    new = insert_if_new(connection, table, values)
    return new if new is not None else connection.execute(known).scalar_one()


def storable(words: str) -> str:
    """Text that any database takes: bytes of a file name that are no letters are written out."""
    return words.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")


def storable_data(data: Any) -> Any:
    """What JSON holds, with every text made `storable`."""
    if isinstance(data, str):
        return storable(data)
    if isinstance(data, Mapping):
        return {storable_data(name): storable_data(value) for name, value in data.items()}
    return [storable_data(one) for one in data] if isinstance(data, list | tuple) else data
