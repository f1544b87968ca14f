"""A run's folder and its run on the ledger: begun together, and gone on with together."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from goodeye.errors import BadInput
from goodeye.ledger.ledger import Ledger
from goodeye.runfolder import RunFolder

ON_RECORD = ("ledger", "run")  # of a config: where the run is on record, which changes nothing in it


def told_of(folder: RunFolder) -> dict[str, Any]:
    """What the folder's run is a function of; empty where it holds none. Raises BadInput where that is damaged."""
    config = folder.config() if folder.holds_a_run() else {}
    return {name: value for name, value in config.items() if name not in ON_RECORD}


@contextmanager
def begun(
    folder: RunFolder, job: str, told: Mapping[str, Any], ledger: str | Path | None, seed: int
) -> Iterator[tuple[Ledger, int]]:
    """The ledger, and the id of this folder's run there, begun or gone on with; the ledger says how it ends.

    told: what the run is a function of, as JSON has it; in a folder that holds a run, the same as `told_of`. ledger: a
    folder or URL; where the run is already, else GOODEYE_LEDGER or ./goodeye-ledger, if not given. Raises BadInput
    where the ledger does not have the run.
    """
    before = folder.config() if folder.holds_a_run() else {}
    stored = str(before.get("ledger", ""))
    if not ledger and "://" not in stored:  # a database's password is not written down
        ledger = stored
    with Ledger.open(ledger) as book:
        if "run" not in before:
            run = book.start_run(job, told, seed)
            where = book.where if "://" in book.where else str(Path(book.where).resolve())
            folder.begin({**told, "ledger": where, "run": run})
        else:
            run = int(before["run"])
            if not any(one.id == run and one.command == told for one in book.runs(job)):
                was = f"the ledger {stored}" if stored else "another ledger"
                raise BadInput(f"{folder.path} is on {was}, and not on {book.where}. Name that one with --ledger.")
            book.resume_run(run)
        with book.on_record(run):
            yield book, run
