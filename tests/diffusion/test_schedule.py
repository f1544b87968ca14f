"""Our schedules against those of diffusers' schedulers, whose word counts."""

import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler

from goodeye.diffusion.schedule import CLEAN, from_config
from goodeye.errors import BadInput

STABLE_DIFFUSION = {
    "_class_name": "PNDMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
}
CONFIGS = [
    STABLE_DIFFUSION,
    {"beta_schedule": "linear", "set_alpha_to_one": True},
    {"beta_schedule": "squaredcos_cap_v2", "timestep_spacing": "trailing", "prediction_type": "v_prediction"},
    {"beta_schedule": "scaled_linear", "timestep_spacing": "linspace", "set_alpha_to_one": False},
    {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing", "prediction_type": "v_prediction"},
    {"trained_betas": [0.001 * (i + 1) for i in range(60)], "num_train_timesteps": 60, "steps_offset": 1},
]


def close(ours: float, theirs: torch.Tensor) -> bool:
    return ours == pytest.approx(float(theirs), abs=1e-6)


@pytest.mark.parametrize("steps", [1, 7, 20, 40, 50])
@pytest.mark.parametrize("config", CONFIGS)
def test_ddim_equals_diffusers(config, steps):
    theirs = DDIMScheduler.from_config({**config, "clip_sample": False})
    theirs.set_timesteps(steps)
    ours = from_config(config, steps)
    assert [step.t for step in ours] == theirs.timesteps.tolist()
    assert all(isinstance(step.t, int) for step in ours)
    assert torch.allclose(ours.alphas_bar, theirs.alphas_cumprod, atol=1e-6)
    for step in ours:
        before = step.t - theirs.config.num_train_timesteps // steps
        after = theirs.alphas_cumprod[before] if before >= 0 else theirs.final_alpha_cumprod
        assert close(step.alpha**2, theirs.alphas_cumprod[step.t]) and close(step.alpha_prev**2, after)
        assert close(step.alpha**2 + step.sigma**2, torch.ones(()))


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers with NumPy 2
@pytest.mark.parametrize("steps", [1, 7, 20, 40, 50])
@pytest.mark.parametrize("config", CONFIGS)
def test_euler_equals_diffusers(config, steps):
    theirs = EulerDiscreteScheduler.from_config(config)
    theirs.set_timesteps(steps)
    ours = from_config(config, steps, "euler")
    assert [step.t for step in ours] == pytest.approx(theirs.timesteps.tolist(), rel=1e-6)
    ratios = torch.tensor([step.sigma / step.alpha for step in ours] + [0.0])
    assert torch.allclose(ratios, theirs.sigmas, rtol=1e-4, atol=1e-6)
    assert (ours.steps[-1].alpha_prev, ours.steps[-1].sigma_prev) == (1, 0)
    first_noise = theirs.init_noise_sigma / (theirs.sigmas[0] ** 2 + 1) ** 0.5  # in the model's own scale
    assert ours.start_scale == pytest.approx(float(first_noise), rel=1e-5)


# Not one step with shift_terminal: it cannot both begin at noise and end elsewhere, and diffusers divides by zero.
@pytest.mark.parametrize(
    ("options", "steps"),
    [({}, 1), ({}, 28), ({"shift": 3.0}, 1), ({"shift": 3.0}, 28), ({"shift": 2.0, "shift_terminal": 0.1}, 4)],
)
def test_flow_equals_diffusers(options, steps):
    theirs = FlowMatchEulerDiscreteScheduler(**options)
    theirs.set_timesteps(steps)
    ours = from_config(dict(theirs.config) | {"_class_name": "FlowMatchEulerDiscreteScheduler"}, steps)
    assert ours.prediction == "flow"
    assert [step.t for step in ours] == pytest.approx(theirs.timesteps.tolist(), rel=1e-6)
    assert [step.sigma for step in ours] == pytest.approx(theirs.sigmas[:-1].tolist(), rel=1e-5)
    assert all(step.alpha == pytest.approx(1 - step.sigma) for step in ours)
    assert (ours.start_scale, ours.steps[-1].sigma_prev) == (1, 0)


@pytest.mark.parametrize("sampler", ["ddim", "euler"])
def test_steps_follow_each_other(sampler):
    schedule = from_config(STABLE_DIFFUSION, 20, sampler)
    assert [step.index for step in schedule] == list(range(20)) and len(schedule) == 20
    for step, following in zip(schedule.steps, schedule.steps[1:], strict=False):
        assert step.t_prev == following.t and not step.last
        assert schedule.levels(following.t) == pytest.approx((following.alpha, following.sigma), rel=1e-5)
    assert schedule.steps[-1].last and schedule.steps[-1].t_prev == CLEAN and schedule.levels(CLEAN) == (1, 0)


@pytest.mark.parametrize("sampler", ["ddim", "euler"])
def test_steps_joined_in_pairs_are_those_of_half_as_many(sampler):
    """Where the spacing divides evenly, each pair of 20 trailing steps is one of 10, but for the timesteps' last."""
    config = {"beta_schedule": "scaled_linear", "timestep_spacing": "trailing", "prediction_type": "v_prediction"}
    joined, half = from_config(config, 20, sampler).joined(range(0, 20, 2)), from_config(config, 10, sampler)
    assert len(joined) == 10 and joined.start_scale == half.start_scale
    for one, other in zip(joined, half, strict=True):
        assert (one.index, one.t, one.t_prev, one.last) == (other.index, other.t, other.t_prev, other.last)
        ours, theirs = ((s.alpha, s.sigma, s.alpha_prev, s.sigma_prev) for s in (one, other))
        assert ours == pytest.approx(theirs, rel=1e-6)


def test_joined_with_nothing_left_out_is_the_same():
    schedule = from_config({"prediction_type": "epsilon"}, 7)
    assert schedule.joined(range(7)).steps == schedule.steps
    some = schedule.joined((0, 3, 6))
    assert [one.t for one in some] == [schedule.steps[at].t for at in (0, 3, 6)]
    assert [one.t_prev for one in some] == [schedule.steps[3].t, schedule.steps[6].t, CLEAN]


def test_head_stops_early_while_noisy():
    head = from_config(STABLE_DIFFUSION, 20).head(5)
    assert len(head) == 5 and not head.steps[-1].last and head.steps[-1].sigma_prev > 0.1


@pytest.mark.parametrize(
    ("config", "steps", "sampler", "word"),
    [
        (STABLE_DIFFUSION, 0, "ddim", "steps"),
        (STABLE_DIFFUSION, 1001, "ddim", "steps"),
        (STABLE_DIFFUSION, 1000, "ddim", "steps_offset"),
        ({"clip_sample": True}, 20, "ddim", "clip_sample"),
        ({"prediction_type": "sample"}, 20, "ddim", "prediction_type"),
        ({"beta_schedule": "other"}, 20, "ddim", "beta_schedule"),
        ({"timestep_spacing": "other"}, 20, "ddim", "timestep_spacing"),
        ({"use_karras_sigmas": True}, 20, "euler", "use_karras_sigmas"),
        ({"final_sigmas_type": "sigma_min"}, 20, "euler", "final_sigmas_type"),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler", "use_dynamic_shifting": True}, 4, "euler", "dynamic"),
    ],
)
def test_what_is_not_supported_is_refused_plainly(config, steps, sampler, word):
    with pytest.raises(BadInput, match=word):
        from_config(config, steps, sampler)
