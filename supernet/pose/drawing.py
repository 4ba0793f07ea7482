"""Draws skeletons, heatmaps, masks and contact sheets, and writes images."""

import colorsys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from supernet.errors import UserError
from supernet.io.files import write_bytes
from supernet.pose.keypoints import KeypointSet

_SUBPIXEL_BITS = 4
_FARTHEST = 1e5
"""Coordinates are clipped to this; OpenCV's fixed-point coordinates would overflow."""

_PERSON_HUE_STEP = 0.618034
"""The golden ratio: hues of successive people are far apart, however many there are."""

_BRIGHTNESS = {"left": 1.0, "": 0.85, "right": 0.6}

_CAPTION_HEIGHT = 20

Colour = tuple[int, int, int]


def draw_people(
    image: npt.NDArray[np.uint8],
    poses: npt.NDArray[np.floating],
    keypoints: KeypointSet,
    minimum_score: float = 0.0,
) -> npt.NDArray[np.uint8]:
    """Return a copy of an image with skeletons: one hue per person, left limbs light and right limbs dark.

    Args:
        image: (H, W, 3), RGB.
        poses: (P, K, 3): x, y in image pixels, and score or visibility.
        keypoints: The K keypoints and the limbs between them.
        minimum_score: Only keypoints whose third value lies above this are drawn.
    """
    drawn = np.ascontiguousarray(image).copy()
    thickness = max(1, round(min(image.shape[:2]) / 160))
    sides = keypoints.sides
    for number, pose in enumerate(poses):
        seen = np.isfinite(pose).all(axis=1) & (pose[:, 2] > minimum_score)
        points = [_fixed_point(x, y) for x, y in np.nan_to_num(pose[:, :2].astype(np.float64))]
        for first, second in keypoints.skeleton:
            if seen[first] and seen[second]:
                colour = _colour(number, sides[first] if sides[first] == sides[second] else "")
                cv2.line(drawn, points[first], points[second], colour, thickness, cv2.LINE_AA, _SUBPIXEL_BITS)
        radius = round((thickness * 0.75 + 0.75) * 2**_SUBPIXEL_BITS)
        for k in np.flatnonzero(seen):
            cv2.circle(drawn, points[k], radius, _colour(number, sides[k]), cv2.FILLED, cv2.LINE_AA, _SUBPIXEL_BITS)
    return drawn


def draw_people_at(
    image: npt.NDArray[np.uint8],
    poses: npt.NDArray[np.floating],
    keypoints: KeypointSet,
    factor: float,
    minimum_score: float = 0.0,
) -> npt.NDArray[np.uint8]:
    """Enlarge an image (H, W, 3) and draw skeletons at that size; poses (P, K, 3) are in pixels of the original."""
    return draw_people(scaled(image, factor), poses * np.array([factor, factor, 1.0]), keypoints, minimum_score)


def scaled(image: npt.NDArray[np.uint8], factor: float) -> npt.NDArray[np.uint8]:
    """Resize an image (H, W, 3) smoothly to ``factor`` times its size."""
    size = (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))
    kind = cv2.INTER_CUBIC if factor > 1 else cv2.INTER_AREA
    return np.asarray(cv2.resize(image, size, interpolation=kind), np.uint8)


