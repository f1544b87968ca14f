"""A composite is the weighted sum of its judges' axes."""

import pytest
import torch

from goodeye.judging.composite import CompositeJudge, Part
from goodeye.judging.protocol import Axis, BadScores, Context, Judge, check_scores


class Colours:
    name, version, differentiable, licence = "colours", "1", True, "MIT"
    axes = (Axis("red", 0.0, 1.0), Axis("green", 0.0, 1.0, higher_is_better=False))
    calls = 0

    def score(self, images, contexts):
        self.calls += 1
        return {"red": images[:, 0].mean((1, 2)), "green": images[:, 1].mean((1, 2))}


class Spread:
    name, version, differentiable, licence = "spread", "7", False, "Apache-2.0"
    axes = (Axis("std", 0.0, 1.0),)

    def score(self, images, contexts):
        return {"std": images.detach().std((1, 2, 3))}


@pytest.fixture
def images():
    return torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_the_weighted_sum_by_hand_each_judge_called_once(images):
    colours = Colours()
    judge = CompositeJudge([Part(colours, "red", 2.0), Part(colours, "green", -0.5), Part(Spread(), "std", 3.0)])
    images.requires_grad_(True)
    scores = check_scores(judge, judge.score(images, [Context()] * 4), 4)
    by_hand = 2 * images[:, 0].mean((1, 2)) - 0.5 * images[:, 1].mean((1, 2)) + 3 * images.std((1, 2, 3))
    assert torch.allclose(scores["total"], by_hand) and colours.calls == 1
    assert list(scores) == ["total", "colours.red", "colours.green", "spread.std"]
    scores["total"].sum().backward()
    assert torch.allclose(images.grad[:, 0], torch.full((4, 8, 8), 2 / 64))
    assert (judge.axes[0].low, judge.axes[0].high) == (-0.5, 5.0)
    assert judge.axes[2].higher_is_better is False


def test_what_it_says_of_itself():
    judge = CompositeJudge([Part(Colours(), "red"), Part(Spread(), "std")])
    assert isinstance(judge, Judge) and not judge.differentiable and judge.licence == "Apache-2.0 AND MIT"
    assert CompositeJudge([Part(Colours(), "red")]).differentiable
    assert judge.version != CompositeJudge([Part(Colours(), "red"), Part(Spread(), "std", 2.0)]).version


def test_nan_in_a_part_never_reaches_the_sum(images):
    spread = Spread()
    spread.score = lambda images, contexts: {"std": torch.full((4,), float("nan"))}
    with pytest.raises(BadScores, match="spread.std is NaN"):
        CompositeJudge([Part(Colours(), "red"), Part(spread, "std")]).score(images, [Context()] * 4)


def test_what_cannot_be_summed_is_refused():
    with pytest.raises(ValueError, match="no axis colours.blue"):
        CompositeJudge([Part(Colours(), "blue")])
    with pytest.raises(ValueError, match="different names"):
        CompositeJudge([Part(Colours(), "red"), Part(Colours(), "red")])
    with pytest.raises(ValueError, match="needs parts"):
        CompositeJudge([])
