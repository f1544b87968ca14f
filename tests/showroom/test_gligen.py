"""Training the layout generator and the region CLIP at the smallest size: only what GLIGEN adds learns, batches are a
function of their number, what is saved is loaded, and worlds on disk go on after a kill."""

import json
import types

import numpy as np
import pytest
import torch

from goodeye.errors import BadInput
from goodeye.judging.clip import Clip
from goodeye.modelset import Models, ModelSet, showroom
from goodeye.search.towers import save_clip
from goodeye.showroom import generator, gligen, layout_world, perception, regions
from goodeye.showroom import layouts as L
from goodeye.showroom.words import build_tokenizer
from goodeye.synth.draw import is_added, layout_unet, widened
from goodeye.training.loop import Loop

QUICK = Loop(steps=2, lr=1e-2, save_steps=1, log_every=1, evaluate_every=2)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Eight layouts a shard, two shards; a plain U-Net, a text encoder and a tokenizer of random weights, saved."""
    patch = pytest.MonkeyPatch()
    patch.setattr(layout_world, "SHARD", 8)
    folder = tmp_path_factory.mktemp("gligen")
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    tokenizer.save_pretrained(folder / "weights/tokenizer")
    patch.setattr(generator, "WIDTHS", (16, 16, 16))
    generator.new_unet().save_pretrained(folder / "weights/unet")
    generator.new_text_encoder(tokenizer).save_pretrained(folder / "weights/text_encoder")
    world = layout_world.layout_world(folder / "layouts/21", 21, 2, lambda words: None)
    yield types.SimpleNamespace(folder=folder, world=world, weights=lambda role: folder / "weights" / role)
    patch.undo()


def test_a_world_on_disk_is_what_was_rendered_and_goes_on_after_a_kill(small, tmp_path):
    world = small.world
    assert len(world) == 16 and len(world.shards) == 2
    drawn = L.render([L.sample(21, 9, L.long_tail(layout_world.POWER))])
    assert np.abs(world.images([9])[0].astype(float) - 255 * drawn.image[0].numpy()).max() <= 0.51
    assert world.layouts[9].things == drawn.layout(0, "000009").things
    said = []
    (small.folder / "layouts/21/00001.jsonl").rename(tmp_path / "lost")
    again = layout_world.layout_world(small.folder / "layouts/21", 21, 2, said.append)
    assert said == ["layouts 21: 16/16"] and again.layouts == world.layouts


def test_prompts_hold_only_words_that_the_generator_knows(small):
    tokenizer = build_tokenizer()
    for row in range(16):
        prompt = small.world.prompt(row)
        assert all(thing.text in prompt for thing in small.world.layouts[row].things)
        assert tokenizer.unk_token_id not in tokenizer(prompt).input_ids, prompt


def test_only_what_gligen_adds_is_trained_and_it_is_stored_alone(small):
    fit_on = np.concatenate(small.world.shards)
    gligen_held, gligen.HELD = gligen.HELD, 21
    try:
        done = gligen.make(small.weights, small.folder, fit_on, lambda words: None, QUICK, shards=2, batch=4)
        again = gligen.make(small.weights, small.folder, fit_on, lambda words: None, QUICK, shards=2, batch=4)
    finally:
        gligen.HELD = gligen_held
    assert done.steps == 2 and again.resumed_at == 2 and {"held_loss", "held_blind"} <= done.last.keys()
    roles = {role: str(small.weights(role)) for role in ("unet", "text_encoder", "tokenizer", "layout_unet")}
    models = Models(ModelSet(name="showroom", roles=roles, settings=showroom().settings))
    unet, drawing = layout_unet(models)
    plain, state = models.unet.state_dict(), unet.state_dict()
    assert drawing == gligen.DRAWING and all(torch.equal(state[name], value) for name, value in plain.items())
    fresh = widened(models.unet).state_dict()
    gates = [name for name in state if name.endswith("alpha_attn")]
    assert gates and all(float(fresh[name]) == 0 != float(state[name]) for name in gates)
    about = json.loads((small.weights("layout_unet") / "gligen.json").read_text())
    assert about["prompt"] == "things" and len(about["added_to"]) == 12


def test_gates_that_are_closed_change_nothing(small):
    plain = generator.new_unet().eval()
    gated = widened(plain).eval()
    data = gligen.Grounded(small.world, small.world.latents(np.concatenate(small.world.shards)), *_text(), seed=3)
    x, t, _, ids, objects, inside = data.batch([0, 5], 1)
    states = torch.randn(2, 32, plain.config.cross_attention_dim)
    with torch.no_grad():
        seen = gated(x, t, states, cross_attention_kwargs={"gligen": objects}).sample
        assert (seen - plain(x, t, states).sample).abs().max() < 1e-5
    assert sum(is_added(name) for name, _ in gated.named_parameters()) > 0
    assert inside.shape == (2, 1, 16, 16) and 0 < inside.mean() < 1
    again = data.batch([0, 5], 1)
    assert torch.equal(again[0], x) and torch.equal(again[3], ids)


def test_what_is_begun_draws_as_the_plain_one_but_for_the_code_of_the_place_and_all_of_it_learns(small):
    torch.manual_seed(0)
    plain = generator.new_unet().eval()
    gated = gligen.begun(widened(plain))
    data = gligen.Grounded(small.world, small.world.latents(np.concatenate(small.world.shards)), *_text(), seed=3)
    x, t, goal, ids, objects, _ = data.batch([0, 5], 1, drop=False)
    states = torch.randn(2, 32, plain.config.cross_attention_dim)

    def drawn():
        return gated(x, t, states, cross_attention_kwargs={"gligen": dict(objects)}).sample

    place = gated.conv_in.place
    kept = place.detach().clone()
    with torch.no_grad():
        assert (drawn() - plain(x, t, states).sample).abs().max() > 1e-3
        place.zero_()
        assert (drawn() - plain(x, t, states).sample).abs().max() < 1e-5
        place.copy_(kept)
    (drawn() - goal).square().mean().backward()
    of_things = [one.grad for name, one in gated.named_parameters() if "alpha" in name or "place" in name]
    outputs = [one.grad for name, one in gated.named_parameters() if "fuser.attn.to_out" in name]
    assert all(one is not None for one in of_things) and all(float(one.abs().max()) > 0 for one in outputs)


def test_the_attention_that_is_watched_is_diffusers_own(small):
    gated = widened(generator.new_unet()).eval()
    for fuser in gligen._fusers(gated):
        torch.nn.init.constant_(fuser.alpha_attn, 1.0)
    data = gligen.Grounded(small.world, small.world.latents(np.concatenate(small.world.shards)), *_text(), seed=3)
    x, t, _, _, objects, _ = data.batch([0, 5], 1, drop=False)
    states, watched = torch.randn(2, 32, gated.config.cross_attention_dim), gligen.Watched()
    with torch.no_grad():
        usual = gated(x, t, states, cross_attention_kwargs={"gligen": dict(objects)}).sample
        for fuser in gligen._fusers(gated):
            fuser.attn.set_processor(watched)
        seen = gated(x, t, states, cross_attention_kwargs={"gligen": dict(objects)}).sample
    assert (usual - seen).abs().max() < 1e-5
    assert len(watched.seen) == len(gligen._fusers(gated))
    assert all(one.shape[0] == 2 and one.shape[2] == 30 and 0 < float(one.sum(2).max()) < 1 for one in watched.seen)


def test_attention_is_astray_where_it_is_not_on_the_things_in_whose_boxes_a_cell_lies():
    boxes, masks = torch.zeros(1, 30, 4), torch.zeros(1, 30)
    boxes[0, 0], masks[0, 0] = torch.tensor([0.0, 0.0, 0.5, 1.0]), 1  # the left half
    boxes[0, 1] = torch.tensor([0.0, 0.0, 1.0, 1.0])  # no thing: its mask is 0
    left = torch.tensor([1.0, 1.0, 0.0, 0.0]).repeat(4)
    right_way, wrong_way = torch.zeros(1, 16, 30), torch.zeros(1, 16, 30)
    right_way[0, :, 0], wrong_way[0, :, 0] = 0.9 * left, 0.9 * (1 - left)
    by_hand = -np.log(0.9) - 0.0
    assert float(gligen.astray(right_way, boxes, masks)) == pytest.approx(by_hand, abs=1e-5)
    assert float(gligen.astray(wrong_way, boxes, masks)) == pytest.approx(-np.log(1e-4) - np.log(0.1) / 2, abs=1e-4)


def _text():
    tokenizer = build_tokenizer()
    return generator.new_text_encoder(tokenizer).eval(), tokenizer


def test_some_pictures_are_without_things_and_of_those_some_without_words(small):
    data = gligen.Grounded(small.world, small.world.latents(np.concatenate(small.world.shards)), *_text(), seed=3)
    masks, empty = [], []
    for index in range(25):
        _, _, _, ids, objects, _ = data.batch(list(range(8)), index)
        masks += (objects["masks"].sum(1) > 0).tolist()
        empty += [torch.equal(row, data.empty) for row in ids]
    assert 0.1 < 1 - np.mean(masks) < 0.3 and 0.03 < np.mean(empty) < 0.2
    assert not any(seen and none for seen, none in zip(masks, empty, strict=True))
    assert all(objects["masks"].sum(1) > 0 for objects in [data.batch([1], 0, drop=False)[4]])


def test_views_are_of_the_things_they_are_labelled_as(small):
    seen = regions.views(small.world, range(16), np.random.default_rng(0))
    assert seen.pixels.shape == (16, 3, 128, 128) and seen.pixels.min() >= 0 and seen.pixels.max() <= 1
    for row in range(16):
        shown = L.CATEGORIES[seen.kind[row]], list(L.COLOURS)[seen.colour[row]]
        assert shown in {(one.category, one.attributes[0]) for one in small.world.layouts[row].things}


def test_the_region_clip_is_an_adapter_that_loads_as_a_clip(small):
    tokenizer = build_tokenizer(end_last=True)
    clip = Clip(perception.new_clip(tokenizer), tokenizer, perception.NORMALISE)
    save_clip(clip, small.weights("clip"))
    before = regions.HELD, regions.HELD_SHARDS
    regions.HELD, regions.HELD_SHARDS = 21, 2
    try:
        done = regions.make(small.weights, small.folder, lambda words: None, QUICK, shards=2, batch=4)
    finally:
        regions.HELD, regions.HELD_SHARDS = before
    assert {"held_kind", "held_colour", "held_whole", "kind", "colour", "whole"} <= done.last.keys()
    assert not any((small.weights("region") / name).exists() for name in ("model.safetensors", "tokenizer.json"))
    again = Clip.from_pretrained(small.weights("region"))
    assert again.version != clip.version
    assert again.embed_texts(["a red mug"]).shape == (1, again.dimensions)
    upon = {"base_model_name_or_path": "../region"}
    config = small.weights("region") / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **upon}))
    with pytest.raises(BadInput, match="an adapter, too"):
        Clip.from_pretrained(small.weights("region"))
