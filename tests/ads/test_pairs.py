"""DPO on generated pairs: the loss in closed form, pairs by the judge's preference, and what holds none."""

import dataclasses
import math

import pytest
import torch
from toy_judge import Bright, placed_briefs

from goodeye.ads.adapt import adapt
from goodeye.ads.pairs import DPO, Pair, PreferenceStep, batches_of, dpo_loss, make_pairs
from goodeye.ads.rollout import NoReward, Studio
from goodeye.modelset import Models, resolve


@pytest.fixture
def studio(tiny_set) -> Studio:
    models = Models(resolve(str(tiny_set)))
    return Studio(models, dataclasses.replace(models.model_set.settings, steps=2))


def some_pairs() -> list[Pair]:
    torch.manual_seed(0)
    return [Pair(number, torch.randn(4, 16, 16), torch.randn(4, 16, 16), 0.9, 0.1) for number in range(2)]


def test_the_loss_in_closed_form():
    errors = [torch.tensor([value]) for value in (0.30, 0.50, 0.40, 0.45)]
    margin = -0.5 * 20.0 * ((0.30 - 0.40) - (0.50 - 0.45))  # 1.5: the winner's error fell, the loser's rose
    assert dpo_loss(*errors, 20.0).item() == pytest.approx(math.log(1 + math.exp(-margin)))
    assert margin == pytest.approx(1.5)


def test_at_the_start_the_loss_is_log_2_and_its_gradient_prefers_the_winner(studio):
    trained = adapt(studio.models, "controlnet")
    step = PreferenceStep(studio, trained, placed_briefs(2), some_pairs(), DPO(beta=50.0))
    torch.manual_seed(3)
    found = step(trained.modules, [0, 1], 0)
    assert torch.allclose(found["loss"], torch.tensor(math.log(2)), atol=1e-6)
    found["loss"].backward()
    with torch.no_grad():
        norm = math.sqrt(sum(float(p.grad.square().sum()) for p in studio.models.controlnet.parameters()))
        for parameter in studio.models.controlnet.parameters():
            parameter.sub_(1e-2 / norm * parameter.grad)
    torch.manual_seed(3)
    with torch.no_grad():
        assert float(step(trained.modules, [0, 1], 1)["loss"]) < math.log(2)


def test_the_errors_are_the_denoisers_on_noised_latents(studio):
    """Against the networks called by hand, picture by picture; winner and loser share noise and timestep."""
    models, pairs = studio.models, some_pairs()
    step = PreferenceStep(studio, adapt(models, "controlnet"), placed_briefs(2), pairs, DPO())
    given = studio.conditions(step.briefs)
    clean = torch.stack([pairs[0].winner, pairs[1].winner, pairs[0].loser, pairs[1].loser])
    noise, at = torch.randn(2, 4, 16, 16).repeat(2, 1, 1, 1), torch.tensor([30, 700, 30, 700])
    with torch.no_grad():
        found = step.errors(clean, noise, at, given)
        bar = torch.cumprod(1 - torch.linspace(1e-4**0.5, 0.02**0.5, 1000) ** 2, 0)
        for row in range(4):
            t, brief = at[row], row % 2
            noisy = bar[t].sqrt() * clean[row] + (1 - bar[t]).sqrt() * noise[row]
            states, control = given.text[brief][None], given.control[brief][None]
            down, middle = models.controlnet(noisy[None], t, states, control, return_dict=False)
            output = models.unet(
                noisy[None], t, states, down_block_additional_residuals=down, mid_block_additional_residual=middle
            ).sample[0]
            assert found[row].item() == pytest.approx((output - noise[row]).square().mean().item(), rel=1e-4)


def test_pairs_are_the_best_and_the_worst_of_a_brief_and_are_kept(studio, tmp_path):
    briefs, config = placed_briefs(2), DPO(each=3, gap=1e-6)
    looked = Means()
    with pytest.raises(NoReward, match="one class"):
        make_pairs(studio, looked, briefs, tmp_path / "first", config, seed=1, batch=4, made_by={})
    judge = Bright(slope=200.0, middle=float(torch.cat(looked.means).median()) + 1e-6)
    pairs = make_pairs(studio, judge, briefs, tmp_path, config, seed=1, batch=4, made_by={})
    assert [pair.brief for pair in pairs] == [0, 1] and all(pair.p_winner > pair.p_loser for pair in pairs)
    given = studio.conditions(briefs)
    for latents, p in (("winner", "p_winner"), ("loser", "p_loser")):
        pictures = studio.picture(torch.stack([getattr(pair, latents) for pair in pairs]), given).detach()
        found = judge.logits(pictures, given.contexts).softmax(1)[:, 0].tolist()
        assert found == pytest.approx([getattr(pair, p) for pair in pairs], abs=0.1)  # judged in 8 bits
    seen = judge.seen
    again = make_pairs(studio, judge, briefs, tmp_path, config, seed=1, batch=4, made_by={})
    assert judge.seen == seen and all(torch.equal(a.winner, b.winner) for a, b in zip(again, pairs, strict=True))


class Means(Bright):
    """Passes everything, and remembers how bright it was."""

    def __init__(self) -> None:
        super().__init__(middle=-9.0)
        self.means: list[torch.Tensor] = []

    def logits(self, images, contexts):
        self.means.append(images.mean((1, 2, 3)))
        return super().logits(images, contexts)


@pytest.mark.parametrize(("middle", "share"), [(-9.0, "all"), (9.0, "none")])
def test_one_class_holds_no_preference(studio, tmp_path, middle, share):
    with pytest.raises(NoReward, match=f"passed {share} of the 4 pictures, so there is one class"):
        make_pairs(studio, Bright(middle=middle), placed_briefs(2), tmp_path, DPO(each=2), seed=0, batch=4, made_by={})


def test_few_pairs_fill_a_batch_by_turns():
    assert batches_of(some_pairs(), 2) == 2 and batches_of(some_pairs(), 3) == 4
