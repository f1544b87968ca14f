"""Recording attempts on a tiny random model set, and the rule that comes of it."""

import json
from pathlib import Path

import pytest
from stand_in import StandIn

from goodeye.ads.early import Rule
from goodeye.ads.trajectories import calibrate_early, candidates
from goodeye.errors import BadInput
from goodeye.modelset import Models, resolve

LENIENT = {"lose": 0.4, "confidence": 0.6, "threshold": 0.2}  # kept by few attempts


@pytest.fixture(scope="module")
def models(tiny_set) -> Models:
    return Models(resolve(str(tiny_set)))


@pytest.fixture
def record(models, products, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def call(inputs=None, **options):
        given = {"models": models, "inspector": StandIn(), "out": "early", **LENIENT}
        return calibrate_early(inputs or [products], **(given | options))

    return call


def lines(folder: str = "early") -> list[dict]:
    return [json.loads(line) for line in (Path(folder) / "readings.jsonl").read_text().splitlines()]


def test_it_records_in_turn_and_the_rule_is_in_its_file(record):
    found = record(attempts=64)
    assert Rule.load("early") == found.rule and found.file == Path("early/early.json") and not found.problems
    recorded = lines()
    assert [(line["key"], line["number"]) for line in recorded[:4]] == [
        ("bar", 1),
        ("blob", 1),
        ("ring", 1),
        ("bar", 2),
    ]
    counts = found.rule.counts
    assert counts.recorded == len(recorded) == 64
    assert counts.good == sum(line["final"] >= 0.2 for line in recorded)
    assert [check.step for check in found.rule.checks] == [1] and len(recorded[0]["readings"]) == 1
    assert found.rule.setting.judge == "stand_in" and found.rule.setting.steps == 2
    assert all(value > 0 for value in found.rule.seconds.values())
    assert f"64 attempts recorded, {counts.good} of them good." in found.summary()


def test_too_few_are_kept_and_recorded_on_and_another_promise_needs_no_pictures(record):
    with pytest.raises(BadInput, match=r"of 12 recorded attempts are good.* takes 40\. Record about"):
        record(attempts=12, batch=5)
    with pytest.raises(BadInput, match="already holds a recording"):
        record(attempts=64)
    with Path("early/readings.jsonl").open("a") as file:
        file.write('{"key": "bl')  # as a kill can leave it
    record(attempts=64, batch=5, resume=True)
    places = [(line["key"], line["number"]) for line in lines()]
    assert len(places) == len(set(places)) == 64
    idle = StandIn(left=0)
    stricter = record(attempts=64, resume=True, inspector=idle, threshold=0.25).rule
    assert stricter.setting.threshold == 0.25 and not idle.seen
    with pytest.raises(BadInput, match="has seed 0, not 1"):
        record(attempts=64, resume=True, seed=1)


def test_bad_pictures_are_said_and_the_others_take_their_turns(record, products):
    (products / "zero.png").write_bytes(b"")
    found = record(attempts=64)
    assert [Path(problem.name).name for problem in found.problems] == ["zero.png"]
    assert {line["key"] for line in lines()} == {"bar", "blob", "ring"}
    with pytest.raises(BadInput, match=r"zero\.png is empty"):
        record([products / "zero.png"], out="other")
    with pytest.raises(BadInput, match="does not exist"):
        record([products / "missing.png"], out="third")


def test_checks_are_looked_at_before_any_work(record):
    with pytest.raises(BadInput, match="checks are 2"):
        record(checks=[2])
    with pytest.raises(BadInput, match="lose is 0"):
        record(lose=0.0)
    assert not Path("early").exists()


def test_the_candidates_lie_between_first_and_last():
    assert candidates(20) == [4, 7, 10, 13] and candidates(40) == [8, 14, 20, 26]
    assert candidates(2) == [1] and candidates(1) == []
