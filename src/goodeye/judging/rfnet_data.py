"""Labelled pictures on disk: found, read, and kept with their depth and saliency, so that they are made only once."""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from goodeye.atomic import write_bytes
from goodeye.errors import BadInput
from goodeye.images import resize_rgba, to_tensor
from goodeye.judging import rf1m
from goodeye.judging.maps import MapEstimator
from goodeye.judging.pixels import on_white
from goodeye.judging.rfnet import class_number
from goodeye.judging.samples import Samples
from goodeye.progress import progress
from goodeye.tables import TABLES, Cell, Row, Skipped, read_table

HELD_OUT = ("test", "held_out", "validation", "val")
TRAIN = ("", "train")
SAVE_EVERY = 30.0  # seconds between marks of how far the maps are made


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """One labelled picture, not yet opened. split: "train" or "held_out"."""

    name: str
    image: Cell
    product: Cell | None
    title: str
    label: int
    split: str


def find_labelled(
    data: str | Path, held_out: float = 0.1, scratch: Path | None = None
) -> tuple[list[Labelled], list[Skipped]]:
    """The labelled pictures of a folder or table, and which rows cannot be used and why.

    data: a table (CSV, Parquet; columns image, label and, where there are any, product, title, split), a folder with
    metadata.csv or metadata.parquet in it, or a folder in RF1M's layout (see `goodeye.judging.rf1m`). Without a split
    column a part of the products, `held_out`, is held out with all its pictures, chosen by the product's name. scratch:
    where compressed tars are decompressed, once; the folder `unpacked` beside them if not given. Raises BadInput where
    there is nothing to learn from.
    """
    data = Path(data)
    rows: Iterable[Row | Skipped]
    if (data / rf1m.LABELS).is_file():
        rows = rf1m.rows(data, scratch or data / "unpacked")
    else:
        rows = read_table(_table_of(data))
    found: list[Labelled] = []
    skipped: list[Skipped] = []
    for row in rows:
        if isinstance(row, Skipped):
            skipped.append(row)
            continue
        try:
            found.append(_labelled(row, held_out))
        except BadInput as error:
            skipped.append(Skipped(row.name, str(error)))
    if not found:
        why = f" First: {skipped[0].message}" if skipped else ""
        raise BadInput(f"{data} holds no labelled picture that can be used.{why}")
    return found, skipped


def some_of(rows: Sequence[Labelled], most: int) -> list[Labelled]:
    """At most so many rows, in their order: all pictures of some products, chosen by the products' names.

    Raises BadInput for fewer than two.
    """
    if most < 2:
        raise BadInput(f"most is {most}. Give at least 2 pictures, to train on and to test on.")
    by_product = sorted(range(len(rows)), key=lambda number: (_drawn(rows[number]), number))
    return [rows[number] for number in sorted(by_product[:most])]


def _drawn(row: Labelled) -> bytes:
    """A product's lot: the same in every run, and apart from the one that decides what is held out."""
    return hashlib.sha256(f"some {(row.product or row.image).name}".encode()).digest()


def _table_of(data: Path) -> Path:
    if data.suffix.lower() in TABLES:
        return data
    for name in ("metadata.csv", "metadata.parquet"):
        if (data / name).is_file():
            return data / name
    raise BadInput(f"{data} has no metadata.csv, metadata.parquet or label.txt. Add a table with image and label.")


def _labelled(row: Row, held_out: float) -> Labelled:
    if "image" not in row.cells:
        raise BadInput(f"{row.name} names no image.")
    image, product = row.cells["image"], row.cells.get("product")
    label = class_number(row.words.get("label", ""), row.name)
    split = row.words.get("split", "").lower()
    if split not in (*TRAIN, *HELD_OUT):
        raise BadInput(f"{row.name} has the split {split!r}. Use train or test.")
    if not split:
        chance = int.from_bytes(hashlib.sha256((product or image).name.encode()).digest()[:4]) / 2**32
        split = "test" if chance < held_out else "train"
    return Labelled(
        name=f"{row.name} ({image.name})",
        image=image,
        product=product,
        title=row.words.get("title", ""),
        label=label,
        split="held_out" if split in HELD_OUT else "train",
    )


