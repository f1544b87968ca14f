"""Shape hallucination without labels: how far what stands out in a picture grows beyond the product.

E = area(m_o ∪ m_i) - area(m_i) (CVPRW 2024, arXiv 2404.10157), with m_i the product's mask and m_o the mask of the
salient object in the generated picture. Here as a share of the product, so that large and small products count alike
(ours).
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from goodeye.errors import BadInput
from goodeye.judging.maps import MapEstimator
from goodeye.judging.protocol import Context, Images, check_contexts

LEVEL = 0.5  # saliency, and alpha, from which a pixel belongs to a mask


def expanded(output: Bool[Tensor, "N H W"], product: Bool[Tensor, "N H W"]) -> Float[Tensor, " N"]:
    """E over the product's area: 0 where nothing salient lies outside the product. Raises BadInput for an empty one."""
    area = product.float().sum((1, 2))
    if not bool((area > 0).all()):
        raise BadInput("a product has no pixel of alpha 0.5, so nothing can grow from it. Use one that can be seen.")
    return ((output | product).float().sum((1, 2)) - area) / area


def expansion(
    images: Images, contexts: Sequence[Context], saliency: MapEstimator, level: float = LEVEL
) -> Float[Tensor, " N"]:
    """E of each picture by a saliency model, as a share of the product. contexts: with the product on the canvas.

    It counts whatever else the model finds salient, and a border that it draws too wide; so compare generators by it,
    on the same briefs, rather than read it alone. Raises BadInput where a context has no product.
    """
    check_contexts("expansion", images, contexts)
    products = [context.product for context in contexts if context.product is not None]
    if len(products) != len(contexts):
        raise BadInput("expansion compares a picture with its product, and none was given. Give the cut-out.")
    with torch.no_grad():
        salient = saliency(images)[:, 0].cpu() >= level
    return expanded(salient, torch.stack(products)[:, 3].cpu() >= level)
