"""Checkpoints of a training run: safetensors and JSON only, each one whole or not there."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from goodeye.atomic import PARTIAL, whole_folder
from goodeye.errors import BadInput

Weights = dict[str, Tensor]


@dataclass
class State:
    """What a run is besides its tensors. window: sums of what is logged since the last row, and their count.

    guard: what the guard remembers. best: the step of its best evaluation. stopped: why it stopped the run.
    """

    step: int = 0
    seconds: float = 0.0
    window: dict[str, float] = field(default_factory=dict)
    counted: int = 0
    guard: dict[str, Any] = field(default_factory=dict)
    best: int | None = None
    stopped: str = ""


def trained(module: nn.Module) -> Weights:
    """The parameters that are trained, and the buffers that training changes (running means and the like), by name."""
    wanted = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    frozen = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    state = module.state_dict(keep_vars=True)
    buffers = {name: value for name, value in state.items() if isinstance(value, Tensor) and name not in frozen}
    return {**wanted, **buffers}


def save(
    folder: Path,
    modules: Mapping[str, nn.Module],
    averages: Mapping[str, Weights],
    optimizer: torch.optim.Optimizer,
    state: State,
    keep: int,
) -> Path:
    """Writes folder/<step>/ beside its name first, renames it when it is on disk, and drops all but the last `keep`."""
    with whole_folder(folder / f"{state.step:08d}") as partial:
        for name, module in modules.items():
            _write(trained(module), partial / f"{name}.safetensors")
        for name, weights in averages.items():
            _write(weights, partial / f"{name}.ema.safetensors")
        _write(_optimizer_tensors(optimizer), partial / "optimizer.safetensors")
        (partial / "state.json").write_text(json.dumps(asdict(state)))
    kept = found(folder)[-keep:]
    for old in folder.iterdir():  # also what a kill left of a checkpoint that was being dropped
        if old not in kept and (old.name.isdigit() or old.suffix == PARTIAL):
            shutil.rmtree(old, ignore_errors=True)
    return folder / f"{state.step:08d}"


def save_best(folder: Path, modules: Mapping[str, nn.Module], step: int) -> None:
    """Writes folder/<step>/ with what is trained of the modules, as they are now."""
    with whole_folder(folder / f"{step:08d}") as partial:
        for name, module in modules.items():
            _write(trained(module), partial / f"{name}.safetensors")


def load_best(folder: Path, modules: Mapping[str, nn.Module], step: int) -> None:
    """Puts into the modules what `save_best` wrote. Raises BadInput where that is damaged or does not fit."""
    place = folder / f"{step:08d}"
    try:
        for name, module in modules.items():
            _copy(load_file(place / f"{name}.safetensors"), trained(module), place)
    except (OSError, SafetensorError) as error:
        raise BadInput(f"{place} is damaged ({error}). Start the run again in another folder.") from error


def drop_bests(folder: Path, checkpoints: Path) -> None:
    """Leaves of `folder` only what is the best of one of the checkpoints, from which a run may go on."""
    wanted = {_best_of(path) for path in found(checkpoints)}
    for path in folder.glob("*"):
        if not path.name.isdigit() or int(path.name) not in wanted:
            shutil.rmtree(path, ignore_errors=True)


def _best_of(checkpoint: Path) -> int | None:
    try:
        return json.loads((checkpoint / "state.json").read_text()).get("best")
    except ValueError:  # a damaged one, from which no run goes on
        return None


def found(folder: Path) -> list[Path]:
    """The complete checkpoints, oldest first."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.name.isdigit() and (path / "state.json").is_file())


def load(
    checkpoint: Path,
    modules: Mapping[str, nn.Module],
    averages: Mapping[str, Weights],
    optimizer: torch.optim.Optimizer,
) -> State:
    """Puts the tensors back where `save` took them from. Raises BadInput if the files are damaged or do not fit."""
    try:
        for name, module in modules.items():
            _copy(load_file(checkpoint / f"{name}.safetensors"), trained(module), checkpoint)
        for name, weights in averages.items():
            _copy(load_file(checkpoint / f"{name}.ema.safetensors"), weights, checkpoint)
        _restore_optimizer(optimizer, load_file(checkpoint / "optimizer.safetensors"))
        return State(**json.loads((checkpoint / "state.json").read_text()))
    except (OSError, SafetensorError, ValueError, TypeError, KeyError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(
            f"{checkpoint} is damaged ({error}). Delete that folder to go on from the checkpoint before it."
        ) from error


@torch.no_grad()
def _copy(saved: Weights, into: Weights, checkpoint: Path) -> None:
    if {n: t.shape for n, t in saved.items()} != {n: t.shape for n, t in into.items()}:
        raise BadInput(f"{checkpoint} does not fit the model that is trained. Use the settings it was started with.")
    for name, tensor in into.items():
        tensor.copy_(saved[name])


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> Weights:
    """The optimizer's state as named tensors: `<parameter number>.<key>`."""
    state = optimizer.state_dict()["state"]
    return {f"{number}.{key}": value for number, entry in state.items() for key, value in entry.items()}


def _restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Weights) -> None:
    entries: dict[int, Weights] = {}
    for name, tensor in tensors.items():
        number, key = name.split(".", 1)
        entries.setdefault(int(number), {})[key] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": entries})


def _write(weights: Weights, path: Path) -> None:
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}, path)
