"""A run's folder: what was asked for, how it went, and what came of it, so that a killed run can go on."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

from goodeye.ads.brief import Brief
from goodeye.ads.calibrate import Calibration
from goodeye.ads.cutout import Remover
from goodeye.ads.early import Rule
from goodeye.ads.recurrent import Restart
from goodeye.atomic import append, mend, write_bytes
from goodeye.errors import BadInput
from goodeye.judging.tables import Skipped

CONFIG, BRIEFS, METRICS, RESULTS = "config.json", "briefs.json", "metrics.jsonl", "results.json"


@dataclass(frozen=True, kw_only=True)
class Command:
    """What was asked of `make`. The defaults are its defaults.

    threshold: None is the model set's own. batch and device say how, not what: a resumed run may change them.
    """

    inputs: tuple[str, ...] = ()
    title: str | None = None
    prompt: str | None = None
    want: int = 4
    attempts: int = 5
    models: str = "showroom"
    seed: int = 0
    threshold: float | None = None
    remover: Remover = "saliency"
    batch: int = 16
    device: str = "cpu"
    early: str | None = None
    restart: float | None = None
    restart_times: int = 1
    restart_stopped: bool = False
    promise: float | None = None
    promise_file: str | None = None

    def check(self) -> None:
        """Raises BadInput for numbers that make no sense."""
        for name in ("want", "attempts", "batch"):
            if getattr(self, name) < 1:
                raise BadInput(f"{name} is {getattr(self, name)}. Give 1 or more.")
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise BadInput(f"threshold is {self.threshold}. Give a probability between 0 and 1.")
        if self.threshold is not None and self.promise is not None:
            raise BadInput("A promise has a threshold of its own. Give promise or threshold, not both.")
        if self.remover not in ("saliency", "rembg"):
            raise BadInput(f"{self.remover} is not a background remover. Give saliency or rembg.")
        if self.restart is None and (self.restart_times != 1 or self.restart_stopped):
            raise BadInput("restart_times and restart_stopped say how to restart. Give restart a strength, too.")
        if plan := self.restart_plan():
            plan.check()

    def restart_plan(self) -> Restart | None:
        """How failed attempts go back to a middle noise level, if they do."""
        if self.restart is None:
            return None
        return Restart(strength=self.restart, times=self.restart_times, stopped=self.restart_stopped)

    def going_on(self, given: "Command") -> "Command":
        """This command, resumed by `given`, which may leave everything away. Raises BadInput where they differ."""
        changed = {}
        for field in fields(self):
            new, old = getattr(given, field.name), getattr(self, field.name)
            if field.default is not MISSING and new == field.default or new == old:
                continue
            if field.name not in ("batch", "device"):
                raise BadInput(
                    f"The run was started with {field.name} {_shown(old)}, and a resumed run keeps it. "
                    f"Leave {field.name} away, or start a new run in another folder."
                )
            changed[field.name] = new
        return Command(**{**asdict(self), **changed})


def _shown(value: Any) -> str:
    return " ".join(map(str, value[:3])) + (" …" if len(value) > 3 else "") if isinstance(value, tuple) else str(value)


@dataclass(frozen=True, kw_only=True)
class Begun:
    """A run that has begun: its id in the ledger, where that is, the command, and the briefs as first read.

    early, promise: the rule and the promise as they were when the run began, whatever becomes of their files.
    """

    run: int
    ledger: str
    command: Command
    threshold: float
    briefs: Sequence[Brief]
    problems: Sequence[Skipped]
    early: Rule | None = None
    promise: Calibration | None = None


@dataclass(frozen=True)
class RunFolder:
    """The folder named by --out."""

    path: Path

    def holds_a_run(self) -> bool:
        return (self.path / CONFIG).exists()

    def require_free(self) -> None:
        """Raises BadInput if the folder holds a run already, or cannot be written."""
        if self.holds_a_run():
            raise BadInput(
                f"{self.path} already holds a run. Go on with it by --resume, or name another folder with --out."
            )
        write_bytes(self.path / METRICS, b"")

    def begin(self, begun: Begun, settings: Mapping[str, Any], version: str) -> None:
        """Writes briefs.json, then config.json: once that is there, the run can be resumed."""
        self.write_json(
            BRIEFS,
            {
                "briefs": [{**asdict(brief), "image": str(brief.image)} for brief in begun.briefs],
                "problems": [asdict(problem) for problem in begun.problems],
            },
        )
        self.write_json(
            CONFIG,
            {
                "goodeye": version,
                "run": begun.run,
                "ledger": begun.ledger,
                "command": asdict(begun.command),
                "threshold": begun.threshold,
                "settings": dict(settings),
                "early": begun.early.as_json() if begun.early else None,
                "promise": begun.promise.as_json() if begun.promise else None,
            },
        )

    def begun(self) -> Begun:
        """The run that the folder holds. Raises BadInput if its files are damaged."""
        try:
            config = json.loads((self.path / CONFIG).read_text(encoding="utf-8"))
            listed = json.loads((self.path / BRIEFS).read_text(encoding="utf-8"))
            command = config["command"]
            return Begun(
                run=config["run"],
                ledger=config["ledger"],
                command=Command(**{**command, "inputs": tuple(command["inputs"])}),
                threshold=config["threshold"],
                briefs=[Brief(**{**brief, "image": Path(brief["image"])}) for brief in listed["briefs"]],
                problems=[Skipped(**problem) for problem in listed["problems"]],
                early=Rule.from_json(config["early"]) if config.get("early") else None,
                promise=Calibration.from_json(config["promise"]) if config.get("promise") else None,
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadInput(
                f"{self.path} cannot be resumed: its {CONFIG} or {BRIEFS} is damaged. Start another run elsewhere."
            ) from error

    def forget(self) -> None:
        """Takes back `begin`, for a run in which nothing could be used: the folder is free again."""
        for name in (CONFIG, BRIEFS, METRICS):
            (self.path / name).unlink(missing_ok=True)

    def mend_metrics(self) -> None:
        """Cuts off a last line that a kill left half written."""
        mend(self.path / METRICS)

    def metric(self, **values: Any) -> None:
        """Adds a line to metrics.jsonl."""
        append(self.path / METRICS, {"time": round(time.time(), 3), **values})

    def write_json(self, name: str, data: Any) -> None:
        write_bytes(self.path / name, (json.dumps(data, indent=1, ensure_ascii=False) + "\n").encode())
