"""Judging: scores that are not scores must never pass."""

import pytest
import torch
from torch import nn

from goodeye.judging.protocol import (
    Axis,
    BadScores,
    Context,
    Inspector,
    Judge,
    check_contexts,
    check_scores,
    fingerprint,
    needs_of,
)


class Brightness:
    name = "brightness"
    version = "1"
    axes = (Axis("mean", 0.0, 1.0), Axis("darkest", 0.0, 1.0, higher_is_better=False))
    differentiable = True
    licence = "Apache-2.0"

    def score(self, images, contexts):
        check_contexts(self.name, images, contexts)
        return {"mean": images.mean((1, 2, 3)), "darkest": images.amin((1, 2, 3))}


@pytest.fixture
def scores():
    return Brightness().score(torch.rand(3, 3, 8, 8), [Context()] * 3)


def test_a_plain_class_is_a_judge_and_its_scores_pass(scores):
    assert isinstance(Brightness(), Judge)
    checked = check_scores(Brightness(), scores, 3)
    assert list(checked) == ["mean", "darkest"]
    assert checked["mean"] is scores["mean"]


def test_a_judge_says_what_it_needs_and_one_that_inspects_is_known():
    assert needs_of(Brightness()) == frozenset() and not isinstance(Brightness(), Inspector)

    class Fussy(Brightness):
        needs = ("text", "product")

        def inspect(self, images, contexts):
            return []

    assert needs_of(Fussy()) == {"text", "product"} and isinstance(Fussy(), Inspector)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda s: s.pop("darkest"), "no score for darkest"),
        (lambda s: s.update(joy=s["mean"]), "joy"),
        (lambda s: s.update(mean=s["mean"][:, None]), "shape"),
        (lambda s: s.update(mean=s["mean"][:2]), "shape"),
        (lambda s: s.update(mean=torch.tensor([0.1, float("nan"), 0.2])), "NaN for image 1"),
        (lambda s: s.update(mean=torch.tensor([0.1, float("inf"), 0.2])), "out of"),
        (lambda s: s.update(mean=torch.tensor([0.1, -0.2, 0.2])), "out of"),
    ],
)
def test_what_is_not_a_score_is_refused(scores, spoil, words):
    spoil(scores)
    with pytest.raises(BadScores, match=words):
        check_scores(Brightness(), scores, 3)


def test_an_empty_batch_and_rounding_pass():
    check_scores(Brightness(), {"mean": torch.zeros(0), "darkest": torch.zeros(0)}, 0)
    check_scores(Brightness(), {"mean": torch.ones(1) + 1e-4, "darkest": torch.zeros(1)})


def test_one_context_an_image():
    with pytest.raises(ValueError, match="one context an image"):
        check_contexts("x", torch.rand(2, 3, 4, 4), [Context()])
    with pytest.raises(ValueError, match=r"\[N, 3, H, W\]"):
        check_contexts("x", torch.rand(2, 4, 4, 4), [Context()] * 2)


def test_the_fingerprint_follows_the_weights():
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    twin = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    twin.load_state_dict(model.state_dict())
    assert fingerprint(model) == fingerprint(twin)
    twin[0].weight.data[0, 0] += 1
    assert fingerprint(model) != fingerprint(twin)
    assert fingerprint(model, "a") != fingerprint(model, "b")
