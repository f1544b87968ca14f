"""Rollouts and the one step that gradient reaches, against the same sums written out with diffusers' networks."""

import dataclasses

import pytest
import torch
from toy_judge import Bright, Broken, placed_briefs

from goodeye.ads.generate import generate
from goodeye.ads.rollout import NoReward, Studio, by_part, drawn_steps
from goodeye.diffusion.batch import noise_of
from goodeye.modelset import Models, resolve

SEEDS = [3, 4]


@pytest.fixture
def studio(tiny_set) -> Studio:
    models = Models(resolve(str(tiny_set)))
    return Studio(models, dataclasses.replace(models.model_set.settings, steps=4, control_scale=0.7))


def test_a_rollout_ends_in_the_picture_that_is_generated(studio):
    briefs = placed_briefs(2)
    given = studio.conditions(briefs)
    end = studio.roll_out(given, SEEDS, [4])[4]
    made = generate(
        studio.models, [b.canvas for b in briefs], [b.prompt for b in briefs], SEEDS, settings=studio.settings
    )
    assert torch.allclose(studio.picture(end, given), made, atol=1e-5)


def test_it_keeps_the_latents_before_the_steps_asked_for_and_goes_no_further(studio, monkeypatch):
    given = studio.conditions(placed_briefs(2))
    told = []
    forward = studio.models.unet.forward
    monkeypatch.setattr(studio.models.unet, "forward", lambda *a, **k: told.append(len(a[0])) or forward(*a, **k))
    kept = studio.roll_out(given, SEEDS, [2, 0, 1])
    assert sorted(kept) == [0, 1, 2] and told == [4, 4]  # two steps, both branches of two pictures in one call
    noise = torch.stack([noise_of(seed, (4, 16, 16)) for seed in SEEDS])
    assert torch.equal(kept[0], noise) and not any(latents.requires_grad for latents in kept.values())


def test_the_prediction_is_the_papers_formula(studio):
    """x0_hat = (x - sqrt(1 - ab) eps) / sqrt(ab), eps after guidance, each branch called by itself."""
    models, given = studio.models, studio.conditions(placed_briefs(2))
    step = studio.schedule.steps[2]
    latents = studio.roll_out(given, SEEDS, [2])[2]

    def eps(states):
        down, middle = models.controlnet(latents, step.t, states, given.control, 0.7, return_dict=False)
        return models.unet(
            latents, step.t, states, down_block_additional_residuals=down, mid_block_additional_residual=middle
        ).sample

    with_text, without = eps(given.text), eps(given.negative.expand(2, -1, -1))
    bar = torch.cumprod(1 - torch.linspace(1e-4**0.5, 0.02**0.5, 1000) ** 2, 0)[step.t]
    mixed = without + 3.0 * (with_text - without)
    found = studio.predict(latents, step, given)
    assert torch.allclose(found.text, with_text, atol=1e-5) and torch.allclose(found.negative, without, atol=1e-5)
    assert torch.allclose(found.x0, (latents - (1 - bar).sqrt() * mixed) / bar.sqrt(), atol=1e-4)


def test_gradient_reaches_what_is_trained_only_and_begins_at_the_step(studio):
    models = studio.models
    models.controlnet.requires_grad_(True)
    given = studio.conditions(placed_briefs(2))
    latents = studio.roll_out(given, SEEDS, [3])[3]
    assert latents.grad_fn is None and not latents.requires_grad  # what came before has no graph
    found = studio.predict(latents, studio.schedule.steps[3], given)
    by_part(lambda x0, which: -studio.logits(Bright(), x0, given, which)[:, 0], found.x0, 1).mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in models.controlnet.parameters())
    assert sum(float(p.grad.abs().sum()) for p in models.controlnet.parameters()) > 0
    frozen = (models.unet, models.vae, models.text_encoder)
    assert all(p.grad is None for network in frozen for p in network.parameters())


@pytest.mark.parametrize("size", [1, 2, 5])
def test_by_part_has_the_gradient_of_the_whole(studio, size):
    given = studio.conditions(placed_briefs(3))
    torch.manual_seed(0)
    x0 = torch.randn(3, 4, 16, 16, requires_grad=True)
    weights = torch.tensor([1.0, -2.0, 0.5])
    score = by_part(lambda part, which: studio.logits(Bright(), part, given, which)[:, 0], x0, size)
    (found,) = torch.autograd.grad((weights * score).sum(), x0)
    whole = studio.logits(Bright(), x0, given)[:, 0]
    (expected,) = torch.autograd.grad((weights * whole).sum(), x0)
    assert torch.allclose(score, whole, atol=1e-5) and torch.allclose(found, expected, atol=1e-6)
    assert expected.abs().max() > 1e-5


def test_a_part_may_be_made_again_for_its_gradient(studio):
    given = studio.conditions(placed_briefs(2))
    x0 = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(1)).requires_grad_()

    def slope():
        score = by_part(lambda part, which: studio.logits(Bright(), part, given, which)[:, 0], x0, 1)
        return torch.autograd.grad(score.sum(), x0)[0]

    plain = slope()
    studio.models.vae.enable_gradient_checkpointing()
    assert torch.allclose(slope(), plain, atol=1e-6)


def test_text_and_product_are_encoded_once_and_each_alone(studio, monkeypatch):
    briefs = placed_briefs(3)
    together = studio.conditions(briefs)
    monkeypatch.setattr("goodeye.diffusion.batch.text.encode", None)
    monkeypatch.setattr("goodeye.ads.rollout.vae.encode", None)
    again = studio.conditions(briefs[::-1])
    assert torch.equal(again.clean, together.clean.flip(0)) and torch.equal(again.text, together.text.flip(0))


def test_no_number_from_the_judge_is_said_plainly(studio):
    given = studio.conditions(placed_briefs(2))
    with pytest.raises(NoReward, match="gave no number for a picture of the product 'red shoe'"):
        studio.logits(Broken(after=0), given.clean, given)


def test_steps_are_drawn_from_the_last_ones_and_none_twice_too_soon():
    for seed in range(20):
        drawn = drawn_steps(40, 10, 10, seed)
        assert sorted(drawn) == list(range(30, 40))
        assert set(drawn_steps(20, 1, 3, seed)) == {19}
        assert drawn_steps(40, 10, 13, seed)[:10] == drawn
    assert len({drawn_steps(40, 10, 1, seed)[0] for seed in range(200)}) == 10
