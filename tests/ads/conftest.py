"""What the tests of this folder share: product pictures."""

import sys
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

sys.path.insert(0, str(Path(__file__).parent))  # for `tiny_set`


@pytest.fixture
def products(tmp_path: Path) -> Path:
    """A folder with three cut-outs: blob.png, bar.png, ring.png."""
    folder = tmp_path / "products"
    folder.mkdir()
    for name, colour in (("blob", "red"), ("bar", "blue"), ("ring", "green")):
        img = Image.new("RGBA", (60, 40))
        draw = ImageDraw.Draw(img)
        if name == "bar":
            draw.rectangle([5, 15, 55, 25], fill=colour)
        else:
            draw.ellipse([10, 5, 50, 35], fill=colour)
        if name == "ring":
            draw.ellipse([22, 13, 38, 27], fill=(0, 0, 0, 0))
        img.save(folder / f"{name}.png")
    return folder
