"""One training loop for everything: resumable to the bit, logged, averaged, safe to interrupt.

Randomness is a function of the seed and of the batch's number, not a state that is carried along. So a run that was
killed and resumed equals one that was not, evaluations in between change nothing, and N processes see what one process
with N accumulated batches sees.
"""

import hashlib
import json
import math
import random
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from torch import Tensor, nn

from goodeye.atomic import append, read_rows, write_bytes
from goodeye.errors import BadInput
from goodeye.progress import progress
from goodeye.training import checkpoint
from goodeye.training.checkpoint import State, Weights
from goodeye.training.guard import Guard
from goodeye.training.signals import stop_signals

Modules = Mapping[str, nn.Module]
StepFn = Callable[[Modules, Any, int], Tensor | Mapping[str, Tensor]]
Data = Callable[[int], Any]
Evaluate = Callable[[int], Mapping[str, float]]


@dataclass(frozen=True, kw_only=True)
class Loop:
    """How a run is trained. Defaults are ours; the optimizer is AdamW (Loshchilov and Hutter 2019)."""

    steps: int = 1000  # optimizer steps
    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 1e-2
    schedule: Literal["constant", "cosine", "step"] = "constant"
    warmup: int = 0  # steps over which lr rises from 0
    milestones: tuple[int, ...] = ()  # for "step": at each of these steps lr is multiplied by gamma
    gamma: float = 0.1
    floor: float = 0.0  # for "cosine": the share of lr that is left at the end
    clip: float | None = 1.0  # largest norm of the gradient
    accumulate: int = 1  # batches to an optimizer step, on each process
    ema: float | None = None  # decay of the weights' moving average, e.g. 0.999
    precision: Literal["fp32", "bf16"] = "fp32"
    seed: int = 0
    log_every: int = 10  # steps to a row of metrics.jsonl
    evaluate_every: int | None = None  # steps; None: at the end only
    save_steps: int | None = None  # steps between checkpoints
    save_seconds: float | None = 300.0  # seconds between checkpoints; whichever comes first
    keep: int = 2  # checkpoints that stay
    ahead: int = 0  # batches made in advance on threads; `data` must then not use global randomness


# Settings that change no weight: a resumed run may have others.
_FREE = ("log_every", "evaluate_every", "save_steps", "save_seconds", "keep", "ahead")


@dataclass(frozen=True, kw_only=True)
class Result:
    """steps: optimizer steps done in all. seconds: time spent training, all parts of the run together. last: the last
    row of metrics. resumed_at: the step from which this call went on. best: the step that the guard found best.
    stopped: why it stopped the run, "" if it did not."""

    steps: int
    seconds: float
    last: dict[str, float]
    resumed_at: int
    best: int | None = None
    stopped: str = ""


class Diverged(RuntimeError):
    """The loss or its gradient is not a finite number. The weights are those before that step."""


