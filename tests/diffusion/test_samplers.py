"""The samplers against diffusers' scheduler loops, and what hooks and gradient rules promise."""

from dataclasses import replace

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
)

from goodeye.diffusion.batch import step_noise
from goodeye.diffusion.predict import target
from goodeye.diffusion.samplers import SAMPLERS, chain, ddim, euler, euler_ancestral
from goodeye.diffusion.schedule import from_config

FLOW = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}
NOISE = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))


def denoise(latents: torch.Tensor, t: float) -> torch.Tensor:
    """A smooth stand-in for a network: mixes neighbours, and depends on t."""
    return torch.tanh(latents + 0.3 * latents.roll(1, -1) + float(t) / 1000)


def diffusers_loop(scheduler, noise: torch.Tensor, steps: int) -> torch.Tensor:
    scheduler.set_timesteps(steps)
    latents = noise * getattr(scheduler, "init_noise_sigma", 1.0)
    for t in scheduler.timesteps:
        scaled = scheduler.scale_model_input(latents, t) if hasattr(scheduler, "scale_model_input") else latents
        latents = scheduler.step(denoise(scaled, float(t)), t, latents, return_dict=False)[0]
    return latents


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("steps", [5, 30])
def test_ddim_equals_diffusers(prediction, spacing, steps):
    config = {"prediction_type": prediction, "timestep_spacing": spacing, "beta_schedule": "scaled_linear"}
    theirs = diffusers_loop(DDIMScheduler(clip_sample=False, **config), NOISE, steps)
    assert torch.allclose(ddim(denoise, NOISE, from_config(config, steps)), theirs, atol=1e-4)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers with NumPy 2
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("steps", [5, 30])
def test_euler_equals_diffusers(prediction, spacing, steps):
    config = {"prediction_type": prediction, "timestep_spacing": spacing, "beta_schedule": "scaled_linear"}
    theirs = diffusers_loop(EulerDiscreteScheduler(**config), NOISE, steps)
    schedule = from_config(config, steps, "euler")
    assert torch.allclose(euler(denoise, NOISE * schedule.start_scale, schedule), theirs, atol=1e-4)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers with NumPy 2
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("steps", [1, 5, 30])
def test_euler_ancestral_equals_diffusers(prediction, spacing, steps, monkeypatch):
    config = {"prediction_type": prediction, "timestep_spacing": spacing, "beta_schedule": "scaled_linear"}
    schedule, noise = from_config(config, steps, "euler"), step_noise([1, 2, 3], NOISE)
    drawn = iter([noise(step) for step in schedule])
    where = "diffusers.schedulers.scheduling_euler_ancestral_discrete.randn_tensor"
    monkeypatch.setattr(where, lambda shape, **_: next(drawn))
    theirs = diffusers_loop(EulerAncestralDiscreteScheduler(**config), NOISE, steps)
    ours = euler_ancestral(denoise, NOISE * schedule.start_scale, schedule, noise=noise)
    assert torch.allclose(ours, theirs, atol=1e-4)
    if steps > 1:
        assert (ours - euler(denoise, NOISE * schedule.start_scale, schedule)).abs().max() > 0.1


def test_noise_on_the_way_is_each_picture_s_own_in_any_batch_and_in_legs():
    schedule = from_config({}, 6, "euler")
    whole = euler_ancestral(denoise, NOISE, schedule, noise=step_noise([1, 2, 3], NOISE))
    alone = euler_ancestral(denoise, NOISE[1:2], schedule, noise=step_noise([2], NOISE[1:2]))
    half = euler_ancestral(denoise, NOISE, schedule.head(3), noise=step_noise([1, 2, 3], NOISE))
    rest = replace(schedule, steps=schedule.steps[3:])
    assert torch.allclose(whole[1:2], alone, atol=1e-6)
    assert torch.equal(euler_ancestral(denoise, half, rest, noise=step_noise([1, 2, 3], NOISE)), whole)
    many = torch.zeros(1, 64, 64, 4)
    one, other = (step_noise([1], many)(step) for step in schedule.steps[:2])
    assert abs(float((one * other).mean())) < 0.03 and abs(float(one.std()) - 1) < 0.03
    with pytest.raises(ValueError, match="flow"):
        euler_ancestral(denoise, NOISE, from_config(FLOW, 3), noise=step_noise([1, 2, 3], NOISE))


@pytest.mark.parametrize("steps", [1, 5, 30])
def test_flow_euler_equals_diffusers(steps):
    theirs = diffusers_loop(FlowMatchEulerDiscreteScheduler(shift=3.0), NOISE, steps)
    for sampler in SAMPLERS.values():  # on a straight line the two are one method
        assert torch.allclose(sampler(denoise, NOISE, from_config(FLOW, steps)), theirs, atol=1e-4)


def test_ddim_is_euler_on_the_same_levels():
    """DDIM is Euler's method on the probability-flow ODE in sigma / alpha (Song et al. 2021, section 4.3)."""
    schedule = from_config({"timestep_spacing": "linspace"}, 12, "euler")
    assert torch.allclose(ddim(denoise, NOISE, schedule), euler(denoise, NOISE, schedule), atol=1e-4)


