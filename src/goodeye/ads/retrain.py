"""The trained rows of a proof, each from the same start with the same budget (`goodeye ads prove --retrain`)."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from goodeye.ads.align import Aligned, align
from goodeye.ads.rollout import NoReward, Placed
from goodeye.ads.settings import TRAINED, Align, Budget
from goodeye.atomic import write_bytes
from goodeye.errors import BadInput
from goodeye.training.loop import Diverged

DONE = "done.json"  # what a finished row was trained with, and what came of it


@dataclass(frozen=True, kw_only=True)
class Retrained:
    """adapters: by row, the folder of its run. lacking: rows that could not be trained, and why."""

    adapters: Mapping[str, Path] = field(default_factory=dict)
    lacking: Mapping[str, str] = field(default_factory=dict)


def retrain(
    briefs: Sequence[Placed],
    *,
    rows: Sequence[str] = (),
    budget: Budget | None = None,
    models: str | Path = "showroom",
    out: str | Path = "runs/rows",
    seed: int = 0,
    device: str = "cpu",
) -> Retrained:
    """Trains the rows (all of TRAINED if none are named) one after the other in out/ROW, each from the set's own start.

    briefs: what all are trained on. The same call again goes on where it was stopped; a finished row is not trained
    again. A row whose judge tells nothing, or whose loss is not finite, is lacking, and the others go on. Raises
    BadInput for an unknown row, and for a folder whose rows were trained otherwise.
    """
    budget = budget or Budget()
    plans = {row: budget.of(row, seed) for row in rows or TRAINED}
    for row, config in plans.items():
        _require_same(Path(out) / row, config)
    adapters: dict[str, Path] = {}
    lacking: dict[str, str] = {}
    for row, config in plans.items():
        folder = Path(out) / row
        if finished(folder) is None:
            try:
                found = align(briefs=briefs, config=config, models=models, out=folder, device=device, resume=True)
            except (NoReward, Diverged) as error:
                lacking[row] = str(error)
                continue
            if found.failed:
                lacking[row] = found.stopped
                continue
            _finish(folder, config, found)
        adapters[row] = folder
    return Retrained(adapters=adapters, lacking=lacking)


def finished(folder: Path) -> dict[str, Any] | None:
    """What came of a row's training, as JSON; None where it has not ended. Raises BadInput where that is damaged."""
    try:
        found: dict[str, Any] = json.loads((folder / DONE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise BadInput(f"{folder / DONE} is damaged. Delete that file to train on, or the folder.") from error
    return found


def _finish(folder: Path, config: Align, found: Aligned) -> None:
    kept = {name: getattr(found, name) for name in ("steps", "seconds", "best", "stopped", "last")}
    write_bytes(folder / DONE, (json.dumps({"config": asdict(config), **kept}, indent=1) + "\n").encode())


def _require_same(folder: Path, config: Align) -> None:
    done = finished(folder)
    if done is None:
        return
    before, now = done["config"], asdict(config)
    changed = [f"{name} {before.get(name)}, now {value}" for name, value in now.items() if before.get(name) != value]
    if changed:
        raise BadInput(f"{folder} was trained with {', '.join(changed)}. Use the old settings, or another folder.")
