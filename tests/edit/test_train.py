"""Training both stages for a few steps on a tiny random model: conditions dropped as published, resumed to the bit."""

import json
import re
import shutil
from dataclasses import replace

import pytest
import torch
from diffusers import StableDiffusionInstructPix2PixPipeline, UNet2DConditionModel
from PIL import Image
from tiny_editor import save_editor, save_triplets, tiny_unet

from goodeye.cli import main
from goodeye.edit.config import Train
from goodeye.edit.generate import Settings, TextCondition, edit, for_editing, load_editor
from goodeye.edit.module import RewardModule
from goodeye.edit.train import EditStep, dropped, start, train
from goodeye.edit.triplets import read_triplets
from goodeye.errors import BadInput
from goodeye.modelset import Models, resolve
from goodeye.training import loop as loops

TINY = Train(size=32, batch=2, accumulate=1, steps=4, lr=1e-3, held=2, evaluate_every=2)


@pytest.fixture(scope="module")
def toml(tiny_set, tmp_path_factory):
    return save_editor(tiny_set, tmp_path_factory.mktemp("editor"), rewards=False)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Twelve annotated triplets."""
    root = save_triplets(tmp_path_factory.mktemp("data"), {f"t{at:02}": [at] for at in range(12)}, size=32)
    said = {f"t{at:02}": [{"Score": at % 6, "Negative Prompt": "blue"}] * 3 for at in range(12)}
    (root / "rewards.json").write_text(json.dumps(said))
    return root


pytestmark = pytest.mark.usefixtures("one_thread")


def opened(toml):
    return Models(resolve(toml))


def run(data, toml, out, config=TINY, **more):
    return train(read_triplets(data), opened(toml), out, config=config, cpu=True, **more)


def test_conditions_are_dropped_as_published():
    """Of 1,000 even numbers: 50 lose the text alone, 50 both, 50 the picture alone (5 % each)."""
    text, picture = dropped((torch.arange(1000) + 0.5) / 1000, 0.05)
    both = text & picture
    assert [int(one.sum()) for one in (text & ~picture, both, picture & ~text)] == [50, 50, 50]
    assert torch.equal(text, (torch.arange(1000) < 100)) and torch.equal(
        picture.nonzero()[[0, -1], 0], torch.tensor([50, 149])
    )
    text, picture = dropped(torch.rand(40_000, generator=torch.Generator().manual_seed(0)), 0.05)
    for one in (text & ~picture, text & picture, picture & ~text):
        assert float(one.float().mean()) == pytest.approx(0.05, abs=0.005)
    assert not dropped(torch.rand(100), 0.0)[0].any()


def test_what_is_dropped_is_nothing_and_rewards_never_are(toml, data):
    models = opened(toml)
    condition = TextCondition(models)
    seen = []

    class Spy(torch.nn.Module):
        def forward(self, sample, at, **more):
            seen.append((sample, more))
            return (torch.zeros_like(sample[:, :4]),)

    step = EditStep(models, condition, TINY)
    batch = {
        "original": torch.rand(2, 3, 32, 32), "edited": torch.rand(2, 3, 32, 32),
        "instruction": ["a red shoe", "a bag"], "feedback": ["blue"] * 2,
        "rewards": torch.tensor([[1.0, 2, 3], [4, 5, 0]]),
    }  # fmt: skip
    yes, no = torch.ones(2, dtype=torch.bool), torch.zeros(2, dtype=torch.bool)
    step.loss({"editor": Spy()}, batch, torch.tensor([True, False]), torch.tensor([False, True]), yes)
    sample, more = seen[0]
    assert torch.equal(more["encoder_hidden_states"], torch.cat([condition([""], None), condition(["a bag"], None)]))
    clean = models.vae.encode(2 * batch["original"] - 1).latent_dist.mode()  # of the original, not scaled
    assert torch.allclose(sample[0, 4:], clean[0], atol=1e-6) and not sample[1, 4:].any()
    assert torch.equal(more["rewards"], batch["rewards"]) and "given" not in more
    EditStep(models, condition, replace(TINY, drop_rewards=0.5)).loss({"editor": Spy()}, batch, no, no, no)
    assert not seen[1][1]["given"].any()


def test_the_loss_is_the_error_of_the_noise(toml, data):
    """At zero output it is the mean square of the noise that the seed draws."""
    batch = {"original": torch.rand(2, 3, 32, 32), "edited": torch.rand(2, 3, 32, 32), "instruction": ["a shoe"] * 2}
    models = opened(toml)
    step = EditStep(models, TextCondition(models), replace(TINY, given="none"))
    no = torch.zeros(2, dtype=torch.bool)

    class Silent(torch.nn.Module):
        def forward(self, sample, at, **more):
            return (torch.zeros_like(sample[:, :4]),)

    torch.manual_seed(3)
    found = step.loss({"editor": Silent()}, batch, no, no, ~no)
    torch.manual_seed(3)
    assert float(found) == pytest.approx(float(torch.randn(2, 4, 16, 16).square().mean()), rel=1e-6)


def test_stage_2_trains_saves_and_edits(toml, data, tmp_path):
    done = run(data, toml, tmp_path / "out")
    assert (done.steps, done.triplets, done.left_out) == (4, 11, 0) and done.last["held_loss"] > 0
    models = opened(done.models)
    before = opened(toml).network("editor", UNet2DConditionModel)
    assert not torch.equal(before.conv_in.weight, models.network("editor", UNet2DConditionModel).conv_in.weight)
    assert models.network("rewards", RewardModule).cross.proj_out.weight.abs().sum() > 0
    editor = load_editor(models)
    made = edit(editor, torch.rand(1, 3, 32, 32), ["a red shoe"], [1], settings=Settings(size=32, steps=1))
    assert editor.rewarded and made.shape == (1, 3, 32, 32)
    assert models.model_set.table("edit", Settings).steps == 3  # the set's own settings went along
    again = run(data, done.models, tmp_path / "more", replace(TINY, steps=1))  # and it learns on from there
    assert again.steps == 1


def test_a_killed_run_goes_on_to_the_same_weights(toml, data, tmp_path, monkeypatch):
    config = replace(TINY, steps=4, drop_rewards=0.2)
    run(data, toml, tmp_path / "whole", config)
    real = loops._Run.train_step

    def stopping(self, *args):
        if self.state.step == 2:
            self.save(now=True)
            raise KeyboardInterrupt
        return real(self, *args)

    monkeypatch.setattr(loops._Run, "train_step", stopping)
    with pytest.raises(KeyboardInterrupt):
        run(data, toml, tmp_path / "killed", config)
    monkeypatch.setattr(loops._Run, "train_step", real)
    with pytest.raises(BadInput, match="holds a run at step 2"):
        run(data, toml, tmp_path / "killed", config)
    run(data, toml, tmp_path / "killed", config, resume=True)
    for name in ("editor", "rewards"):
        files = [(tmp_path / which / name).glob("*.safetensors") for which in ("whole", "killed")]
        one, other = (next(iter(found)).read_bytes() for found in files)
        assert one == other


@pytest.mark.parametrize(
    ("changed", "named"), [("pictures", "data"), ("editor", "weights.editor"), ("vae", "weights.vae")]
)
def test_a_run_goes_on_neither_on_other_pictures_nor_on_other_weights(toml, data, tmp_path, changed, named):
    root, folder = tmp_path / "data", tmp_path / "set"
    shutil.copytree(data, root)
    shutil.copytree(toml.parent, folder)
    vae = opened(toml).vae
    vae.save_pretrained(folder / "vae")
    words = toml.read_text().replace(str(toml.parent), str(folder))
    words = re.sub(r"^vae = .*$", f"vae = {json.dumps(str(folder / 'vae'))}", words, flags=re.MULTILINE)
    (folder / "editor.toml").write_text(words)
    config = replace(TINY, steps=1, held=0)
    run(root, folder / "editor.toml", tmp_path / "out", config)
    run(root, folder / "editor.toml", tmp_path / "out", config, resume=True)
    if changed == "pictures":
        Image.new("RGB", (32, 32), (0, 0, 250)).save(root / "t05" / "5_1.png")
    else:
        network = tiny_unet() if changed == "editor" else vae
        with torch.no_grad():
            next(network.parameters()).add_(0.1)
        network.save_pretrained(folder / changed)
    with pytest.raises(BadInput, match=rf"other settings \(about.{named} was"):
        run(root, folder / "editor.toml", tmp_path / "out", config, resume=True)


def test_stage_1_loads_in_plain_diffusers(toml, data, tmp_path):
    done = run(data, toml, tmp_path / "out", replace(TINY, stage=1, steps=2))
    assert not (tmp_path / "out" / "rewards").exists() and done.steps == 2
    models = opened(done.models)
    unet = UNet2DConditionModel.from_pretrained(tmp_path / "out" / "editor")
    assert unet.conv_in.weight[:, 4:].abs().sum() > 0  # it has begun to look at the picture
    pipe = StableDiffusionInstructPix2PixPipeline(
        vae=models.vae, text_encoder=models.text_encoder, tokenizer=models.tokenizer, unet=unet,
        scheduler=None, safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    assert pipe.unet.config.in_channels == 8


def test_latents_kept_on_disk_train_like_pictures_encoded_at_each_step(toml, data, tmp_path):
    """The same batches and noise: the losses are those of pictures, but for the latents' 16 bits."""
    config = replace(TINY, flip=False, steps=2)
    plain = run(data, toml, tmp_path / "plain", config)
    kept = run(data, toml, tmp_path / "kept", config, cache=tmp_path / "latents")
    assert kept.last["loss"] == pytest.approx(plain.last["loss"], rel=2e-3)
    assert kept.last["held_loss"] == pytest.approx(plain.last["held_loss"], rel=2e-3)


