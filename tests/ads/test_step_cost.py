"""The bench compares like with like: both ways have the same loss and the same gradient."""

import dataclasses

import pytest
import torch
from toy_judge import Bright

from goodeye.ads.step_cost import Cost, Ours, Straightforward, Trial, compare, discs, measure
from goodeye.errors import BadInput
from goodeye.modelset import Models, resolve


@pytest.mark.parametrize("train", ["controlnet", "lora"])
def test_both_ways_take_the_same_step(tiny_set, train):
    found = []
    for way in ("ours", "straightforward"):
        models = Models(resolve(str(tiny_set)))
        settings = dataclasses.replace(models.model_set.settings, steps=4)
        judge = Bright()
        step = (
            Ours(models, settings, judge, train, 2)
            if way == "ours"
            else Straightforward(models, settings, judge, train)
        )
        learns = models.controlnet if train == "controlnet" else models.unet
        wanted = [parameter for parameter in learns.parameters() if parameter.requires_grad]
        torch.manual_seed(1)
        with torch.no_grad():
            for parameter in wanted:
                parameter.add_(0.05 * torch.randn_like(parameter))
        loss = step(discs(3, settings.size), [1, 2, 3], [3], 0)
        found.append((loss.detach(), torch.cat([g.flatten() for g in torch.autograd.grad(loss, wanted)])))
    (ours, slope), (theirs, other) = found
    assert torch.allclose(ours, theirs, rtol=1e-4)
    assert (slope - other).norm() < 1e-3 * other.norm() and other.norm() > 0


def test_the_bench_says_what_both_took(tiny_set):
    trial = Trial(models=str(tiny_set), steps=2, batch=2, reuse=2, sampler_steps=4)
    ours = measure("ours", trial)
    assert isinstance(ours, Cost) and ours.rollouts == 1 and ours.seconds > 0 and ours.peak >= 0


def test_it_refuses_steps_that_no_rollout_fills():
    with pytest.raises(BadInput, match="give a multiple"):
        compare(Trial(steps=3, reuse=2))
