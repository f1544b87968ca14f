"""Model sets: what a TOML file may say, and what is said when a model cannot be had."""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from goodeye.errors import BadInput
from goodeye.judging.licence import licence_of
from goodeye.modelset import ROLES, SHOWROOM, Models, Settings, opened, reference, resolve, shipped_adapters


@pytest.fixture
def copy(tiny_set: Path, tmp_path: Path) -> Path:
    """A copy of the tiny set to break; its TOML file."""
    shutil.copytree(tiny_set.parent, tmp_path / "set")
    return tmp_path / "set" / tiny_set.name


def toml(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(path: str | Path, role: str | None = None) -> str:
    with pytest.raises(BadInput) as caught:
        model_set = resolve(path)
        if role:
            getattr(Models(model_set), role)
    message = str(caught.value)
    assert "\n" not in message and message.endswith(".")
    return message


# --- the sets


def test_no_torch_until_a_model_is_loaded():
    code = "import sys, goodeye.modelset as m; m.resolve('sd15'); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_showroom_has_every_role_in_its_own_folder():
    showroom = resolve("showroom")
    own = {role: str(SHOWROOM / role) for role in (*ROLES, "layout_unet", "region")}
    of_editing = {"editor": "reward_module/editor", "rewards": "reward_module", "editor_tokenizer": "editor/tokenizer",
                  "editor_text_encoder": "editor/text_encoder"}  # fmt: skip
    assert showroom.roles == own | {role: str(SHOWROOM / place) for role, place in of_editing.items()}
    assert all(Path(place).is_dir() for place in showroom.roles.values())
    settings = showroom.settings
    assert (settings.size, settings.steps, settings.guidance_scale, settings.product_scale) == (128, 20, 3.0, 0.5)


def test_the_last_steps_are_all_taken_and_the_first_by_strides():
    assert Settings(steps=20).starts == tuple(range(20))
    assert Settings(steps=20, stride=3).starts == (0, 3, 6, 9, *range(12, 20))
    assert Settings(steps=40, stride=2).starts == (*range(0, 24, 2), *range(24, 40))
    assert Settings(steps=1, stride=5).starts == (0,) and Settings(steps=2, stride=9).starts == (0, 1)


def test_a_set_with_an_adapter(tmp_path, monkeypatch, copy):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "mine" / "lora").mkdir(parents=True)
    (tmp_path / "runs" / "mine" / "lora" / "pytorch_lora_weights.safetensors").touch()
    found, plain = resolve(f"{copy}+runs/mine"), resolve(copy)
    assert found.name == "tiny+mine" and found.settings == plain.settings
    assert found.roles == plain.roles | {"lora": str(tmp_path / "runs" / "mine" / "lora")}
    assert reference("set/tiny.toml+runs/mine") == f"{copy}+{tmp_path / 'runs' / 'mine'}"
    assert resolve(reference("set/tiny.toml+runs/mine")) == found
    message = refusal("showroom+runs/yours")
    assert message.startswith("runs/yours is no adapter.") and "goodeye ads align" in message
    (tmp_path / "a+b.toml").write_text(
        copy.read_text().replace('= "', f'= "{copy.parent}/').replace(f"{copy.parent}/tiny", "tiny")
    )
    assert resolve("a+b.toml").name == "tiny", "a file's own name may have a plus"


def test_a_damaged_adapter_is_said_plainly(tmp_path, copy):
    (tmp_path / "pytorch_lora_weights.safetensors").write_bytes(b"cut")
    message = refusal(f"{copy}+{tmp_path}", "unet")
    assert "the role lora of tiny+" in message and "cannot be loaded" in message


def test_shipped_adapters_have_names(tmp_path, monkeypatch):
    monkeypatch.setattr("goodeye.modelset.SHOWROOM", tmp_path)
    assert shipped_adapters() == {}
    (tmp_path / "align" / "rfft_cc" / "lora").mkdir(parents=True)
    (tmp_path / "align" / "rfft_cc" / "lora" / "pytorch_lora_weights.safetensors").touch()
    assert shipped_adapters() == {"rfft_cc": tmp_path / "align" / "rfft_cc"} and shipped_adapters("sd15") == {}
    found = resolve("showroom+rfft_cc")
    assert found.name == "showroom+rfft_cc" == reference("showroom+rfft_cc")
    assert found.roles["lora"] == str(tmp_path / "align" / "rfft_cc" / "lora")
    assert "ships with the showroom: rfft_cc." in refusal("showroom+rfft_kl")


