"""What was trained loads with diffusers and peft alone and makes the same pictures; the start comes back to the bit."""

import copy
import dataclasses

import pytest
import torch
from diffusers import ControlNetModel
from toy_judge import placed_briefs

from goodeye.ads.adapt import adapt, put_on
from goodeye.ads.generate import generate
from goodeye.errors import BadInput
from goodeye.modelset import Models, resolve


def disturb(network: torch.nn.Module) -> None:
    """As if it had been trained."""
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))


@pytest.fixture
def models(tiny_set) -> Models:
    return Models(resolve(str(tiny_set)))


@pytest.mark.parametrize("train", ["controlnet", "lora"])
def test_diffusers_alone_makes_the_same_pictures_of_what_was_trained(
    tiny_set, models, tmp_path, train, diffusers_pipeline, inpainted_by_diffusers
):
    settings, brief = models.model_set.settings, placed_briefs(1)[0]
    mask = torch.zeros_like(brief.canvas.mask)
    mask[:, 10:20, 12:22] = 1  # whole latents, so that either way of making it small agrees
    canvas = dataclasses.replace(brief.canvas, mask=mask)
    before = generate(models, [canvas], [brief.prompt], [7], settings=settings)[0]
    trained = adapt(models, train, rank=4)
    disturb(next(iter(trained.modules.values())))
    ours = generate(models, [canvas], [brief.prompt], [7], settings=settings)[0]
    place = trained.save(tmp_path)
    learnt = {"controlnet": ControlNetModel.from_pretrained(place)} if train == "controlnet" else {}
    pipe = diffusers_pipeline(tiny_set.parent, **learnt)
    if train == "lora":
        pipe.load_lora_weights(place)
    assert torch.allclose(ours, inpainted_by_diffusers(pipe, canvas, brief.prompt, settings), atol=1e-4)
    assert (ours - before).abs().max() > 1e-2

    fresh = Models(resolve(str(tiny_set)))
    put_on(fresh, tmp_path)
    for other in (fresh, Models(resolve(f"{tiny_set}+{tmp_path}")), Models(resolve(f"{tiny_set}+{place}"))):
        again = generate(other, [canvas], [brief.prompt], [7], settings=settings)[0]
        assert torch.allclose(again, ours, atol=1e-5)
        assert not any(p.requires_grad for p in [*other.unet.parameters(), *other.controlnet.parameters()])
    plain = Models(resolve(str(tiny_set)))
    assert other.model_set.name != plain.model_set.name
    assert other.unet.state_dict().keys() == plain.unet.state_dict().keys(), "a network like any other"


@pytest.mark.parametrize("train", ["controlnet", "lora"])
def test_the_start_comes_back_and_goes_to_the_bit(models, train):
    network = models.controlnet if train == "controlnet" else models.unet
    inputs = (torch.randn(1, 4, 16, 16), 10, models.text_encoder(torch.ones(1, 8, dtype=int)).last_hidden_state)
    more = (torch.ones(1, 3, 32, 32),) if train == "controlnet" else ()

    def answer() -> torch.Tensor:
        found = network(*inputs, *more)
        return found.mid_block_res_sample if train == "controlnet" else found.sample

    untouched = copy.deepcopy(network.state_dict())
    loaded = answer().detach()
    trained = adapt(models, train, rank=4)
    (learns,) = trained.modules.values()
    wanted = {name for name, p in learns.named_parameters() if p.requires_grad}
    assert wanted and (train == "controlnet" or all("lora" in name for name in wanted))
    start = answer().detach()
    assert torch.allclose(start, loaded, atol=1e-5)  # a new LoRA adds nothing; a copy may round another way
    disturb(learns)
    after, held = answer().detach(), {name: p.detach().clone() for name, p in learns.named_parameters()}
    with trained.at_start():
        assert torch.equal(answer(), start)
        if train == "controlnet":
            assert all(torch.equal(value, untouched[name]) for name, value in network.state_dict().items())
    assert torch.equal(answer(), after) and not torch.equal(after, start)
    assert all(torch.equal(p, held[name]) for name, p in learns.named_parameters())
    assert {name for name, p in learns.named_parameters() if p.requires_grad} == wanted


def test_the_start_is_the_start_in_half_precision_too(models):
    """Autocast keeps its copies of weights by parameter, and a swap leaves the parameters in place."""
    trained = adapt(models, "controlnet")
    network, text = models.controlnet, models.text_encoder(torch.ones(1, 8, dtype=int)).last_hidden_state
    inputs = (torch.randn(1, 4, 16, 16), 10, text, torch.ones(1, 3, 32, 32))
    disturb(network)

    def answers(**more) -> list[torch.Tensor]:
        with torch.autocast("cpu", torch.bfloat16, **more):
            now = network(*inputs).mid_block_res_sample
            with torch.no_grad(), trained.at_start():
                start = network(*inputs).mid_block_res_sample
            again = network(*inputs).mid_block_res_sample
        (slope,) = torch.autograd.grad(again.float().square().sum(), network.conv_in.weight)
        return [now, start, again, slope]

    found, wanted = answers(), answers(cache_enabled=False)
    assert all(torch.equal(*pair) for pair in zip(found, wanted, strict=True))
    assert torch.equal(found[0], found[2]) and not torch.equal(found[0], found[1])


def test_the_start_is_no_second_model(models):
    """Beside the networks lie the start's weights and nothing else."""
    trained = adapt(models, "controlnet")
    assert sum(w.numel() for w in trained.start) == sum(p.numel() for p in models.controlnet.parameters())


def test_a_folder_with_nothing_trained_in_it_is_refused(models, tmp_path):
    with pytest.raises(BadInput, match="neither a controlnet nor a lora"):
        put_on(models, tmp_path)
