"""Random appearance of built-in people: colours of skin, hair and clothes, cut and texture of the clothes."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

SKIN, HAIR, SHIRT, TROUSERS, SHOES, FRONT, BACKPACK = range(7)
"""Roles of colours."""
BARE, SHORT, LONG = range(3)
"""Lengths of sleeves and trousers."""
DARK, PLAIN, LIGHT = range(3)
"""Tones of a colour."""

_SKINS: Final = np.array(
    [[247, 214, 190], [234, 192, 160], [214, 164, 128], [188, 134, 98], [146, 98, 70], [104, 70, 52], [80, 54, 42]]
)
_HAIRS: Final = np.array([[28, 22, 20], [58, 38, 26], [96, 62, 36], [150, 100, 50], [206, 168, 98], [150, 60, 30]])
_GREYS: Final = np.array([[206, 204, 200], [158, 156, 154]])
_CLOTHS: Final = np.array(
    [
        *([232, 232, 228], [36, 36, 42], [120, 120, 126], [190, 36, 40], [226, 120, 32], [234, 204, 60], [60, 140, 62]),
        *([24, 84, 60], [40, 96, 176], [28, 40, 92], [120, 180, 224], [114, 56, 132], [226, 120, 160], [124, 84, 52]),
        *([196, 172, 132], [40, 150, 156], [84, 92, 60]),
    ]
)
_TROUSERS: Final = np.array(
    [
        [40, 52, 92],
        [74, 96, 140],
        [34, 34, 40],
        [92, 92, 96],
        [176, 156, 122],
        [108, 78, 56],
        [80, 86, 60],
        [222, 222, 220],
    ]
)
_SHOES: Final = np.array([[30, 28, 28], [236, 236, 236], [96, 62, 40], [190, 40, 44], [60, 80, 140]])


@dataclass(frozen=True)
class Looks:
    """Appearance of P people.

    Attributes:
        colours: (P, 7 roles, 3 tones, 3) RGB from 0 to 255.
        sleeves: (P,) BARE, SHORT or LONG.
        legs: (P,) SHORT or LONG for trousers, BARE for a skirt.
        long_hair: (P,) whether hair reaches the nape and covers the ears.
        hat: (P,) whether the person wears a peaked cap.
        backpack: (P,) whether the person carries a backpack.
        front: (P,) half width of the strip down the chest, in statures; 0 for none.
        girth: (P,) thickness of the body relative to the average.
        shirt_texture: (P,) number of the shirt's texture; negative for none.
        trousers_texture: (P,) number of the trousers' texture; negative for none.
    """

    colours: Floats
    sleeves: npt.NDArray[np.int64]
    legs: npt.NDArray[np.int64]
    long_hair: npt.NDArray[np.bool_]
    hat: npt.NDArray[np.bool_]
    backpack: npt.NDArray[np.bool_]
    front: Floats
    girth: Floats
    shirt_texture: npt.NDArray[np.int64]
    trousers_texture: npt.NDArray[np.int64]


def _luma(colours: Floats) -> Floats:
    luma: Floats = colours @ np.array([0.299, 0.587, 0.114])
    return luma


def cloth_colours(rng: np.random.Generator, count: int) -> Floats:
    """Random colours (N, 3) of clothes and of objects in the background."""
    drawn = _CLOTHS[rng.integers(len(_CLOTHS), size=count)]
    return np.clip(drawn + rng.normal(0, 14, (count, 3)), 8, 250)


def sample_looks(rng: np.random.Generator, count: int) -> Looks:
    """Draw the appearance of P = ``count`` people."""
    chance = rng.random((count, 10))
    skin = _SKINS[rng.integers(len(_SKINS), size=count)] + rng.normal(0, 5, (count, 3))
    hair = _HAIRS[rng.integers(len(_HAIRS), size=count)] + rng.normal(0, 6, (count, 3))
    # Only the hair distinguishes a face from the back of a head, so hair as bright as the skin becomes grey or dark.
    low_contrast = np.abs(_luma(skin) - _luma(hair)) < 45
    hair = np.where(low_contrast[:, None], np.where(_luma(skin)[:, None] < 110, _GREYS[0], _HAIRS[0]), hair)
    hat = chance[:, 0] < 0.14
    cloths = cloth_colours(rng, 4 * count).reshape(4, count, 3)
    low_hat_contrast = np.abs(_luma(skin) - _luma(cloths[3])) < 45
    hat &= ~low_hat_contrast
    hair = np.where(hat[:, None], cloths[3], hair)
    shirt = cloths[0]
    trousers = _TROUSERS[rng.integers(len(_TROUSERS), size=count)] + rng.normal(0, 10, (count, 3))
    trousers = np.where(chance[:, 1:2] < 0.25, cloths[1], trousers)
    same_clothes = np.abs(shirt - trousers).sum(axis=1) < 70
    trousers = np.where((same_clothes & (chance[:, 2] < 0.8))[:, None], np.mod(trousers + 110, 240), trousers)
    shoes = _SHOES[rng.integers(len(_SHOES), size=count)]
    plain = np.stack([skin, hair, shirt, trousers, shoes, cloths[1], cloths[2]], axis=1).astype(np.float64)
    colours = np.clip(np.stack([0.5 * plain, plain, 1.10 * plain + 8], axis=2), 0, 255)
    skirt = chance[:, 3] < 0.13
    return Looks(
        colours=colours,
        sleeves=np.where(chance[:, 4] < 0.2, BARE, np.where(chance[:, 4] < 0.8, SHORT, LONG)),
        legs=np.where(skirt, BARE, np.where(chance[:, 5] < 0.3, SHORT, LONG)),
        long_hair=(chance[:, 6] < 0.32) & ~hat,
        hat=hat,
        backpack=chance[:, 7] < 0.10,
        front=np.where(chance[:, 8] < 0.45, rng.choice([0.008, 0.02, 0.05], count), 0.0),
        girth=np.clip(rng.normal(1.12, 0.12, count), 0.88, 1.5),
        shirt_texture=np.where(chance[:, 9] < 0.6, rng.integers(0, 1 << 16, count), -1),
        trousers_texture=np.where(rng.random(count) < 0.35, rng.integers(0, 1 << 16, count), -1),
    )
