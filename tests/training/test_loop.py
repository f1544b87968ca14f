"""The training loop: equal to a loop written by hand, to itself after a kill, and plain about what went wrong."""

import json
import math
import os
import pickle
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from goodeye.errors import BadInput
from goodeye.training.loop import Diverged, Loop, fit, learning_rate, read_metrics, shuffled

CONFIG = Loop(steps=12, lr=0.05, schedule="cosine", warmup=3, clip=0.5, log_every=4, save_seconds=None)


pytestmark = pytest.mark.usefixtures("one_thread")


def network() -> nn.Module:
    """With dropout (randomness in a step) and batch norm (buffers that training changes)."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 1))


def batch(index: int) -> torch.Tensor:
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(index))


def step(modules, rows: torch.Tensor, number: int) -> torch.Tensor:
    noisy = rows + 0.1 * torch.randn_like(rows)  # from the global generator, as training steps do
    return (modules["net"](noisy).squeeze(-1) - rows.sum(-1)).square().mean()


def weights_after(config: Loop, run_dir: Path, **options) -> dict[str, torch.Tensor]:
    net = network()
    fit({"net": net}, step, batch, config, run_dir, cpu=True, **options)
    return net.state_dict()


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def rows_without_time(run_dir: Path) -> list[dict[str, float]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in read_metrics(run_dir)]


# --- what it computes


def linear_step(modules, rows: torch.Tensor, number: int) -> dict[str, torch.Tensor]:
    error = modules["net"](rows).squeeze(-1) - rows.sum(-1)
    return {"loss": error.square().mean(), "worst": error.abs().max()}


@pytest.mark.parametrize("accumulate", [1, 3])
def test_equals_a_loop_written_by_hand(tmp_path, accumulate):
    config = replace(CONFIG, accumulate=accumulate, ema=0.9, weight_decay=0.02)
    torch.manual_seed(1)
    net = nn.Linear(4, 1)
    other = nn.Linear(4, 1)
    other.load_state_dict(net.state_dict())
    fit({"net": net}, linear_step, batch, config, tmp_path, cpu=True)

    optimizer = torch.optim.AdamW(other.parameters(), lr=1, weight_decay=0.02)
    mean = [p.detach().clone() for p in other.parameters()]
    for number in range(12):
        rate = 0.05 * (number + 1) / 4 if number < 3 else 0.025 * (1 + math.cos(math.pi * (number - 3) / 9))
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        rows = torch.cat([batch(number * accumulate + i) for i in range(accumulate)])
        (other(rows).squeeze(-1) - rows.sum(-1)).square().mean().backward()
        nn.utils.clip_grad_norm_(other.parameters(), 0.5)
        optimizer.step()
        decay = min(0.9, (2 + number) / (11 + number))
        mean = [decay * m + (1 - decay) * p.detach() for m, p in zip(mean, other.parameters(), strict=True)]
    for ours, expected in zip(net.parameters(), mean, strict=True):
        assert torch.allclose(ours, expected, atol=1e-6)


def test_it_learns(tmp_path):
    net = nn.Linear(4, 1)
    result = fit({"net": net}, linear_step, batch, replace(CONFIG, steps=300, clip=None), tmp_path, cpu=True)
    assert result.last["loss"] < 1e-3 and result.steps == 300 and result.resumed_at == 0
    assert torch.allclose(net.weight, torch.ones(1, 4), atol=0.05)


def test_learning_rates():
    step_down = Loop(lr=1.0, schedule="step", milestones=(10, 20), gamma=0.1, warmup=4)
    assert [learning_rate(n, step_down) for n in (0, 4, 9, 10, 19, 20)] == pytest.approx([0.2, 1, 1, 0.1, 0.1, 0.01])
    cosine = Loop(lr=2.0, schedule="cosine", steps=101, floor=0.1)
    assert [learning_rate(n, cosine) for n in (0, 101)] == pytest.approx([2, 0.2])
    assert learning_rate(50, replace(cosine, steps=100)) == pytest.approx(1.1)
    assert learning_rate(999, Loop(lr=3.0)) == 3.0


def test_a_parameter_gets_its_share_of_the_rate(tmp_path):
    """By Adam's first step, which is the rate itself whatever the gradient: the layer moves by half of it, or all."""
    net = nn.Linear(4, 1)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    one = Loop(steps=1, lr=0.01, weight_decay=0.0, clip=None)
    told: list[str] = []

    def share(name: str) -> float:
        told.append(name)
        return 0.5 if name == "net.bias" else 1.0

    fit({"net": net}, lambda nets, rows, number: nets["net"](rows).sum(), batch, one, tmp_path, shares=share, cpu=True)
    moved = {name: (value - before[name]).abs() for name, value in net.state_dict().items()}
    assert told == ["net.weight", "net.bias"]
    assert torch.allclose(moved["weight"], torch.full((1, 4), 0.01), rtol=1e-4)
    assert torch.allclose(moved["bias"], torch.full((1,), 0.005), rtol=1e-4)


