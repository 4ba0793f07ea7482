"""Masks from segmentations in COCO's format: polygons, or run lengths down the columns.

pycocotools fills a mask whose run lengths are too short with uninitialised memory, so run lengths are decoded here.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_masks


def box_pixels(box: tuple[float, float, float, float], width: int, height: int) -> npt.NDArray[np.bool_]:
    """The mask (height, width) of the pixels that a box x, y, width, height touches."""
    x, y, box_width, box_height = box
    left, right = np.clip([np.floor(x), np.ceil(x + box_width)], 0, width).astype(int)
    top, bottom = np.clip([np.floor(y), np.ceil(y + box_height)], 0, height).astype(int)
    covered = np.zeros((height, width), np.bool_)
    covered[top:bottom, left:right] = True
    return covered


def segmentation_pixels(segmentation: Any, width: int, height: int) -> npt.NDArray[np.bool_]:
    """The mask (height, width) of a segmentation as read from JSON.

    Raises:
        ValueError: The value is not a segmentation of an image of that size.
    """
    if isinstance(segmentation, list):
        polygons = [_polygon(points, width, height) for points in segmentation]
        if not polygons:
            raise ValueError("it contains no polygons")
        union = coco_masks.merge(coco_masks.frPyObjects(polygons, height, width))
        return _filled(run_lengths(union["counts"].decode()), width, height)
    if not isinstance(segmentation, dict) or segmentation.get("size") != [height, width]:
        raise ValueError(f"it is neither a list of polygons nor run lengths of size {[height, width]}")
    counts = segmentation.get("counts")
    runs = run_lengths(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(type(run) is int and run >= 0 for run in runs):
        raise ValueError("its run lengths are not integers of at least 0")
    if sum(runs) != width * height:
        raise ValueError(f"its run lengths cover {sum(runs)} pixels instead of {width * height}")
    return _filled(runs, width, height)


def run_lengths(text: str) -> list[int]:
    """Decode packed run lengths: 5 bits per character, lowest first; from the fourth on relative to the one two before.

    Raises:
        ValueError: A character is not part of the code, or the last number is incomplete.
    """
    numbers: list[int] = []
    value, bits = 0, 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64:
            raise ValueError(f"its packed run lengths contain the character {character!r}")
        value |= (code & 31) << bits
        bits += 5
        if not code & 32:
            numbers.append(value - (1 << bits) if code & 16 else value)
            value, bits = 0, 0
    if bits:
        raise ValueError("its packed run lengths are truncated")
    # Differences to the number two before: a running sum over each parity, starting at the second and third number.
    runs = numbers[:]
    runs[2::2] = accumulate(numbers[2::2])
    runs[1::2] = accumulate(numbers[1::2])
    return runs


def _filled(runs: Sequence[int], width: int, height: int) -> npt.NDArray[np.bool_]:
    """The mask (height, width) of every second run, counted down the columns."""
    inside = np.arange(len(runs)) % 2 == 1
    return np.repeat(inside, runs).reshape(width, height).T


def _polygon(points: Any, width: int, height: int) -> Sequence[float]:
    """``points`` x, y, x, y, ... as floats, if they are a polygon in or near an image of that size; else ValueError."""
    try:
        flat = np.asarray(points)
    except ValueError:  # lists of unequal length
        flat = np.empty(0)
    if flat.dtype.kind not in "iuf" or flat.ndim != 1 or flat.size < 6 or flat.size % 2:
        raise ValueError("a polygon is not a list of at least three points x, y")
    margin = max(width, height)
    if not ((flat >= -margin) & (flat <= 2 * margin)).all():
        raise ValueError("a polygon is far outside the image")
    return [float(value) for value in flat]