def test_new_words_are_learned_in_stage_1_and_saved(tiny_set, data, tmp_path):
    done = train(read_triplets(data), opened(tiny_set), tmp_path / "out",
                 config=replace(TINY, stage=1, words=True, steps=2, rank=2), cpu=True)  # fmt: skip
    models = opened(done.models)
    before, after = opened(tiny_set).text_encoder.state_dict(), for_editing(models).text_encoder.state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert torch.equal(models.text_encoder.state_dict()[next(iter(before))], before[next(iter(before))])
    assert (tmp_path / "out" / "editor" / "adapter_model.safetensors").is_file()
    again = run(data, done.models, tmp_path / "two", replace(TINY, steps=1, rank=1))  # rewards build upon it
    editor = load_editor(opened(again.models))
    made = edit(editor, torch.rand(1, 3, 32, 32), ["a red shoe"], [1], settings=Settings(size=32, steps=1))
    assert editor.rewarded and made.shape == (1, 3, 32, 32)
    with pytest.raises(BadInput, match="sees pictures"):
        run(data, done.models, tmp_path / "three", TINY, cache=tmp_path / "latents", condition=TextCondition(models))


@pytest.mark.parametrize(
    ("change", "module"),
    [
        ({"given": "none"}, None),
        ({"without": ("text",)}, ("lin_1", "lin_2")),
        ({"without": ("a",)}, ("cross", "mlp_2")),
    ],
)
def test_controls_have_what_they_should(toml, change, module):
    made = start(opened(toml), replace(TINY, **change))
    if module is None:
        assert isinstance(made, UNet2DConditionModel)
    else:
        assert all(getattr(made.module, name) is None for name in module)