class Cache:
    """Pictures of one size with their maps in a folder, as .npy files that are mapped into memory.

    Its name is a function of the rows, the size and the estimators, so it is made once, and goes on if it was killed.
    """

    def __init__(
        self,
        folder: Path,
        rows: Sequence[Labelled],
        size: int,
        depth: MapEstimator | None,
        saliency: MapEstimator | None,
        *,
        with_product: bool = True,
    ) -> None:
        self.rows, self.size, self.depth, self.saliency = rows, size, depth, saliency
        self.with_product = with_product
        versions = [part.version if part else "none" for part in (depth, saliency)]
        key = json.dumps([size, with_product, versions, [(row.name, _stamp(row.image)) for row in rows]])
        self.folder = folder / hashlib.sha256(key.encode()).hexdigest()[:12]
        self.skipped: dict[int, str] = {}

    def samples(self, batch_size: int = 32, device: str | torch.device = "cpu") -> tuple[Samples, list[Skipped]]:
        """Reads what is not read yet. Returns what can be used, and which rows cannot and why."""
        arrays, done = self._open()
        saved = time.monotonic()
        with progress("reading pictures, making depth and saliency", len(self.rows) - done, "pictures") as advance:
            for first in range(done, len(self.rows), batch_size):
                last = min(first + batch_size, len(self.rows))
                self._fill(arrays, first, last, device)
                advance(last - first)
                if last == len(self.rows) or time.monotonic() - saved > SAVE_EVERY:
                    self._mark(arrays, last)
                    saved = time.monotonic()
        return self._result(arrays)

    def _open(self) -> tuple[dict[str, np.memmap], int]:
        state = self.folder / "state.json"
        known: dict[str, Any] = {"done": 0, "skipped": {}}
        if state.is_file():
            known = json.loads(state.read_text())
        self.skipped = {int(number): message for number, message in known["skipped"].items()}
        channels = {"products": 4, "images": 3, "depth": 1, "saliency": 1}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._require_room(len(self.rows) * sum(channels.values()) * self.size**2)
            arrays = {
                name: np.lib.format.open_memmap(
                    self.folder / f"{name}.npy",
                    mode="r+" if state.is_file() else "w+",
                    dtype=np.uint8,
                    shape=(len(self.rows), count, self.size, self.size),
                )
                for name, count in channels.items()
            }
            for name, array in arrays.items():
                _reserve(self.folder / f"{name}.npy", array.nbytes)
        except OSError as error:
            raise BadInput(f"{self.folder} cannot be written: {error.strerror}. Choose another --out.") from error
        return arrays, known["done"]

    def _require_room(self, needed: int) -> None:
        missing = needed - sum(file.stat().st_size for file in self.folder.glob("*.npy"))
        free = shutil.disk_usage(self.folder).free
        if missing > free:
            raise BadInput(
                f"{self.folder} needs {needed / 1e9:.1f} GB for {len(self.rows)} pictures with their maps, and has "
                f"{free / 1e9:.1f} GB. Take fewer by --most, a smaller --image-size, or another --out."
            )

    def _fill(self, arrays: dict[str, np.memmap], first: int, last: int, device: str | torch.device) -> None:
        kept: list[int] = []
        for number in range(first, last):
            try:
                product, image = self._read(self.rows[number])
            except BadInput as error:
                self.skipped[number] = f"{self.rows[number].name}: {error}"
                continue
            arrays["products"][number], arrays["images"][number] = product, image
            kept.append(number)
        if not kept:
            return
        images = torch.from_numpy(arrays["images"][kept]).to(device).float() / 255
        for name, estimate in (("depth", self.depth), ("saliency", self.saliency)):
            if estimate is not None:
                with torch.no_grad():
                    arrays[name][kept] = _bytes(estimate(images))

    def _read(self, row: Labelled) -> tuple[np.ndarray, np.ndarray]:
        picture = row.image.open()
        image = to_tensor(resize_rgba(picture, (self.size, self.size)))
        image = on_white(image[None])[0] if len(image) == 4 else image
        if not self.with_product:
            return np.zeros((4, self.size, self.size), np.uint8), _bytes(image)
        if row.product is None:
            raise BadInput("no product is named. Name its cut-out, or train without products.")
        product = row.product.open()
        if product.mode != "RGBA":
            raise BadInput(f"{row.product.name} has no transparency. Give a cut-out with an alpha channel.")
        return _bytes(to_tensor(_on_canvas(product, picture.size, self.size))), _bytes(image)

    def _mark(self, arrays: dict[str, np.memmap], done: int) -> None:
        for array in arrays.values():
            array.flush()
        write_bytes(self.folder / "state.json", json.dumps({"done": done, "skipped": self.skipped}).encode())

    def _result(self, arrays: dict[str, np.memmap]) -> tuple[Samples, list[Skipped]]:
        good = [number for number in range(len(self.rows)) if number not in self.skipped]
        tensors = {name: torch.from_numpy(np.load(self.folder / f"{name}.npy", mmap_mode="c")) for name in arrays}
        samples = Samples(
            products=tensors["products"],
            images=tensors["images"],
            depth=tensors["depth"],
            saliency=tensors["saliency"],
            titles=[row.title for row in self.rows],
            labels=torch.tensor([row.label for row in self.rows]),
            rows=torch.tensor(good, dtype=torch.long),
        )
        return samples, [Skipped(self.rows[number].name, message) for number, message in sorted(self.skipped.items())]


def _reserve(path: Path, size: int) -> None:
    """Takes the room on disk now: a full disk is an error here, and would be a crash when a mapped page is written."""
    if hasattr(os, "posix_fallocate") and size:
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def _stamp(cell: Cell) -> str:
    """What changes when a picture does: the length and time of its file or archive, or its bytes."""
    path = cell.member.archive if cell.member else cell.path
    if path is None:
        return hashlib.sha256(cell.data or b"").hexdigest()[:16]
    try:
        found = path.stat()
    except (OSError, ValueError):
        return "missing"
    return f"{found.st_size} {found.st_mtime_ns} {cell.member.offset if cell.member else 0}"


def _on_canvas(product: Image.Image, canvas: tuple[int, int], size: int) -> Image.Image:
    """The product as it lies on the picture; a cut-out of another shape is centred on it first."""
    if product.width * canvas[1] != product.height * canvas[0]:
        shrink = min(canvas[0] / product.width, canvas[1] / product.height)
        inner = max(1, round(product.width * shrink)), max(1, round(product.height * shrink))
        full = Image.new("RGBA", canvas, (255, 255, 255, 0))
        full.paste(resize_rgba(product, inner), ((canvas[0] - inner[0]) // 2, (canvas[1] - inner[1]) // 2))
        product = full
    return resize_rgba(product, (size, size))


def _bytes(tensor: Tensor) -> np.ndarray:
    return (tensor.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
