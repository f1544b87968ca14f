"""Losses and regularisers against the formulas written out; one rollout serves as many gradient steps as it is told."""

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F
from toy_judge import Bright, placed_briefs

from goodeye.ads.adapt import adapt
from goodeye.ads.rfft import (
    RFFT,
    Draws,
    RewardStep,
    Vanished,
    availability,
    consistent_condition,
    kl,
    refl,
    require_reward,
)
from goodeye.ads.rollout import Prediction, Studio
from goodeye.diffusion.schedule import Step
from goodeye.errors import BadInput
from goodeye.modelset import Models, resolve

STEP = Step(3, 49, -1, True, alpha=0.8, sigma=0.6, alpha_prev=1.0, sigma_prev=0.0)


def predictions() -> tuple[Prediction, Prediction]:
    tensors = torch.randn(6, 2, 4, 3, 3, generator=torch.Generator().manual_seed(0)).double()
    return Prediction(*tensors[:3]), Prediction(*tensors[3:])


def test_the_reward_is_cross_entropy_with_available():
    logits = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    expected = F.cross_entropy(logits, torch.zeros(5, dtype=torch.long))
    assert torch.allclose(availability(logits).mean(), expected)


def test_refls_hinge_is_on_log_odds():
    p = torch.tensor([0.5, 0.9, 0.2])
    logits = torch.stack([p, 0.4 * (1 - p), 0.6 * (1 - p)], 1).log()
    odds = [math.log(value / (1 - value)) for value in (0.5, 0.9, 0.2)]
    assert refl(logits, 2.0).tolist() == pytest.approx([2.0, 0.0, 2 - odds[2]], abs=1e-5)
    assert odds[1] > 2


def test_consistent_condition_is_the_papers_norm_or_the_authors_square():
    now, start = predictions()
    for picture in range(2):
        direction = [-(one.text[picture] - one.negative[picture]) / 0.6 for one in (now, start)]
        norm = math.sqrt(sum(float(x) ** 2 for x in (direction[0] - direction[1]).flatten()))
        assert float(consistent_condition(now, start, 0.6)[picture]) == pytest.approx(norm)
        squared = float(consistent_condition(now, start, 0.6, "squared")[picture])
        assert squared == pytest.approx((0.6 * norm) ** 2)


def test_kl_is_that_of_two_gaussians():
    now, start = predictions()
    for picture in range(2):
        ours = torch.distributions.Normal(0.8 * now.x0[picture], 0.6)
        theirs = torch.distributions.Normal(0.8 * start.x0[picture], 0.6)
        expected = torch.distributions.kl_divergence(ours, theirs).sum()
        assert torch.allclose(kl(now, start, STEP)[picture], expected)


@pytest.fixture
def studio(tiny_set) -> Studio:
    models = Models(resolve(str(tiny_set)))
    return Studio(models, dataclasses.replace(models.model_set.settings, steps=4))


def step_of(studio: Studio, **fields) -> RewardStep:
    trained = adapt(studio.models, "controlnet")
    return RewardStep(studio, Bright(), trained, placed_briefs(3), RFFT(**({"last": 2, "part": 2} | fields)))


def draws(**fields) -> Draws:
    plain = {"keys": ["a", "b", "c"], "order": lambda index: [index % 3, (index + 1) % 3], "steps": 4, "last": 2}
    return Draws(**(plain | {"reuse": 1, "slots": 1, "seed": 0} | fields))


@pytest.mark.parametrize("fields", [{"cc": "norm"}, {"cc": "squared"}, {"regulariser": "kl"}])
def test_a_regulariser_is_nothing_at_the_start_and_something_later(studio, fields):
    step = step_of(studio, beta=1.0, **fields)
    name = fields.get("regulariser", "cc")
    parameters = list(studio.models.controlnet.parameters())

    def slope():
        found = step({}, draws()(0), 0)
        only = found["loss"] - found["reward_loss"]
        assert torch.allclose(only, found[name], atol=1e-4)
        return float(found[name].detach()), torch.autograd.grad(found[name], parameters, allow_unused=True)

    value, gradient = slope()
    assert value == 0 and all(g is None or float(g.abs().max()) == 0 for g in gradient)
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(0.02 * torch.randn_like(parameter))
    step.held.clear()
    value, gradient = slope()
    assert value > 0 and sum(float(g.abs().sum()) for g in gradient) > 0