def test_frozen_parameters_stay_and_are_not_stored(tmp_path):
    net = network()
    net[0].requires_grad_(False)
    before = net[0].weight.clone()
    fit({"net": net}, step, batch, CONFIG, tmp_path, cpu=True)
    assert torch.equal(net[0].weight, before)
    stored = load_file(tmp_path / "checkpoints" / "00000012" / "net.safetensors")
    assert "0.weight" not in stored and {"4.weight", "1.running_mean"} <= stored.keys()


def test_metrics_hold_means_and_evaluations(tmp_path):
    seen = []

    def evaluate(done: int) -> dict[str, float]:
        seen.append((done, torch.is_grad_enabled()))
        return {"score": done / 2}

    losses = []

    def watched(modules, rows, number):
        loss = step(modules, rows, number)
        losses.append(loss.item())
        return loss

    fit({"net": network()}, watched, batch, replace(CONFIG, evaluate_every=6), tmp_path, evaluate=evaluate, cpu=True)
    rows = read_metrics(tmp_path)
    assert seen == [(6, False), (12, False)]
    assert [row["step"] for row in rows] == [4, 6, 8, 12, 12]
    assert rows[0]["loss"] == pytest.approx(sum(losses[:4]) / 4)
    assert {"loss", "grad_norm", "lr", "seconds"} < rows[0].keys() and rows[1] == {"step": 6, "score": 3.0}
    assert json.loads((tmp_path / "config.json").read_text())["loop"]["lr"] == 0.05


def test_evaluation_sees_averaged_weights_and_disturbs_nothing(tmp_path):
    config = replace(CONFIG, ema=0.99, evaluate_every=1)
    plain = weights_after(replace(config, evaluate_every=None), tmp_path / "plain")
    net, seen = network(), []

    def evaluate(done: int) -> dict[str, float]:
        assert not net.training
        torch.randn(100)  # uses up global randomness
        seen.append({name: value.clone() for name, value in net.state_dict().items()})
        return {}

    fit({"net": net}, step, batch, config, tmp_path / "watched", evaluate=evaluate, cpu=True)
    assert same(net.state_dict(), plain) and same(seen[-1], plain)


def test_batches_made_ahead_are_the_same(tmp_path):
    plain = weights_after(CONFIG, tmp_path / "plain")
    assert same(weights_after(replace(CONFIG, ahead=2), tmp_path / "ahead"), plain)


def test_bf16_trains_float_weights(tmp_path):
    kinds = []

    def watched(modules, rows, number):
        kinds.append(modules["net"](rows).dtype)
        return step(modules, rows, number)

    net = network()
    fit({"net": net}, watched, batch, replace(CONFIG, precision="bf16"), tmp_path, cpu=True)
    assert set(kinds) == {torch.bfloat16} and net[0].weight.dtype == torch.float32


def test_shuffled_visits_everything_once_an_epoch():
    items = shuffled(10, 3, seed=4)
    epochs = [[i for index in range(e * 3, e * 3 + 3) for i in items(index)] for e in range(3)]
    assert all(len(set(epoch)) == 9 for epoch in epochs) and epochs[0] != epochs[1]
    assert shuffled(10, 3, seed=4)(7) == items(7) and shuffled(10, 3, seed=5)(7) != items(7)
    with pytest.raises(BadInput, match="fewer than a batch"):
        shuffled(2, 3)


# --- stopping and going on


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_goes_on_to_the_same_result(tmp_path, stop):
    config = replace(CONFIG, ema=0.9)
    whole = weights_after(config, tmp_path / "whole")
    handlers = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGINT, signal.SIGTERM)}

    def interrupted(modules, rows, number):
        if number == 6:
            signal.raise_signal(stop)
        return step(modules, rows, number)

    try:
        with pytest.raises(KeyboardInterrupt):
            fit({"net": network()}, interrupted, batch, config, tmp_path / "cut", cpu=True)
        assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert [path.name for path in (tmp_path / "cut" / "checkpoints").iterdir()] == ["00000007"]
    assert same(weights_after(config, tmp_path / "cut", resume=True), whole)
    assert rows_without_time(tmp_path / "cut") == rows_without_time(tmp_path / "whole")


