"""A run's folder and its run on the ledger: begun together, and gone on with together."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from goodeye.errors import BadInput
from goodeye.ledger.ledger import Ledger
from goodeye.ledger.rows import RunRow
from goodeye.runfolder import RunFolder

ON_RECORD = ("ledger", "run")  # of a config: where the run is on record, which changes nothing in it


def told_of(folder: RunFolder) -> dict[str, Any]:
    """What the folder's run is a function of; empty where it holds none. Raises BadInput where that is damaged."""
    config = folder.config() if folder.holds_a_run() else {}
    return {name: value for name, value in config.items() if name not in ON_RECORD}


def place_of(book: Ledger) -> str:
    """How a config names this ledger: in full, so that the next call may stand anywhere."""
    return book.where if "://" in book.where else str(Path(book.where).resolve())


def stored_ledger(stored: str) -> str | None:
    """The ledger that a config names, to be opened again; None where it names none, or a database with a password,
    which is not written down, so that it must be named anew."""
    return stored if stored and "***" not in stored else None


def where_it_goes_on(place: Path, config: Mapping[str, Any], ledger: str | Path | None = None) -> str | Path | None:
    """Where the run of the folder whose config that is goes on: the ledger given, else where the run is. Raises
    BadInput where that must be named anew."""
    stored = str(config.get("ledger", ""))
    named = ledger or stored_ledger(stored) or os.environ.get("GOODEYE_LEDGER")
    if stored and not named:
        raise BadInput(f"{place} is on the ledger {stored}. Name that one, password and all, with --ledger.")
    return named


def run_of(book: Ledger, place: Path, config: Mapping[str, Any], job: str | None = None) -> RunRow:
    """The run of the folder whose config that is. Raises BadInput where the ledger has none of that number, or another
    one. A run of ads has its command under that name, beside what came of it; of others all else is the command."""
    told = config.get("command", {name: value for name, value in config.items() if name not in ON_RECORD})
    found = next((one for one in book.runs(job) if one.id == config["run"] and one.command == told), None)
    if found is None:
        was = str(config.get("ledger", "")) or "another ledger"
        raise BadInput(f"{place} is on the ledger {was}, and not on {book.where}. Name that one with --ledger.")
    return found


@contextmanager
def begun(
    folder: RunFolder, job: str, told: Mapping[str, Any], ledger: str | Path | None, seed: int
) -> Iterator[tuple[Ledger, int]]:
    """The ledger, and the id of this folder's run there, begun or gone on with; the ledger says how it ends.

    told: what the run is a function of, as JSON has it; in a folder that holds a run, the same as `told_of`. ledger: a
    folder or URL; where the run is already, else GOODEYE_LEDGER or ./goodeye-ledger, if not given. Raises BadInput
    where the ledger does not have the run, or is none; a ledger is made for a new run alone.
    """
    before = folder.config() if folder.holds_a_run() else {}
    with Ledger.open(where_it_goes_on(folder.path, before, ledger), create="run" not in before) as book:
        if "run" not in before:
            run = book.start_run(job, told, seed)
            folder.begin({**told, "ledger": place_of(book), "run": run})
        else:
            run = run_of(book, folder.path, before, job).id
            book.resume_run(run)
        with book.on_record(run):
            yield book, run
