"""Drawing by GLIGEN: equal to diffusers' own pipeline, each picture by its own seed, and boxes have their say."""

import copy
import shutil

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file

from goodeye.cli.synth import DRAWING, Draws
from goodeye.diffusion.batch import noise_of
from goodeye.errors import BadInput
from goodeye.images import open_image, to_tensor
from goodeye.modelset import Models, opened, resolve
from goodeye.synth.draw import ADDED, Drawing, draw_all, gligen, grounding, is_added, layout_unet, prompt_of, save_added
from goodeye.synth.layout import Layout, Thing

CUP = Thing(key="cup-1", category="cup", box=(0.1, 0.2, 0.3, 0.4), attributes=("red",))
BAG = Thing(key="bag-1", category="bag", box=(0.5, 0.5, 0.4, 0.3))
LAYOUT = Layout(key="a", things=(CUP, BAG), caption="a red cup in the kitchen")


@pytest.fixture(scope="module")
def folder(tiny_set, tmp_path_factory):
    """The tiny set with a GLIGEN U-Net of random weights."""
    torch.manual_seed(0)
    place = tmp_path_factory.mktemp("gligen") / "set"
    shutil.copytree(tiny_set.parent, place)
    config = dict(UNet2DConditionModel.load_config(place / "unet")) | {"attention_type": "gated"}
    unet = UNet2DConditionModel.from_config(config)
    for name, parameter in unet.named_parameters():
        if "fuser" in name or "position_net" in name:  # the gates begin closed, which would hide them
            torch.nn.init.normal_(parameter, std=1.5)
    unet.save_pretrained(place / "layout_unet")
    toml = place / tiny_set.name
    lines = (
        toml.read_text()
        .replace("[settings]", 'layout_unet = "layout_unet"\n[settings]')
        .replace("steps = 2", "steps = 5")
    )
    toml.write_text(lines + "[synth]\ngrounded = 0.6\n")
    return place


@pytest.fixture(scope="module")
def models(folder):
    return Models(resolve(folder / "tiny.toml"))


def test_the_pictures_are_those_of_diffusers(folder, models):
    import diffusers
    import transformers

    kinds = {
        "vae": diffusers.AutoencoderKL,
        "text_encoder": transformers.CLIPTextModel,
        "tokenizer": transformers.PreTrainedTokenizerFast,
        "scheduler": diffusers.DDIMScheduler,
    }
    parts = {role: kind.from_pretrained(folder / role) for role, kind in kinds.items()}
    unet = diffusers.UNet2DConditionModel.from_pretrained(folder / "layout_unet")
    pipe = diffusers.StableDiffusionGLIGENPipeline(
        **parts, unet=unet, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )
    pipe.set_progress_bar_config(disable=True)
    expected = pipe(
        prompt=LAYOUT.caption,
        negative_prompt="",
        gligen_phrases=["red cup", "bag"],
        gligen_boxes=[[0.1, 0.2, 0.4, 0.6], [0.5, 0.5, 0.9, 0.8]],
        gligen_scheduled_sampling_beta=0.6,
        num_inference_steps=5,
        guidance_scale=3.0,
        latents=noise_of(7, (4, 16, 16))[None],
        height=32,
        width=32,
        output_type="pt",
    ).images
    assert (gligen(models)([LAYOUT], [7]) - expected).abs().max() < 0.01  # ours in 8 bits


def test_a_picture_is_the_same_in_whatever_batch_it_is_drawn(models):
    draw = gligen(models)
    other = Layout(key="b", things=(BAG,), caption="a blue shoe")
    both = draw([other, LAYOUT], [3, 7])
    assert both.shape == (2, 3, 32, 32) and (both[1:] - draw([LAYOUT], [7])).abs().max() < 0.01
    assert (draw([LAYOUT], [8]) - both[1:]).abs().max() > 0.05


def test_what_gligen_adds_is_stored_alone_and_draws_the_same(folder, models, tmp_path):
    place = tmp_path / "set"
    shutil.copytree(folder, place)
    whole, plain = copy.deepcopy(models.network("layout_unet", UNet2DConditionModel)), models.unet
    whole.load_state_dict(plain.state_dict(), strict=False)  # so that it is the plain one with what is added
    shutil.rmtree(place / "layout_unet")
    save_added(whole, place / "layout_unet", plain, Drawing(grounded=1.0, prompt="things"))
    assert load_file(place / "layout_unet" / ADDED).keys().isdisjoint(plain.state_dict())
    toml = place / "tiny.toml"
    again = Models(resolve(toml))
    loaded, drawing = layout_unet(again)
    assert drawing == Drawing(grounded=0.6, prompt="things")  # the set's own word counts before the folder's
    for name, value in whole.state_dict().items():
        stored = value.half().float() if is_added(name) else value
        assert torch.equal(loaded.state_dict()[name], stored), name
    assert gligen(again)([LAYOUT], [7]).shape == (1, 3, 32, 32)
    other = tmp_path / "other"
    shutil.copytree(place, other)
    with torch.no_grad():
        plain.conv_in.bias.add_(1.0)
        plain.save_pretrained(other / "unet")
        plain.conv_in.bias.sub_(1.0)
    with pytest.raises(BadInput, match="was trained on another U-Net"):
        layout_unet(Models(resolve(other / "tiny.toml")))


