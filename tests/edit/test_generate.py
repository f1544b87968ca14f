"""Editing: equal to diffusers' own pipeline, steered by rewards, by any text condition, for any picture."""

from dataclasses import replace

import pytest
import torch
from diffusers import EulerAncestralDiscreteScheduler, StableDiffusionInstructPix2PixPipeline
from PIL import Image
from tiny_editor import TEXT, save_editor

from goodeye.diffusion.batch import noise_of, step_noise
from goodeye.diffusion.schedule import from_config
from goodeye.edit.generate import Settings, edit, edit_images, fitted, load_editor, pooled, settings_of
from goodeye.edit.rewards import feedback_text
from goodeye.edit.smartedit import SmartEdit
from goodeye.errors import BadInput
from goodeye.images import open_image
from goodeye.modelset import Models, resolve

SETTINGS = Settings(size=32, steps=3)
SEEDS, WORDS = [3, 4], ["a red shoe", "on the beach"]


@pytest.fixture(scope="module")
def models(tiny_set, tmp_path_factory):
    return Models(resolve(save_editor(tiny_set, tmp_path_factory.mktemp("editor"))))


@pytest.fixture(scope="module")
def editor(models):
    return load_editor(models)


def pictures(count=2):
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(5))


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers with NumPy 2
def test_the_same_pictures_as_diffusers_instruct_pix2pix(models, monkeypatch):
    plain = load_editor(models, rewards=False)
    ours = edit(plain, pictures(), WORDS, SEEDS, settings=SETTINGS)
    pipe = StableDiffusionInstructPix2PixPipeline(
        vae=models.vae,
        text_encoder=models.text_encoder,
        tokenizer=models.tokenizer,
        unet=plain.unet,
        scheduler=EulerAncestralDiscreteScheduler.from_config(models.scheduler_config),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    start = torch.stack([noise_of(seed, (4, 16, 16)) for seed in SEEDS])
    drawn = iter([step_noise(SEEDS, start)(step) for step in from_config(models.scheduler_config, 3, "euler")])
    where = "diffusers.schedulers.scheduling_euler_ancestral_discrete.randn_tensor"
    monkeypatch.setattr(where, lambda shape, **_: next(drawn))
    theirs = pipe(
        prompt=WORDS,
        image=pictures(),
        num_inference_steps=3,
        guidance_scale=7.5,
        image_guidance_scale=1.5,
        latents=start,
        output_type="pt",
    ).images
    assert (ours - theirs).abs().max() < 1.5 / 255  # ours are of eight bits
    assert ours.std() > 0.01


def test_rewards_and_failure_texts_steer(editor, models):
    best, worst = (edit(editor, pictures(), WORDS, SEEDS, rewards=r, settings=SETTINGS) for r in ((5, 5, 5), (0, 5, 5)))
    assert (best - worst).abs().max() > 2 / 255
    told = edit(editor, pictures(), WORDS, SEEDS, failures=("", "", "blue"), settings=SETTINGS)
    assert (best - told).abs().max() > 2 / 255
    plain = load_editor(models, rewards=False)
    assert not plain.rewarded and editor.rewarded
    assert (edit(plain, pictures(), WORDS, SEEDS, settings=SETTINGS) - best).abs().max() > 2 / 255


def test_batches_change_nothing(editor):
    both = edit(editor, pictures(), WORDS, SEEDS, settings=SETTINGS)
    second = edit(editor, pictures()[1:], WORDS[1:], SEEDS[1:], settings=SETTINGS)
    assert (both[1:] - second).abs().max() < 1.5 / 255


def test_failure_texts_are_the_text_encoders_pooled_output(models):
    tokens = models.tokenizer(
        [feedback_text()], padding="max_length", max_length=8, return_tensors="pt", truncation=True
    )
    wanted = models.text_encoder(tokens.input_ids).pooler_output
    assert torch.equal(pooled(models, [feedback_text()]), wanted) and wanted.shape == (1, TEXT)


@pytest.mark.parametrize(
    ("size", "mode"), [((1, 1), "L"), ((300, 7), "RGB"), ((33, 57), "RGBA"), ((40, 40), "P"), ((20, 31), "CMYK")]
)
def test_pictures_of_any_size_and_mode(editor, tmp_path, size, mode):
    file = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.new(mode, size).save(file)
    (made,) = edit_images(editor, open_image(file), "a red shoe", [1], settings=replace(SETTINGS, steps=1))
    assert made.size == size and made.mode == "RGB"


def test_a_rotated_photograph_stays_upright(editor, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # as a phone held upright writes it
    Image.new("RGB", (40, 20)).save(tmp_path / "a.jpg", exif=exif)
    (made,) = edit_images(editor, open_image(tmp_path / "a.jpg"), "a shoe", [1], settings=replace(SETTINGS, steps=1))
    assert made.size == (20, 40)


def test_the_size_to_work_in():
    assert fitted((640, 480), 512, 64) == (512, 384) and fitted((10, 10), 512, 64) == (512, 512)
    assert fitted((5000, 10), 512, 64) == (512, 64) and fitted((480, 640), 500, 64) == (384, 512)


def test_the_size_is_the_sets_if_its_table_says_none(models):
    assert settings_of(models.model_set) == SETTINGS
    assert settings_of(replace(models.model_set, tables={"edit": {"steps": 7}})).size == models.model_set.settings.size
    assert settings_of(resolve("showroom")).size == 128


def test_instructions_that_cannot_be_read_are_told(editor):
    for words, message in (
        (" ", "empty"),
        ("red " * 2000, "2000 words"),
        ("red " * 20, "22 tokens and the model reads 8"),
    ):
        with pytest.raises(BadInput, match=message):
            edit_images(editor, Image.new("RGB", (32, 32)), words, [1], settings=SETTINGS)


def test_what_a_model_set_lacks_is_told(tiny_set, models):
    with pytest.raises(BadInput, match="has no editor"):
        load_editor(Models(resolve(tiny_set)))
    roles = models.model_set.roles
    wrong = replace(models.model_set, roles={**roles, "editor": roles["unet"]})
    with pytest.raises(BadInput, match="takes 4 channels, and an editor takes 8"):
        load_editor(Models(wrong))
    with pytest.raises(BadInput, match="has no rewards"):
        load_editor(Models(replace(wrong, roles={r: p for r, p in roles.items() if r != "rewards"})), rewards=True)


def test_smartedit_takes_its_condition_from_a_callable(models):
    """A stand-in for a multimodal model: five tokens from the picture's mean colour and the instruction's length."""
    seen = []

    def tokens(originals, instructions):
        seen.extend(zip(originals, instructions, strict=True))
        rows = [[*(value / 255 for value in img.resize((1, 1)).getpixel((0, 0))), float(len(words))]
                for img, words in zip(originals, instructions, strict=True)]  # fmt: skip
        return torch.tensor(rows).repeat(1, TEXT // 4)[:, None].expand(-1, 5, -1)

    empty = torch.zeros(1, 5, TEXT)
    smart = load_editor(models, SmartEdit(tokens, empty))
    assert smart.rewarded
    made = edit(smart, pictures(), WORDS, SEEDS, settings=SETTINGS)
    assert [words for _, words in seen] == WORDS and seen[0][0].size == (32, 32)
    other = edit(smart, pictures(), ["a much longer thing to ask for", WORDS[1]], SEEDS, settings=SETTINGS)
    assert (made[0] - other[0]).abs().max() > 2 / 255 and (made[1] - other[1]).abs().max() < 1.5 / 255
    for bad, message in ((lambda o, i: torch.zeros(2, 4, TEXT), "the tokens are"), (lambda o, i: empty / 0, "NaN")):
        with pytest.raises(ValueError, match=message):
            SmartEdit(bad, empty)(WORDS[:1] if message == "NaN" else WORDS, pictures(1 if message == "NaN" else 2))
