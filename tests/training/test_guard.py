"""The guard: stops what is over-optimised, not what is noisy; its memory survives a kill to the bit."""

import json
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from goodeye.errors import BadInput
from goodeye.judging.protocol import BadScores, Context
from goodeye.training.guard import Guard, Limits, Look, measured, over_optimised, surely_positive
from goodeye.training.loop import Loop, fit, read_metrics

BRIEFS, TIMES = 48, 20


def numbers(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def stops_at(trained: Tensor, held_out: Tensor, limits: Limits | None = None) -> int | None:
    """The first evaluation at which the rule holds."""
    for seen in range(1, len(held_out) + 1):
        if over_optimised(trained[:seen], held_out[:seen], limits or Limits()):
            return seen
    return None


def rising(seed: int) -> Tensor:
    return 0.4 + 0.02 * torch.arange(TIMES)[:, None] + 0.1 * numbers(seed, TIMES, BRIEFS)


# --- the rule


def test_a_mean_is_surely_positive_by_its_standard_error() -> None:
    values = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)  # mean 2.5, SE = sqrt(5 / 3) / 2 = 0.6455
    assert surely_positive(values, 3.87) and not surely_positive(values, 3.88)
    assert not surely_positive(torch.zeros(4), 3.0)


def test_a_judge_that_falls_while_the_trained_one_rises_stops_the_run() -> None:
    course = torch.cat([torch.linspace(0.4, 0.65, 8), torch.linspace(0.65, 0.3, 12)])[:, None]
    stopped = [
        stops_at(rising(seed), course + 0.25 * numbers(1000 + seed, TIMES, BRIEFS) + numbers(seed, 1, BRIEFS))
        for seed in range(40)
    ]
    found = [at for at in stopped if at is not None]
    assert len(found) >= 38 and min(found) > 8 and sorted(found)[len(found) // 2] <= 16


@pytest.mark.parametrize("kind", ["jitter", "walk"])
def test_noise_stops_hardly_any_run(kind: str) -> None:
    """Twenty looks at a held-out judge whose mean does not move: five runs in a hundred at most, with their error."""
    runs, false = 200, 0
    for seed in range(runs):
        noise = numbers(5000 + seed, TIMES, BRIEFS)
        held_out = numbers(seed, 1, BRIEFS) + (0.25 * noise if kind == "jitter" else 0.12 * noise.cumsum(0))
        false += stops_at(rising(seed), held_out) is not None
    assert false / runs <= 0.05 + 2 * (0.05 * 0.95 / runs) ** 0.5


def test_damage_alone_is_not_over_optimisation() -> None:
    falling = torch.linspace(0.8, 0.2, TIMES)[:, None] + 0.1 * numbers(1, TIMES, BRIEFS)
    assert stops_at(falling + 0.05 * numbers(2, TIMES, BRIEFS), falling) is None
    assert stops_at(1 - falling, falling) is not None


def test_the_window_delays_and_a_wider_margin_stops_later() -> None:
    falling = torch.linspace(0.8, 0.2, TIMES)[:, None] + 0.1 * numbers(1, TIMES, BRIEFS)
    first = stops_at(1 - falling, falling, Limits(window=1))
    later = stops_at(1 - falling, falling, Limits(window=4))
    assert first is not None and later is not None and first < 8 <= later
    cautious = stops_at(1 - falling, falling, Limits(window=1, fall=30.0))
    assert cautious is None or cautious > first


# --- what it remembers and says


def looks(course: Callable[[int], dict[str, float]]) -> Callable[[], Look]:
    """Sixteen briefs with the given means and a little noise of their own each time."""
    times = iter(range(1000))

    def look() -> Look:
        at = next(times)
        means = {"trained": 0.5, "held_out": 0.5, "diversity": 0.3, "fidelity": 0.9} | course(at)
        noise = 0.01 * numbers(at, 16)
        return Look(**{name: mean + noise for name, mean in means.items()}, pictures=torch.full((2, 3, 8, 8), at / 10))

    return look


def test_it_gives_means_and_standard_errors(tmp_path: Path) -> None:
    values = torch.arange(8.0)
    look = Look(trained=values, held_out=values, diversity=values, fidelity=values, pictures=torch.zeros(1, 3, 8, 8))
    row = Guard(lambda: replace(look, more={"entropy": 2.0}), tmp_path).evaluate(0)
    assert row["trained"] == 3.5 and row["held_out_se"] == pytest.approx((6 / 8) ** 0.5) and row["entropy"] == 2.0
    assert set(row) == {f"{n}{e}" for n in ("trained", "held_out", "diversity", "fidelity") for e in ("", "_se")} | {
        "entropy"
    }


@pytest.mark.parametrize("name", ["diversity", "fidelity"])
def test_a_collapse_stops_the_run_and_is_never_the_best(tmp_path: Path, name: str) -> None:
    """The held-out judge is fooled too: it rises all the way."""
    guard = Guard(looks(lambda at: {"held_out": 0.5 + 0.1 * at, name: 0.9 - 0.2 * at}), tmp_path)
    said = [bool(guard.evaluate(step) and guard.stopped) for step in range(5)]  # 0.9 .7 .5 .3 .1, in windows of two
    assert said == [False, False, False, True, True] and name in guard.stopped and guard.best == 2
    kept = Guard(
        looks(lambda at: {"held_out": 0.5 + 0.1 * at, name: 0.9 - 0.2 * at}),
        tmp_path,
        Limits(least_diversity=0.0, least_fidelity=0.0),
    )
    for step in range(5):
        kept.evaluate(step)
    assert kept.stopped == "" and kept.best == 4


def test_the_best_is_where_the_held_out_judge_was_highest_and_the_first_of_equals(tmp_path: Path) -> None:
    course = [0.2, 0.6, 0.8, 0.8, 0.7]
    values = torch.full((4,), 1.0)
    at = iter(course)
    guard = Guard(
        lambda: Look(trained=values, held_out=values * next(at), diversity=values, fidelity=values,
                     pictures=torch.zeros(1, 3, 8, 8)), tmp_path,
    )  # fmt: skip
    best = [guard.evaluate(step) and guard.best for step in range(0, 50, 10)]
    assert best == [0, 10, 20, 20, 20]


def test_its_memory_goes_through_json_to_the_bit(tmp_path: Path) -> None:
    guard = Guard(looks(lambda at: {"held_out": 1 / 3 + at / 7}), tmp_path)
    for step in range(3):
        guard.evaluate(step)
    other = Guard(looks(lambda at: {}), tmp_path)
    other.restore(json.loads(json.dumps(guard.state())))
    assert other.state() == guard.state() and other.best == guard.best
    other.restore({})
    assert other.steps == [] and other.state()["values"]["trained"] == []


def test_pictures_stand_beside_the_start_models(tmp_path: Path) -> None:
    guard = Guard(looks(lambda at: {}), tmp_path / "samples")
    for step in (0, 40, 80):
        guard.evaluate(step)
    with Image.open(tmp_path / "samples" / "00000080.png") as file:
        sheet = np.asarray(file)
    assert sheet.shape == (20, 20, 3)  # two pictures of 8 pixels, a gap of 4, twice
    assert (sheet[:8, :8] == 0).all() and (sheet[12:, 12:] == 51).all() and (sheet[8:12] == 255).all()


@pytest.mark.parametrize("broken", [torch.full((4,), float("nan")), torch.ones(5), torch.ones(1), torch.ones(2, 2)])
def test_what_is_no_score_never_becomes_a_number(tmp_path: Path, broken: Tensor) -> None:
    whole = torch.ones(4)
    look = Look(trained=whole, held_out=broken, diversity=whole, fidelity=whole, pictures=torch.zeros(1, 3, 8, 8))
    guard = Guard(lambda: look, tmp_path)
    with pytest.raises(BadScores):
        guard.evaluate(0)
    assert guard.steps == []


def test_measured_asks_each_brief_of_all_its_pictures() -> None:
    pictures = torch.arange(6.0).view(3, 2, 1, 1, 1).expand(3, 2, 3, 4, 4) / 10  # briefs of (0, .1), (.2, .3), (.4, .5)
    contexts = [Context(title=title) for title in ("a", "bb", "ccc")]
    look = measured(
        pictures,
        contexts,
        trained=lambda images, _: images.mean((1, 2, 3)),
        held_out=lambda images, _: 1 - images.mean((1, 2, 3)),
        fidelity=lambda images, given: torch.tensor([float(len(one.title)) for one in given]),
        diversity=lambda images: (images[0] - images[1]).abs().mean(),
    )
    assert look.trained.tolist() == pytest.approx([0.05, 0.25, 0.45])
    assert look.held_out.tolist() == pytest.approx([0.95, 0.75, 0.55])
    assert look.fidelity.tolist() == [1, 2, 3] and look.diversity.tolist() == pytest.approx([0.1] * 3)
    assert torch.equal(look.pictures, pictures[:, 0])
    with pytest.raises(ValueError, match="two or more pictures"):
        measured(pictures[:, :1], contexts, trained=len, held_out=len, fidelity=len, diversity=len)


# --- in the loop

CONFIG = Loop(steps=30, lr=0.05, log_every=5, evaluate_every=2, save_seconds=None, ema=0.5)
GOAL = torch.tensor([1.0, -1.0, 0.5, 2.0])


def batch(index: int) -> Tensor:
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(index))


