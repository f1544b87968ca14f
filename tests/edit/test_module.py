"""The reward module: the published size, nothing added at first, each switch, and its files."""

import math
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
import torch
from diffusers import UNet2DConditionModel
from tiny_editor import TEXT, tiny_unet

from goodeye.diffusion.denoiser import Condition, branches, mixed
from goodeye.edit.module import Rewarded, RewardModule, encode_scores
from goodeye.modelset import Models, ModelSet
from goodeye.random_set import CONFIGS

SIZE = 5_026_880  # computed from the released code


@pytest.fixture
def unet():
    return tiny_unet()


def inputs(count=2):
    made = torch.Generator().manual_seed(1)
    sample, text = torch.randn(count, 8, 16, 16, generator=made), torch.randn(count, 8, 16, generator=made)
    rewards, feedback = torch.rand(count, 3, generator=made) * 5, torch.randn(count, TEXT, generator=made)
    return sample, text, rewards, feedback


def woken(module):
    """As after some training: nothing is zero any more."""
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return module


def parameters(module):
    return sum(one.numel() for one in module.parameters())


def test_at_full_size_it_has_the_published_number_of_parameters():
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(str(CONFIGS / "unet")), in_channels=8)
        assert parameters(RewardModule.beside(unet, 768)) == SIZE
        assert parameters(RewardModule.beside(unet, 768, type_embedding=True)) == SIZE + 2 * 320
        only_b = parameters(RewardModule.beside(unet, 768, inject_a=False))
    assert only_b == (768 * 1280 + 1280) + (1280 * 1280 + 1280) + (768 * 1280 + 1280)  # MLP_1 and Lin_1


def test_at_first_it_adds_nothing_to_the_bit(unet):
    sample, text, rewards, feedback = inputs()
    plain = unet(sample, 500, encoder_hidden_states=text).sample
    wrapped = Rewarded(unet, RewardModule.beside(unet, TEXT))
    assert torch.equal(wrapped(sample, 500, text, rewards=rewards, feedback=feedback).sample, plain)
    woken(wrapped.module)
    assert not torch.equal(wrapped(sample, 500, text, rewards=rewards, feedback=feedback).sample, plain)
    assert torch.equal(unet(sample, 500, encoder_hidden_states=text).sample, plain)  # a plain call is as before
    none = wrapped(sample, 500, text, rewards=rewards, feedback=feedback, given=torch.tensor([[1.0], [0.0]])).sample
    assert torch.equal(none[1], plain[1]) and not torch.equal(none[0], plain[0])


def test_all_of_it_learns_after_the_first_step(unet):
    sample, text, rewards, feedback = inputs()
    wrapped = Rewarded(unet.requires_grad_(False), RewardModule.beside(unet, TEXT, type_embedding=True))
    optimizer = torch.optim.SGD(wrapped.module.parameters(), lr=1.0)
    for _ in range(2):
        optimizer.zero_grad()
        wrapped(sample, 500, text, rewards=rewards, feedback=feedback).sample.pow(2).mean().backward()
        optimizer.step()
    still = [name for name, one in wrapped.module.named_parameters() if not one.grad.abs().sum()]
    assert still == []


@pytest.mark.parametrize(
    ("switches", "by_scores", "by_text"),
    [
        ({}, True, True),
        ({"use_text": False}, True, False),
        ({"use_scores": False}, False, True),
        ({"inject_a": False}, True, True),
        ({"inject_b": False}, True, True),
        ({"inject_b": False, "use_text": False}, True, False),  # attention to one token
    ],
)
def test_switches_cut_what_they_name(unet, switches, by_scores, by_text):
    sample, text, rewards, feedback = inputs()
    wrapped = Rewarded(unet, woken(RewardModule.beside(unet, TEXT, **switches)))
    usual = wrapped(sample, 500, text, rewards=rewards, feedback=feedback).sample
    scores = wrapped(sample, 500, text, rewards=5 - rewards, feedback=feedback).sample
    told = wrapped(sample, 500, text, rewards=rewards, feedback=-feedback).sample
    assert torch.equal(scores, usual) is not by_scores
    assert torch.equal(told, usual) is not by_text


