"""Picture files in and out: whatever a person has becomes 8-bit sRGB, upright, RGB or RGBA."""

from __future__ import annotations

import io
import stat
import struct
import warnings
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from goodeye.atomic import whole_file
from goodeye.errors import BadInput

if TYPE_CHECKING:  # the ledger and the review server read pictures without torch
    from jaxtyping import Float
    from torch import Tensor

MAX_PIXELS = 100_000_000  # a header that promises more is refused before anything is decoded
_TOO_LARGE = f"over {MAX_PIXELS // 1_000_000} megapixels are refused before decoding. Make the picture smaller."

# Named, so that no decoder runs that can start other programs (EPS) or that takes any bytes for a picture (TGA).
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM")

# What Pillow's decoders raise on damaged bytes.
_DAMAGE = (
    *(OSError, EOFError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, RuntimeError),
    *(struct.error, zlib.error),
)

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION = 0x0112  # the EXIF tag


def open_image(path: str | Path) -> Image.Image:
    """Opens a picture file as 8-bit sRGB: mode RGBA where the file has transparency, else RGB.

    EXIF rotation is applied, colour profiles and CMYK are converted, 16 bits scaled to 8, and of an animation the
    first frame is taken. Raises BadInput for whatever cannot be used, before decoding where it has over 100
    megapixels.
    """
    path = Path(path)
    _require_file(path)
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on odd but readable files
            img = _open(path, file)
            img.load()
            return _to_srgb(_upright(img), path)
    except PermissionError as error:
        raise BadInput(f"{path} cannot be read: permission denied. Change its permissions or copy it.") from error
    except Image.DecompressionBombError as error:
        raise BadInput(f"{path}: {_TOO_LARGE}") from error
    except MemoryError as error:
        raise BadInput(f"{path} does not fit into memory. Give a smaller picture.") from error
    except BadInput:
        raise
    except _DAMAGE as error:
        raise BadInput(
            f"{path} is damaged or cut short ({_one_line(error)}). Export or download the picture again."
        ) from error


def _require_file(path: Path) -> None:
    try:
        found = path.stat()
    except PermissionError as error:
        raise BadInput(f"{path} cannot be read: permission denied. Change its permissions or copy it.") from error
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} does not exist. Check the path.") from error
    if stat.S_ISDIR(found.st_mode):
        raise BadInput(f"{path} is a folder, where one picture file is wanted. Name a file in it.")
    if not stat.S_ISREG(found.st_mode):
        raise BadInput(f"{path} is not a regular file. Give a picture file.")
    if found.st_size == 0:
        raise BadInput(f"{path} is empty (zero bytes). Export or download the picture again.")


def _open(path: Path, file: io.BufferedReader) -> Image.Image:
    """Reads the header only; refuses what is no picture and what would be too large to decode."""
    try:
        img = Image.open(file, formats=FORMATS)
    except UnidentifiedImageError as error:
        raise BadInput(
            f"{path} is not a picture that can be read. Give a PNG, JPEG, WebP, GIF, BMP, TIFF or AVIF file."
        ) from error
    if img.width * img.height > MAX_PIXELS:
        raise BadInput(f"{path} is {img.width}x{img.height} pixels; {_TOO_LARGE}")
    return img


def _upright(img: Image.Image) -> Image.Image:
    """Applies the EXIF orientation, which most cameras write instead of turning the pixels."""
    try:
        turn = _TURNS.get(img.getexif().get(_ORIENTATION, 1))
    except _DAMAGE:  # broken EXIF says nothing; the pixels are good
        return img
    return img if turn is None else img.transpose(turn)


def _to_srgb(img: Image.Image, path: Path) -> Image.Image:
    """RGB or RGBA in 8-bit sRGB. Pillow itself halves 16-bit colour; 16-bit grey arrives here."""
    if img.mode.startswith("I") or img.mode == "F":
        img = _scale_grey(img, path)
    if img.has_transparency_data:
        rgba = img.convert("RGBA")
        colour = _from_profile(rgba.convert("RGB"), img.info.get("icc_profile"))
        colour.putalpha(rgba.getchannel("A"))
        return colour
    if img.mode in ("P", "1", "HSV"):
        img = img.convert("RGB")
    return _from_profile(img, img.info.get("icc_profile"))


