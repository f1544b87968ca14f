"""The trained rows of a proof: alike but for what the row is about; kept, gone on with, and not trained twice."""

import dataclasses
import json
from pathlib import Path

import pytest
from toy_judge import placed_briefs

from goodeye.ads import retrain as module
from goodeye.ads.align import Aligned
from goodeye.ads.retrain import finished, retrain
from goodeye.ads.rollout import NoReward
from goodeye.ads.settings import TRAINED, Align, Budget
from goodeye.cli import BAD_INPUT, main
from goodeye.errors import BadInput

TINY = Budget(steps=2, reuse=1, rank=2)


def test_rows_get_the_same_budget() -> None:
    budget = Budget(steps=40, lr=2e-3, rank=4, beta_cc=0.1, beta_kl=0.2)
    plans = {row: dataclasses.asdict(budget.of(row, 5)) for row in TRAINED}
    alike = {name for name in plans["refl"] if len({str(plan[name]) for plan in plans.values()}) == 1}
    assert set(plans["refl"]) - alike == {"method", "regulariser", "beta", "guard", "reuse"}
    assert {"steps", "lr", "rank", "batch", "accumulate", "train", "seed"} <= alike
    assert (plans["rfft_cc"]["beta"], plans["rfft_kl"]["beta"], plans["rfft_none"]["beta"]) == (0.1, 0.2, None)
    assert [row for row, plan in plans.items() if not plan["guard"]] == ["rfft_none"]
    with pytest.raises(BadInput, match="base is no row that is trained"):
        budget.of("base")


class Calls:
    """Stands in for `align`: writes what a run leaves; `refuses` has rows whose judge tells nothing, or a Ctrl-C."""

    def __init__(self, refuses: dict[str, BaseException], vanishes: str = "") -> None:
        self.made: list[tuple[str, Align]] = []
        self.refuses, self.vanishes = refuses, vanishes

    def __call__(self, *, briefs, config, models, out, device, resume) -> Aligned:
        assert resume and len(briefs) == 2 and isinstance(models, str), "each row from the set's own start"
        self.made.append((out.name, config))
        if out.name in self.refuses:
            raise self.refuses[out.name]
        gone = {"stopped": "the judge passed none", "failed": True} if out.name == self.vanishes else {}
        return Aligned(out=out, weights=out, report=out, steps=2, seconds=1.0, last={"trained": 0.5}, best=1, **gone)


def test_a_finished_row_is_not_trained_again_and_a_hopeless_one_is_left_out(monkeypatch, tmp_path: Path) -> None:
    refuses = {"rfft_kl": NoReward("the judge gave no number"), "rfft_cc": KeyboardInterrupt()}
    calls = Calls(refuses, vanishes="rfft_none")
    monkeypatch.setattr(module, "align", calls)
    options = {"rows": ("refl", "rfft_kl", "rfft_none", "rfft_cc"), "budget": TINY, "out": tmp_path}
    with pytest.raises(KeyboardInterrupt):
        retrain(placed_briefs(2), **options)
    del calls.refuses["rfft_cc"]
    found = retrain(placed_briefs(2), **options)
    assert [row for row, _ in calls.made] == ["refl", *2 * ["rfft_kl", "rfft_none", "rfft_cc"]]
    assert found.adapters == {row: tmp_path / row for row in ("refl", "rfft_cc")}
    assert found.lacking == {"rfft_kl": "the judge gave no number", "rfft_none": "the judge passed none"}
    done = finished(tmp_path / "refl")
    assert done is not None and done["config"]["method"] == "refl" and done["last"] == {"trained": 0.5}


def test_rows_trained_otherwise_are_refused_before_any_work(monkeypatch, tmp_path: Path) -> None:
    calls = Calls({})
    monkeypatch.setattr(module, "align", calls)
    retrain(placed_briefs(2), rows=("refl",), budget=TINY, out=tmp_path)
    with pytest.raises(BadInput, match="refl was trained with lr 0.001, now 0.5"):
        retrain(placed_briefs(2), rows=("dpo", "refl"), budget=dataclasses.replace(TINY, lr=0.5), out=tmp_path)
    assert len(calls.made) == 1
    (tmp_path / "refl" / "done.json").write_text("{")
    with pytest.raises(BadInput, match="done.json is damaged"):
        retrain(placed_briefs(2), rows=("refl",), budget=TINY, out=tmp_path)


def test_a_row_is_trained_for_real(tiny_set: Path, tmp_path: Path) -> None:
    found = retrain(placed_briefs(2), rows=("rfft_none",), budget=TINY, models=str(tiny_set), out=tmp_path)
    assert (found.adapters["rfft_none"] / "lora" / "pytorch_lora_weights.safetensors").is_file() and not found.lacking
    config = json.loads((tmp_path / "rfft_none" / "config.json").read_text())
    assert config["about"]["align"]["regulariser"] == "none" and config["loop"]["steps"] == 2


def test_the_command_wants_retrain_for_what_is_about_training(capsys) -> None:
    assert main(["ads", "prove", "--rows", "refl"]) == main(["ads", "prove", "--lr", "1e-4"]) == BAD_INPUT
    assert capsys.readouterr().err.count("Add --retrain, or leave them away.") == 2
