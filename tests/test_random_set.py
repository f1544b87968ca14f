"""Sets at full size with random weights: published sizes, standard folders, and what is here is used."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from goodeye.diffusion.schedule import from_config
from goodeye.errors import BadInput
from goodeye.modelset import STABLE_DIFFUSION, Models, ModelSet, Settings, resolve
from goodeye.random_set import CONFIGS, build, local_weights, with_random_weights


@pytest.fixture
def bare(tiny_set: Path, tmp_path: Path) -> ModelSet:
    """The tiny set, of which unet, saliency, rfnet and tokenizer have lost everything but their configuration."""
    shutil.copytree(tiny_set.parent, tmp_path / "set")
    for role in ("unet", "saliency", "rfnet"):
        for file in (tmp_path / "set" / role).glob("*.safetensors"):
            file.unlink()
    shutil.rmtree(tmp_path / "set" / "tokenizer")
    (tmp_path / "set" / "tokenizer").mkdir()
    return resolve(tmp_path / "set" / tiny_set.name)


def weights(model: torch.nn.Module) -> int:
    return sum(one.numel() for one in model.parameters())


def of_full_size(role: str) -> torch.nn.Module:
    with torch.device("meta"):
        return build(role, CONFIGS / role)


@pytest.mark.parametrize(
    ("role", "published"),
    [
        ("unet", 859_520_964),  # diffusers' documentation of num_parameters, for stable-diffusion-v1-5
        ("vae", 83_653_863),
        ("text_encoder", 123_060_480),
        ("controlnet", 361_279_120),
        ("clip", 427_616_513),  # CLIP ViT-L/14
        ("depth", 24_785_089),  # Depth Anything V2 Small
    ],
)
def test_a_role_of_sd15_has_the_published_number_of_weights(role: str, published: int) -> None:
    assert weights(of_full_size(role)) == published


def test_the_saliency_model_is_a_segformer_b2() -> None:
    classes = 150 - 1  # SegFormer-B2 is published as 27.5 M weights with ADE's 150 classes; ours has one
    model = of_full_size("saliency")
    assert round((weights(model) + classes * (768 + 1)) / 1e6, 1) == 27.5 and model.config.num_labels == 1


def test_rfnet_has_the_paper_s_size() -> None:
    model = of_full_size("rfnet")
    resnet50, classifier = 25_557_032, 2048 * 1000 + 1000
    roberta_base, pooler = 124_645_632, 768 * 768 + 768
    assert [weights(tower) for tower in model.towers.values()] == [resnet50 - classifier] * 4
    assert weights(model.text_encoder) == roberta_base - pooler
    config = model.config
    assert (config.width, config.heads, config.n1, config.n2, config.image_size) == (384, 8, 1, 3, 384)
    assert (len(model.filters), len(model.layers), config.classes) == (1, 3, 5)


def test_sd15_s_schedule_is_stable_diffusion_s() -> None:
    config = json.loads((CONFIGS / "scheduler" / "scheduler_config.json").read_text())
    schedule = from_config(config, 40)
    assert schedule.prediction == "epsilon" and schedule.steps[0].t == 976 and schedule.steps[-1].t == 1
    assert float(schedule.alphas_bar[-1]) == pytest.approx(0.004660, abs=2e-6)  # sigma 14.61, as k-diffusion has it


def test_weights_that_are_here_are_used(tiny_set: Path, tmp_path: Path) -> None:
    whole = resolve(tiny_set)
    found, origins = with_random_weights(whole, tmp_path, list(whole.roles))
    assert found == whole and set(origins.values()) == {"here"}
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.toml"] and resolve(tmp_path / "tiny.toml") == found


def test_what_is_missing_is_made_by_its_own_configuration(bare: ModelSet, tiny_set: Path, tmp_path: Path) -> None:
    made, origins = with_random_weights(bare, tmp_path / "made", list(bare.roles))
    random = {role for role, origin in origins.items() if origin != "here"}
    assert random == {"unet", "saliency", "rfnet", "tokenizer"}
    assert origins["unet"] == "random" and origins["tokenizer"] == "random, of sd15's size"
    first, whole = Models(made), Models(resolve(tiny_set))
    assert first.unet.config.block_out_channels == whole.unet.config.block_out_channels
    assert weights(first.rfnet.model) == weights(whole.rfnet.model)
    assert first.tokenizer.model_max_length == whole.text_encoder.config.max_position_embeddings
    assert first.saliency(torch.rand(1, 3, 32, 32)).shape == (1, 1, 32, 32)


def test_the_seed_decides_the_weights(bare: ModelSet, tmp_path: Path) -> None:
    def of(name: str, seed: int) -> torch.Tensor:
        made, _ = with_random_weights(bare, tmp_path / name, ["unet"], seed=seed)
        return load_file(Path(made.roles["unet"]) / "diffusion_pytorch_model.safetensors")["conv_in.weight"]

    assert of("a", 0).dtype == torch.float16
    assert torch.equal(of("a", 0), of("b", 0)) and not torch.equal(of("a", 0), of("c", 1))


def test_open_roles_and_hub_ids_that_are_not_here_are_of_sd15_s_size(tmp_path: Path) -> None:
    roles = {"scheduler": f"{STABLE_DIFFUSION}#scheduler", "tokenizer": "someone/a-checkpoint#tokenizer"}
    asked = ModelSet(name="mine", roles=roles, settings=Settings())
    made, origins = with_random_weights(asked, tmp_path, list(roles))
    assert set(origins.values()) == {"random, of sd15's size"}
    models = Models(made)
    assert models.tokenizer.model_max_length == 77 and models.scheduler_config["beta_start"] == 0.00085
    assert local_weights("", "rfnet") is None and local_weights(roles["tokenizer"], "tokenizer") is None


def test_a_folder_that_cannot_be_written_is_said(bare: ModelSet, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match=r"cannot take the random weights: .*\. Name a folder with more room\.$"):
        with_random_weights(bare, tmp_path / "file", ["unet"])