def test_something_must_be_left():
    for switches in ({"use_scores": False, "use_text": False}, {"inject_a": False, "inject_b": False}):
        with pytest.raises(ValueError, match="scores or text"):
            RewardModule(8, 32, TEXT, 8, 4, **switches)


def test_scores_are_coded_like_timesteps():
    coded = encode_scores(torch.tensor([[0.0, 2.5, 5.0]]))[0].reshape(3, 2, 128)
    for score, (cosines, sines) in zip((0.0, 2.5, 5.0), coded, strict=True):
        rates = [10000 ** (-at / 128) for at in range(128)]
        assert torch.allclose(cosines, torch.tensor([math.cos(score * rate) for rate in rates]), atol=1e-6)
        assert torch.allclose(sines, torch.tensor([math.sin(score * rate) for rate in rates]), atol=1e-6)


def test_three_branches_in_one_call(unet):
    sample, text, rewards, feedback = inputs(4)
    sample, picture, none = sample[:2, :4], sample[2:, :4], torch.zeros(1, 4, 16, 16)
    wrapped = Rewarded(unet, woken(RewardModule.beside(unet, TEXT)))

    def condition(text, joined):
        return Condition(text=text, joined=joined, more=lambda t: {"rewards": rewards[:1], "feedback": feedback[:2]})

    conditions = [condition(text[:1], none), condition(text[:1], picture), condition(text[2:], picture)]
    got = branches(wrapped, conditions)(sample, 300.0)
    same = [torch.zeros_like(picture), picture, picture], [text[:1].expand(2, -1, -1)] * 2 + [text[2:]]
    for answer, joined, states in zip(got, *same, strict=True):
        alone = wrapped(
            torch.cat([sample, joined], 1), 300.0, states, rewards=rewards[:1].expand(2, -1), feedback=feedback[:2]
        ).sample
        assert torch.allclose(answer, alone, atol=1e-5)
    e_none, e_image, e_text = got
    guided = mixed(wrapped, conditions, (1 - 1.5, 1.5 - 7.5, 7.5))(sample, 300.0)
    assert torch.allclose(guided, e_none + 1.5 * (e_image - e_none) + 7.5 * (e_text - e_image), atol=1e-4)


def test_threads_do_not_mix_their_rewards(unet):
    sample, text, _, feedback = inputs(1)
    wrapped = Rewarded(unet, woken(RewardModule.beside(unet, TEXT)))
    scores = [torch.full((1, 3), float(score)) for score in range(6)]

    @torch.no_grad()
    def call(rewards):
        return wrapped(sample, 500, text, rewards=rewards, feedback=feedback).sample

    alone = [call(one) for one in scores]
    assert all(not torch.equal(one, other) for one, other in pairwise(alone))
    with ThreadPoolExecutor(3) as pool:
        assert all(torch.equal(one, other) for one, other in zip(pool.map(call, scores), alone, strict=True))


def test_it_is_saved_beside_the_unet_and_loads_again(unet, tmp_path):
    sample, text, rewards, feedback = inputs()
    wrapped = Rewarded(unet, woken(RewardModule.beside(unet, TEXT, type_embedding=True)))
    wrapped.unet.save_pretrained(tmp_path / "unet")
    wrapped.module.save_pretrained(tmp_path / "rewards")
    assert [file.suffix for file in (tmp_path / "rewards").glob("*model*")] == [".safetensors"]
    places = {"editor": str(tmp_path / "unet"), "rewards": str(tmp_path / "rewards")}
    models = Models(ModelSet(name="mine", roles=places))
    again = Rewarded(models.network("editor", UNet2DConditionModel), models.network("rewards", RewardModule))
    kept = again.module.state_dict()
    assert all(torch.equal(kept[name], value) for name, value in wrapped.module.state_dict().items())
    given = {"rewards": rewards, "feedback": feedback}
    both = [one(sample, 500, text, **given).sample for one in (again, wrapped)]
    assert torch.allclose(*both, atol=1e-5)
