"""Draws scenes: background, people and objects, textures of clothes, light and camera."""

from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from supernet.pose.synthetic.appearance import cloth_colours
from supernet.pose.synthetic.body_parts import PART
from supernet.pose.synthetic.figures import Figure
from supernet.pose.synthetic.scene import Scene
from supernet.pose.synthetic.shapes import CIRCLE, SHIFT, box, capsules, hull, shrunk, to_fixed_point
from supernet.pose.synthetic.textures import NEUTRAL, Pixels, grain, place_texture, textures

_SCALE: Final = 1 / NEUTRAL
_TILE_STRIPES: Final = 32  # Pixels of a tile from one stripe to the next.


def _clouds(rng: np.random.Generator, width: int, height: int) -> Pixels:
    """A smooth field of colours."""
    rows, columns = int(rng.integers(2, 6)), int(rng.integers(2, 6))
    # Brightness varies more than colour: rooms, streets and meadows are rarely as colourful as clothes.
    mean = rng.uniform(50, 210) + rng.normal(0, 22, 3)
    shade, tint = rng.uniform(6, 40), rng.uniform(2, 16)
    coarse = mean + rng.normal(0, shade, (rows, columns, 1)) + rng.normal(0, tint, (rows, columns, 3))
    coarse = np.clip(coarse, 0, 255).astype(np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def _multiply(image: Pixels, factor: Pixels) -> None:
    """Scale the brightness of (a part of) an image in place by a texture of the same height and width."""
    cv2.multiply(image, cv2.merge((factor, factor, factor)), dst=image, scale=_SCALE)


def _clutter(rng: np.random.Generator, image: Pixels) -> None:
    """Draw windows, furniture, branches, and objects with the thickness and colours of limbs."""
    height, width = image.shape[:2]
    unit = min(width, height)
    count = int(rng.integers(2, 12))
    colours = 0.65 * cloth_colours(rng, count) + 0.35 * rng.uniform(30, 225, (count, 1))
    for kind, colour in zip(rng.choice(5, count, p=[0.3, 0.15, 0.15, 0.28, 0.12]), colours.tolist(), strict=True):
        centre = rng.uniform(-0.05, 1.05, 2) * (width, height)
        if kind == 0:
            wide, tall = unit * rng.uniform(0.05, 0.5, 2)
            shape = box(centre, wide, tall, float(rng.normal(0, 4)))
        elif kind == 1:
            shape = hull(centre + unit * rng.normal(0, 0.12, (6, 2)))
        elif kind == 2:
            shape = centre + unit * rng.uniform(0.03, 0.16, 2) * CIRCLE
        elif kind == 3:
            direction = rng.normal(0, 0.11, 2) * unit
            thick = np.asarray(unit * rng.uniform(0.008, 0.035))
            shape = capsules(centre, centre + direction, thick, thick * rng.uniform(0.5, 1.0))
        else:
            shape = box(centre, unit * rng.uniform(0.01, 0.05), 2.0 * height, float(rng.normal(0, 25)))
        outline, inner = to_fixed_point(shape), to_fixed_point(shrunk(shape, 0.8, np.zeros(2)))
        cv2.fillConvexPoly(image, outline, [0.72 * c for c in colour], cv2.LINE_AA, SHIFT)
        cv2.fillConvexPoly(image, inner, colour, cv2.LINE_AA, SHIFT)


def _background(scene: Scene) -> Pixels:
    rng, (width, height) = scene.rng, scene.size
    image = _clouds(rng, width, height)
    horizon = int(np.clip(scene.horizon, 0, height))
    if rng.random() < 0.75 and horizon < height:
        image[horizon:] = _clouds(rng, width, height - horizon)
    bank = textures()
    for top, bottom in ((0, horizon), (horizon, height)):
        if bottom > top and rng.random() < 0.7:
            tile = bank[int(rng.integers(len(bank)))]
            texture_pixels = place_texture(
                tile, width, bottom - top, (0.0, 0.0), float(rng.uniform(0.35, 1.6)), float(rng.normal(0, 12))
            )
            _multiply(image[top:bottom], texture_pixels)
    _clutter(rng, image)
    if rng.random() < 0.5:
        cv2.GaussianBlur(image, (5, 5), float(rng.uniform(0.5, 1.6)), dst=image)
    return image


def _dress(image: Pixels, owners: Pixels, figure: Figure) -> None:
    """Apply the textures of one person's clothes to the pixels that show them."""
    bank = textures()
    for first_part, (texture, last_part) in (("torso", figure.shirt), ("pelvis", figure.trousers)):
        if texture < 0:
            continue
        first = figure.first_identity
        mask = cv2.inRange(owners, first + PART[first_part], first + PART[last_part])
        x, y, width, height = cv2.boundingRect(mask)
        if width == 0:
            continue
        region = slice(y, y + height), slice(x, x + width)
        tile = bank[texture % len(bank)]
        # Six to twelve stripes on the trunk, as many as remain visible at the person's size.
        zoom = figure.stature * (0.028 + 0.004 * (texture // len(bank) % 6)) / _TILE_STRIPES
        texture_pixels = place_texture(tile, width, height, (width / 2, height / 2), max(zoom, 0.08), figure.slant)
        patch = np.ascontiguousarray(image[region])
        _multiply(patch, texture_pixels)
        cv2.copyTo(patch, mask[region], image[region])


def _expose(rng: np.random.Generator, image: Pixels, light: npt.NDArray[np.float64]) -> Pixels:
    """Apply uneven light, contrast, a colour cast, blur and noise."""
    height, width = image.shape[:2]
    fall = rng.uniform(0.0, 0.35) * light
    corners = 1 + np.array([[-fall[0] - fall[1], fall[0] - fall[1]], [-fall[0] + fall[1], fall[0] + fall[1]]])
    coarse = np.clip(NEUTRAL * corners, 50, 220).astype(np.uint8)
    _multiply(image, np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8))
    level = np.arange(256)[:, None] / 255.0
    contrast, gamma, cast = rng.uniform(0.62, 1.15), rng.uniform(0.75, 1.4), rng.normal(1.0, 0.05, 3)
    curve = (0.5 + contrast * (level**gamma - 0.5) + rng.normal(0, 0.03)) * cast
    image = np.asarray(cv2.LUT(image, np.clip(255 * curve, 0, 255).astype(np.uint8)[:, None]), np.uint8)
    if rng.random() < 0.7:
        cv2.GaussianBlur(image, (3, 3), float(rng.uniform(0.35, 0.75)), dst=image)
    noise = grain()
    y, x = (int(start) for start in rng.integers(0, (noise.shape[0] - height + 1, noise.shape[1] - width + 1)))
    strength = float(rng.uniform(0.05, 0.4))
    crop = np.ascontiguousarray(noise[y : y + height, x : x + width])
    cv2.addWeighted(image, 1.0, crop, strength, -128.0 * strength, dst=image)
    return image


def paint(scene: Scene) -> Pixels:
    """The image (H, W, 3) RGB of a scene. Uses the scene's random generator, so call it once per scene."""
    image = _background(scene)
    for part in scene.layers:
        for outline, colour in part.fills:
            cv2.fillConvexPoly(image, outline, colour, cv2.LINE_AA, SHIFT)
    for figure in scene.figures:
        _dress(image, scene.owners, figure)
    return _expose(scene.rng, image, scene.light)
