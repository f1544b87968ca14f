"""Rendered scenes as a folder that other programs read: pictures, cut-outs, maps, a table and boxes."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from goodeye.atomic import write_bytes
from goodeye.errors import BadInput
from goodeye.images import save_png, to_pil
from goodeye.progress import progress
from goodeye.showroom import scenes as S
from goodeye.synth.masks import run_lengths

SMALLEST, LARGEST = 32, 1024  # pixels a side
Row = dict[str, str | float]


def render_folder(out: str | Path, count: int = 16, size: int = 128, seed: int = 0) -> None:
    """Renders scenes 0 to count - 1 of the world `seed` into `out`, as PNG files and tables.

    - images/, and products/ (the cut-out on the picture's canvas, RGBA);
    - depth/ (white is near) and saliency/, 8 bits; objects/: the number of the thing that each pixel shows;
    - metadata.csv: image, product, title, caption, label, contrast, beauty and its parts, and the scene's facts; the
      layout that `goodeye ads train-judge` reads;
    - annotations.json: boxes and masks of product, extension, reference thing and props, in COCO's format.

    The same seed and size give the same pictures, and files of earlier scenes do not change with `count`. Raises
    BadInput for counts and sizes that make no sense and where `out` cannot be written.
    """
    if count < 1:
        raise BadInput(f"{count} scenes cannot be rendered. Ask for at least one.")
    if not SMALLEST <= size <= LARGEST:
        raise BadInput(f"scenes of {size} pixels cannot be rendered. Use a size from {SMALLEST} to {LARGEST}.")
    out = Path(out)
    rows: list[Row] = []
    boxes = Boxes(size)
    with progress("rendering", count, "scenes") as advance:
        for made in _rendered(count, size, seed):
            for one in range(len(made.scenes)):
                name = f"{len(rows):06d}.png"
                _save_pictures(out, made, one, name)
                boxes.add(len(rows), name, made.obj[one], made.names[one], made.scenes[one])
                rows.append(_row(made, one, name))
                advance()
    write_bytes(out / "annotations.json", (json.dumps(boxes.coco) + "\n").encode())
    write_bytes(out / "metadata.csv", _csv(rows))  # last: where it is, all it names is there


def _rendered(count: int, size: int, seed: int) -> Iterator[S.Render]:
    batch = max(1, round(16 * (128 / size) ** 2))
    return S.render_many([S.sample(seed, index) for index in range(count)], size, batch)


def _save_pictures(out: Path, made: S.Render, one: int, name: str) -> None:
    numbers = made.obj[one][None] / 255
    planes = {"images": made.image[one], "products": made.product[one], "depth": made.depth[one]}
    for folder, plane in (planes | {"saliency": made.saliency[one], "objects": numbers}).items():
        save_png(to_pil(plane), out / folder / name)


def _row(made: S.Render, one: int, name: str) -> Row:
    scene = made.scenes[one]
    measured = {"contrast": made.contrast, "beauty": made.beauty, **made.beauty_parts}
    return {
        "image": f"images/{name}",
        "product": f"products/{name}",
        "title": made.titles[one],
        "caption": made.captions[one],
        "label": scene.defect,
        **{what: round(float(values[one]), 4) for what, values in measured.items()},
        "place": scene.place,
        "wall": scene.wall,
        "light": scene.light,
        "reference": scene.reference,
        "reference_height": round(scene.reference_height, 4),
        "horizon": round(scene.horizon, 4),
        "scale": round(scene.scale, 4),
    }


def _csv(rows: list[Row]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


@dataclass
class Boxes:
    """Annotations of square pictures of `size`, growing picture by picture; `coco` holds them."""

    size: int
    coco: dict[str, Any] = field(default_factory=lambda: {"images": [], "categories": [], "annotations": []})

    def add(self, number: int, name: str, obj: Tensor, names: dict[int, str], scene: S.Scene) -> None:
        """One picture's things that show at least one pixel. obj: [H,W], the thing that each pixel shows."""
        self.coco["images"].append(
            {"id": number, "file_name": f"images/{name}", "width": self.size, "height": self.size}
        )
        for thing, word in sorted(names.items()):
            mask = (obj == thing).cpu().numpy()
            if not mask.any():
                continue
            kind = scene.product.kind if thing == S.PRODUCT else word
            self.coco["annotations"].append({
                "id": len(self.coco["annotations"]) + 1, "image_id": number, "category_id": self._category(kind),
                "bbox": box(mask), "area": int(mask.sum()), "segmentation": run_lengths(mask), "iscrowd": 0,
                "object": thing,
            })  # fmt: skip

    def _category(self, name: str) -> int:
        known = [category["name"] for category in self.coco["categories"]]
        if name not in known:
            self.coco["categories"].append({"id": len(known) + 1, "name": name})
            return len(known) + 1
        return known.index(name) + 1


def box(mask: np.ndarray) -> list[int]:
    """[left, top, width, height] in pixels of a mask [H,W] that is not empty."""
    ys, xs = np.nonzero(mask)
    left, top = int(xs.min()), int(ys.min())
    return [left, top, int(xs.max()) + 1 - left, int(ys.max()) + 1 - top]
