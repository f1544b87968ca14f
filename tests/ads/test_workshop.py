"""Attempts in legs through the whole job, on a tiny random model set: what they cost, and what is on record."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from stand_in import StandIn

from goodeye.ads.canvas import place
from goodeye.ads.early import Check, Counts, Rule
from goodeye.ads.make import make
from goodeye.ads.trajectories import setting_of
from goodeye.errors import BadInput
from goodeye.images import open_image
from goodeye.ledger.ledger import Ledger
from goodeye.modelset import Models, resolve

STEPS = 4
COUNTS = Counts(recorded=1, good=1, promised_on=1, lost=0, failed=0, saved=0, evals_plain=1.0, evals=1.0)


@pytest.fixture(scope="module")
def models(tiny_set) -> Models:
    found = resolve(str(tiny_set))
    return Models(replace(found, settings=replace(found.settings, steps=STEPS)))


@pytest.fixture
def run(models, tmp_path, monkeypatch):
    """`make` with the tiny models, four steps and one attempt a batch, in an empty working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GOODEYE_LEDGER", raising=False)

    def call(inputs=(), **options):
        inspector = options.pop("inspector", None) or StandIn()
        return make(inputs, **({"models": models, "inspector": inspector, "batch": 1, "want": 2} | options))

    return call


@pytest.fixture
def rule(models, tmp_path):
    """Writes a rule that stops below the given readings, and returns its file."""

    def write(*checks: tuple[int, float], threshold: float = 0.5, **setting) -> Path:
        found = replace(setting_of(models, models.model_set.settings, StandIn(), threshold), **setting)
        made = Rule(
            setting=found,
            checks=tuple(Check(*check) for check in checks),
            share=0.02,
            confidence=0.95,
            counts=COUNTS,
            seconds={},
        )
        made.save(tmp_path / "early.json")
        return tmp_path / "early.json"

    return write


@contextmanager
def evaluations(models: Models) -> Iterator[list[int]]:
    """Counts the rows that go through the U-Net: two for each evaluation, one for each branch of guidance."""
    rows: list[int] = []
    hook = models.unet.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
    try:
        yield rows
    finally:
        hook.remove()


def untimed(result) -> list[dict]:
    briefs = result.as_json()["briefs"]
    for one in (one for brief in briefs for slot in brief["slots"] for one in slot["attempts"]):
        one["seconds"] = None
    return briefs


@pytest.mark.parametrize("batch", [1, 5])
def test_an_attempt_stopped_at_a_check_costs_the_steps_up_to_it(run, rule, products, models, batch):
    early = rule((1, 0.3), (3, 0.5))
    with evaluations(models) as rows:
        result = run([products], early=early, attempts=4, batch=batch, out="ads")
    assert sum(rows) == 2 * result.evals == 2 * sum(one.evals for one in result.attempts)
    stopped = [one for one in result.attempts if one.stopped]
    assert {one.evals for one in stopped} == {1, 3}
    assert {one.evals for one in result.attempts if not one.stopped} == {STEPS}
    for one in stopped:
        assert one.available < {1: 0.3, 3: 0.5}[one.evals] and not one.passed
        assert f"stopped after {one.evals} of 4 steps" in one.failures[0]
    assert f"{len(stopped)} attempts stopped early" in result.cost()
    lines = [json.loads(line) for line in Path("ads/metrics.jsonl").read_text().splitlines()]
    assert sum(line["evals"] for line in lines) == result.evals
    assert sum(line["reading_seconds"] for line in lines) > 0


def test_what_is_not_stopped_is_what_a_plain_run_makes(run, rule, products):
    plain = run([products], attempts=4, threshold=1.0, out="plain")  # none passes, so every attempt is made
    early = run([products], attempts=4, threshold=1.0, early=rule((2, 0.5), threshold=1.0), batch=5, out="early")
    assert len(plain.attempts) == len(early.attempts)
    kinds = set()
    for one, other in zip(plain.attempts, early.attempts, strict=True):
        assert one.seed == other.seed
        far = np.abs(np.asarray(open_image(one.image)).astype(int) - np.asarray(open_image(other.image))).max()
        assert far <= 1 if not other.stopped else far > 0, "equal up to rounding"
        kinds.add(other.stopped)
    assert kinds == {True, False}


def test_a_stopped_attempt_is_never_shown_as_passed(run, rule, products):
    result = run([products], attempts=2, threshold=0.0, early=rule((2, 2.0), threshold=0.0), out="ads")
    assert result.passed == 0 and result.failures == {"stopped": len(result.attempts)} and len(result.attempts) == 12
    assert not list(Path("ads").glob("passed/*")) and len(list(Path("ads").glob("not_passed/*"))) == 6
    assert "stopped early" in result.report.read_text()
    with Ledger.open() as ledger:
        rows = ledger.attempts(result.run)
        assert {(verdict.judge, verdict.label) for row in rows for verdict in row.verdicts} == {("early", "stopped")}
        assert {row.evals for row in rows} == {2} and not any(pick.why.startswith("passed") for pick in ledger.picks(1))


