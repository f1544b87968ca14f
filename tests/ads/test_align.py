"""The whole job on a tiny model set: a plain reward rises, a killed run is the same to the bit, and plain messages."""

import re
import shutil
import signal
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from toy_judge import Bright, Broken, Fickle, placed_briefs

from goodeye.ads.align import Align, align
from goodeye.ads.rollout import NoReward
from goodeye.errors import BadInput
from goodeye.judging.protocol import Axis
from goodeye.modelset import Models, resolve
from goodeye.training.guard import Limits
from goodeye.training.loop import read_metrics
from judging.tiny_judges import tiny_clip

TINY = Align(steps=4, batch=2, part=2, last=1, evaluate_every=2, watched=2, guard=False, lr=1e-3, beta=1e-3)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def run(tiny_set, tmp_path):
    """Runs `align` on fresh models; gives what came of it."""

    def call(config: Align = TINY, out: str = "run", **options):
        options = {"reward": Bright(), "briefs": placed_briefs(3), "models": str(tiny_set)} | options
        return align(config=config, out=tmp_path / out, **options)

    return call


def weights(found) -> dict[str, torch.Tensor]:
    (file,) = found.weights.glob("*.safetensors")
    return load_file(file)


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("train", ["controlnet", "lora"])
def test_a_plain_reward_rises(run, train):
    found = run(replace(TINY, train=train, steps=8, evaluate_every=4, lr=5e-3, rank=4, regulariser="none"))
    rows = [row["trained"] for row in read_metrics(found.out) if "trained" in row]
    start = [row["available"] for row in read_metrics(found.out) if "available" in row]
    assert rows[-1] > rows[0] and start[-1] > start[0]
    assert found.steps == 8 and not found.stopped and found.weights.name == train


@pytest.mark.parametrize("reuse", [1, 2])
def test_killed_and_resumed_is_the_same_to_the_bit(run, monkeypatch, reuse):
    """A kill loses what came after the last checkpoint; with a rollout that serves two steps, those of one begun."""
    config = replace(TINY, steps=6, reuse=reuse, evaluate_every=2, last=2)
    whole = run(config, "whole")
    judge = Dying(calls=3)
    with pytest.raises(KeyboardInterrupt):
        run(config, "cut", reward=judge)
    saved = sorted(path.name for path in (whole.out.parent / "cut" / "checkpoints").iterdir())
    assert all(int(name) % reuse == 0 for name in saved)
    assert same(weights(run(config, "cut", resume=True)), weights(whole))
    cut, plain = ([{**row, "seconds": 0} for row in read_metrics(whole.out.parent / name)] for name in ("cut", "whole"))
    assert cut == plain


class Dying(Bright):
    """Interrupts the run in the middle, as Ctrl-C does."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.left = calls

    def logits(self, images, contexts):
        self.left -= images.requires_grad
        if self.left == 0:
            signal.raise_signal(signal.SIGINT)
        return super().logits(images, contexts)


def test_dpo_runs_and_goes_on(run):
    config = replace(TINY, method="dpo", each=2, gap=1e-9, beta=50.0)
    found = run(config, reward=Fickle())
    assert "preferred" in found.last and (found.out / "pairs" / "pairs.json").exists()
    assert same(weights(run(config, reward=Fickle(), resume=True)), weights(found))


def test_the_guard_watches_by_default_and_the_report_shows_it(run, tiny_set):
    found = run(replace(TINY, guard=True), models=with_clip(tiny_set), held_out=Dark())
    rows = [row for row in read_metrics(found.out) if "held_out" in row]
    assert [row["step"] for row in rows] == [0, 2, 4]
    assert {"trained", "held_out", "diversity", "fidelity", "held_out_se"} <= rows[0].keys()
    page = found.report.read_text()
    assert found.report.name == "report.html" and page.count("data:image/") >= 2
    assert not re.search(r"(src|href)=\"(?!data:)", page)  # self-contained
    assert {path.name for path in (found.out / "samples").iterdir()} >= {"00000000.png", "00000004.png"}
    assert shown(found)["held out"] == "dark 1 by brightness"


def test_the_guard_stops_a_run_that_its_own_judge_alone_likes(run, tiny_set):
    """The trained judge likes light, the held-out one darkness: the run ends, with the start's weights."""
    config = replace(TINY, guard=True, steps=12, evaluate_every=1, watched=8, lr=1e-2, regulariser="none", batch=4)
    options = {"models": with_clip(tiny_set), "briefs": placed_briefs(8), "held_out": Dark()}
    found = run(config, limits=Limits(window=1, least_diversity=0.0, least_fidelity=0.0), **options)
    assert "the trained judge rises while the held-out one falls" in found.stopped and not found.failed
    rows = [row for row in read_metrics(found.out) if "held_out" in row]
    assert found.steps < 12 and rows[-1]["trained"] > rows[0]["trained"] and rows[-1]["held_out"] < rows[0]["held_out"]
    assert found.best == max(rows, key=lambda row: row["held_out"])["step"]
    kept = load_file(found.out / "best" / f"{found.best:08d}" / "controlnet.safetensors")
    assert same(weights(found), kept)


def shown(found) -> dict[str, str]:
    """The table of settings in the report."""
    return dict(re.findall(r"<tr><th>(.*?)</th><td>(.*?)</td></tr>", found.report.read_text()))


