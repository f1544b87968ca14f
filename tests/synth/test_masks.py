"""Masks: run lengths and boxes of known shapes; SAM's preparation against transformers' own; a tiny SAM end to end."""

import numpy as np
import pytest
import torch
from PIL import Image

from goodeye.errors import BadInput
from goodeye.synth.layout import Layout, Thing
from goodeye.synth.masks import asked, box_around, mask_of, run_lengths, sam

THINGS = (
    Thing(key="cup-1", category="cup", box=(0.1, 0.2, 0.4, 0.5)),
    Thing(key="bag-1", category="bag", box=(0.5, 0.5, 0.4, 0.3)),
)


def picture(width=60, height=40):
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_run_lengths_are_cocos(tmp_path):
    from faster_coco_eval import mask as theirs

    random = np.random.default_rng(1)
    for shape in ((5, 7), (16, 3), (1, 9)):
        for share in (0.0, 0.3, 1.0):
            mask = random.random(shape) < share
            found = run_lengths(mask)
            assert np.array_equal(mask_of(found), mask)
            assert np.array_equal(theirs.decode(theirs.frPyObjects(found, *shape)).astype(bool), mask)


def test_the_box_around_a_mask():
    mask = np.zeros((10, 20), dtype=bool)
    mask[2:5, 4:14] = True
    mask[3, 6:9] = False  # a hole changes nothing
    assert box_around(mask) == pytest.approx((0.2, 0.2, 0.5, 0.3))


def test_sam_is_given_what_transformers_gives_it():
    from transformers import SamProcessor
    from transformers.models.sam.image_processing_pil_sam import SamImageProcessorPil

    size = {"height": 64, "width": 64}
    processor = SamProcessor(SamImageProcessorPil(size={"longest_edge": 64}, pad_size=size))
    image = picture()
    corners = [[0.1 * 60, 0.2 * 40, 0.5 * 60, 0.7 * 40], [0.5 * 60, 0.5 * 40, 0.9 * 60, 0.8 * 40]]
    expected = processor(image, input_boxes=[corners], return_tensors="pt")
    pixels, boxes, filled = asked(image, [thing.box for thing in THINGS], 64)
    assert pixels.shape == (1, 3, 64, 64) and list(filled) == expected["reshaped_input_sizes"][0].tolist()
    assert (pixels - expected["pixel_values"]).abs().max() < 0.02
    assert boxes == pytest.approx(expected["input_boxes"].float().numpy(), abs=0.5)


@pytest.fixture(scope="module")
def tiny_sam(tmp_path_factory):
    from transformers import SamConfig, SamModel

    torch.manual_seed(0)
    vision = {
        "hidden_size": 16, "output_channels": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 64,
        "patch_size": 16, "window_size": 2, "global_attn_indexes": [0], "num_pos_feats": 8, "mlp_dim": 16,
        "initializer_range": 0.5,
    }  # fmt: skip
    prompt = {"hidden_size": 16, "image_size": 64, "patch_size": 16, "mask_input_channels": 4}
    decoder = {
        "hidden_size": 16, "mlp_dim": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "iou_head_hidden_dim": 16,
        "iou_head_depth": 2,
    }  # fmt: skip
    config = SamConfig(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder)
    place = tmp_path_factory.mktemp("sam")
    SamModel(config).save_pretrained(place / "sam")
    (place / "set.toml").write_text('[roles]\nsegmenter = "sam"\n')
    return place


def test_a_sam_finds_a_mask_of_the_pictures_size_for_each_thing(tiny_sam):
    from goodeye.modelset import opened

    masker = sam(opened(tiny_sam / "set.toml"))
    wide, high = picture(60, 40), picture(30, 50)
    layout = Layout(key="a", things=THINGS)
    found = masker([wide, high], [layout, Layout(key="b", things=THINGS[:1])], ["a-1", "b-1"])
    assert [len(row) for row in found] == [2, 1]
    assert all(mask is None or mask.shape == (40, 60) for mask in found[0])
    assert all(mask is None or mask.shape == (50, 30) for mask in found[1])
    assert any(mask is not None for row in found for mask in row)
    alone = masker([wide], [layout], ["a-1"])[0]
    assert all(np.array_equal(one, other) for one, other in zip(alone, found[0], strict=True))


def test_what_is_no_sam_is_told(tiny_set, tmp_path):
    from goodeye.modelset import opened

    with pytest.raises(BadInput, match="has no segmenter"):
        sam(opened(tiny_set))
    toml = tmp_path / "set.toml"
    toml.write_text(f'[roles]\nsegmenter = "{tiny_set.parent / "text_encoder"}"\n')
    with pytest.raises(BadInput, match="is a clip_text_model. Name a SAM"):
        sam(opened(toml))