def test_sd15_is_the_paper_s_generator():
    sd15 = resolve("sd15")
    assert sd15.roles["unet"] == "stable-diffusion-v1-5/stable-diffusion-v1-5#unet"
    assert sd15.roles["controlnet"] == "lllyasviel/control_v11p_sd15_canny"
    settings = sd15.settings
    assert settings == Settings() and (settings.size, settings.steps, settings.guidance_scale) == (512, 40, 7.5)
    assert (settings.canny, settings.product_scale, settings.sampler) == ((100, 200), 0.74, "ddim")


def test_a_file_names_folders_beside_it_hub_ids_and_settings(tmp_path):
    (tmp_path / "models" / "my unet").mkdir(parents=True)
    (tmp_path / "u2net.onnx").write_bytes(b"")
    path = toml(
        tmp_path,
        """
        name = "mine"
        base = "sd15"
        [roles]
        unet = "models/my unet"
        vae = "models#my unet"
        depth = "someone/depth-model@v1.2#small"
        saliency = "u2net.onnx"
        [settings]
        steps = 12
        control_scale = 1
        canny = [50, 150]
        sampler = "euler"
        prompts = ["a {title} on a table"]
        """,
    )
    mine = resolve(path)
    assert mine == resolve(str(path)) and mine.name == "mine"
    assert mine.roles["unet"] == mine.roles["vae"] == str(tmp_path / "models" / "my unet")
    assert mine.roles["saliency"] == str(tmp_path / "u2net.onnx")
    assert mine.roles["depth"] == "someone/depth-model@v1.2#small"
    assert mine.roles["clip"] == resolve("sd15").roles["clip"]
    assert mine.settings == Settings(
        steps=12, control_scale=1, canny=(50, 150), sampler="euler", prompts=("a {title} on a table",)
    )


def test_a_file_without_base_has_only_its_own_roles(tmp_path):
    (tmp_path / "vae").mkdir()
    alone = resolve(toml(tmp_path, '[roles]\nvae = "vae"'))
    assert (alone.name, list(alone.roles)) == ("mine", ["vae"])


@dataclass(frozen=True, kw_only=True)
class Edit:
    """The settings of a job, as it would have them."""

    steps: int = 100
    image_scale: float = 1.5
    masked: bool = False
    words: tuple[str, ...] = ()
    model: str | None = None


def test_a_file_has_tables_and_roles_for_other_jobs(tmp_path):
    (tmp_path / "taste.safetensors").write_bytes(b"")
    mine = resolve(
        toml(
            tmp_path,
            """
            base = "sd15"
            [roles]
            taste = "taste.safetensors"
            editor = "someone/an-editor#unet"
            [edit]
            steps = 30
            image_scale = 2
            words = ["a", "b"]
            model = "m"
            """,
        )
    )
    assert (
        mine.roles["taste"] == str(tmp_path / "taste.safetensors") and mine.roles["editor"] == "someone/an-editor#unet"
    )
    assert mine.table("edit", Edit) == Edit(steps=30, image_scale=2, words=("a", "b"), model="m")
    assert mine.table("synth", Edit) == Edit() == resolve("sd15").table("edit", Edit)
    assert mine.settings == Settings()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("step = 3", r"the table \[edit\] of the model set mine has the unknown setting step; did you mean steps\?"),
        ("steps = 3.5", r"has steps = 3\.5. Use a value like 100"),
        ("steps = true", "has steps = True"),
        ("masked = 1", "has masked = 1. Use a value like False"),
        ("words = 'a'", "has words = 'a'"),
    ],
)
def test_a_job_s_table_with_mistakes_is_refused_plainly(tmp_path, line, words):
    with pytest.raises(BadInput, match=words):
        resolve(toml(tmp_path, f"[edit]\n{line}")).table("edit", Edit)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[roles]\ncontrolnett = "a/b"', "unknown role controlnett; did you mean controlnet?"),
        ("[settings]\nguidance = 3", "unknown setting guidance; did you mean guidance_scale?"),
        ('[role]\nunet = "a/b"', "unknown key role; did you mean roles?"),
        ("[settings]\nsize = 130", "size is 130. Use a multiple of 8"),
        ("[settings]\nsteps = true", "steps is True. Use a whole number"),
        ("[settings]\nguidance_scale = nan", "guidance_scale is nan. Use 0 to 100"),
        ("[settings]\ncanny = [200, 100]", "canny is"),
        ('[settings]\nsampler = "plms"', "Use ddim or euler"),
        ("[settings]\nthreshold = 50", "threshold is 50"),
        ('[settings]\nprompts = "one"', "Use a list of texts"),
        ('[roles]\nunet = "./none"', "does not exist"),
        ('[roles]\nunet = "none"', "does not exist"),
        ("[roles]\nunet = 5", "role unet is 5"),
        ('base = "sdxl"', "base is 'sdxl'"),
        ("roles = 3", "are tables"),
        ("edit = 3", "are tables"),
        ("[editt]\nsteps = 3", "unknown key editt; did you mean edit?"),
        ("[roles\n", "is not TOML"),
    ],
)
def test_a_file_with_mistakes_is_refused_plainly(tmp_path, text, words):
    path = toml(tmp_path, text)
    message = refusal(path)
    assert words in message and str(path) in message


