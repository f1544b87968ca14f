"""Pages that stand in one file, light and dark, without JavaScript: their frame, and pictures and plots as data inside.

A template begins with {% extends "page.html.j2" %} and fills the blocks title, mark, style and body.
"""

import base64
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import ChoiceLoader, Environment, PackageLoader
from markupsafe import Markup
from PIL import Image
from torch import Tensor

from goodeye.images import open_image, shrunk, to_pil

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def page(package: str, template: str, filters: Mapping[str, Callable[..., Any]] | None = None, **values: Any) -> bytes:
    """The template, a file of the package, filled in. Its filters: `picture`, `two_lines`, and those given."""
    loader = ChoiceLoader([PackageLoader(package, "."), PackageLoader("goodeye", ".")])
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True)
    environment.filters.update(picture=picture, two_lines=two_lines, **(filters or {}))
    return environment.get_template(template).render(**values).encode()


def picture(image: Image.Image | Tensor | str | Path, side: int | None = None, *, lossless_below: int = 0) -> str:
    """A picture (a file, or a tensor [3, H, W] in [0, 1]) as a data URI, its long side at most `side` pixels.

    lossless_below: one whose sides are all shorter than that keeps every bit.
    """
    if isinstance(image, Tensor):
        image = to_pil(image)
    img = image if isinstance(image, Image.Image) else open_image(image)
    if side is not None:
        img = shrunk(img, side)
    buffer = io.BytesIO()
    img.save(buffer, format="WEBP", quality=88, lossless=max(img.size) < lossless_below)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def plot(figure: "Figure") -> str:
    """A plot as a data URI; the same plot gives the same bytes."""
    from matplotlib import rc_context

    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": "goodeye"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()


def two_lines(number: str, below: str) -> Markup:
    """A cell of a table: a number, and small below it its interval, so that more columns fit."""
    return Markup("{}<small>{}</small>").format(number, below)
