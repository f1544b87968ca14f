"""Every kind of file that people have, opened as 8-bit sRGB or refused in one plain line."""

import errno
import io
import os
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from goodeye.errors import BadInput
from goodeye.images import FORMATS, open_image, resize_rgba, save_png, shrunk, to_pil, to_tensor, within

RED, BLUE = (255, 0, 0), (0, 0, 255)


def photo(width: int = 40, height: int = 30, mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def encoded(img: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    img.save(buffer, format=format, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_by_hand(width: int, height: int, depth: int, colour_type: int, rows: bytes, extra: bytes = b"") -> bytes:
    """A PNG as the specification writes it: what Pillow cannot write itself (16-bit colour, a false header)."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    body = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def sixteen_bit_rows(pixels: np.ndarray) -> bytes:
    return b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)


def icc_profile(device_class: bytes, space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    """An ICC 2.1 profile (specification ICC.1:2001-04) with the given tags."""
    table, data, offset = b"", b"", 128 + 4 + 12 * len(tags)
    for name, tag in tags.items():
        tag += b"\0" * (-len(tag) % 4)
        table += name + struct.pack(">II", offset + len(data), len(tag))
        data += tag
    d50 = struct.pack(">iii", 63190, 65536, 54061)
    header = struct.pack(">I4sI4s4s4s", 0, b"lcms", 0x02100000, device_class, space, connection)
    header += struct.pack(">6H", 2024, 1, 1, 0, 0, 0) + b"acsp" + b"\0" * 28 + d50 + b"\0" * 48
    whole = header + struct.pack(">I", len(tags)) + table + data
    return struct.pack(">I", len(whole)) + whole[4:]


def description(text: bytes) -> bytes:
    return b"desc\0\0\0\0" + struct.pack(">I", len(text) + 1) + text + b"\0" + b"\0" * 78


def swapped_rgb_profile() -> bytes:
    """sRGB with its red and blue primaries exchanged: a file of red numbers shows blue."""

    def point(x: float, y: float, z: float) -> bytes:
        return b"XYZ \0\0\0\0" + struct.pack(">iii", *(round(v * 65536) for v in (x, y, z)))

    gamma = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(2.2 * 256)) + b"\0\0"
    tags = {b"desc": description(b"swapped"), b"wtpt": point(0.9642, 1, 0.8249)}
    tags |= {b"bXYZ": point(0.4360, 0.2225, 0.0139), b"gXYZ": point(0.3851, 0.7169, 0.0971)}
    tags |= {b"rXYZ": point(0.1431, 0.0606, 0.7141), b"rTRC": gamma, b"gTRC": gamma, b"bTRC": gamma}
    return icc_profile(b"mntr", b"RGB ", b"XYZ ", tags)


def cmyk_profile() -> bytes:
    """A CMYK profile in which pure cyan ink is red (Lab 54, 81, 70) and everything else white."""
    corners = []
    for index in range(16):  # C varies slowest
        red = index == 0b1000
        corners += [round(54 * 2.55), 128 + 81, 128 + 70] if red else [255, 128, 128]
    identity = b"".join(struct.pack(">i", 65536 if i % 4 == 0 else 0) for i in range(9))
    ramp = bytes(range(256))
    lut = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + identity + ramp * 4 + bytes(corners) + ramp * 3
    return icc_profile(b"prtr", b"CMYK", b"Lab ", {b"desc": description(b"red cyan"), b"A2B0": lut})


@pytest.fixture
def put(tmp_path: Path):
    def write(data: bytes, name: str = "picture.bin") -> Path:
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    return write


@contextmanager
def as_nobody() -> Iterator[None]:
    """Permissions do not bind root, so root becomes nobody for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def refusal(path: Path) -> str:
    with pytest.raises(BadInput) as caught:
        open_image(path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message and message.endswith(".")
    return message


# --- what is refused


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_a_file_cut_short_is_refused(put, format, part):
    data = encoded(photo(), format)
    assert "damaged" in (line := refusal(put(data[: int(len(data) * part)]))) or "not a picture" in line


def test_every_readable_format_opens(put):
    for format in FORMATS:
        img = open_image(put(encoded(photo(64, 64), format)))
        assert (img.mode in ("RGB", "RGBA"), img.size) == (True, (64, 64)), format


def test_zero_bytes(put):
    assert "empty" in refusal(put(b""))


@pytest.mark.parametrize("data", [b"hello\n" * 100, b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"<svg/>"])
def test_what_is_not_a_picture(put, data):
    assert "not a picture" in refusal(put(data, "picture.png"))


def test_missing_folder_and_device(tmp_path):
    assert "does not exist" in refusal(tmp_path / "none.png")
    assert "does not exist" in refusal(tmp_path / ("x" * 300))
    assert "is a folder" in refusal(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in refusal(tmp_path / "pipe")


def test_no_permission(put):
    path = put(encoded(photo(), "PNG"))
    path.chmod(0)
    with as_nobody():
        assert "permission" in refusal(path)


def test_thirty_thousand_squared_is_refused_before_decoding(put):
    path = put(png_by_hand(30000, 30000, 8, 2, b"\0" * 100))
    assert path.stat().st_size < 200
    assert "over 100 megapixels" in refusal(path)
    assert "10001x10000" in refusal(put(png_by_hand(10001, 10000, 8, 2, b"\0" * 100)))


def test_damaged_bytes_never_raise_anything_else(put):
    """Flips bytes all over small files: a picture or BadInput, never another error, never a warning."""
    rng = np.random.default_rng(1)
    for format in ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "AVIF"):
        good = encoded(photo(16, 12), format)
        for _ in range(40):
            data = bytearray(good)
            for place in rng.integers(0, len(data), 3):
                data[place] = rng.integers(0, 256)
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                with suppress(BadInput):
                    open_image(put(bytes(data)))


# --- what is converted


def test_one_pixel(put):
    img = open_image(put(encoded(Image.new("RGB", (1, 1), RED), "PNG")))
    assert (img.size, img.mode, img.getpixel((0, 0))) == ((1, 1), "RGB", RED)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_opaque_modes_become_rgb(put, mode):
    source = photo(mode=mode)
    assert np.array_equal(open_image(put(encoded(source, "PNG"))), source.convert("RGB"))


def test_grey_with_alpha_keeps_it(put):
    source = photo(mode="LA")
    source.putalpha(Image.linear_gradient("L").resize(source.size))
    img = open_image(put(encoded(source, "PNG")))
    assert img.mode == "RGBA"
    assert np.array_equal(np.asarray(img)[..., [0, 3]], np.asarray(source))


def test_palette_with_transparency(put):
    source = Image.new("P", (3, 1))
    source.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    source.putdata([0, 1, 2])
    one_index = open_image(put(encoded(source, "PNG", transparency=1)))
    assert [one_index.getpixel((x, 0)) for x in range(3)] == [(255, 0, 0, 255), (0, 255, 0, 0), (0, 0, 255, 255)]
    levels = open_image(put(encoded(source, "PNG", transparency=bytes([10, 20, 30]))))
    assert [levels.getpixel((x, 0))[3] for x in range(3)] == [10, 20, 30]


def test_one_transparent_colour_of_rgb(put):
    source = Image.new("RGB", (2, 1), RED)
    source.putpixel((1, 0), BLUE)
    img = open_image(put(encoded(source, "PNG", transparency=BLUE)))
    assert [img.getpixel((x, 0)) for x in range(2)] == [(*RED, 255), (*BLUE, 0)]


def test_sixteen_bit_grey_is_scaled_not_clipped(put):
    levels = np.array([[0, 128, 257, 32768, 65407, 65535]], dtype=np.uint16)
    grey = np.asarray(open_image(put(encoded(Image.fromarray(levels), "PNG"))))
    assert np.array_equal(grey[0, :, 0], np.rint(levels[0] / 257))
    assert np.array_equal(np.asarray(open_image(put(encoded(Image.fromarray(levels), "TIFF")))), grey)


def test_sixteen_bit_grey_with_a_transparent_level(put):
    key = chunk(b"tRNS", struct.pack(">H", 300))
    rows = sixteen_bit_rows(np.array([[300, 301]]))
    img = open_image(put(png_by_hand(2, 1, 16, 0, rows, key)))
    assert [img.getpixel((x, 0))[3] for x in range(2)] == [0, 255]


@pytest.mark.parametrize(("channels", "colour_type", "mode"), [(3, 2, "RGB"), (4, 6, "RGBA")])
def test_sixteen_bit_colour(put, channels, colour_type, mode):
    pixels = np.random.default_rng(2).integers(0, 65536, (5, 7, channels))
    img = open_image(put(png_by_hand(7, 5, 16, colour_type, sixteen_bit_rows(pixels.reshape(5, -1)))))
    assert (img.mode, img.size) == (mode, (7, 5))
    assert np.abs(np.asarray(img) - pixels / 257).max() <= 1


def test_float_pixels_are_refused(put):
    assert "32-bit" in refusal(put(encoded(Image.new("F", (4, 4), 0.5), "TIFF")))


def test_cmyk_without_profile(put):
    source = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    img = open_image(put(encoded(source, "TIFF")))
    assert (img.mode, img.getpixel((4, 4))) == ("RGB", RED)
    jpeg = np.asarray(open_image(put(encoded(source, "JPEG", quality=95)))).astype(int)
    assert np.abs(jpeg - np.array(RED)).max() < 8


def test_cmyk_with_profile_shows_what_the_profile_says(put):
    source = Image.new("CMYK", (8, 8), (255, 0, 0, 0))
    plain = open_image(put(encoded(source, "TIFF"))).getpixel((4, 4))
    managed = open_image(put(encoded(source, "TIFF", icc_profile=cmyk_profile()))).getpixel((4, 4))
    assert plain == (0, 255, 255)
    assert managed[0] > 240 and managed[1] < 30 and managed[2] < 30


def test_rgb_profile_is_applied_and_alpha_kept(put):
    source = Image.new("RGBA", (2, 2), (*RED, 77))
    img = open_image(put(encoded(source, "PNG", icc_profile=swapped_rgb_profile())))
    red, green, blue, alpha = img.getpixel((0, 0))
    assert blue > 240 and red < 15 and green < 15 and alpha == 77


@pytest.mark.parametrize("profile", [b"not a profile", cmyk_profile()])
def test_a_profile_that_does_not_fit_counts_as_none(put, profile):
    source = Image.new("RGB", (2, 2), RED)
    assert open_image(put(encoded(source, "PNG", icc_profile=profile))).getpixel((0, 0)) == RED


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_an_animation_gives_its_first_frame(put, format):
    frames = [Image.new("RGB", (9, 6), colour) for colour in (RED, BLUE)]
    options = {"lossless": True} if format == "WEBP" else {}
    data = encoded(frames[0], format, save_all=True, append_images=frames[1:], duration=100, **options)
    img = open_image(put(data))
    assert (img.size, img.getpixel((3, 3))[:3]) == ((9, 6), RED)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation(put, format, orientation):
    """The top left of the upright picture is red in each of the eight ways that a camera may store it."""
    upright = Image.new("RGB", (48, 32), "white")
    upright.paste(RED, (0, 0, 16, 16))
    T = Image.Transpose
    undo = {2: T.FLIP_LEFT_RIGHT, 3: T.ROTATE_180, 4: T.FLIP_TOP_BOTTOM, 5: T.TRANSPOSE, 6: T.ROTATE_90}
    undo |= {7: T.TRANSVERSE, 8: T.ROTATE_270}
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    img = open_image(put(encoded(stored, format, exif=exif)))
    assert img.size == (48, 32)
    red, green, blue = img.getpixel((4, 4))
    assert red > 200 and green < 60 and blue < 60


def test_broken_exif_does_not_lose_the_picture(put):
    data = encoded(photo(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f broken")
    assert open_image(put(data)).size == (40, 30)


def test_the_result_stands_without_its_file(put):
    path = put(encoded(photo(), "PNG"))
    img = open_image(path)
    path.unlink()
    assert np.array_equal(img, photo())


def test_the_shared_pictures_open(shared_data):
    cutouts = [open_image(path) for path in sorted((shared_data / "products").glob("*.webp"))]
    assert len(cutouts) == 24 and {img.mode for img in cutouts} == {"RGBA"}
    photos = [open_image(path) for path in sorted((shared_data / "coco128" / "images").iterdir())]
    assert len(photos) == 128 and {img.mode for img in photos} == {"RGB"}


# --- tensors, sizes, saving


def full_disk(descriptor: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_tensor_and_back_is_exact(mode):
    source = photo(mode=mode)
    tensor = to_tensor(source)
    assert tensor.shape == (len(source.getbands()), 30, 40) and tensor.dtype == torch.float32
    assert tensor.min() >= 0 and tensor.max() <= 1
    assert np.array_equal(to_pil(tensor), source)


def test_to_pil_clamps_rounds_and_refuses_nan():
    assert to_pil(torch.tensor([-1.0, 0.5, 2.0]).view(1, 1, 3)).tobytes() == bytes([0, 128, 255])
    with pytest.raises(ValueError, match="NaN"):
        to_pil(torch.full((3, 2, 2), float("nan")))
    with pytest.raises(ValueError, match="shape|image tensor"):
        to_pil(torch.zeros(2, 4, 4))


@pytest.mark.parametrize("size", [(20, 20), (33, 47), (300, 200)])
def test_resizing_leaves_no_fringe(size):
    """A red disc on transparent green: no green may come through on any background, and the red stays exact."""
    y, x = np.mgrid[:100, :100]
    disc = (x - 50) ** 2 + (y - 50) ** 2 < 35**2
    source = np.zeros((100, 100, 4), dtype=np.uint8)
    source[..., 1] = 255
    source[disc] = (200, 0, 0, 255)
    resized = np.asarray(resize_rgba(Image.fromarray(source), size)).astype(int)
    assert resized.shape == (size[1], size[0], 4)
    visible = resized[..., 3] > 0
    assert np.array_equal(np.unique(resized[visible][:, :3], axis=0), [[200, 0, 0]])
    assert set(np.unique(resized[..., 3])) - {0, 255}, "the edge is anti-aliased"


def test_resizing_equals_resizing_what_is_seen():
    """Compositing after resizing is resizing after compositing, on any background (both are linear)."""
    rng = np.random.default_rng(3)
    rgba = rng.integers(0, 256, (64, 64, 4), dtype=np.uint8)
    rgba[..., 3] = np.asarray(Image.fromarray(rgba[..., 3]).resize((8, 8)).resize((64, 64)))
    resized = np.asarray(resize_rgba(Image.fromarray(rgba), (23, 17))).astype(float)
    alpha = rgba[..., 3:] / 255
    for background in (0.0, 128.0, 255.0):
        seen = rgba[..., :3] * alpha + background * (1 - alpha)
        channels = [Image.fromarray(seen[..., i].astype(np.float32)) for i in range(3)]
        expected = np.stack([np.asarray(c.resize((23, 17), Image.Resampling.LANCZOS)) for c in channels], -1)
        opacity = resized[..., 3:] / 255
        assert np.abs(resized[..., :3] * opacity + background * (1 - opacity) - expected).max() < 2


def test_resizing_rgb_stays_rgb():
    assert resize_rgba(photo(), (10, 5)).mode == "RGB"


@pytest.mark.parametrize(
    ("size", "side", "becomes"),
    [((400, 100), 200, (200, 50)), ((100, 400), 200, (50, 200)), ((150, 90), 200, (150, 90)), ((3000, 2), 10, (10, 1))],
)
def test_a_long_side_is_cut_down_and_proportions_stay(size, side, becomes):
    picture = Image.new("RGBA", size, (10, 200, 30, 128))
    small = shrunk(picture, side)
    assert small.size == becomes == within(size, side)
    assert np.unique(np.asarray(small).reshape(-1, 4), axis=0).tolist() == [[10, 200, 30, 128]]
    assert shrunk(picture.convert("RGB"), side).mode == "RGB"


def test_save_png_is_whole_or_not_there(tmp_path):
    path = tmp_path / "new" / "out.png"
    save_png(photo(), path)
    before = path.read_bytes()
    with pytest.raises(BadInput, match="No space left"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", full_disk)
        save_png(photo(5, 5), path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["out.png"]


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot be written"):
        save_png(photo(), tmp_path / "file" / "out.png")
    with as_nobody(), pytest.raises(BadInput, match="[Pp]ermission"):
        save_png(photo(), tmp_path / "out.png")