def test_what_is_neither_a_set_nor_a_file(tmp_path):
    assert "did you mean showroom?" in refusal("shworoom")
    assert "cannot be read" in refusal(tmp_path)
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    assert "is not TOML" in refusal(tmp_path / "bytes.toml")


# --- the models


def test_every_role_loads_once_frozen_and_in_evaluation_mode(tiny_set):
    models = Models(resolve(tiny_set))
    for role in ("vae", "unet", "controlnet", "text_encoder"):
        network = getattr(models, role)
        assert getattr(models, role) is network and not network.training
        assert not any(parameter.requires_grad for parameter in network.parameters())
        assert network.dtype == torch.float32
    assert models.scheduler_config["beta_schedule"] == "scaled_linear"
    assert models.tokenizer("a red shoe").input_ids
    images = torch.rand(1, 3, 32, 32)
    assert models.depth(images).shape == models.saliency(images).shape == (1, 1, 32, 32)
    assert models.rfnet.depth is models.depth and models.rfnet.threshold == models.model_set.settings.threshold


def test_a_job_brings_its_own_loader_and_it_is_called_once(tmp_path):
    (tmp_path / "taste.json").write_text("[1, 2]")
    models, calls = Models(resolve(toml(tmp_path, '[roles]\ntaste = "taste.json"\nrewards = "nobody/nothing"'))), []

    def loader(place: str) -> list[int]:
        calls.append(place)
        return json.loads(Path(place).read_text())

    assert models.load("taste", loader) == [1, 2] and models.load("taste", loader) is models.load("taste", loader)
    assert calls == [str(tmp_path / "taste.json")]
    with pytest.raises(BadInput, match="has no editor. Name a folder or a hub id, as editor under"):
        models.load("editor", loader)
    with pytest.raises(BadInput, match=r"role rewards of mine \(nobody/nothing\) cannot be loaded from the hub"):
        models.load("rewards", loader)
    (tmp_path / "taste.json").write_text("[1, ")
    with pytest.raises(BadInput, match="role taste of mine .* cannot be loaded"):
        Models(models.model_set).load("taste", loader)


def test_a_network_of_a_job_s_own_role_is_frozen_and_whole(copy):
    from diffusers import UNet2DConditionModel

    text = copy.read_text().replace("[settings]", 'editor = "unet"\n[settings]')
    models = Models(resolve(toml(copy.parent, text)))
    editor = models.network("editor", UNet2DConditionModel)
    assert editor is models.network("editor", UNet2DConditionModel) and editor is not models.unet
    assert not editor.training and not any(parameter.requires_grad for parameter in editor.parameters())


def test_loaded_models_stay_as_they_are_and_sets_are_named_as_a_config_has_them(tiny_set, monkeypatch):
    models = opened(tiny_set)
    assert opened(models) is models and models.model_set.name == reference(models) == "tiny"
    monkeypatch.chdir(tiny_set.parent)
    assert reference(tiny_set.name) == str(tiny_set) and reference("showroom") == "showroom"
    models.require("vae", "scheduler_config")
    assert {"vae", "scheduler_config"} <= vars(models).keys()


def test_other_dtype(tiny_set):
    assert Models(resolve(tiny_set), dtype=torch.bfloat16).unet.dtype == torch.bfloat16


def test_loading_a_folder_is_silent(tiny_set, capfd):
    assert Models(resolve(tiny_set)).text_encoder
    assert capfd.readouterr() == ("", "")