def hack(modules, rows: Tensor, number: int) -> Tensor:
    """A reward that only the first weights earn, without end."""
    return -modules["net"](rows.abs()).mean()


def guarded(folder: Path, net: nn.Linear, limits: Limits | None = None) -> Guard:
    """The trained judge is what `hack` rewards; the held-out one wants the weights near 0.4, and no farther."""
    wanted = 0.4 + 0.05 * numbers(3, 16)

    def look() -> Look:
        weight = net.weight.detach().double().mean()
        ones = torch.ones(16)
        return Look(
            trained=weight + 0.01 * numbers(4, 16),
            held_out=-(weight - wanted).abs(),
            diversity=ones,
            fidelity=ones,
            pictures=weight.clamp(0, 1).expand(2, 3, 8, 8),
        )

    return Guard(look, folder / "samples", limits)


def network() -> nn.Linear:
    net = nn.Linear(4, 1, bias=False)
    nn.init.zeros_(net.weight)
    return net


def run(folder: Path, step=hack, **options) -> tuple[nn.Linear, object]:
    net = network()
    return net, fit(
        {"net": net}, step, batch, CONFIG, folder, guard=guarded(folder, net), cpu=True, **options
    )  # fmt: skip


def test_it_stops_the_run_and_leaves_the_best_weights(tmp_path: Path) -> None:
    net, result = run(tmp_path)
    assert "rises while the held-out" in result.stopped and 0 < result.best < result.steps < CONFIG.steps
    assert net.weight.mean().item() == pytest.approx(0.4, abs=0.06)  # the next evaluations are 0.1 apart
    rows = [row for row in read_metrics(tmp_path) if "held_out" in row]
    assert rows[0]["step"] == 0 and rows[-1]["step"] == result.steps
    assert max(rows, key=lambda row: row["held_out"])["step"] == result.best
    assert [path.name for path in (tmp_path / "best").iterdir()] == [f"{result.best:08d}"]
    assert (tmp_path / "samples" / "00000000.png").exists()