def test_the_report_shows_what_was_left_open_as_it_took_effect(run):
    open_ones = {"lr": None, "beta": None, "last": None, "steps": 2}
    table = shown(run(replace(TINY, **open_ones)))
    expected = {"lr": "0.0003", "beta": "0.02", "last": "1", "regulariser": "cc", "judge": "bright 1"}
    assert expected.items() <= table.items() and table["held out"] == "no guard"
    assert not {"gap", "each", "rank"} & table.keys()
    table = shown(run(replace(TINY, method="refl", train="lora", **open_ones), "refl"))
    assert table["regulariser"] == "none" and "beta" not in table and table["rank"] == "64"
    dpo = shown(run(replace(TINY, method="dpo", each=2, gap=1e-9, **open_ones), "dpo", reward=Fickle()))
    assert dpo["beta"] == "2000.0" and dpo["gap"] == "1e-09" and "regulariser" not in dpo


def with_clip(tiny_set) -> Models:
    """The tiny set with a tiny CLIP."""
    torch.manual_seed(0)
    models = Models(resolve(str(tiny_set)))
    models.clip = tiny_clip([brief.prompt for brief in placed_briefs(2)])
    return models


class Dark:
    name, version, differentiable, licence = "dark", "1", True, "mit"
    axes = (Axis("brightness", 0.0, 1.0, higher_is_better=False),)

    def score(self, images, contexts):
        return {"brightness": images.mean((1, 2, 3))}


def test_a_guard_without_clip_is_said_plainly(run):
    with pytest.raises(BadInput, match="no clip.*--no-guard"):
        run(replace(TINY, guard=True))


# --- what is said plainly


def test_nan_stops_the_run_and_it_goes_on_where_it_was(run, tmp_path):
    with pytest.raises(NoReward, match="gave no number"):
        run(reward=Broken(after=12))  # 8 pictures watched at the start and step 2, 4 trained on
    checkpoints = tmp_path / "run" / "checkpoints"
    assert [path.name for path in checkpoints.iterdir()] == ["00000002"]
    assert same(weights(run(resume=True)), weights(run(out="whole")))


@pytest.mark.parametrize(("middle", "words", "failed"), [(-1.0, "passed every", False), (2.0, "passed none", True)])
def test_a_reward_that_tells_nothing_ends_the_run(run, middle, words, failed):
    found = run(reward=Bright(middle=middle))
    assert words in found.stopped and found.failed is failed and found.steps == 2 and found.report.exists()
    assert weights(found)
    on = run(reward=Bright(middle=middle), resume=True)
    assert on.steps == 4 and not on.stopped


def test_what_cannot_be_trained_is_refused(run, tmp_path):
    with pytest.raises(BadInput, match="nothing to train on"):
        run(briefs=())
    with pytest.raises(BadInput, match="there is one class|nothing to train on|none of the products"):
        run(briefs=(), inputs=[tmp_path / "nowhere.png"])
    judge = Bright()
    judge.differentiable = False
    with pytest.raises(BadInput, match="no gradient.*dpo"):
        run(reward=judge)
    with pytest.raises(BadInput, match="its own beta"):
        run(replace(TINY, method="dpo", regulariser="cc"))
    with pytest.raises(BadInput, match="each is 1, and a pair is two pictures"):
        run(replace(TINY, method="dpo", each=1))
    with pytest.raises(BadInput, match="beta is -1"):
        run(replace(TINY, method="dpo", beta=-1.0))
    with pytest.raises(BadInput, match="batch is 0"):
        run(replace(TINY, batch=0))
    with pytest.raises(BadInput, match="evaluate_every is 2 and reuse 3: .* Give a multiple of reuse"):
        run(replace(TINY, reuse=3))


def test_another_runs_folder_is_refused(run):
    run()
    with pytest.raises(BadInput, match="--resume"):
        run()
    with pytest.raises(BadInput, match="about.align.batch was 2, now 3"):
        run(replace(TINY, batch=3), resume=True)


def test_a_run_goes_on_with_its_own_guard_and_sampler(run, tiny_set, tmp_path):
    """Else the guard would compare numbers of two judges, and half of the rollouts be sampled otherwise."""
    config = replace(TINY, guard=True)
    run(config, held_out=Dark(), models=with_clip(tiny_set))
    other = Dark()
    other.version = "another"
    with pytest.raises(BadInput, match="held_out was dark 1 by brightness, now dark another by brightness"):
        run(config, held_out=other, resume=True, models=with_clip(tiny_set))
    guided = with_clip(tiny_set)
    settings = replace(guided.model_set.settings, guidance_scale=2.0)
    guided.model_set = replace(guided.model_set, settings=settings)
    with pytest.raises(BadInput, match="guidance_scale was 3.0, now 2.0"):
        run(config, held_out=Dark(), resume=True, models=guided)


def test_pairs_of_another_generator_are_not_learnt_from(run, tiny_set):
    config = replace(TINY, method="dpo", each=2, gap=1e-9, beta=50.0)
    found = run(config, reward=Fickle())
    for name in ("checkpoints", "config.json", "metrics.jsonl"):  # stopped after its pairs, before its first checkpoint
        place = found.out / name
        shutil.rmtree(place) if place.is_dir() else place.unlink()
    other = Models(resolve(str(tiny_set)))
    with torch.no_grad():
        next(other.vae.parameters()).mul_(1.5)
    with pytest.raises(BadInput, match="pairs holds pairs made under other settings"):
        run(config, reward=Fickle(), models=other)


def test_products_come_from_files_too(run, products):
    found = run(replace(TINY, steps=2), briefs=(), inputs=[products, products / "missing.png"], reward=None)
    assert found.steps == 2 and [problem.name for problem in found.problems] == [str(products / "missing.png")]
    assert {"available", "passed", "cc"} <= found.last.keys()
