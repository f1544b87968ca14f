"""What learns, at which rate, and adapters that hold what was learned."""

import pytest
import torch
from tiny_clip import small_clip

from goodeye.errors import BadInput
from goodeye.judging.clip import Clip
from goodeye.search.adapt import PROJECTIONS, adapted, layer_shares, save_adapter

WORDS = ["red cup", "blue lamp"]


def taught():
    """The tiny CLIP before and after its projections have changed."""
    start, after = small_clip(WORDS), small_clip(WORDS)
    with torch.no_grad():
        for number, name in enumerate(PROJECTIONS):
            weight = after.model.get_parameter(f"{name}.weight")
            weight += 0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(number))
    return start, after


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # peft's own
def test_an_adapter_holds_what_the_projections_learned(tmp_path):
    from peft import PeftModel

    start, after = taught()
    save_adapter(start, after, tmp_path / "a")
    got = adapted(start, tmp_path / "a")
    assert torch.allclose(got.embed_texts(WORDS), after.embed_texts(WORDS), atol=2e-3)  # half precision
    assert not torch.allclose(start.embed_texts(WORDS), after.embed_texts(WORDS), atol=0.05)
    assert start.version == small_clip(WORDS).version  # stays as it was
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(got.embed_images(pixels), after.embed_images(pixels), atol=2e-3)
    plain = PeftModel.from_pretrained(small_clip(WORDS).model, str(tmp_path / "a"))
    seen = Clip(plain, start.tokenizer, start.pixels).embed_images(pixels)
    assert torch.allclose(seen, got.embed_images(pixels), atol=1e-5)


def test_adapters_of_another_model_or_damaged_ones_are_refused(tmp_path):
    start, after = taught()
    save_adapter(start, after, tmp_path / "a")
    with pytest.raises(BadInput, match="trained on another CLIP"):
        adapted(small_clip(WORDS, seed=1), tmp_path / "a")
    (tmp_path / "a" / "adapter_model.safetensors").write_bytes(b"no weights")
    with pytest.raises(BadInput, match="is no adapter that can be read"):
        adapted(start, tmp_path / "a")
    with torch.no_grad():
        after.model.get_parameter("text_model.final_layer_norm.weight").add_(1)
    with pytest.raises(ValueError, match=r"final_layer_norm.weight has changed"):
        save_adapter(start, after, tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_layers_learn_slower_the_nearer_they_are_to_the_input():
    clip = small_clip(WORDS)
    share = layer_shares(clip, 0.5)
    count = clip.model.config.vision_config.num_hidden_layers
    of = {name: share(f"clip.model.{name}") for name, _ in clip.model.named_parameters()}
    assert of["visual_projection.weight"] == of["vision_model.post_layernorm.weight"] == of["logit_scale"] == 1
    layers = [of[f"vision_model.encoder.layers.{layer}.mlp.fc1.weight"] for layer in range(count)]
    assert layers == [0.5 ** (count - layer) for layer in range(count)]
    assert of["vision_model.embeddings.class_embedding"] == of["vision_model.pre_layrnorm.weight"] == 0.5 ** (count + 1)
    few = clip.model.config.text_config.num_hidden_layers
    assert of["text_model.embeddings.token_embedding.weight"] == 0.5 ** (few + 1)