def test_a_stopped_run_is_only_loaded(tmp_path: Path) -> None:
    net, result = run(tmp_path)

    def never(modules, rows, number):
        raise AssertionError("the guard has stopped this run")

    again, loaded = run(tmp_path, never, resume=True)
    assert torch.equal(again.weight, net.weight)
    assert (loaded.best, loaded.stopped, loaded.steps) == (result.best, result.stopped, result.steps)


@pytest.mark.parametrize("at", [1, 7, 10])
def test_interrupted_and_resumed_it_is_the_same_to_the_bit(tmp_path: Path, at: int) -> None:
    whole, result = run(tmp_path / "whole")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def interrupted(modules, rows, number):
        if number == at:
            signal.raise_signal(signal.SIGINT)
        return hack(modules, rows, number)

    try:
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "cut", interrupted)
    finally:
        signal.signal(signal.SIGINT, before)
    cut, resumed = run(tmp_path / "cut", resume=True)
    assert torch.equal(cut.weight, whole.weight) and 0 < resumed.resumed_at < result.steps
    assert (resumed.best, resumed.stopped) == (result.best, result.stopped)
    assert states(tmp_path / "cut") == states(tmp_path / "whole")
    assert rows_without_time(tmp_path / "cut") == rows_without_time(tmp_path / "whole")


def test_killed_before_its_first_checkpoint_it_begins_again(tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def killed(modules, rows, number):
        if number == 5:
            raise Killed
        return hack(modules, rows, number)

    with pytest.raises(Killed):
        run(tmp_path / "cut", killed)
    cut, _ = run(tmp_path / "cut", resume=True)
    whole, _ = run(tmp_path / "whole")
    assert torch.equal(cut.weight, whole.weight)
    assert rows_without_time(tmp_path / "cut") == rows_without_time(tmp_path / "whole")


def states(folder: Path) -> list[dict[str, object]]:
    """What the last checkpoint holds, but for the time."""
    last = max((folder / "checkpoints").iterdir()) / "state.json"
    return [{name: value for name, value in json.loads(last.read_text()).items() if name != "seconds"}]


def rows_without_time(folder: Path) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in read_metrics(folder)]


def test_the_guard_changes_nothing_until_it_stops(tmp_path: Path) -> None:
    config = replace(CONFIG, steps=8)
    plain, watched = network(), network()
    fit({"net": plain}, hack, batch, config, tmp_path / "plain", cpu=True)
    result = fit(
        {"net": watched}, hack, batch, config, tmp_path / "watched", guard=guarded(tmp_path / "watched", watched),
        cpu=True,
    )  # fmt: skip
    assert torch.equal(plain.weight, watched.weight) and result.stopped == "" and result.best is not None


def test_it_goes_on_only_with_its_own_limits(tmp_path: Path) -> None:
    run(tmp_path)
    net = network()
    with pytest.raises(BadInput, match="guard.fall was 3.0, now 2.0"):
        guard = guarded(tmp_path, net, Limits(fall=2.0))
        fit({"net": net}, hack, batch, CONFIG, tmp_path, guard=guard, resume=True, cpu=True)
    with pytest.raises(BadInput, match="evaluate_every was 2, now 3"):
        later = replace(CONFIG, evaluate_every=3)
        fit({"net": net}, hack, batch, later, tmp_path, guard=guarded(tmp_path, net), resume=True, cpu=True)
    with pytest.raises(ValueError, match="set evaluate_every"):
        config = replace(CONFIG, evaluate_every=None)
        fit({"net": net}, hack, batch, config, tmp_path / "other", guard=guarded(tmp_path, net), cpu=True)


def test_a_damaged_best_is_said_plainly(tmp_path: Path) -> None:
    _, result = run(tmp_path)
    (tmp_path / "best" / f"{result.best:08d}" / "net.safetensors").write_bytes(b"cut")
    with pytest.raises(BadInput, match=r"best/\d+ is damaged"):
        run(tmp_path, resume=True)