def fit(
    modules: Modules,
    step: StepFn,
    data: Data,
    config: Loop,
    run_dir: str | Path,
    *,
    about: Mapping[str, Any] | None = None,
    evaluate: Evaluate | None = None,
    guard: Guard | None = None,
    together: int = 1,
    shares: Callable[[str], float] | None = None,
    resume: bool = False,
    cpu: bool = False,
    label: str = "training",
) -> Result:
    """Trains every parameter of `modules` that requires gradient, in place.

    step(modules, batch, number) -> the loss, or named scalars among them "loss". It calls the networks it is given;
    batch is on their device. What else it changes from step to step must be a buffer of one of them, changed in place
    (`buffer.copy_`): average and checkpoint hold the tensor itself. data(index) -> the index-th batch, for ever: a
    function, so that a run goes on anywhere (see `shuffled`). evaluate(steps done) -> numbers for metrics.jsonl,
    without gradient, networks in evaluation mode and with averaged weights. guard: looks at the start model and at each
    evaluation; where it stops the run, the modules hold the best evaluation's weights. together: steps that share
    something that is in no checkpoint; checkpoints are only written between such groups. shares: how much of the rate
    falls to a parameter, by its name `module.parameter`; all of it if not given.

    run_dir gets config.json (`about` says what else the run is a function of, as JSON), metrics.jsonl, checkpoints/
    and, with a guard, best/. Killed at any moment, the same call with resume=True goes on; Ctrl-C and SIGTERM save
    first. On return the modules hold the averaged weights if config.ema is set.

    Raises BadInput where run_dir holds another run or cannot be written, Diverged where the loss is not finite.
    """
    if guard is not None and not config.evaluate_every:
        raise ValueError("a guard looks at every evaluation: set evaluate_every")
    run = _Run(modules, config, Path(run_dir), cpu, guard, together, shares or (lambda name: 1.0))
    run.open(about or {}, resume)
    resumed_at = run.state.step
    with stop_signals() as stop, progress(label, config.steps - resumed_at, "steps") as advance:
        batches = _batches(data, run.indices(), config)
        if guard is not None and run.state.step == 0:
            run.evaluate(None)
        while run.state.step < config.steps and not run.state.stopped and not (stop and run.between_groups):
            losses = run.train_step(step, batches)
            run.log(losses)
            run.evaluate(evaluate)
            run.save()
            advance(note=f"loss {losses['loss']:.4g}")
        if stop:
            run.save(now=True)
    if stop:
        signal.raise_signal(stop[0])  # to whoever would have had it: Ctrl-C becomes KeyboardInterrupt
        raise KeyboardInterrupt  # a handler that does nothing must not make half a run look whole
    run.finish()
    state = run.state
    return Result(
        steps=state.step,
        seconds=state.seconds,
        last=run.last,
        resumed_at=resumed_at,
        best=state.best,
        stopped=state.stopped,
    )


def shuffled(length: int, batch_size: int, seed: int = 0) -> Callable[[int], list[int]]:
    """Which items of a data set of `length` make up the index-th batch: every epoch a new order, no short batches.

    Raises BadInput where there are fewer items than a batch holds.
    """
    if length < batch_size:
        raise BadInput(f"{length} items are fewer than a batch of {batch_size}. Give more data or a smaller batch.")
    per_epoch = length // batch_size

    @lru_cache(maxsize=2)
    def order(epoch: int) -> list[int]:
        return torch.randperm(length, generator=torch.Generator().manual_seed(_seed(seed, epoch, "order"))).tolist()

    def items(index: int) -> list[int]:
        epoch, batch = divmod(index, per_epoch)
        return order(epoch)[batch * batch_size : (batch + 1) * batch_size]

    return items


def learning_rate(step: int, config: Loop) -> float:
    """The rate of the step with this number, counted from 0."""
    if step < config.warmup:
        return config.lr * (step + 1) / (config.warmup + 1)
    if config.schedule == "cosine":
        share = (step - config.warmup) / max(1, config.steps - config.warmup)
        return config.lr * (config.floor + (1 - config.floor) * 0.5 * (1 + math.cos(math.pi * share)))
    if config.schedule == "step":
        return config.lr * config.gamma ** sum(step >= milestone for milestone in config.milestones)
    return config.lr