def test_what_the_generator_is_told():
    settings = ("a {title} on a table", "an {title} in a forest")
    assert prompt_of(LAYOUT, 3, Drawing(), settings) == LAYOUT.caption
    assert prompt_of(LAYOUT, 2, Drawing(prompt="things"), settings) == "a red cup, a bag on a table"
    assert prompt_of(LAYOUT, 3, Drawing(prompt="things"), settings) == "a red cup, a bag in a forest"
    assert prompt_of(LAYOUT, 3, Drawing(prompt="things")) == "a red cup, a bag"


def test_boxes_and_words_change_the_picture(models):
    draw = gligen(models)
    moved = Layout(
        key="a", things=(BAG, Thing(key="c", category="cup", box=(0.6, 0.1, 0.3, 0.3))), caption=LAYOUT.caption
    )
    assert (draw([LAYOUT], [7]) - draw([moved], [7])).abs().max() > 0.05  # five times what equality allows


def test_grounding_is_what_the_position_net_takes():
    found = grounding(
        [LAYOUT, Layout(key="b", things=(BAG,))], lambda words: torch.tensor([[len(w), 1.0] for w in words])
    )
    assert torch.allclose(found["boxes"][0, :2], torch.tensor([[0.1, 0.2, 0.4, 0.6], [0.5, 0.5, 0.9, 0.8]]))
    assert found["masks"].sum(1).tolist() == [2, 1] and found["boxes"].shape == (2, 30, 4)
    assert found["positive_embeddings"][:, 0].tolist() == [[7, 1], [3, 1]]
    with pytest.raises(BadInput, match="more than 30 things"):
        grounding([Layout(key="many", things=(CUP,) * 31)], lambda words: torch.zeros(len(words), 2))


def test_a_plain_unet_is_refused(folder):
    toml = folder / "plain.toml"
    toml.write_text((folder / "tiny.toml").read_text().replace('"layout_unet"', '"unet"'))
    with pytest.raises(BadInput, match="is no GLIGEN U-Net"):
        gligen(Models(resolve(toml)))


def test_a_stopped_run_goes_on_with_the_same_pictures(models, tmp_path):
    layouts = [LAYOUT, Layout(key="b", things=(BAG,))]
    draw = gligen(models)
    assert draw_all(draw, layouts, tmp_path / "whole", tries=2, batch=4) == 4
    assert draw_all(draw, layouts[:1], tmp_path / "parts", tries=1) == 1
    assert draw_all(draw, layouts, tmp_path / "parts", tries=2, batch=2) == 3
    names = sorted(file.name for file in (tmp_path / "whole").iterdir())
    assert names == ["a-1.png", "a-2.png", "b-1.png", "b-2.png"]
    for name in names:
        one, other = (to_tensor(open_image(tmp_path / folder / name)) for folder in ("whole", "parts"))
        assert (one - other).abs().max() < 0.01
    assert draw_all(draw, layouts, tmp_path / "whole", tries=2) == 0


@pytest.mark.parametrize("key", ["../evil", "a/b", "a\\b", "a\0b", "k" * 201])
def test_a_key_that_is_no_file_name_draws_nothing_anywhere(key, tmp_path):
    with pytest.raises(BadInput, match="cannot name a picture file"):
        draw_all(lambda layouts, seeds: torch.zeros(len(layouts), 3, 8, 8), [LAYOUT, Layout(key=key, things=(BAG,))],
                 tmp_path / "in", tries=1)  # fmt: skip
    assert not list(tmp_path.rglob("*.png"))


def test_a_drawn_sets_card_names_the_licences_of_what_drew_it():
    drawer, told = Draws().drawer(opened("showroom"))
    assert callable(drawer) and told["licences"] == dict.fromkeys(DRAWING, "apache-2.0")
    assert "licences" not in Draws(draw="renderer").drawer(opened("showroom"))[1]
