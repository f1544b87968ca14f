"""The promise of early stopping, on simulated attempts of which the truth is known in closed form."""

import json
import math
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest

from goodeye.ads.early import (
    Check,
    Rule,
    Setting,
    Trajectory,
    allowed,
    calibrate,
    check_steps,
    evaluations,
    needed,
    needed_in_all,
)
from goodeye.errors import BadInput

STEPS = (4, 8, 12)
MIDDLE = (1.0, 2.0, 3.0)  # of the good ones' log odds after those steps; the failed ones' are minus these
WIDTH = 1.5
SETTING = Setting(
    judge="rfnet",
    judge_version="1",
    generator="showroom",
    generator_version="2",
    sampler="ddim",
    steps=20,
    guidance_scale=3.0,
    threshold=0.5,
)


def simulated(count: int, seed: int, rate: float = 0.6) -> list[Trajectory]:
    """Attempts whose readings are independent normals in log odds."""
    random = np.random.default_rng(seed)
    good = random.random(count) < rate
    odds = np.where(good[:, None], MIDDLE, -np.array(MIDDLE)) + WIDTH * random.standard_normal((count, 3))
    readings = 1 / (1 + np.exp(-odds))
    return [Trajectory(tuple(row), 0.9 if ok else 0.1) for row, ok in zip(readings.tolist(), good, strict=True)]


def truly_lost(rule: Rule) -> float:
    """The share of all good attempts that the rule stops, by the normal distribution."""
    kept = 1.0
    for check in rule.checks:
        middle = MIDDLE[STEPS.index(check.step)]
        odds = math.log(check.below / (1 - check.below)) if check.below else -math.inf
        kept *= 1 - NormalDist(middle, WIDTH).cdf(odds)
    return 1 - kept


def test_at_most_the_share_is_lost_in_all_over_the_checks():
    lost = np.array([truly_lost(calibrate(simulated(400, seed), STEPS, SETTING)) for seed in range(500)])
    broken = float((lost > 0.02).mean())
    assert broken <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 500)
    assert lost.mean() > 0.002, "a rule that stops nothing keeps any promise"


def test_with_more_recorded_less_is_given_away():
    few, many = (calibrate(simulated(count, 1), STEPS, SETTING) for count in (350, 6000))
    assert truly_lost(few) < truly_lost(many)
    assert 0.012 < truly_lost(many) < 0.02


def test_a_rule_saves_evaluations_on_new_attempts():
    rule = calibrate(simulated(1000, 2), STEPS, SETTING)
    new = simulated(4000, 3)
    spent = [evaluations(one, STEPS, 20, rule.checks) for one in new]
    kept = sum(one.final > 0.5 and cost == 20 for one, cost in zip(new, spent, strict=True))
    assert 1 <= len(rule.checks) <= 2
    assert sum(spent) / kept < 0.85 * 20 * len(new) / sum(one.final > 0.5 for one in new)
    assert rule.counts.evals == pytest.approx(sum(spent) / kept, rel=0.06)


def test_a_check_that_tells_nothing_is_not_used():
    random = np.random.default_rng(0)
    blind = [one._replace(readings=(float(random.random()), *one.readings[1:])) for one in simulated(800, 4)]
    assert 4 not in [check.step for check in calibrate(blind, STEPS, SETTING).checks]


def test_how_many_may_be_lost_is_the_binomial_tail():
    assert needed(0.02, 0.95) == 149  # the first n with .98 ** n <= .05, Wilks' figure for 98 % and 95 %
    assert allowed(148, 0.02, 0.95) == -1 and allowed(149, 0.02, 0.95) == 0
    for good in (200, 400, 1000):
        tail = np.cumsum([math.comb(good, k) * 0.02**k * 0.98 ** (good - k) for k in range(40)])
        assert allowed(good, 0.02, 0.95) == int((tail <= 0.05).sum()) - 1