def mask_overlay(image: npt.NDArray[np.uint8], mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Colour an image (H, W, 3) dark red where its mask (h, w), of any size, is False."""
    height, width = image.shape[:2]
    kept = cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST).astype(bool)
    return np.where(kept[..., None], image, image // 3 + np.array([90, 0, 0], np.uint8)).astype(np.uint8)


def tag_places(
    image: npt.NDArray[np.uint8], indices: npt.NDArray[np.int64], valid: npt.NDArray[np.bool_], size: tuple[int, int]
) -> npt.NDArray[np.uint8]:
    """Dim an image (H, W, 3), at the coarse resolution of the tag maps, and colour each map pixel whose tag is trained.

    Args:
        image: RGB.
        indices: (P, K), indices into the flattened (K, h, w) tag maps.
        valid: (P, K), whether there is a tag; a person's tags have one hue.
        size: Height h and width w of the tag maps.
    """
    coarse = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA) // 3
    for person, (places, has_tag) in enumerate(zip(indices, valid, strict=True)):
        rows, columns = np.divmod(places[has_tag] % (size[0] * size[1]), size[1])
        coarse[rows, columns] = _colour(person, "left")
    return np.asarray(cv2.resize(coarse, image.shape[1::-1], interpolation=cv2.INTER_NEAREST), np.uint8)


def captioned(image: npt.NDArray[np.uint8], text: str) -> npt.NDArray[np.uint8]:
    """Add a white strip with one line of ``text``, cut off where too long, above an image (H, W, 3)."""
    strip = np.full((_CAPTION_HEIGHT, image.shape[1], 3), 255, np.uint8)
    place = (3, _CAPTION_HEIGHT - 6)
    cv2.putText(strip, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate([strip, image])


def heatmap_overlay(image: npt.NDArray[np.uint8], heatmaps: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    """Colour an image (H, W, 3) by the maximum of its heatmaps (K, h, w); the higher (0 to 1), the stronger."""
    height, width = image.shape[:2]
    highest = np.clip(np.nan_to_num(heatmaps.max(axis=0)), 0.0, 1.0).astype(np.float32)
    highest = cv2.resize(highest, (width, height), interpolation=cv2.INTER_LINEAR)
    levels = np.rint(highest * 255).astype(np.uint8)
    colours = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_JET), cv2.COLOR_BGR2RGB)
    share = 0.8 * highest[..., None]
    return np.asarray(np.rint((1 - share) * image + share * colours), np.uint8)


def contact_sheet(images: Sequence[npt.NDArray[np.uint8]], columns: int, gap: int = 4) -> npt.NDArray[np.uint8]:
    """Arrange images (H, W, 3) of any sizes row by row on white, in cells as large as the largest.

    Raises:
        UserError: There is no image or no column.
    """
    if not images or columns < 1:
        raise UserError(f"a contact sheet needs at least 1 image and 1 column, got {len(images)} and {columns}")
    columns = min(columns, len(images))
    cell_height = max(image.shape[0] for image in images) + gap
    cell_width = max(image.shape[1] for image in images) + gap
    rows = -(-len(images) // columns)
    sheet = np.full((rows * cell_height - gap, columns * cell_width - gap, 3), 255, np.uint8)
    for number, image in enumerate(images):
        top, left = number // columns * cell_height, number % columns * cell_width
        sheet[top : top + image.shape[0], left : left + image.shape[1]] = image
    return sheet


def save_image(path: str | Path, image: npt.NDArray[np.uint8]) -> None:
    """Write an image (H, W, 3), RGB, to ``path``, all or nothing, as PNG (.png) or JPEG (.jpg) by its suffix.

    A JPEG takes a thirtieth of the time and a fifth of the space of a PNG.
    """
    settings = [cv2.IMWRITE_JPEG_QUALITY, 92, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    suffix = Path(path).suffix
    _, content = cv2.imencode(
        suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), settings if suffix in (".jpg", ".jpeg") else []
    )
    write_bytes(path, content.tobytes())


def _colour(person: int, side: str) -> Colour:
    hue = (0.02 + person * _PERSON_HUE_STEP) % 1.0
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.55 if side == "left" else 0.95, _BRIGHTNESS[side])
    return round(red * 255), round(green * 255), round(blue * 255)


def _fixed_point(x: float, y: float) -> tuple[int, int]:
    """Convert a point to OpenCV's coordinates: from pixel centres, in fractions of ``2 ** _SUBPIXEL_BITS``."""
    x, y = np.clip([x, y], -_FARTHEST, _FARTHEST)
    return round((x - 0.5) * 2**_SUBPIXEL_BITS), round((y - 0.5) * 2**_SUBPIXEL_BITS)
