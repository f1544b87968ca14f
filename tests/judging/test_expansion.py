"""Expansion of the product: areas in closed form."""

import pytest
import torch
from torch import Tensor

from goodeye.errors import BadInput
from goodeye.judging.expansion import expanded, expansion
from goodeye.judging.protocol import Context


def box(top: int, left: int, height: int, width: int) -> Tensor:
    mask = torch.zeros(1, 20, 20, dtype=torch.bool)
    mask[:, top : top + height, left : left + width] = True
    return mask


PRODUCT = box(5, 5, 8, 5)  # 40 pixels


@pytest.mark.parametrize(
    ("output", "share"),
    [
        (PRODUCT, 0),
        (box(5, 5, 2, 2), 0),  # a part of it was found: nothing grows
        (box(5, 5, 8, 10), 1),  # twice as wide
        (box(3, 4, 12, 7), (84 - 40) / 40),  # all around
        (box(0, 15, 4, 5), 20 / 40),  # elsewhere
    ],
)
def test_the_area_that_is_not_the_products(output: Tensor, share: float) -> None:
    assert expanded(output, PRODUCT).tolist() == pytest.approx([share])


def test_masks_come_from_saliency_and_alpha() -> None:
    product = torch.cat([torch.zeros(3, 20, 20), PRODUCT.float()])
    images = torch.cat([PRODUCT, box(5, 5, 8, 10)]).float()[:, None].expand(2, 3, 20, 20) * 0.6

    def brightness(pictures: Tensor) -> Tensor:
        return pictures.mean(1, keepdim=True)

    assert expansion(images, [Context(product=product)] * 2, brightness).tolist() == pytest.approx([0, 1])
    assert expansion(images, [Context(product=product)] * 2, brightness, level=0.7).tolist() == [0, 0]


def test_what_cannot_be_compared_is_said() -> None:
    with pytest.raises(BadInput, match="nothing can grow"):
        expanded(PRODUCT, torch.zeros_like(PRODUCT))
    with pytest.raises(BadInput, match="Give the cut-out"):
        expansion(torch.zeros(1, 3, 20, 20), [Context()], lambda pictures: pictures[:, :1])
