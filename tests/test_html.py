"""Pages in one file: pictures inside are the pictures, words are escaped, and the frame is the same for all."""

import base64
import io

import torch
from PIL import Image

from goodeye.html import page, picture, plot, two_lines
from goodeye.images import save_png, to_tensor


def decoded(uri: str) -> Image.Image:
    kind, _, data = uri.partition(",")
    assert kind == "data:image/webp;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_a_picture_is_inside_from_a_file_a_tensor_or_an_image(tmp_path):
    image = torch.rand(3, 20, 40, generator=torch.Generator().manual_seed(0))
    img = Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy())
    save_png(img, tmp_path / "a.png")
    exact = picture(img, lossless_below=41)
    assert exact == picture(image, lossless_below=41) == picture(tmp_path / "a.png", lossless_below=41)
    assert torch.equal(to_tensor(decoded(exact)), to_tensor(img))
    assert len(picture(img, lossless_below=40)) < len(exact)  # its longer side is 40
    assert decoded(picture(img, 10)).size == (10, 5) and decoded(picture(img, 100)).size == (40, 20)


def test_maps_and_cut_outs_are_pictures_too():
    for channels, mode in ((1, "RGB"), (4, "RGBA")):
        assert decoded(picture(torch.full((channels, 30, 30), 0.5), 10)).mode == mode


def test_the_same_plot_gives_the_same_bytes():
    from matplotlib.figure import Figure

    def drawn() -> str:
        figure = Figure()
        figure.subplots().plot([1, 2, 4])
        return plot(figure)

    assert drawn() == drawn() and drawn().startswith("data:image/svg+xml;base64,")


def test_a_page_fills_the_frame_and_escapes_words():
    settings = {"method": "<refl>", "train": "lora"}
    text = page(
        "goodeye.ads", "align_report.html.j2", settings=settings, steps=3, measures=[], stopped="", best=None,
        curves="data:,", sheets=[],
    ).decode()  # fmt: skip
    assert "<title>Aligned by &lt;refl&gt; · Goodeye</title>" in text and "3 steps of &lt;refl&gt;" in text
    assert "prefers-color-scheme: dark" in text and text.rstrip().endswith("</html>")
    assert two_lines("0.5", "<0 to 1>") == "0.5<small>&lt;0 to 1&gt;</small>"