def test_the_total_is_reward_plus_beta_times_regulariser_and_goes_downhill(studio):
    step = step_of(studio, beta=0.3)
    with torch.no_grad():
        for parameter in studio.models.controlnet.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    found = step({}, draws()(0), 0)
    assert torch.allclose(found["loss"], found["reward_loss"] + 0.3 * found["cc"], rtol=1e-5)
    parameters = list(studio.models.controlnet.parameters())
    slopes = torch.autograd.grad(found["loss"], parameters)
    size = 1e-3 / math.sqrt(sum(float(s.square().sum()) for s in slopes))
    with torch.no_grad():
        for parameter, slope in zip(parameters, slopes, strict=True):
            parameter.sub_(size * slope)
    again = step({}, draws()(0), 0)  # the same latents: the rollout is held
    assert bool(again["loss"] < found["loss"])


@pytest.mark.parametrize("method", ["rfft", "refl"])
def test_the_reward_loss_is_that_of_the_picture_at_the_step(studio, method):
    step = step_of(studio, method=method, regulariser="none")
    draw = draws()(0)
    found = step({}, draw, 0)
    given = studio.conditions([step.briefs[n] for n in draw.briefs])
    at = draw.indices[0]
    with torch.no_grad():
        x0 = studio.predict(studio.roll_out(given, draw.seeds, [at])[at], studio.schedule.steps[at], given).x0
        logits = Bright().logits(studio.picture(x0, given), given.contexts)
    p = logits.softmax(-1)[:, 0]
    expected = -p.log() if method == "rfft" else (2 - (p / (1 - p)).log()).clamp(min=0)
    assert torch.allclose(found["loss"], expected.mean(), atol=1e-5)
    assert torch.allclose(found["available"], p.mean(), atol=1e-5)


@pytest.mark.parametrize("reuse", [1, 3])
def test_a_rollout_serves_as_many_gradient_steps_as_it_is_told(studio, reuse, monkeypatch):
    step, data = step_of(studio, reuse=reuse, regulariser="none", last=3), draws(reuse=reuse, last=3)
    calls = []
    predict = studio.predict
    monkeypatch.setattr(studio, "predict", lambda *a: calls.append(a[1].index) or predict(*a))
    for number in range(6):
        loss = step({}, data(number), number)["loss"]
        assert loss.requires_grad
    assert step.rollouts == 6 // reuse and len(calls) == 6
    if reuse == 3:
        assert sorted(calls[:3]) == sorted(calls[3:]) == [1, 2, 3]


def test_a_batch_is_a_function_of_its_number_alone():
    data = draws(reuse=2, slots=3)
    first = [data(index) for index in range(12)]
    assert first == [draws(reuse=2, slots=3)(index) for index in range(12)]
    for index in range(3):  # the second step of a rollout works on the same pictures, at another step
        one, two = first[index], first[index + 3]
        assert (one.rollout, one.slot, one.briefs, one.seeds) == (two.rollout, two.slot, two.briefs, two.seeds)
        assert (one.turn, two.turn) == (0, 1) and one.indices == two.indices
    seeds = [seed for draw in (*first[:3], *first[6:9]) for seed in draw.seeds]
    assert len(set(seeds)) == len(seeds) and draws(seed=1)(0).seeds != draws()(0).seeds


def test_what_cannot_be_is_refused():
    with pytest.raises(BadInput, match="guidance_scale is 1"):
        RFFT().check(20, 1.0)
    with pytest.raises(BadInput, match="last is 30, and the sampler has 20 steps"):
        RFFT(last=30).check(20, 3.0)
    assert (RFFT().last_of(40), RFFT().last_of(20), RFFT(last=3).last_of(20)) == (10, 5, 3)


def test_a_reward_that_says_the_same_of_everything_is_noticed():
    def rows(*shares, p=None):
        found = [
            {"step": 10.0 * (n + 1), "passed": share, "available": share if p is None else p}
            for n, share in enumerate(shares)
        ]
        return [*found, {"step": 20.0}]

    require_reward(rows(1.0, 0.9), 20, 20, 8)
    require_reward(rows(0.5, 0.5), 20, 20, 8)
    require_reward([], 20, 20, 8)
    require_reward(rows(0.0, 0.0, p=0.3), 20, 20, 8)  # there is still something to learn
    require_reward(rows(1.0, 1.0, p=0.8), 20, 20, 8)
    with pytest.raises(Vanished, match="passed every one of the 160 pictures of steps 1 to 20") as every:
        require_reward(rows(1.0, 1.0), 20, 20, 8)
    with pytest.raises(Vanished, match="passed none of the 80 pictures of steps 11 to 20.*--resume") as none:
        require_reward(rows(0.5, 0.0), 20, 10, 8)
    assert every.value.all_passed and not none.value.all_passed
