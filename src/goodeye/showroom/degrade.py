"""What generation does to pictures, imitated: noise, blur, blocks, wobble, wrong light; and backgrounds that are none.

The oracle's reader and RFNet learn on pictures that went through these, so that they also read what a small generator
makes. Everything here is plain arithmetic: no network of the house has a part in it. Pictures are [H,W,3] in [0,1].
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

Picture = np.ndarray
Change = Callable[[Picture, np.random.Generator, float], Picture]


def imitated(image: np.ndarray, alpha: np.ndarray, rng: np.random.Generator, lost: bool = False) -> np.ndarray:
    """A picture as a generator might have made it, the product's own pixels pasted back: [3,H,W] in [0,1].

    image: uint8 [3,H,W]; alpha: uint8 [1,H,W]. `lost`: the place is exchanged for none.
    """
    clean = image.transpose(1, 2, 0).astype(np.float32) / 255
    mask = alpha.transpose(1, 2, 0).astype(np.float32) / 255
    picture = clean
    if lost:
        picture = mask * clean + (1 - mask) * no_place(clean, rng)
    if not lost or rng.random() < 0.5:
        picture = degrade(picture, rng)
        if rng.random() < 0.5:
            picture = bleed(picture, clean, mask, rng)
    return np.ascontiguousarray((mask * clean + (1 - mask) * picture).transpose(2, 0, 1))


def degrade(picture: Picture, rng: np.random.Generator, strength: float = 1.0) -> Picture:
    """One to three changes drawn by `rng`, each of a strength drawn up to `strength` (1: hard, but a person still reads
    the picture). Returns [H,W,3] in [0,1]."""
    for number in rng.choice(len(CHANGES), size=int(rng.integers(1, 4)), replace=False):
        picture = CHANGES[number](picture, rng, strength * float(rng.uniform(0.1, 1.0))).clip(0, 1)
    return picture.astype(np.float32)


def _noise(x: Picture, rng: np.random.Generator, s: float) -> Picture:
    return x + rng.normal(0, 0.1 * s, x.shape)


def _blurred(x: Picture, rng: np.random.Generator, s: float) -> Picture:
    return cv2.GaussianBlur(x.astype(np.float32), (0, 0), 0.3 + 1.9 * s)


def _jpeg(x: Picture, rng: np.random.Generator, s: float) -> Picture:
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(70 - 60 * s)]
    _, data = cv2.imencode(".jpg", (x * 255).round().astype(np.uint8), quality)
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), dtype=np.float32) / 255


def _resampled(x: Picture, rng: np.random.Generator, s: float) -> Picture:
    side = int(round(x.shape[0] / (1 + 2.5 * s)))
    small = cv2.resize(x.astype(np.float32), (side, side), interpolation=cv2.INTER_AREA)
    way = cv2.INTER_CUBIC if rng.random() < 0.5 else cv2.INTER_LINEAR
    return cv2.resize(small, x.shape[:2], interpolation=way)


def _relit(x: Picture, rng: np.random.Generator, s: float) -> Picture:
    return (x - 0.5) * rng.uniform(1 - 0.3 * s, 1 + 0.3 * s) + 0.5 + rng.uniform(-0.12 * s, 0.12 * s, 3)


def _stained(x: Picture, rng: np.random.Generator, s: float) -> Picture:
    """Colour that drifts slowly over the picture, as unsure latents give."""
    return x + field(rng, int(rng.integers(3, 17)), x.shape[0], 3) * 0.07 * s


def _warped(x: Picture, rng: np.random.Generator, s: float) -> Picture:
    """Straight lines wobble by up to about 2 % of the canvas."""
    size = x.shape[0]
    flow = field(rng, int(rng.integers(4, 13)), size, 2) * 0.01 * s * size
    across, down = np.meshgrid(np.arange(size, dtype=np.float32), np.arange(size, dtype=np.float32))
    across, down = across + flow[..., 0], down + flow[..., 1]
    return cv2.remap(x.astype(np.float32), across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def _melted(x: Picture, rng: np.random.Generator, s: float) -> Picture:
    """In parts of the picture, what stands there runs together and out of shape."""
    size = x.shape[0]
    soft = _warped(cv2.GaussianBlur(x.astype(np.float32), (0, 0), 0.5 + 3 * s), rng, 4 * s)
    melting = field(rng, int(rng.integers(3, 10)), size, 1) > 1 - 1.5 * s
    where = cv2.GaussianBlur(melting.astype(np.float32).reshape(size, size), (0, 0), 2.0)[:, :, None]
    return x + (soft - x) * where


def _blotched(x: Picture, rng: np.random.Generator, s: float) -> Picture:
    """Small blots of other colours, light, dark or strong, where nothing of the kind should be."""
    size = x.shape[0]
    for _ in range(int(rng.integers(1, 2 + round(12 * s)))):
        blot = np.zeros((size, size), np.float32)
        middle = tuple(int(v) for v in rng.integers(0, size, 2))
        axes = tuple(int(v) for v in rng.integers(1, 3 + round(5 * s), 2))
        cv2.ellipse(blot, middle, axes, float(rng.uniform(0, 180)), 0, 360, 1.0, -1)
        blot = cv2.GaussianBlur(blot, (0, 0), float(rng.uniform(0.7, 2.5)))[:, :, None] * float(rng.uniform(0.2, 0.9))
        x = x + (rng.random(3) - x) * blot
    return x


def _patchwise(x: Picture, rng: np.random.Generator, s: float) -> Picture:
    """Each 8x8 patch keeps only its lowest frequencies, and these with errors: what a small latent code keeps."""
    n = x.shape[0] // 8
    code = np.einsum("ui,aibjc,vj->abuvc", DCT, x.reshape(n, 8, n, 8, 3), DCT)
    code = code * (np.add.outer(np.arange(8), np.arange(8)) < rng.integers(2, 6))[:, :, None]
    code[:, :, :3, :3] += rng.normal(0, 0.15 * s, (n, n, 3, 3, 3))
    return np.einsum("ui,abuvc,vj->aibjc", DCT, code, DCT).reshape(x.shape)


def _dct() -> np.ndarray:
    """The orthonormal cosine transform of 8 numbers, [8,8]."""
    u, i = np.arange(8)[:, None], np.arange(8)[None]
    return np.where(u == 0, np.sqrt(1 / 8), 0.5) * np.cos((2 * i + 1) * u * np.pi / 16)


DCT = _dct()
CHANGES: tuple[Change, ...] = (
    _noise,
    _blurred,
    _jpeg,
    _resampled,
    _relit,
    _stained,
    _warped,
    _melted,
    _blotched,
    _patchwise,
)


def field(rng: np.random.Generator, cells: int, size: int, channels: int) -> np.ndarray:
    """Smooth noise [size,size,channels] of standard deviation about 1, with `cells` bumps a side."""
    coarse = rng.normal(0, 1, (cells, cells, channels)).astype(np.float32)
    return cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC).reshape(size, size, channels)


def bleed(picture: Picture, clean: Picture, mask: np.ndarray, rng: np.random.Generator) -> Picture:
    """The product's colours (from `clean`, where mask [H,W,1] is 1) run into what surrounds it, unevenly, from a pixel
    to a glow of some ten, as small generators make them do: no extension, only an unclean edge."""
    reach = float(np.exp(rng.uniform(np.log(0.8), np.log(6.0))))
    weight = cv2.GaussianBlur(mask, (0, 0), reach)[:, :, None]
    colour = cv2.GaussianBlur(clean * mask, (0, 0), reach) / np.maximum(weight, 1e-3)
    uneven = field(rng, int(rng.integers(4, 20)), picture.shape[0], 1).clip(0, 1) * float(rng.uniform(0.3, 1.0))
    return picture + (colour - picture) * (2 * weight).clip(0, 1) * uneven


def no_place(picture: Picture, rng: np.random.Generator) -> Picture:
    """A background in the picture's colours in which no place can be recognised: a mosaic of its pixels, its tiles in
    disorder, clouds of colour, noise, a plain wash, or the picture on its head. Returns [H,W,3] in [0,1]."""
    return WASHES[int(rng.integers(len(WASHES)))](picture, rng).clip(0, 1).astype(np.float32)


def _mosaic(x: Picture, rng: np.random.Generator) -> Picture:
    cells = int(rng.integers(4, 40))
    colours = _colours(x, rng, cells * cells).reshape(cells, cells, 3)
    way = cv2.INTER_NEAREST if rng.random() < 0.6 else cv2.INTER_LINEAR
    return cv2.resize(colours.astype(np.float32), x.shape[:2], interpolation=way)


def _disordered(x: Picture, rng: np.random.Generator) -> Picture:
    n = int(rng.choice([4, 8, 16]))
    side = x.shape[0] // n
    tiles = x.reshape(n, side, n, side, 3).transpose(0, 2, 1, 3, 4).reshape(n * n, side, side, 3)
    return rng.permutation(tiles).reshape(n, n, side, side, 3).transpose(0, 2, 1, 3, 4).reshape(x.shape)


def _clouds(x: Picture, rng: np.random.Generator) -> Picture:
    size, spread = x.shape[0], float(rng.uniform(0.05, 0.3))
    coarse, fine = field(rng, int(rng.integers(2, 9)), size, 3), field(rng, int(rng.integers(9, 40)), size, 3)
    return _colours(x, rng, 1)[0] + spread * coarse + float(rng.uniform(0, 0.15)) * fine


def _static(x: Picture, rng: np.random.Generator) -> Picture:
    return _colours(x, rng, 1)[0] + float(rng.uniform(0.05, 0.5)) * rng.normal(0, 1, x.shape)


def _wash(x: Picture, rng: np.random.Generator) -> Picture:
    """One colour passing into another in some direction, without a line anywhere."""
    size, (a, b) = x.shape[0], _colours(x, rng, 2)
    turn = rng.uniform(0, 2 * np.pi)
    u, v = np.meshgrid(np.linspace(-0.7, 0.7, size), np.linspace(-0.7, 0.7, size))
    mix = (0.5 + u * np.cos(turn) + v * np.sin(turn)).clip(0, 1)[:, :, None]
    return a + (b - a) * mix * float(rng.uniform(0, 1))


def _upset(x: Picture, rng: np.random.Generator) -> Picture:
    return np.rot90(x, int(rng.integers(1, 4)))


def _colours(x: Picture, rng: np.random.Generator, count: int) -> np.ndarray:
    """Colours [count,3] of the picture, or any colours."""
    if rng.random() < 0.25:
        return rng.random((count, 3))
    return x.reshape(-1, 3)[rng.integers(0, x.shape[0] * x.shape[1], count)]


WASHES = (_mosaic, _disordered, _clouds, _static, _wash, _upset)