def test_ema_is_what_is_left(toml, data, tmp_path):
    """With the slowest average nothing moves far from the start; the rows of the metrics tell the held loss."""
    run(data, toml, tmp_path / "out", replace(TINY, ema=0.9999))
    rows = loops.read_metrics(tmp_path / "out")
    assert [row["step"] for row in rows if "held_loss" in row] == [2, 4]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"drop": 0.5}, "drop is 0.5"),
        ({"best": 0.0}, "best is a share"),
        ({"without": ("scores", "text")}, "nothing is left"),
        ({"batch": 0}, "batch is 0"),
        ({"rank": -1}, "rank is -1"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"words": True}, "stage 1 alone"),
        ({"batch": 20}, "than a batch of 20"),
        ({"size": 30}, "size is 30. Give a multiple of "),
    ],
)
def test_bad_settings_are_told(toml, data, tmp_path, change, message):
    with pytest.raises(BadInput, match=message):
        run(data, toml, tmp_path / "out", replace(TINY, **change))


@pytest.mark.parametrize("words", [False, True])
def test_an_instruction_that_the_encoder_cannot_read_is_named_and_the_others_are_trained_on(
    toml, data, tmp_path, words
):
    root = tmp_path / "data"
    shutil.copytree(data, root)
    (root / "t02" / "prompt.json").write_text(json.dumps({"edit": "make it blue " * 40}))
    done = run(root, toml, tmp_path / "out", replace(TINY, stage=1, words=words, steps=1))
    assert [one.name for one in done.skipped] == ["t02"] and "tokens and the model reads" in done.skipped[0].message
    assert done.triplets == 10  # of eleven, one is held back


def test_the_command_skips_what_is_gone_and_leaves_out_what_is_missing(toml, data, tmp_path, capsys):
    root = tmp_path / "data"
    shutil.copytree(data, root)
    said = json.loads((root / "rewards.json").read_text())
    said["t00"][1]["Score"] = None
    (root / "rewards.json").write_text(json.dumps(said))
    (root / "t01" / "1_1.png").unlink()
    line = ["edit", "train", str(root), "--models", str(toml), "--out", str(tmp_path / "out"), "--steps", "1"]
    more = ["--size", "32", "--batch", "2", "--accumulate", "1", "--held", "0"]
    assert main([*line, *more, "--json", str(tmp_path / "j")]) == 2
    told = capsys.readouterr()
    assert "t01: " in told.err and "1 triplets have not three rewards" in told.out and "editor.toml" in told.out
    assert json.loads((tmp_path / "j").read_text())["triplets"] == 10
