import pytest
import torch
from diffusers import DDIMScheduler

from goodeye.diffusion.inpaint import blend
from goodeye.diffusion.samplers import ddim, euler
from goodeye.diffusion.schedule import from_config

NOISE, PRODUCT = torch.randn(2, 2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
MASK = torch.zeros(2, 1, 8, 8)
MASK[..., 2:6, 2:6] = 1


@pytest.mark.parametrize("sampler", [ddim, euler])
def test_the_product_ends_exact_and_the_rest_is_untouched_by_the_mask(sampler):
    schedule = from_config({}, 8)

    def denoise(latents: torch.Tensor, t: float) -> torch.Tensor:  # looks at one pixel only: no leak across the mask
        return torch.tanh(latents)

    ended = sampler(denoise, NOISE, schedule, after_step=blend(MASK, PRODUCT, NOISE, schedule))
    kept = MASK.expand_as(ended) == 1
    assert torch.equal(ended[kept], PRODUCT[kept])
    assert torch.equal(ended[~kept], sampler(denoise, NOISE, schedule)[~kept])


def test_between_steps_the_product_has_the_noise_of_the_next_step():
    schedule = from_config({"timestep_spacing": "trailing"}, 7)  # 1000 / 7: where rounding would show
    scheduler = DDIMScheduler(timestep_spacing="trailing")
    scheduler.set_timesteps(7)
    hook = blend(torch.ones_like(MASK), PRODUCT, NOISE, schedule)
    for step, t_next in zip(schedule.steps, scheduler.timesteps[1:], strict=False):
        expected = scheduler.add_noise(PRODUCT, NOISE, t_next.view(1))
        assert torch.allclose(hook(torch.zeros_like(NOISE), step, NOISE), expected, atol=1e-6)
    assert torch.equal(hook(NOISE, schedule.steps[-1], NOISE), PRODUCT)
