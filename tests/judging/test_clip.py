"""CLIP and SigLIP similarity equals transformers' own, and gradient flows to the image."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import (
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
)

from goodeye.errors import BadInput
from goodeye.images import open_image
from goodeye.judging.clip import Clip, ClipJudge
from goodeye.judging.pixels import Pixels
from goodeye.judging.protocol import Context, Judge, check_scores
from goodeye.judging.titles import title_tokenizer

TEXTS = ["a red mug on a table", "two people and a very big dog in the snow"]
TOWER = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
TEXT = TOWER | {"vocab_size": 64, "max_position_embeddings": 16, "bos_token_id": 2, "eos_token_id": 3}
VISION = TOWER | {"image_size": 64, "patch_size": 16}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("clip")
    clip = CLIPModel(CLIPConfig(text_config=TEXT | {"pad_token_id": 0}, vision_config=VISION, projection_dim=24))
    siglip = SiglipModel(SiglipConfig(text_config=TEXT | {"projection_size": 32}, vision_config=VISION))
    small = {"shortest_edge": 64}, {"height": 64, "width": 64}
    processors = CLIPImageProcessorPil(size=small[0], crop_size=small[1]), SiglipImageProcessorPil(size=small[1])
    for name, model, processor in zip(("clip", "siglip"), (clip, siglip), processors, strict=True):
        model.save_pretrained(root / name)
        processor.save_pretrained(root / name)
        title_tokenizer(TEXTS).save_pretrained(root / name)
    (root / "clip" / "README.md").write_text("---\nlicense: mit\n---\n# A tiny CLIP\n")
    return root


@pytest.fixture(scope="module")
def photographs(shared_data):
    return [open_image(p) for p in sorted((shared_data / "coco128" / "images").glob("*.jpg"))[:2]]


def tensor(image):
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255


@pytest.mark.parametrize(("name", "processor"), [("clip", CLIPImageProcessorPil), ("siglip", SiglipImageProcessorPil)])
def test_similarity_is_transformers_own(folders, photographs, name, processor):
    clip = Clip.from_pretrained(folders / name)
    pixels = processor.from_pretrained(folders / name)(photographs, return_tensors="pt")["pixel_values"]
    if name == "clip":
        text = clip.tokenizer(TEXTS, padding=True, return_tensors="pt")
        inputs = {"input_ids": text["input_ids"], "attention_mask": text["attention_mask"]}
    else:
        text = clip.tokenizer(TEXTS, padding="max_length", max_length=16, return_tensors="pt")
        inputs = {"input_ids": text["input_ids"]}
    with torch.no_grad():
        output = clip.model(pixel_values=pixels, **inputs)
    bias = clip.model.logit_bias if name == "siglip" else 0.0
    expected = ((output.logits_per_image - bias) / clip.model.logit_scale.exp()).diagonal()
    got = [
        ClipJudge(clip).score(tensor(i), [Context(prompt=t)])["similarity"]
        for i, t in zip(photographs, TEXTS, strict=True)
    ]
    assert torch.allclose(torch.cat(got), expected, atol=5e-3)  # their pixels are rounded to 8 bits on the way
    assert torch.allclose(clip.embed_texts(TEXTS), output.text_embeds, atol=1e-5)


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_embeddings_have_length_one_and_gradient_flows(folders, name):
    clip = Clip.from_pretrained(folders / name)
    images = torch.rand(2, 3, 80, 96, requires_grad=True)
    embedded = clip.embed_images(images)
    assert embedded.shape == (2, clip.dimensions) and clip.embed_texts(TEXTS).shape == (2, clip.dimensions)
    assert torch.allclose(embedded.norm(dim=1), torch.ones(2)) and torch.allclose(
        clip.embed_texts(TEXTS).norm(dim=1), torch.ones(2)
    )
    judge = ClipJudge(clip)
    scores = check_scores(judge, judge.score(images, [Context(prompt=t) for t in TEXTS]), 2)
    scores["similarity"].sum().backward()
    assert (images.grad.abs().sum((1, 2, 3)) > 0).all() and isinstance(judge, Judge)


def test_embeddings_at_hand_are_scored_like_their_images(folders):
    judge = ClipJudge(Clip.from_pretrained(folders / "clip"))
    images, contexts = torch.rand(2, 3, 64, 64), [Context(prompt=t) for t in TEXTS]
    embeddings = judge.clip.embed_images(images)
    assert torch.equal(
        judge.score_embedded(embeddings, contexts)["similarity"], judge.score(images, contexts)["similarity"]
    )
    with pytest.raises(ValueError, match="2 embeddings and 1 contexts"):
        judge.score_embedded(embeddings, contexts[:1])


def test_a_long_text_is_cut_and_the_title_stands_in(folders):
    judge = ClipJudge(Clip.from_pretrained(folders / "clip"))
    image = torch.rand(1, 3, 64, 64)
    judge.score(image, [Context(prompt="a red mug " * 50)])
    by_title = judge.score(image, [Context(title=TEXTS[0])])
    assert torch.equal(by_title["similarity"], judge.score(image, [Context(prompt=TEXTS[0])])["similarity"])


def test_no_text_is_bad_input_and_so_is_a_model_without_two_towers(folders, tmp_path):
    judge = ClipJudge(Clip.from_pretrained(folders / "clip"))
    with pytest.raises(BadInput, match="Give a prompt or a title"):
        judge.score(torch.rand(1, 3, 64, 64), [Context()])
    bert = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(**bert, vocab_size=50)).save_pretrained(tmp_path)
    with pytest.raises(BadInput, match="is a bert"):
        Clip.from_pretrained(tmp_path)


def test_identity_and_licence(folders):
    clip, siglip = Clip.from_pretrained(folders / "clip"), Clip.from_pretrained(folders / "siglip")
    assert (ClipJudge(clip).licence, ClipJudge(siglip).licence) == ("mit", "unknown")
    assert ClipJudge(clip).version != ClipJudge(siglip).version
    assert isinstance(clip.pixels, Pixels) and clip.pixels.crop == (64, 64)


def test_the_version_changes_with_words_and_pixels_and_with_nothing_else(folders):
    """Another tokenizer, crop or number of heads gives other scores with the same weights; a long text gives none."""
    folder = folders / "clip"
    clip = Clip.from_pretrained(folder)
    before, same = Clip.from_pretrained(folder).version, Clip.from_pretrained(folder)
    same.embed_texts(["a red mug " * 50])
    assert same.version == clip.version == before
    other_words = Clip(clip.model, title_tokenizer(["other words than those"]), clip.pixels)
    other_pixels = Clip(clip.model, clip.tokenizer, replace(clip.pixels, crop=(32, 32)))
    heads = Clip.from_pretrained(folder)
    heads.model.config.vision_config.num_attention_heads *= 2
    versions = {clip.version, other_words.version, other_pixels.version, heads.version}
    assert len(versions) == 4
