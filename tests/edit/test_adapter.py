"""An editor as an adapter: nothing changed at first, loaded by peft alone, and one upon another."""

import json

import pytest
import torch
from diffusers import UNet2DConditionModel
from peft import PeftModel

from goodeye.edit.adapter import adapted, editor_unet, save_adapter, widened
from goodeye.errors import BadInput
from goodeye.modelset import Models, ModelSet, resolve


@pytest.fixture(scope="module")
def place(tiny_set):
    return tiny_set.parent / "unet"


@pytest.fixture(scope="module")
def unet(tiny_set):
    return Models(resolve(tiny_set)).unet


def inputs(channels=8):
    made = torch.Generator().manual_seed(1)
    return torch.randn(1, channels, 16, 16, generator=made), torch.randn(1, 8, 16, generator=made)


def answer(network, channels=8):
    sample, text = inputs(channels)
    with torch.no_grad():
        return network(sample, 100, encoder_hidden_states=text).sample


def trained(network, seed):
    """As after some training."""
    made = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=made))
    return network.eval()


def editor_of(folder):
    return editor_unet(Models(ModelSet(name="mine", roles={"editor": str(folder)})))


def test_a_widened_unet_answers_as_before_whatever_the_picture_shows(unet):
    wide = widened(unet)
    sample, text = inputs(4)
    plain = unet(sample, 100, encoder_hidden_states=text).sample
    shown = wide(torch.cat([sample, torch.randn_like(sample)], 1), 100, encoder_hidden_states=text).sample
    assert torch.allclose(plain, shown, atol=1e-6) and wide.config.in_channels == 8


def test_at_first_it_changes_nothing_and_only_it_learns(unet):
    wide = widened(unet)
    before = answer(wide)
    network = adapted(wide, rank=2)
    assert torch.allclose(answer(network.eval()), before, atol=1e-6)
    learns = {name for name, one in network.named_parameters() if one.requires_grad}
    assert all("lora_" in name or "conv_in" in name or "conv_out" in name for name in learns)
    count = sum(one.numel() for one in network.parameters() if one.requires_grad)
    whole = sum(one.numel() for name in ("conv_in", "conv_out") for one in getattr(widened(unet), name).parameters())
    low = sum(  # rank times (what goes in with its kernel, and what comes out), of every layer with weights
        2 * (one[0].numel() + len(one))
        for name, one in widened(unet).named_parameters()
        if one.ndim in (2, 4) and not name.startswith(("conv_in", "conv_out"))
    )
    assert count == whole + low


def test_peft_alone_loads_it_to_the_same_answer(unet, place, tmp_path):
    network = trained(adapted(widened(unet), rank=2), 3)
    save_adapter(network, tmp_path / "editor", str(place))
    base = UNet2DConditionModel.from_pretrained(
        place, in_channels=8, low_cpu_mem_usage=False, ignore_mismatched_sizes=True
    )
    theirs = PeftModel.from_pretrained(base, tmp_path / "editor").eval()
    merged = editor_of(tmp_path / "editor")
    assert isinstance(merged, UNet2DConditionModel) and merged.config.in_channels == 8
    assert torch.allclose(answer(theirs), answer(network), atol=1e-5)
    assert torch.allclose(answer(merged), answer(network), atol=1e-4)
    assert not torch.allclose(answer(merged), answer(widened(unet)), atol=1e-2)


def test_one_stands_upon_another_by_a_path_from_its_folder(unet, place, tmp_path):
    save_adapter(trained(adapted(widened(unet), rank=2), 3), tmp_path / "one" / "base", str(place))
    upon = trained(adapted(editor_of(tmp_path / "one" / "base"), rank=1), 4)
    save_adapter(upon, tmp_path / "two" / "editor", "../../one/base")
    found = editor_of(tmp_path / "two" / "editor")
    assert torch.allclose(answer(found), answer(upon), atol=1e-4)
    config = tmp_path / "two" / "editor" / "adapter_config.json"
    for base, said in ((None, "does not say by base_model_name_or_path"), (".", "too many adapters upon each other")):
        config.write_text(json.dumps({**json.loads(config.read_text()), "base_model_name_or_path": base}))
        with pytest.raises(BadInput, match=said):
            editor_of(tmp_path / "two" / "editor")
