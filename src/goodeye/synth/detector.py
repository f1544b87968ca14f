"""A small detector of the DETR family (RT-DETR v2), trained on labelled pictures: what synth's data sets are for.

RT-DETR (Zhao et al. 2024, arXiv 2304.08069; v2: arXiv 2407.17140) learns within minutes from nothing, since its queries
are chosen among what the encoder sees and noised true boxes are learned beside. Everything is transformers' own; the
small configuration is ours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from goodeye.errors import BadInput
from goodeye.images import open_image, to_tensor
from goodeye.synth.sources import read_coco
from goodeye.training.loop import Loop, Modules, Result, fit, shuffled

if TYPE_CHECKING:
    from transformers import RTDetrV2ForObjectDetection

MOST = 30  # things found in a picture


@dataclass(frozen=True, eq=False)
class Pictures:
    """Labelled pictures of one size. images: [N, 3, S, S] uint8. boxes: of each picture, [n, 4] as x, y, width, height
    in shares. labels: of each picture, [n], places in `categories`."""

    images: Tensor
    boxes: list[Float[Tensor, "n 4"]]
    labels: list[Int[Tensor, " n"]]
    categories: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    def pick(self, rows: Sequence[int]) -> "Pictures":
        """Some of them, in this order."""
        some = list(rows)
        return Pictures(
            self.images[some], [self.boxes[at] for at in some], [self.labels[at] for at in some], self.categories
        )


def read_pictures(coco: str | Path, categories: Sequence[str], size: int = 128) -> Pictures:
    """The pictures of a COCO file, its images beside it, made square of `size`.

    Raises BadInput for a category that is not among `categories`, and for a file that cannot be read.
    """
    coco, place = Path(coco), {name: at for at, name in enumerate(categories)}
    images, boxes, labels = [], [], []
    for one in read_coco(coco):
        if unknown := [name for name in one.names if name not in place]:
            raise BadInput(f"{coco} has the category {unknown[0]}, which the detector does not know. Leave it out.")
        picture = open_image(coco.parent / one.file).convert("RGB")
        images.append((to_tensor(picture.resize((size, size))) * 255).round().to(torch.uint8))
        boxes.append(torch.tensor(one.boxes, dtype=torch.float32).reshape(-1, 4))
        labels.append(torch.tensor([place[name] for name in one.names], dtype=torch.long))
    if not images:
        raise BadInput(f"{coco} has no pictures to train on. Give a file with some.")
    return Pictures(torch.stack(images), boxes, labels, tuple(categories))


def new_detector(categories: Sequence[str], width: int = 64, queries: int = 40) -> "RTDetrV2ForObjectDetection":
    """An untrained RT-DETR v2 for small pictures. width: of its tokens, a multiple of 8."""
    from transformers import RTDetrResNetConfig, RTDetrV2Config, RTDetrV2ForObjectDetection

    widths = [width // 2, width, width * 3 // 2, width * 2]
    backbone = RTDetrResNetConfig(
        embedding_size=width // 2, hidden_sizes=widths, depths=[1, 1, 1, 1], layer_type="basic", out_indices=[2, 3, 4]
    )
    config = RTDetrV2Config(
        backbone_config=backbone,
        freeze_backbone_batch_norms=False,
        encoder_hidden_dim=width,
        encoder_in_channels=widths[1:],
        encoder_ffn_dim=2 * width,
        encoder_attention_heads=4,
        d_model=width,
        decoder_in_channels=[width] * 3,
        decoder_ffn_dim=2 * width,
        decoder_attention_heads=4,
        decoder_layers=2,
        hidden_expansion=0.5,
        num_queries=queries,
        num_denoising=queries,
        initializer_bias_prior_prob=0.01,
        id2label=dict(enumerate(categories)),
        label2id={name: at for at, name in enumerate(categories)},
    )
    return RTDetrV2ForObjectDetection(config)


def train_detector(
    detector: "RTDetrV2ForObjectDetection",
    pools: Sequence[Pictures],
    run_dir: str | Path,
    config: Loop,
    *,
    batch: int = 16,
    about: Mapping[str, Any] | None = None,
    label: str = "detector",
) -> Result:
    """Trains in place; each batch has an equal part of every pool, however large. Goes on where it was stopped.

    Pictures are mirrored, cut or made smaller, and made lighter or darker at random.
    """
    part = batch // len(pools)
    items = [shuffled(len(pool), min(part, len(pool)), config.seed + at) for at, pool in enumerate(pools)]

    def data(index: int) -> tuple[Tensor, list[dict[str, Tensor]]]:
        rng = np.random.default_rng((config.seed, index))
        some = [_moved(pool, row, rng) for pool, rows in zip(pools, items, strict=True) for row in rows(index)]
        return torch.stack([image for image, _ in some]), [target for _, target in some]

    def step(nets: Modules, given: tuple[Tensor, list[dict[str, Tensor]]], number: int) -> Tensor:
        loss: Tensor = nets["detector"](pixel_values=given[0], labels=given[1]).loss
        return loss

    return fit({"detector": detector}, step, data, config, run_dir, about=about, resume=True, label=label)


def _moved(pool: Pictures, row: int, rng: np.random.Generator) -> tuple[Tensor, dict[str, Tensor]]:
    """A picture [3, S, S] in [0, 1] and its targets, shown through a window that is larger or smaller than it and may
    be mirrored; what is left of a box must be at least a third of it."""
    image, box = pool.images[row].float() / 255, pool.boxes[row]
    side = float(rng.uniform(0.75, 1.25))  # of the window, in shares of the picture
    left, top = (float(rng.uniform(min(0.0, 1 - side), max(0.0, 1 - side))) for _ in range(2))
    theta = torch.tensor([[[side, 0, 2 * left + side - 1], [0, side, 2 * top + side - 1]]])
    grid = torch.nn.functional.affine_grid(theta, [1, *image.shape], align_corners=False)
    image = torch.nn.functional.grid_sample(image[None], grid, padding_mode="reflection", align_corners=False)[0]
    corners = torch.cat([box[:, :2], box[:, :2] + box[:, 2:]], 1)
    moved = ((corners - corners.new_tensor([left, top, left, top])) / side).clamp(0, 1)
    if rng.random() < 0.5:
        image, moved = image.flip(-1), torch.stack([1 - moved[:, 2], moved[:, 1], 1 - moved[:, 0], moved[:, 3]], 1)
    sides = moved[:, 2:] - moved[:, :2]
    seen = sides.prod(1) * side**2 >= box[:, 2:].prod(1) / 3
    image = (image * float(rng.uniform(0.8, 1.2))).clamp(0, 1)
    return image, {
        "class_labels": pool.labels[row][seen],
        "boxes": torch.cat([(moved[:, :2] + moved[:, 2:]) / 2, sides], 1)[seen],
    }


@dataclass(frozen=True, eq=False)
class Found:
    """What a detector finds in one picture, the surest first. boxes: [n, 4], x, y, width, height in shares."""

    boxes: Float[Tensor, "n 4"]
    labels: Int[Tensor, " n"]
    scores: Float[Tensor, " n"]


@torch.no_grad()
def detect(detector: "RTDetrV2ForObjectDetection", images: Tensor, batch: int = 32) -> list[Found]:
    """images: [N, 3, S, S], uint8 or in [0, 1]. At most MOST things of each."""
    found = []
    for some in images.split(batch):
        seen = some.float() / 255 if some.dtype == torch.uint8 else some
        out = detector(pixel_values=seen.to(detector.device))
        scores, at = out.logits.sigmoid().flatten(1).topk(min(MOST, out.logits[0].numel()))
        labels, query = at % out.logits.shape[-1], at // out.logits.shape[-1]
        centre = out.pred_boxes.gather(1, query[..., None].expand(-1, -1, 4))
        boxes = torch.cat([centre[..., :2] - centre[..., 2:] / 2, centre[..., 2:]], -1)
        found += [Found(*one) for one in zip(boxes.cpu(), labels.cpu(), scores.cpu(), strict=True)]
    return found


def average_precision(found: Sequence[Found], truth: Pictures) -> dict[str, float]:
    """COCO's AP (IoU .5 to .95, at most 100 things) of each category that occurs, by faster-coco-eval."""
    from faster_coco_eval import COCO, COCOeval_faster

    size = truth.images.shape[-1]
    shown = torch.cat(truth.labels).unique().tolist()
    data: dict[str, Any] = {
        "images": [{"id": at + 1, "width": size, "height": size} for at in range(len(truth))],
        "categories": [{"id": at + 1, "name": name} for at, name in enumerate(truth.categories)],
        "annotations": [],
    }
    for at, (boxes, labels) in enumerate(zip(truth.boxes, truth.labels, strict=True)):
        for box, label in zip((boxes * size).tolist(), labels.tolist(), strict=True):
            data["annotations"].append({
                "id": len(data["annotations"]) + 1, "image_id": at + 1, "category_id": label + 1, "bbox": box,
                "area": box[2] * box[3], "iscrowd": 0,
            })  # fmt: skip
    answers = [
        {"image_id": at + 1, "category_id": label + 1, "bbox": box, "score": score}
        for at, one in enumerate(found)
        for box, label, score in zip((one.boxes * size).tolist(), one.labels.tolist(), one.scores.tolist(), strict=True)
    ]
    if not answers:
        return {truth.categories[at]: 0.0 for at in shown}
    real = COCO(data)
    evaluation = COCOeval_faster(real, real.loadRes(answers), iouType="bbox", print_function=lambda *words: None)
    evaluation.evaluate()
    evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, -1]  # [IoU, recall, category], all areas
    return {truth.categories[at]: float(precision[:, :, at].mean()) for at in shown}