def _scale_grey(img: Image.Image, path: Path) -> Image.Image:
    """16-bit grey (modes I, I;16, I;16B, ...) to 8 bits, a transparent grey value included."""
    levels = np.asarray(img)
    if img.mode == "F" or levels.min() < 0 or levels.max() > 65535:
        raise BadInput(f"{path} has 32-bit pixels, whose white is not known. Save it with 8 or 16 bits.")
    grey = Image.fromarray(((levels.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8))
    grey.info = {key: value for key, value in img.info.items() if key != "transparency"}
    if (hidden := img.info.get("transparency")) is not None:
        grey.putalpha(Image.fromarray(np.where(levels == hidden, 0, 255).astype(np.uint8)))
    return grey


def _from_profile(img: Image.Image, profile: bytes | None) -> Image.Image:
    """Converts the colours of L, RGB, CMYK and the like to sRGB; a broken or unfitting profile counts as none."""
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if "srgb" in ImageCms.getProfileDescription(source).lower():
                return img.convert("RGB")  # nothing to convert, and no rounding of a conversion
            converted = ImageCms.profileToProfile(img, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
            if converted is not None:
                return converted
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            pass
    return img.convert("RGB")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def to_tensor(img: Image.Image) -> Float[Tensor, "C H W"]:
    """An 8-bit image (L, LA, RGB or RGBA) as float32 in [0, 1]."""
    import torch

    pixels = torch.from_numpy(np.array(img, dtype=np.uint8))
    return pixels.reshape(img.height, img.width, -1).permute(2, 0, 1).contiguous().float() / 255


def to_pil(tensor: Float[Tensor, "C H W"]) -> Image.Image:
    """The 8-bit image of a tensor in [0, 1], rounded to the nearest level; values beyond are clamped.

    C is 1 (L), 3 (RGB) or 4 (RGBA). Raises ValueError for NaN and for other shapes.
    """
    import torch

    if tensor.ndim != 3 or tensor.shape[0] not in (1, 3, 4):
        raise ValueError(f"an image tensor is [1|3|4, H, W], not {tuple(tensor.shape)}")
    if tensor.isnan().any():
        raise ValueError("an image tensor holds NaN")
    pixels = (tensor.detach().float().clamp(0, 1) * 255).round().to(torch.uint8).cpu()
    return Image.fromarray(pixels.permute(1, 2, 0).squeeze(-1).contiguous().numpy())


def resize_rgba(img: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Resizes RGB or RGBA to (width, height) by Lanczos with premultiplied alpha, so that no colour hidden under
    transparent pixels bleeds into the edge.

    Premultiplied in float rather than in 8 bits: a product of one colour keeps exactly that colour.
    """
    if img.mode != "RGBA":
        return img.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    if img.size == size:
        return img.copy()
    alpha = np.asarray(img.getchannel("A"), dtype=np.float32) / 255
    smaller = _resize_channel(alpha, size)
    opacity = np.clip(np.rint(smaller * 255), 0, 255).astype(np.uint8)
    divisor = np.where(opacity > 0, smaller, np.inf)
    channels = [
        np.clip(np.rint(_resize_channel(np.asarray(img.getchannel(name)) * alpha, size) / divisor), 0, 255)
        for name in "RGB"
    ]
    return Image.fromarray(np.stack([*(channel.astype(np.uint8) for channel in channels), opacity], axis=-1))


def within(size: tuple[int, int], side: int) -> tuple[int, int]:
    """A (width, height) in its own proportions with its long side at most `side`, no side below 1."""
    shrink = min(1.0, side / max(size))
    return max(1, round(size[0] * shrink)), max(1, round(size[1] * shrink))


def shrunk(img: Image.Image, side: int) -> Image.Image:
    """RGB or RGBA with its long side at most `side`, resized by `resize_rgba`; a smaller picture as it is."""
    return img if max(img.size) <= side else resize_rgba(img, within(img.size, side))


def _resize_channel(channel: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(channel.astype(np.float32)).resize(size, Image.Resampling.LANCZOS))


def save_png(img: Image.Image, path: str | Path) -> None:
    """Writes a PNG that is whole or not there. Raises BadInput where the folder is read-only or the disk full."""
    with whole_file(path) as temporary:
        img.save(temporary, format="PNG")