def test_a_signal_that_is_ignored_stops_nothing(tmp_path):
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as for a command that nohup started

    def interrupted(modules, rows, number):
        signal.raise_signal(signal.SIGINT)
        return step(modules, rows, number)

    try:
        result = fit({"net": network()}, interrupted, batch, CONFIG, tmp_path, cpu=True)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert result.steps == CONFIG.steps


def test_it_runs_outside_the_main_thread_too(tmp_path):
    with ThreadPoolExecutor(1) as pool:
        expected = weights_after(CONFIG, tmp_path / "here")
        assert same(pool.submit(weights_after, CONFIG, tmp_path / "there").result(), expected)


SCRIPT = """
import sys, time, torch
sys.path.insert(0, {folder!r})
torch.set_num_threads(1)
import test_loop as t
def slow(modules, rows, number):
    if len(sys.argv) > 2:
        time.sleep(0.01 if number < 45 else 1)  # killed long before its end, however busy the machine is
    return t.step(modules, rows, number)
t.fit({{"net": t.network()}}, slow, t.batch, t.KILLED, sys.argv[1], resume=True, cpu=True)
"""
KILLED = replace(CONFIG, steps=60, ema=0.9, save_steps=1, log_every=7)


def test_killed_at_random_and_resumed_equals_uninterrupted(tmp_path):
    """SIGKILL, twice, at moments that fall anywhere: most of this run's time goes into writing checkpoints."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    script = SCRIPT.format(folder=str(Path(__file__).parent))
    subprocess.run([sys.executable, "-c", script, str(whole)], check=True)  # all in processes of their own
    for at_least in (8, 30):
        with subprocess.Popen([sys.executable, "-c", script, str(cut), "slowly"]) as process:
            try:
                wait_for_step(cut, at_least, process)
                time.sleep(torch.rand(()).item() * 0.1)
            finally:
                process.kill()
        assert process.returncode == -signal.SIGKILL
    rows = (cut / "metrics.jsonl").read_text()
    (cut / "metrics.jsonl").write_text(rows + '{"step": 58, "lo')  # as if cut in the middle of a line
    (cut / "checkpoints" / "00000059.part").mkdir()  # as if cut in the middle of a checkpoint
    (cut / "checkpoints" / "00000002").mkdir()  # as if cut in the middle of dropping one
    subprocess.run([sys.executable, "-c", script, str(cut)], check=True)
    assert same(weights_after(KILLED, cut, resume=True), weights_after(KILLED, whole, resume=True))
    assert rows_without_time(cut) == rows_without_time(whole)
    assert sorted(path.name for path in (cut / "checkpoints").iterdir()) == ["00000059", "00000060"]


def wait_for_step(run_dir: Path, step: int, process: subprocess.Popen) -> None:
    started = time.monotonic()
    while not any(int(path.name) >= step for path in (run_dir / "checkpoints").glob("*[0-9]")):
        assert process.poll() is None and time.monotonic() - started < 300
        time.sleep(0.005)


def test_time_decides_too(tmp_path):
    weights_after(replace(CONFIG, save_seconds=0.0, keep=100), tmp_path / "often")
    assert len(list((tmp_path / "often" / "checkpoints").iterdir())) == 12
    weights_after(replace(CONFIG, save_steps=5, keep=100), tmp_path / "steps")
    names = sorted(path.name for path in (tmp_path / "steps" / "checkpoints").iterdir())
    assert names == ["00000005", "00000010", "00000012"]


def test_checkpoints_fall_between_steps_that_belong_together(tmp_path):
    weights_after(replace(CONFIG, save_steps=5, keep=100), tmp_path / "steps", together=4)
    assert sorted(path.name for path in (tmp_path / "steps" / "checkpoints").iterdir()) == ["00000008", "00000012"]
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)

    def interrupted(modules, rows, number):
        if number == 1:
            signal.raise_signal(signal.SIGINT)
        return step(modules, rows, number)

    try:
        with pytest.raises(KeyboardInterrupt):
            fit({"net": network()}, interrupted, batch, CONFIG, tmp_path / "cut", cpu=True, together=4)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert [path.name for path in (tmp_path / "cut" / "checkpoints").iterdir()] == ["00000004"]


def test_a_finished_run_is_only_loaded(tmp_path):
    expected = weights_after(replace(CONFIG, ema=0.9), tmp_path)

    def never(modules, rows, number):
        raise AssertionError("nothing is left to do")

    net = network()
    result = fit({"net": net}, never, batch, replace(CONFIG, ema=0.9), tmp_path, resume=True, cpu=True)
    assert same(net.state_dict(), expected) and (result.steps, result.resumed_at) == (12, 12)
    assert result.last["loss"] > 0


def test_two_processes_equal_two_accumulated_batches(tmp_path):
    script = f"""