def test_too_few_good_ones_say_how_many_it_takes():
    with pytest.raises(BadInput, match=r"of 250 recorded attempts are good.* takes 199\. Record about \d+: "):
        calibrate(simulated(250, 0), STEPS, SETTING)
    exactly = [one for one in simulated(800, 0) if one.final > 0.5][: needed_in_all(0.02, 0.95)]
    assert calibrate(exactly, STEPS, SETTING).counts.lost == 0
    with pytest.raises(BadInput, match="0 of 0"):
        calibrate([], STEPS, SETTING)


def test_the_counts_are_those_of_the_rule():
    recorded = simulated(600, 5)
    rule = calibrate(recorded, STEPS, SETTING)
    assert rule.counts.recorded == 600
    assert rule.counts.good == sum(one.final >= 0.5 for one in recorded)
    assert rule.counts.lost <= allowed(rule.counts.promised_on, 0.02, 0.95)
    everything = replace(SETTING, threshold=0.0)
    assert calibrate(recorded, STEPS, everything).counts.good == 600


def test_readings_that_are_all_sure_stop_nothing():
    sure = [Trajectory((0.0, 0.0, 1.0), 1.0)] * 300 + [Trajectory((0.0, 0.0, 1.0), 0.0)] * 100
    rule = calibrate(sure, STEPS, SETTING)
    assert not any(rule.stops(step, p) for step, p in zip(STEPS, sure[0].readings, strict=True))
    assert rule.counts.lost == 0


def test_nan_is_refused():
    with pytest.raises(ValueError, match="no number"):
        calibrate([Trajectory((math.nan, 0.1, 0.1), 1.0)] * 300, STEPS, SETTING)


@pytest.mark.parametrize("steps", [(), (0, 4), (4, 4), (8, 4), (4, 20)])
def test_checks_that_make_no_sense_are_said(steps):
    with pytest.raises(BadInput, match="rising numbers of steps below 20"):
        check_steps(steps, 20)


@pytest.mark.parametrize("options", [{"share": 0.0}, {"share": 1.0}, {"confidence": 1.0}, {"most": 0}])
def test_promises_that_make_no_sense_are_said(options):
    with pytest.raises(BadInput, match="Give"):
        calibrate(simulated(400, 0), STEPS, SETTING, **options)


# The file


@pytest.fixture
def rule() -> Rule:
    return calibrate(simulated(400, 7), STEPS, SETTING, seconds={"evaluation": 0.1, "reading": 0.2})


def test_a_saved_rule_is_the_same_rule(rule, tmp_path):
    rule.save(tmp_path / "early.json")
    assert Rule.load(tmp_path / "early.json") == Rule.load(tmp_path) == rule
    assert Rule.load(tmp_path).version == rule.version
    told = json.loads((tmp_path / "early.json").read_text())
    assert told["setting"]["judge"] == "rfnet" and told["checks"][0]["step"] == rule.checks[0].step
    other = replace(rule, checks=(Check(rule.checks[0].step, rule.checks[0].below / 2),))
    assert other.version != rule.version


def test_what_is_no_rule_is_said(rule, tmp_path):
    with pytest.raises(BadInput, match="cannot be read"):
        Rule.load(tmp_path / "nothing.json")
    for words in ("{", "[]", "{}", json.dumps({**rule.as_json(), "checks": [{"step": 4, "below": math.nan}]})):
        (tmp_path / "bad.json").write_text(words)
        with pytest.raises(BadInput, match="is not an early-stopping rule"):
            Rule.load(tmp_path / "bad.json")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"judge_version": "9"}, "the judge's version 1, and this run has 9"),
        ({"generator_version": "9"}, "the generator's version 2"),
        ({"steps": 40}, "20, and this run has 40"),
        ({"threshold": 0.7}, "the threshold 0.5, and this run has 0.7"),
    ],
)
def test_a_rule_for_something_else_is_refused(rule, change, says):
    rule.require(SETTING)
    with pytest.raises(BadInput, match=says):
        rule.require(replace(SETTING, **change))


def test_it_stops_below_the_threshold_at_its_step_alone(rule):
    step, below = rule.checks[0]
    assert rule.stops(step, below - 1e-9) and not rule.stops(step, below)
    assert not rule.stops(step + 1, 0.0)
