"""A convolution with a code of the place: what it adds, that it adds nothing at zero, and that sizes may differ."""

import copy

import torch
from diffusers import UNet2DConditionModel

from goodeye.synth.placed import PLACE, placed


def unet():
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, block_out_channels=(8, 8), norm_num_groups=4,
        cross_attention_dim=8, layers_per_block=1, attention_head_dim=2,
        down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"),
    )  # fmt: skip


def test_a_code_of_nothing_changes_nothing_and_weights_keep_their_names():
    plain = unet()
    with_code = placed(copy.deepcopy(plain))
    assert with_code.state_dict().keys() - plain.state_dict().keys() == {PLACE}
    x, states = torch.randn(2, 4, 8, 8), torch.randn(2, 3, 8)
    with torch.no_grad():
        assert torch.equal(plain(x, 5, states).sample, with_code(x, 5, states).sample)


def test_the_code_tells_places_apart_and_is_the_same_for_every_picture():
    conv = placed(unet(), spread=0.5).conv_in
    with torch.no_grad():
        code = conv(torch.zeros(2, 4, 8, 8)) - conv.bias[:, None, None]
    assert torch.equal(code[0], code[1])
    cells = code[0].flatten(1).T
    apart = torch.cdist(cells, cells) + 9 * torch.eye(64)
    assert apart.min() > 0.05
    assert 0.3 < float(code.std()) < 0.7  # as wide as was asked for


def test_other_sizes_have_the_same_places():
    conv = placed(unet(), spread=0.5).conv_in
    with torch.no_grad():
        small, large = (conv(torch.zeros(1, 4, side, side)) for side in (4, 12))
    # the middle of a cell of 4 is the middle of every third cell of 12
    assert torch.allclose(small, large[:, :, 1::3, 1::3], atol=1e-5)


def test_the_seed_draws_the_code():
    one, same, other = (placed(unet(), 0.5, seed).conv_in.place for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)
