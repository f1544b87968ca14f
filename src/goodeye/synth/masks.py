"""Masks of the things of kept pictures: by SAM (Kirillov et al. 2023), asked with each thing's box, or by any callable.

All parts and holes of a mask are kept (synth paper). Masks are stored as COCO's uncompressed run lengths.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from goodeye.atomic import append, mend, read_rows
from goodeye.errors import BadInput
from goodeye.hub import no_bars
from goodeye.images import open_image, to_tensor
from goodeye.judging.pixels import IMAGENET_MEAN, IMAGENET_STD
from goodeye.progress import progress
from goodeye.synth.layout import Box, Layout, layout_of

if TYPE_CHECKING:
    from goodeye.modelset import Models

MASKS = "masks.jsonl"
Array = np.ndarray[Any, Any]
Mask = Bool[Array, "H W"]
# What finds masks: pictures, their layouts, and the pictures' keys. Returns a mask for each thing, None where none is.
Masker = Callable[[Sequence[Image.Image], Sequence[Layout], Sequence[str]], list[list[Mask | None]]]


def run_lengths(mask: Mask) -> dict[str, list[int]]:
    """COCO's uncompressed run lengths of a mask [H, W]: column by column, beginning with the count of zeros."""
    flat = np.concatenate([[0], mask.flatten(order="F").astype(np.int8), [0]])
    changes = np.flatnonzero(np.diff(flat))
    ends = np.concatenate([[0], changes, [mask.size]])
    counts = np.diff(ends)
    if len(changes) and changes[-1] == mask.size:
        counts = counts[:-1]
    return {"size": list(mask.shape), "counts": counts.tolist()}


def mask_of(lengths: Mapping[str, Any]) -> Mask:
    """The mask [H, W] of such run lengths."""
    counts, (height, width) = lengths["counts"], lengths["size"]
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return flat.reshape((height, width), order="F")


def box_around(mask: Mask) -> Box:
    """The box of a mask that is not empty, in shares of the picture."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    height, width = mask.shape
    left, top = columns[0] / width, rows[0] / height
    return float(left), float(top), float((columns[-1] + 1) / width - left), float((rows[-1] + 1) / height - top)


def sam(models: "Models") -> Masker:
    """SAM of a model set, its role segmenter. Raises BadInput where the set names none or another kind of model."""
    model: Any = models.load("segmenter", _load_sam)
    model.to(models.device)
    side = int(model.config.vision_config.image_size)

    @torch.no_grad()
    def masks(images: Sequence[Image.Image], layouts: Sequence[Layout], keys: Sequence[str]) -> list[list[Mask | None]]:
        found = []
        for image, one in zip(images, layouts, strict=True):
            pixels, boxes, size = asked(image, [thing.box for thing in one.things], side)
            out = model(
                pixel_values=pixels.to(models.device), input_boxes=boxes.to(models.device), multimask_output=False
            )
            low = _resized(out.pred_masks[0].float(), (side, side))
            whole = _resized(low[..., : size[0], : size[1]], image.size[::-1])
            seen = (whole[:, 0] > 0).cpu().numpy()
            found.append([mask if mask.any() else None for mask in seen])
        return found

    return masks


def _resized(masks: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(masks, size, mode="bilinear", align_corners=False)


def _load_sam(place: str) -> Any:
    from transformers import AutoConfig, SamModel

    with no_bars(True):
        if (kind := AutoConfig.from_pretrained(place).model_type) != "sam":
            raise BadInput(f"the segmenter at {place} is a {kind}. Name a SAM in the layout of transformers.")
        return SamModel.from_pretrained(place, use_safetensors=True).eval().requires_grad_(False)


def asked(
    image: Image.Image, boxes: Sequence[Box], side: int
) -> tuple[Float[Tensor, "1 3 S S"], Float[Tensor, "1 n 4"], tuple[int, int]]:
    """What a SAM takes: the picture with its longer side resized to `side`, normalised and padded with zeros; the
    boxes' corners in its pixels; and how much of height and width the picture fills."""
    scale = side / max(image.size)
    width, height = (int(edge * scale + 0.5) for edge in image.size)
    resized = to_tensor(image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR))
    mean, std = (torch.tensor(three)[:, None, None] for three in (IMAGENET_MEAN, IMAGENET_STD))
    pixels = F.pad((resized - mean) / std, (0, side - width, 0, side - height))
    corners = torch.tensor([[x, y, x + w, y + h] for x, y, w, h in boxes])
    return pixels[None], corners[None] * torch.tensor([width, height, width, height]), (height, width)


def segment_run(run: str | Path, rows: Sequence[Mapping[str, Any]], masker: Masker, batch: int = 8) -> int:
    """Finds the masks of pictures of a run (rows of its scores) into masks.jsonl; goes on where it was stopped.

    Returns how many pictures were looked at now.
    """
    file = Path(run) / MASKS
    mend(file)
    known = {row["key"] for row in read_rows(file)}
    left = [row for row in rows if row["key"] not in known]
    with progress("finding masks", len(rows), "pictures") as advance:
        advance(len(rows) - len(left))
        for at in range(0, len(left), batch):
            some = left[at : at + batch]
            images = [open_image(row["file"]).convert("RGB") for row in some]
            layouts = [layout_of(row["layout"], f"{run} {row['key']}") for row in some]
            found = masker(images, layouts, [row["key"] for row in some])
            append(file, *(
                {"key": row["key"], "masks": {
                    thing.key: run_lengths(mask)
                    for thing, mask in zip(one.things, masks, strict=True) if mask is not None
                }}
                for row, one, masks in zip(some, layouts, found, strict=True)
            ))  # fmt: skip
            advance(len(some))
    return len(left)


def read_masks(run: str | Path) -> dict[str, dict[str, Any]]:
    """Run lengths by the picture's key and the thing's; nothing where there are none."""
    file = Path(run) / MASKS
    return {row["key"]: row["masks"] for row in read_rows(file)} if file.exists() else {}
