"""A run's folder: what was asked for, how it goes, and what came of it, so that a killed run can go on."""

import hashlib
import json
import time
from collections.abc import Collection, Mapping
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from goodeye.atomic import append, mend, write_bytes
from goodeye.errors import BadInput

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

CONFIG, METRICS, RESULTS = "config.json", "metrics.jsonl", "results.json"

C = TypeVar("C", bound="DataclassInstance")


@dataclass(frozen=True)
class RunFolder:
    """The folder named by --out. config.json is written when all else is there that a run needs to go on."""

    path: Path

    def holds_a_run(self) -> bool:
        """Whether there is one that can go on."""
        return (self.path / CONFIG).exists()

    def require_free(self) -> None:
        """Raises BadInput if the folder holds a run already, or cannot be written."""
        if self.holds_a_run():
            raise BadInput(
                f"{self.path} already holds a run. Go on with it by --resume, or name another folder with --out."
            )
        write_bytes(self.path / METRICS, b"")

    def begin(self, config: Mapping[str, Any]) -> None:
        """Writes config.json: from now on the folder holds a run."""
        self.write_json(CONFIG, config)

    def config(self) -> dict[str, Any]:
        """What `begin` wrote. Raises BadInput if that is damaged."""
        found: dict[str, Any] = self.read_json(CONFIG)
        return found

    def forget(self, *names: str) -> None:
        """Takes back `begin`, and the files named, for a run in which nothing could be used: the folder is free."""
        for name in (CONFIG, METRICS, *names):
            (self.path / name).unlink(missing_ok=True)

    def metric(self, **values: Any) -> None:
        """Adds a line to metrics.jsonl."""
        append(self.path / METRICS, {"time": round(time.time(), 3), **values})

    def mend_metrics(self) -> None:
        """Cuts off a last line that a kill left half written."""
        mend(self.path / METRICS)

    def write_json(self, name: str, data: Any) -> None:
        """Writes a file of the folder whole or not at all."""
        write_bytes(self.path / name, (json.dumps(data, indent=1, ensure_ascii=False) + "\n").encode())

    def read_json(self, name: str) -> Any:
        """What `write_json` wrote. Raises BadInput if that is damaged."""
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise self.damaged(name) from error

    def damaged(self, *names: str) -> BadInput:
        """The error that says so of one of these files."""
        return BadInput(
            f"{self.path} cannot be resumed: its {' or '.join(names)} is damaged. Start another run elsewhere."
        )


def mark_of(file: str | Path) -> dict[str, str]:
    """A file that a run is a function of: where it lies, and the beginning of its bytes' sha256, since another file may
    come to lie there. Raises BadInput where it cannot be read."""
    try:
        digest = hashlib.sha256(Path(file).read_bytes()).hexdigest()
    except OSError as error:
        raise BadInput(f"{file} cannot be read: {error.strerror}. Check the path.") from error
    return {"file": str(Path(file).resolve()), "sha256": digest[:12]}


def going_on(before: C, given: C, free: Collection[str] = ("batch", "device")) -> C:
    """The command `before`, resumed by `given`, in which all may be left at its default.

    free: fields that say how and not what, which may change. Raises BadInput where another one does.
    """
    changed = {}
    for field in fields(before):
        new, old = getattr(given, field.name), getattr(before, field.name)
        if field.default is not MISSING and new == field.default or new == old:
            continue
        if field.name not in free:
            raise BadInput(
                f"The run was started with {field.name} {_shown(old)}, and a resumed run keeps it. "
                f"Leave {field.name} away, or start a new run in another folder."
            )
        changed[field.name] = new
    return replace(before, **changed)


def _shown(value: Any) -> str:
    return " ".join(map(str, value[:3])) + (" …" if len(value) > 3 else "") if isinstance(value, tuple) else str(value)