def test_a_pickle_is_refused(copy):
    folder = copy.parent / "unet"
    weights = folder / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(weights), folder / "diffusion_pytorch_model.bin")
    weights.unlink()
    message = refusal(copy, "unet")
    assert "role unet of tiny" in message and "safetensors only" in message
    for role, name in (("text_encoder", "pytorch_model.bin"), ("saliency", "model.ckpt"), ("rfnet", "weights.pt")):
        (copy.parent / role / "model.safetensors").rename(copy.parent / role / name)
        assert f"holds only {name}, a pickle" in refusal(copy, role)


def test_a_folder_with_both_loads_the_safetensors(copy):
    (copy.parent / "vae" / "diffusion_pytorch_model.bin").write_bytes(b"never read")
    assert Models(resolve(copy)).vae


@pytest.mark.parametrize("role", ["unet", "text_encoder", "depth", "rfnet"])
def test_damaged_weights(copy, role):
    (weights,) = (copy.parent / role).glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:500])
    assert f"role {role} of tiny" in (message := refusal(copy, role)) and "cannot be loaded" in message


@pytest.mark.parametrize("role", ["unet", "text_encoder"])
def test_weights_that_lack_a_part_are_refused_not_drawn_at_random(copy, role):
    (path,) = (copy.parent / role).glob("*.safetensors")
    weights = load_file(path)
    first = min(weights)
    del weights[first]
    save_file(weights, path, metadata={"format": "pt"})
    message = refusal(copy, role)
    assert "lacks 1 weights" in message and first in message


def test_the_wrong_folder_is_refused(copy, tmp_path):
    text = copy.read_text().replace('unet = "unet"', 'unet = "vae"').replace('tokenizer = "tok', 'tokenizer = "./tok')
    assert "UNet2DConditionModel" in refusal(toml(copy.parent, text), "unet")
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_text(json.dumps({"a": 1}))
    assert "role unet" in refusal(toml(tmp_path, '[roles]\nunet = "unet"'), "unet")
    (tmp_path / "unet" / "config.json").write_text("{")
    assert "role unet" in refusal(toml(tmp_path, '[roles]\nunet = "unet"'), "unet")
    (tmp_path / "weights.safetensors").write_bytes(b"")
    assert "is not a folder" in refusal(toml(tmp_path, '[roles]\nunet = "weights.safetensors"'), "unet")
    for role in ("scheduler_config", "tokenizer"):
        assert "cannot be loaded" in refusal(toml(tmp_path, f'[roles]\n{role.split("_")[0]} = "unet"'), role)


def test_a_role_that_no_one_named():
    sd15 = Models(resolve("sd15"))
    with pytest.raises(BadInput, match='sd15 has no saliency.*U2Net.*base = "sd15"'):
        _ = sd15.saliency
    with pytest.raises(BadInput, match="sd15 has no rfnet.*train-judge"):
        _ = sd15.rfnet


@pytest.mark.filterwarnings("ignore:The `local_dir_use_symlinks`:UserWarning")  # diffusers' own
@pytest.mark.parametrize("role", ["unet", "text_encoder", "tokenizer", "scheduler_config", "depth", "clip"])
def test_a_hub_that_cannot_be_reached_is_one_plain_line(role, tmp_path):
    """The tests run offline; nobody/nothing is in no cache."""
    path = toml(tmp_path, f'[roles]\n{role.split("_config")[0]} = "nobody/nothing#part"')
    message = refusal(path, role)
    assert "nobody/nothing#part" in message and "Check the id and the network" in message


def test_missing_showroom_weights_say_how_to_build_them(monkeypatch, tmp_path):
    monkeypatch.setattr("goodeye.modelset.SHOWROOM", tmp_path)
    with pytest.raises(BadInput, match="goodeye showroom build FOLDER --only vae"):
        _ = Models(resolve("showroom")).vae


def test_a_device_that_is_not_there(tiny_set):
    for device in ("cuda:99", "cud"):
        with pytest.raises(BadInput, match=f"device {device} cannot be used"):
            Models(resolve(tiny_set), device=device)


def test_every_shipped_card_names_its_licence() -> None:
    cards = sorted(SHOWROOM.rglob("README.md"))
    assert len(cards) >= 18 and {licence_of(card.parent) for card in cards} == {"apache-2.0"}