import sys, torch
sys.path.insert(0, {str(Path(__file__).parent)!r})
torch.set_num_threads(1)
import test_loop as t
torch.manual_seed(1)
net = torch.nn.Linear(4, 1)
t.fit({{"net": net}}, t.linear_step, t.batch, t.CONFIG, sys.argv[1], cpu=True)
torch.distributed.destroy_process_group()
"""
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(29500 + os.getpid() % 1000)}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path / "two")],
            env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank), "ACCELERATE_USE_CPU": "true"},
        )
        for rank in range(2)
    ]
    try:
        assert [process.wait(timeout=300) for process in ranks] == [0, 0]
    finally:
        for process in ranks:
            process.kill()
    torch.manual_seed(1)
    net = nn.Linear(4, 1)
    fit({"net": net}, linear_step, batch, replace(CONFIG, accumulate=2), tmp_path / "one", cpu=True)
    stored = load_file(tmp_path / "two" / "checkpoints" / "00000012" / "net.safetensors")
    assert all(torch.allclose(stored[name], value, atol=1e-6) for name, value in net.state_dict().items())
    two, one = (rows_without_time(tmp_path / name) for name in ("two", "one"))
    assert [row["loss"] for row in two] == pytest.approx([row["loss"] for row in one], rel=1e-5)


# --- what is refused


def test_nan_stops_before_it_reaches_weights_or_checkpoints(tmp_path):
    def broken(modules, rows, number):
        return step(modules, rows, number) * (float("nan") if number == 7 else 1)

    net = network()
    with pytest.raises(Diverged, match="at step 8"):
        fit({"net": net}, broken, batch, replace(CONFIG, save_steps=5), tmp_path, cpu=True)
    assert all(value.isfinite().all() for value in net.state_dict().values())
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["00000005"]


def test_a_folder_with_a_run_is_not_overwritten(tmp_path):
    weights_after(CONFIG, tmp_path)
    with pytest.raises(BadInput, match="step 12.*--resume"):
        weights_after(CONFIG, tmp_path)


def test_a_run_goes_on_only_with_its_own_settings(tmp_path):
    weights_after(CONFIG, tmp_path, about={"data": {"seed": 1}})
    with pytest.raises(BadInput, match="loop.lr was 0.05, now 0.1"):
        weights_after(replace(CONFIG, lr=0.1), tmp_path, about={"data": {"seed": 1}}, resume=True)
    with pytest.raises(BadInput, match="about.data.seed was 1, now 2"):
        weights_after(CONFIG, tmp_path, about={"data": {"seed": 2}}, resume=True)
    weights_after(replace(CONFIG, keep=7), tmp_path, about={"data": {"seed": 1}}, resume=True)


def test_a_checkpoint_that_does_not_fit_or_is_damaged(tmp_path):
    weights_after(CONFIG, tmp_path)
    with pytest.raises(BadInput, match="does not fit"):
        fit({"net": nn.Linear(4, 1)}, step, batch, CONFIG, tmp_path, resume=True, cpu=True)
    file = tmp_path / "checkpoints" / "00000012" / "optimizer.safetensors"
    file.write_bytes(pickle.dumps({"state": {}}))  # a pickle in its place is never read
    with pytest.raises(BadInput, match="damaged"):
        weights_after(CONFIG, tmp_path, resume=True)


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot be written"):
        weights_after(CONFIG, tmp_path / "file" / "run")


def test_nothing_to_train(tmp_path):
    net = network().requires_grad_(False)
    with pytest.raises(ValueError, match="nothing to train"):
        fit({"net": net}, step, batch, CONFIG, tmp_path, cpu=True)
