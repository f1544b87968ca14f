"""The three parameterisations against each other and against diffusers' own noising."""

import pytest
import torch
from diffusers import DDIMScheduler

from goodeye.diffusion.predict import add_noise, predict_x0, target, to_epsilon
from goodeye.diffusion.schedule import Schedule, from_config

FLOW = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}


def schedule_of(prediction: str) -> Schedule:
    return from_config(FLOW if prediction == "flow" else {"prediction_type": prediction}, 20)


def pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 3, 4, 8, 8, generator=generator, dtype=torch.float64)
    return clean, noise


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "flow"])
def test_a_perfect_output_gives_back_the_clean_sample_and_the_noise(prediction):
    clean, noise = pair()
    schedule = schedule_of(prediction)
    for at in [*schedule.steps[1:], 500, torch.tensor([0, 400, 998])]:
        noisy = add_noise(clean, noise, at, schedule)
        output = target(clean, noise, at, schedule)
        assert torch.allclose(predict_x0(noisy, output, at, schedule), clean, atol=1e-5)
        assert torch.allclose(to_epsilon(noisy, output, at, schedule), noise, atol=1e-5)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_noising_and_velocity_equal_diffusers(prediction):
    clean, noise = pair()
    theirs = DDIMScheduler(prediction_type=prediction)
    schedule = schedule_of(prediction)
    times = torch.tensor([0, 400, 999])
    assert torch.allclose(add_noise(clean, noise, times, schedule), theirs.add_noise(clean, noise, times), atol=1e-6)
    velocity = theirs.get_velocity(clean, noise, times)
    assert torch.allclose(target(clean, noise, times, schedule_of("v_prediction")), velocity, atol=1e-6)
    one = add_noise(clean, noise, 400, schedule)
    assert torch.allclose(one, theirs.add_noise(clean, noise, times[1:2].expand(3)), atol=1e-6)


def test_flow_noising_is_the_straight_line():
    clean, noise = pair()
    schedule = schedule_of("flow")
    quarter = torch.full((3,), 249)  # index 249 is t = 250 of 1000
    assert torch.allclose(add_noise(clean, noise, quarter, schedule), 0.75 * clean + 0.25 * noise, atol=1e-6)
    assert torch.allclose(add_noise(clean, noise, 250.0, schedule), 0.75 * clean + 0.25 * noise, atol=1e-6)
    assert torch.equal(target(clean, noise, quarter, schedule), noise - clean)
