"""Grey textures of cloth, walls and grass, and sensor noise, as brightness factors where 128 stands for 1."""

import functools
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]

SIDE: Final = 256  # Side of a square tile in pixels; tiles repeat seamlessly.
NEUTRAL: Final = 128
MAX_SIDE: Final = 1024  # Largest width or height of an image in pixels.


def _pattern(values: npt.NDArray[np.float64]) -> Pixels:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _noise(rng: np.random.Generator, cells: int, contrast: float) -> Pixels:
    """Cloudy noise of ``cells`` by ``cells`` bumps."""
    grid = rng.normal(0, 1, (cells, cells)).astype(np.float32)
    wrapped = np.pad(grid, 2, mode="wrap")
    step = SIDE // cells
    large = cv2.resize(wrapped, None, fx=step, fy=step, interpolation=cv2.INTER_CUBIC)
    tile = large[2 * step : 2 * step + SIDE, 2 * step : 2 * step + SIDE]
    return _pattern(NEUTRAL + contrast * tile.astype(np.float64))


@functools.cache
def textures() -> tuple[Pixels, ...]:
    """All tiles (SIDE, SIDE); the same in every process."""
    rng = np.random.default_rng(20220501)
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(np.float64)
    stripes, upright = np.where(y % 32 < 14, 84, 146), np.where(x % 32 < 12, 92, 144)
    thin = np.where(y % 16 < 5, 84, 140)
    checks = np.where((x % 64 < 32) ^ (y % 64 < 32), 98, 150)
    tartan = 136 - 30.0 * (x % 32 < 10) - 30.0 * (y % 32 < 10)
    dots = np.where(np.hypot(x % 32 - 16, y % 32 - 16) < 8, 190, 122)
    bricks = np.where((y % 32 < 4) | ((x + 32 * ((y // 32) % 2)) % 64 < 4), 170, 120) + rng.normal(0, 6, (SIDE, SIDE))
    planks = np.where(x % 64 < 3, 88, 126) + 10 * np.sin(y / 9 + 3 * np.sin(x / 20))
    waves = 128 + 26 * np.sin((x + 12 * np.sin(2 * np.pi * y / 64)) * 2 * np.pi / 32)
    grain = NEUTRAL + rng.normal(0, 20, (SIDE, SIDE))
    drawn = [
        _pattern(values) for values in (stripes, upright, thin, checks, tartan, dots, bricks, planks, waves, grain)
    ]
    return (*drawn, _noise(rng, 8, 22), _noise(rng, 32, 22), _noise(rng, 64, 26))


@functools.cache
def grain() -> Pixels:
    """(MAX_SIDE, MAX_SIDE, 3) sensor noise with mean 128 and standard deviation 24, scaled down when applied."""
    rng = np.random.default_rng(20220502)
    return _pattern(rng.normal(128, 24, (MAX_SIDE, MAX_SIDE, 3)))


def place_texture(
    texture: Pixels, width: int, height: int, centre: tuple[float, float], zoom: float, degrees: float
) -> Pixels:
    """The repeated texture (height, width), zoomed and rotated clockwise by ``degrees`` about ``centre`` in pixels."""
    angle = np.deg2rad(degrees)
    cosine, sine = float(np.cos(angle)) / zoom, float(np.sin(angle)) / zoom
    x, y = centre
    to_texture = np.array([[cosine, sine, -cosine * x - sine * y], [-sine, cosine, sine * x - cosine * y]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(
        cv2.warpAffine(texture, to_texture, (width, height), flags=flags, borderMode=cv2.BORDER_WRAP), np.uint8
    )