@pytest.mark.parametrize("sampler", ["ddim", "euler"])
@pytest.mark.parametrize("config", [{}, {"prediction_type": "v_prediction"}, FLOW])
def test_a_denoiser_that_knows_the_truth_ends_there(sampler, config):
    """With the exact output for one clean sample, any number of steps must land on it."""
    clean = NOISE.flip(0)
    for steps in (1, 2, 9):
        schedule = from_config(config, steps, sampler)
        levels = {step.t: step for step in schedule}

        def exact(latents: torch.Tensor, t: float, schedule=schedule, levels=levels) -> torch.Tensor:
            step = levels[t]
            noise = (latents - step.alpha * clean) / step.sigma
            return target(clean, noise, step, schedule)

        ended = SAMPLERS[sampler](exact, NOISE, schedule)
        assert torch.allclose(ended, clean, atol=1e-3)


@pytest.mark.parametrize("sampler", [ddim, euler])
def test_a_batch_equals_single_runs(sampler):
    schedule = from_config({}, 10)
    together = sampler(denoise, NOISE, schedule)
    alone = torch.cat([sampler(denoise, one[None], schedule) for one in NOISE])
    assert torch.allclose(together, alone, atol=1e-6)


def test_hooks_see_every_step_in_order_and_change_what_follows():
    schedule = from_config({}, 6)
    seen = []

    def watch(latents, step, x0):
        seen.append(("watch", step.index, step.last, x0.shape))
        return latents

    def reset(latents, step, x0):
        seen.append(("reset", step.index, step.last, x0.shape))
        return torch.zeros_like(latents) if step.last else latents

    ended = ddim(denoise, NOISE, schedule, after_step=chain(watch, reset))
    expected = [(name, i, i == 5, NOISE.shape) for i in range(6) for name in ("watch", "reset")]
    assert seen == expected and torch.equal(ended, torch.zeros_like(NOISE))


def test_the_hook_gets_the_clean_prediction():
    schedule = from_config({}, 4)
    x0s = []
    ended = ddim(denoise, NOISE, schedule, after_step=lambda latents, step, x0: x0s.append(x0) or latents)
    first = schedule.steps[0]
    assert torch.allclose(x0s[0], (NOISE - first.sigma * denoise(NOISE, first.t)) / first.alpha, atol=1e-5)
    assert torch.allclose(ended, x0s[-1], atol=1e-5)  # the last step of a config with set_alpha_to_one ends on x0


def test_a_hook_can_stop_the_run():
    class Enough(Exception):
        pass

    def stop(latents, step, x0):
        if step.index == 2:
            raise Enough
        return latents

    asked = []
    with pytest.raises(Enough):
        ddim(lambda x, t: asked.append(t) or denoise(x, t), NOISE, from_config({}, 9), after_step=stop)
    assert len(asked) == 3 and torch.is_grad_enabled()


@pytest.mark.parametrize("sampler", [ddim, euler])
def test_gradient_flows_where_the_rule_says(sampler):
    """Each step has a weight of its own; only those of an unbroken last run of true steps may get gradient."""
    schedule = from_config({}, 6)
    index = {step.t: step.index for step in schedule}

    def gradient(rule) -> list[bool]:
        weights = torch.ones(6, requires_grad=True)
        ended = sampler(lambda x, t: weights[index[t]] * denoise(x, t), NOISE, schedule, grad=rule)
        if not ended.requires_grad:
            return [False] * 6
        ended.square().sum().backward()
        return (weights.grad != 0).tolist()

    assert gradient(lambda step: False) == [False] * 6
    assert gradient(lambda step: True) == [True] * 6
    assert gradient(lambda step: step.index >= 4) == [False] * 4 + [True] * 2
    assert gradient(lambda step: step.index == 3) == [False] * 6  # cut by the steps after it
    assert gradient(lambda step: step.index in (1, 5)) == [False] * 5 + [True]


def test_gradient_of_one_step_of_a_rollout_is_that_of_its_x0_alone():
    """What reward tuning does: run to step k without gradient, take x0 of step k with it (ads paper section 3.3)."""
    schedule, k = from_config({}, 6).head(4), 3
    weight = torch.tensor(0.9, requires_grad=True)
    caught = []

    def record(latents, step, x0):
        if step.index == k:
            caught.append(x0)
        return latents

    ddim(lambda x, t: weight * denoise(x, t), NOISE, schedule, after_step=record, grad=lambda step: step.index == k)
    (by_rule,) = torch.autograd.grad(caught[0].sum(), weight)

    latents = ddim(lambda x, t: 0.9 * denoise(x, t), NOISE, schedule.head(k))
    step = schedule.steps[k]
    by_hand = (-step.sigma / step.alpha * denoise(latents, step.t)).sum()  # d x0 / d weight
    assert torch.allclose(by_rule, by_hand, rtol=1e-4)


def test_half_precision_stays_half():
    assert ddim(denoise, NOISE.bfloat16(), from_config({}, 3)).dtype == torch.bfloat16