class _Run:
    """The moving parts of one call of `fit`."""

    def __init__(
        self,
        modules: Modules,
        config: Loop,
        folder: Path,
        cpu: bool,
        guard: Guard | None,
        together: int,
        shares: Callable[[str], float],
    ) -> None:
        self.config, self.folder, self.modules, self.guard = config, folder, dict(modules), guard
        self.together = together
        self.accelerator = Accelerator(cpu=cpu, mixed_precision="no")  # autocast is ours: it covers the whole step
        for module in self.modules.values():
            module.to(self.accelerator.device).train()
        self.weights = {name: checkpoint.trained(module) for name, module in self.modules.items()}
        groups: dict[float, list[nn.Parameter]] = {}
        for name, module in self.modules.items():
            for key, parameter in module.named_parameters():
                if parameter.requires_grad:
                    groups.setdefault(shares(f"{name}.{key}"), []).append(parameter)
        self.parameters = [parameter for group in groups.values() for parameter in group]
        if not self.parameters:
            raise ValueError("no parameter requires gradient, so there is nothing to train")
        self.optimizer = torch.optim.AdamW(
            [{"params": group, "share": share} for share, group in groups.items()],
            lr=config.lr,
            betas=config.betas,
            weight_decay=config.weight_decay,
        )
        self.averages: dict[str, Weights] = {}
        if config.ema is not None:
            self.averages = {name: _floats(weights) for name, weights in self.weights.items()}
        self.prepared = {name: self.accelerator.prepare_model(module) for name, module in self.modules.items()}
        self.state = State()
        self.last: dict[str, float] = {}
        self.began = self.saved_at = time.monotonic()
        self.saved_step = 0

    # --- before and after

    def open(self, about: Mapping[str, Any], resume: bool) -> None:
        """Claims the folder, or takes the run in it up again."""
        watched = {} if self.guard is None else {"guard": self.guard.about()}
        description = json.loads(json.dumps({"about": dict(about), "loop": asdict(self.config), **watched}))
        saved = checkpoint.found(self.folder / "checkpoints")
        if saved and not resume:
            raise BadInput(
                f"{self.folder} holds a run at step {int(saved[-1].name)}. Go on with --resume or use another folder."
            )
        if saved:
            self._require_same(description)
            self.state = checkpoint.load(saved[-1], self.modules, self.averages, self.optimizer)
        if self.guard is not None:
            self.guard.restore(self.state.guard)
        self.accelerator.wait_for_everyone()  # nobody writes before everybody has read
        if self.accelerator.is_main_process:
            write_bytes(self.folder / "config.json", (json.dumps(description, indent=2) + "\n").encode())
            self._cut_metrics(to=self.state.step if saved else -1)
        self.saved_at, self.saved_step = time.monotonic(), self.state.step
        self.began = self.saved_at - self.state.seconds

    def _require_same(self, description: dict[str, Any]) -> None:
        path = self.folder / "config.json"
        try:
            before = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise BadInput(f"{path} cannot be read, so the run cannot go on. Start it in another folder.") from error
        old, new = _flat(before), _flat(description)
        changed = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
        free = [f"loop.{name}" for name in _FREE if name != "evaluate_every" or self.guard is None]
        changed = [key for key in changed if key not in free]
        if changed:
            was = ", ".join(f"{key} was {old.get(key)}, now {new.get(key)}" for key in changed)
            raise BadInput(f"{self.folder} cannot go on with other settings ({was}). Use the old or another folder.")

    def _cut_metrics(self, to: int) -> None:
        """Drops the rows after the checkpoint, which are about to be made again, and a line cut short by a kill."""
        path = self.folder / "metrics.jsonl"
        rows = [row for row in read_metrics(self.folder) if row["step"] <= to]
        self.last = {name: value for row in rows for name, value in row.items()}
        write_bytes(path, "".join(json.dumps(row) + "\n" for row in rows).encode())

    def finish(self) -> None:
        """Leaves the averaged weights in the modules, or the best ones if the guard stopped; in evaluation mode."""
        self._settle()
        if self.state.stopped and self.state.best is not None:
            checkpoint.load_best(self.folder / "best", self.modules, self.state.best)
        self.accelerator.wait_for_everyone()

    def _settle(self) -> None:
        """The averaged weights in the modules, evaluation mode."""
        for name, averages in self.averages.items():
            _copy(averages, self.weights[name])
        for module in self.modules.values():
            module.eval()

    # --- one step

    def indices(self) -> Iterator[int]:
        """The numbers of this process's batches from here on."""
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        for number in range(self.state.step * self.config.accumulate, self.config.steps * self.config.accumulate):
            yield number * world + rank

    def train_step(self, step: StepFn, batches: Iterator[tuple[int, Any]]) -> dict[str, float]:
        """One optimizer step. Returns the mean of what `step` gave, over its batches and all processes."""
        config = self.config
        rate = learning_rate(self.state.step, config)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["share"]
        self.optimizer.zero_grad()
        rows = [self._backward(step, *next(batches), last=left == 1) for left in range(config.accumulate, 0, -1)]
        norm = nn.utils.clip_grad_norm_(self.parameters, config.clip or math.inf)
        means = torch.stack([torch.stack([row[name].float() for row in rows]).mean() for name in rows[0]])
        means = self.accelerator.reduce(means, "mean")
        values = dict(zip(rows[0], means.tolist(), strict=True)) | {"grad_norm": float(norm)}
        self._require_finite(values, rate)
        self.optimizer.step()
        self.state.step += 1
        self._average()
        return values | {"lr": rate}

    def _backward(self, step: StepFn, index: int, batch: Any, last: bool) -> dict[str, Tensor]:
        _reseed(_seed(self.config.seed, index, "step"))
        device = self.accelerator.device
        autocast = torch.autocast(device.type, torch.bfloat16, enabled=self.config.precision == "bf16")
        with ExitStack() as quiet:
            if not last:  # processes exchange gradients once an optimizer step
                for module in self.prepared.values():
                    quiet.enter_context(self.accelerator.no_sync(module))
            with autocast:
                answer = step(self.prepared, send_to_device(batch, device), self.state.step)
            named = {"loss": answer} if isinstance(answer, Tensor) else dict(answer)
            self.accelerator.backward(named["loss"] / self.config.accumulate)
        return {name: value.detach() for name, value in named.items()}

    def _require_finite(self, values: Mapping[str, float], rate: float) -> None:
        for name in ("loss", "grad_norm"):
            if not math.isfinite(values[name]):
                raise Diverged(
                    f"{self.folder}: {name} is {values[name]} at step {self.state.step + 1}, so training stopped. "
                    f"Lower the learning rate (there {rate:.3g}) or lengthen the warm-up."
                )

    @torch.no_grad()
    def _average(self) -> None:
        """Moving average of the weights; its decay rises with the steps done, so that the start is soon forgotten."""
        if self.config.ema is None:
            return
        decay = min(self.config.ema, (1 + self.state.step) / (10 + self.state.step))
        for name, averages in self.averages.items():
            for key, value in self.weights[name].items():
                if value.requires_grad:
                    averages[key].lerp_(value.to(averages[key].dtype), 1 - decay)
                else:
                    averages[key].copy_(value)

    # --- between steps

    @property
    def between_groups(self) -> bool:
        """Whether a run that is taken up here goes on as if it had not been left."""
        return self.state.step % self.together == 0 or self.state.step >= self.config.steps

    def log(self, values: Mapping[str, float]) -> None:
        """Adds to the window; at its end writes its means as a row."""
        state = self.state
        state.seconds = time.monotonic() - self.began
        state.counted += 1
        for name, value in values.items():
            state.window[name] = state.window.get(name, 0.0) + value
        if state.step % self.config.log_every == 0 or state.step == self.config.steps:
            row = {name: total / state.counted for name, total in state.window.items()}
            self._write_row(row | {"lr": values["lr"], "seconds": round(state.seconds, 3)})
            state.window, state.counted = {}, 0

    def evaluate(self, evaluate: Evaluate | None) -> None:
        """Calls `evaluate` and asks the guard where it is due, on the main process."""
        step, every = self.state.step, self.config.evaluate_every
        if not (step == self.config.steps or (every and step % every == 0)):
            return
        if evaluate is None and self.guard is None:
            return
        if self.accelerator.is_main_process:
            with self._averaged(), torch.no_grad():
                _reseed(_seed(self.config.seed, step, "evaluate"))
                row = dict(evaluate(step)) if evaluate is not None else {}
                if self.guard is not None:
                    _reseed(_seed(self.config.seed, step, "guard"))
                    row |= self.guard.evaluate(step)
                    if self.guard.best == step:
                        checkpoint.save_best(self.folder / "best", self.modules, step)
                self._write_row(row)
        self._heed()
        self.accelerator.wait_for_everyone()

    def _heed(self) -> None:
        """Takes over what the guard on the main process says, in all processes."""
        if self.guard is None:
            return
        said = [0.0, 0.0]
        if self.accelerator.is_main_process:
            said = [float(bool(self.guard.stopped)), float(self.guard.best)]
            self.state.guard = self.guard.state()
        heard = self.accelerator.reduce(torch.tensor(said, device=self.accelerator.device), "sum").tolist()
        self.state.best = int(heard[1])
        self.state.stopped = (self.guard.stopped or "the guard of the main process") if heard[0] else ""

    def save(self, now: bool = False) -> None:
        """Writes a checkpoint where one is due, or now; never two of one step."""
        config, step = self.config, self.state.step
        due = now or step == config.steps or bool(self.state.stopped)
        due = due or (
            config.save_steps is not None and step // config.save_steps > self.saved_step // config.save_steps
        )
        due = due or (config.save_seconds is not None and time.monotonic() - self.saved_at >= config.save_seconds)
        due = due and (self.between_groups or bool(self.state.stopped))
        if due and step != self.saved_step and self.accelerator.is_main_process:
            folder = self.folder / "checkpoints"
            checkpoint.save(folder, self.modules, self.averages, self.optimizer, self.state, config.keep)
            checkpoint.drop_bests(self.folder / "best", folder)
            self.saved_at, self.saved_step = time.monotonic(), step

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The averaged weights in the modules, evaluation mode; afterwards as before."""
        held = {name: {key: value.clone() for key, value in self.weights[name].items()} for name in self.averages}
        self._settle()
        try:
            yield
        finally:
            for name, weights in held.items():
                _copy(weights, self.weights[name])
            for module in self.modules.values():
                module.train()

    def _write_row(self, row: Mapping[str, float]) -> None:
        self.last |= row
        if self.accelerator.is_main_process:
            append(self.folder / "metrics.jsonl", {"step": self.state.step, **row})


def read_metrics(run_dir: str | Path) -> list[dict[str, float]]:
    """The rows of metrics.jsonl, oldest first; a last line cut short by a kill is left out."""
    return read_rows(Path(run_dir) / "metrics.jsonl")


def _batches(data: Data, indices: Iterator[int], config: Loop) -> Iterator[tuple[int, Any]]:
    """(index, batch), up to config.ahead of them made in advance on threads."""
    if not config.ahead:
        for index in indices:
            _reseed(_seed(config.seed, index, "data"))
            yield index, data(index)
        return
    with ThreadPoolExecutor(config.ahead) as pool:
        waiting: deque[tuple[int, Future[Any]]] = deque()
        try:
            for index in indices:
                waiting.append((index, pool.submit(data, index)))
                if len(waiting) > config.ahead:
                    first, batch = waiting.popleft()
                    yield first, batch.result()
            while waiting:
                first, batch = waiting.popleft()
                yield first, batch.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _seed(seed: int, index: int, purpose: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{index}/{purpose}".encode()).digest()[:8]) >> 1


def _reseed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def _floats(weights: Weights) -> Weights:
    """Copies; what is trained in float32, so that a slow average does not stand still in half precision."""
    return {
        name: value.detach().clone().float() if value.requires_grad else value.clone()
        for name, value in weights.items()
    }


@torch.no_grad()
def _copy(source: Weights, into: Weights) -> None:
    for name, value in into.items():
        value.copy_(source[name])


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}"""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        leaves |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return leaves