def test_a_finished_attempt_is_better_than_any_stopped_one(run, rule, products):
    result = run([products], attempts=5, threshold=1.0, early=rule((2, 0.7), threshold=1.0), out="ads")
    for slot in result.slots:
        if not all(one.stopped for one in slot.attempts):
            assert not slot.best.stopped


def test_a_restart_costs_the_rest_and_keeps_the_product(run, products, models):
    with evaluations(models) as rows:
        result = run([products], attempts=4, threshold=1.0, restart=0.5, batch=5, out="ads")
    for slot in result.slots:
        assert [one.evals for one in slot.attempts] == [4, 2, 4, 2]
    assert sum(rows) == 2 * result.evals
    settings = models.model_set.settings
    for brief in result.briefs:
        canvas = place(open_image(brief.source), settings.size, settings.product_scale)
        product = (canvas.product * 255).round().numpy().astype(int).transpose(1, 2, 0)
        whole = product[..., 3] == 255
        for one in brief.attempts:
            assert np.abs(np.asarray(open_image(one.image)).astype(int) - product[..., :3])[whole].max() == 0


def test_restarts_in_a_row_and_from_what_was_stopped(run, rule, products):
    options = {"attempts": 5, "threshold": 1.0, "restart": 0.5}
    bar = [products / "bar.png"]
    result = run(bar, restart_times=2, out="row", **options)
    assert [one.evals for one in result.slots[0].attempts] == [4, 2, 2, 4, 2]
    everything = rule((1, 2.0), threshold=1.0)
    result = run(bar, early=everything, out="anew", **options)
    assert [one.evals for one in result.slots[0].attempts] == [1, 1, 1, 1, 1]
    result = run(bar, early=everything, restart_stopped=True, out="back", **options)
    assert [one.evals for one in result.slots[0].attempts] == [1, 3, 1, 3, 1], "back to the noise it was stopped at"


@pytest.mark.parametrize("left", [3, 8])
def test_resumed_it_is_the_same_to_the_bit(run, rule, products, left):
    options = {"attempts": 4, "threshold": 0.8, "restart": 0.5, "restart_stopped": True, "ledger": "book", "want": 1}
    early = rule((2, 0.4), threshold=0.8)
    whole = run([products], early=early, out="whole", **options)
    with pytest.raises(KeyboardInterrupt):
        run([products], early=early, out="cut", inspector=StandIn(left), **options)
    early.unlink()  # the run keeps its rule
    assert untimed(run(out="cut", resume=True, ledger="book", want=1)) == untimed(whole)


def test_longer_first_steps_cost_fewer_evaluations(run, rule, products, models):
    """Of 4 steps the last 2 are always taken, so a stride of 2 leaves 3; checks and restarts count those."""
    with evaluations(models) as rows:
        result = run([products], attempts=2, threshold=1.0, stride=2, restart=0.5, out="ads")
    assert sum(rows) == 2 * result.evals
    assert {(one.number, one.evals) for one in result.attempts} == {(1, 3), (2, 2)}
    stopped = run(
        [products], attempts=1, threshold=0.0, early=rule((1, 2.0), threshold=0.0, stride=2), stride=2, out="e"
    )
    assert {one.evals for one in stopped.attempts} == {1}
    assert "stopped after 1 of 3 steps" in stopped.attempts[0].failures[0]
    with pytest.raises(BadInput, match="a stride of 2, and this run has 1"):
        run([products], threshold=0.0, early=rule((1, 2.0), threshold=0.0, stride=2), out="other")
    with pytest.raises(BadInput, match="stride is 0"):
        run([products], stride=0, out="none")


def test_a_rule_for_something_else_is_refused_before_any_work(run, rule, products):
    with pytest.raises(BadInput, match=r"the judge's version 2, and this run has 1\. Calibrate one"):
        run([products], early=rule((2, 0.5), judge_version="2"), out="ads")
    with pytest.raises(BadInput, match=r"the threshold 0\.5, and this run has 0\.9"):
        run([products], early=rule((2, 0.5)), threshold=0.9, out="ads")
    with pytest.raises(BadInput, match="cannot be read"):
        run([products], early="nothing.json", out="ads")
    assert not Path("ads/config.json").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"restart": 1.5}, "restart is 1.5"),
        ({"restart": 0.5, "restart_times": 0}, "restart_times is 0"),
        ({"restart_stopped": True}, "Give restart a strength"),
    ],
)
def test_restarts_that_make_no_sense_are_said(run, products, options, says):
    with pytest.raises(BadInput, match=says):
        run([products], **options)


def test_a_slot_goes_back_from_the_picture_on_record(run, products, monkeypatch):
    from goodeye.ads import workshop

    seen = []
    real = workshop.advance_on_cores

    def spy(models, drafts, until, **options):
        seen.extend(draft.picture for draft in drafts if draft.picture is not None)
        return real(models, drafts, until, **options)

    monkeypatch.setattr(workshop, "advance_on_cores", spy)
    result = run([products / "bar.png"], want=1, attempts=2, threshold=1.0, restart=0.5, out="ads")
    (before, _) = result.attempts
    kept = np.asarray(Image.open(before.image)).transpose(2, 0, 1)
    assert len(seen) == 1 and np.array_equal((seen[0] * 255).round().numpy(), kept)
