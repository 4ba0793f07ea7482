"""Outlines in the image plane: capsules, discs, hulls and boxes as polygons, and their fixed-point form for OpenCV."""

from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Outline = npt.NDArray[np.int32]

SHIFT: Final = 4  # Fractional bits of an outline's coordinates.
_ARC: Final = np.linspace(0.0, 1.0, 7)
_TURN: Final = np.linspace(0.0, 2 * np.pi, 12, endpoint=False)
CIRCLE: Final[Floats] = np.stack([np.cos(_TURN), np.sin(_TURN)], axis=-1)


def to_fixed_point(points: Floats) -> Outline:
    """Points (..., 2) in pixels (pixel i covers [i, i + 1)) in OpenCV's fixed point (pixel i is centred on i)."""
    return np.rint((points - 0.5) * (1 << SHIFT)).astype(np.int32)


def capsules(start: Floats, end: Floats, start_radius: Floats, end_radius: Floats) -> Floats:
    """Tapered bars with round ends.

    Args:
        start: (..., 2) centres of the first ends.
        end: (..., 2) centres of the second ends.
        start_radius: (...) radii of the first ends.
        end_radius: (...) radii of the second ends.

    Returns:
        (..., 14, 2) corners of convex polygons.
    """
    axis = end - start
    length = np.maximum(np.hypot(axis[..., 0], axis[..., 1]), 1e-6)
    direction = np.arctan2(axis[..., 1], axis[..., 0])[..., None]
    # The common tangents touch both circles at this angle from the axis; 0 or pi if one circle contains the other.
    touch = np.arccos(np.clip((start_radius - end_radius) / length, -1.0, 1.0))[..., None]
    near_end = direction - touch + 2 * touch * _ARC
    near_start = direction + touch + 2 * (np.pi - touch) * _ARC
    angle = np.concatenate([near_end, near_start], axis=-1)
    ends = len(_ARC)
    corners = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    corners[..., :ends, :] = corners[..., :ends, :] * end_radius[..., None, None] + end[..., None, :]
    corners[..., ends:, :] = corners[..., ends:, :] * start_radius[..., None, None] + start[..., None, :]
    return corners


def discs(centres: Floats, radii: Floats) -> Floats:
    """Circles round centres (..., 2) with radii (...) as polygons (..., 12, 2)."""
    return centres[..., None, :] + radii[..., None, None] * CIRCLE


def hull(points: Floats) -> Floats:
    """Convex hull (M, 2) of points (..., 2)."""
    corners = cv2.convexHull(points.reshape(-1, 1, 2).astype(np.float32))
    return corners.reshape(-1, 2).astype(np.float64)


def shrunk(outline: Floats, factor: float, offset: Floats) -> Floats:
    """The polygon (M, 2) scaled about its centre and moved by ``offset`` (2,)."""
    centre = outline.sum(axis=0) / len(outline)
    moved: Floats = centre + offset + factor * (outline - centre)
    return moved


def box(centre: Floats, width: float, height: float, degrees: float) -> Floats:
    """Corners (4, 2) of a rotated rectangle."""
    angle = np.deg2rad(degrees)
    across = np.array([np.cos(angle), np.sin(angle)]) * width / 2
    down = np.array([-np.sin(angle), np.cos(angle)]) * height / 2
    return np.array([centre - across - down, centre + across - down, centre + across + down, centre - across + down])
