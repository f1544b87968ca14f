"""Edits on the ledger: the picture that is edited as a brief, each edited picture as an attempt, rewards as a verdict.

In the form that RewardEdit's files are exchanged in (`goodeye.exchange.research`), so that people may vote on edits and
the judged ones can be exported to learn from.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from goodeye.edit.rewards import AXES, Rewards
from goodeye.errors import BadInput
from goodeye.judging.protocol import Verdict
from goodeye.ledger.begun import begun, told_of
from goodeye.ledger.ledger import Ledger
from goodeye.runfolder import RunFolder

JOB = "edit"


@dataclass(frozen=True)
class Book:
    """A run on the ledger. judge: name and version of who gives rewards."""

    ledger: Ledger
    run: int
    judge: tuple[str, str] = ("judge", "")

    def brief(self, key: str, instruction: str, original: Image.Image, picture: str = "") -> int:
        """The edit that is asked for; its id. picture: a hash of the original's own file."""
        content = {"title": instruction, "instruction": instruction} | ({"picture": picture} if picture else {})
        return self.ledger.add_brief(self.run, key, content, original)

    def attempt(
        self, brief: int, number: int, seed: int, edited: Image.Image, rewards: Rewards | None, evals: int, took: float
    ) -> int:
        """An edited picture; its id. One that is on record stays as it is. took: seconds."""
        said = [] if rewards is None else [self._verdict(rewards)]
        return self.ledger.record_attempt(brief, 1, number, seed, edited, said, evals, took)

    def pick(self, brief: int, attempts: Mapping[int, str], best: int | None) -> None:
        """attempts: id -> why it is kept or not. best: the one that is kept, if one is."""
        for attempt, why in attempts.items():
            self.ledger.pick(brief, 1, attempt, attempt == best, why)

    def _verdict(self, rewards: Rewards) -> Verdict:
        scores = {axis: score for axis, score in zip(AXES, rewards.scores, strict=True) if score is not None}
        failures = [f"{axis}: {text}" for axis, text in zip(AXES, rewards.failures, strict=True) if text]
        return Verdict(*self.judge, "", scores, failures)


@contextmanager
def opened(
    folder: RunFolder,
    config: Mapping[str, Any],
    ledger: str | Path | None,
    seed: int,
    judge: tuple[str, str] = ("judge", ""),
) -> Iterator[Book]:
    """The run of this folder on the ledger, begun or gone on with; however it ends, it can be gone on with.

    config: as JSON has it. ledger: a folder or URL; where the run is already, else GOODEYE_LEDGER or ./goodeye-ledger,
    if not given. Raises BadInput where the folder was begun otherwise, and where the ledger does not have its run.
    """
    if folder.holds_a_run() and (before := told_of(folder)) != dict(config):
        changed = [name.replace("_", " ") for name in {**before, **config} if before.get(name) != config.get(name)]
        raise BadInput(
            f"{folder.path} was begun otherwise (changed: {', '.join(changed)}). Name another folder with --out."
        )
    with begun(folder, JOB, config, ledger, seed) as (book, run):
        yield Book(book, run, judge)
