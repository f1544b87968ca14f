"""What a run's folder says of it: what was asked of `make`, and the run that began with that."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from goodeye.ads.brief import Brief
from goodeye.ads.calibrate import Calibration
from goodeye.ads.cutout import Remover
from goodeye.ads.early import Rule
from goodeye.ads.maker import Maker
from goodeye.ads.recurrent import Restart
from goodeye.errors import BadInput
from goodeye.runfolder import CONFIG, RunFolder
from goodeye.tables import Skipped

BRIEFS = "briefs.json"


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
    stride: int | None = None
    promise: float | None = None
    promise_file: str | None = None
    retry_models: str | None = None

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
        if self.early is not None and self.retry_models is not None:
            raise BadInput("A rule for stopping early is of one generator alone. Give early or retry_models, not both.")
        if self.restart is None and (self.restart_times != 1 or self.restart_stopped):
            raise BadInput("restart_times and restart_stopped say how to restart. Give restart a strength, too.")
        if plan := self.restart_plan():
            plan.check()

    def restart_plan(self) -> Restart | None:
        """How failed attempts go back to a middle noise level, if they do."""
        if self.restart is None:
            return None
        return Restart(strength=self.restart, times=self.restart_times, stopped=self.restart_stopped)


@dataclass(frozen=True, kw_only=True)
class Begun:
    """A run that has begun: its id in the ledger, where that is, the command, and the briefs as first read.

    early, promise: the rule and the promise as they were when the run began, whatever becomes of their files. maker,
    settings: what makes and inspects, and the model set's settings; a resumed run must have the same.
    """

    run: int
    ledger: str
    command: Command
    threshold: float
    briefs: Sequence[Brief]
    problems: Sequence[Skipped]
    early: Rule | None = None
    promise: Calibration | None = None
    maker: Maker
    settings: Mapping[str, Any]

    def save(self, folder: RunFolder, version: str) -> None:
        """Writes briefs.json, then config.json: once that is there, the run can be resumed."""
        folder.write_json(
            BRIEFS,
            {
                "briefs": [{**asdict(brief), "image": str(brief.image)} for brief in self.briefs],
                "problems": [asdict(problem) for problem in self.problems],
            },
        )
        folder.begin(
            {
                "goodeye": version,
                "run": self.run,
                "ledger": self.ledger,
                "command": {**asdict(self.command), "maker": asdict(self.maker)},  # as the ledger has it
                "threshold": self.threshold,
                "settings": dict(self.settings),
                "early": self.early.as_json() if self.early else None,
                "promise": self.promise.as_json() if self.promise else None,
            }
        )

    @classmethod
    def load(cls, folder: RunFolder) -> "Begun":
        """The run that the folder holds. Raises BadInput if its files are damaged."""
        config, listed = folder.config(), folder.read_json(BRIEFS)
        try:
            command = dict(config["command"])
            maker = Maker(**command.pop("maker"))
            return cls(
                run=config["run"],
                ledger=config["ledger"],
                command=Command(**{**command, "inputs": tuple(command["inputs"])}),
                threshold=config["threshold"],
                briefs=[Brief(**{**brief, "image": Path(brief["image"])}) for brief in listed["briefs"]],
                problems=[Skipped(**problem) for problem in listed["problems"]],
                early=Rule.from_json(config["early"]) if config.get("early") else None,
                promise=Calibration.from_json(config["promise"]) if config.get("promise") else None,
                maker=maker,
                settings=dict(config["settings"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise folder.damaged(CONFIG, BRIEFS) from error
