"""Moves a keypoint from the centre of its pixel to where the heatmap's peak lies.

Source: ``"published"`` is the 'adjust' step of HigherHRNet's evaluation (arXiv 1908.10357), with equal results: a
quarter pixel towards the higher neighbour. ``"unbiased"`` goes to the top of a Gaussian, as DARK does (arXiv
1910.06278, section 3.2). We differ: DARK blurs the whole map and takes derivatives from the nearest pixels; we fit the
logarithm of 5 x 5 pixels by least squares, which is also exact for a Gaussian, averages noise and is computed at
keypoints only.

Each goes with the targets of its name (``training.targets``). Published targets peak at whole pixels of two maps, so
the top of their average says little of the position within the pixel.
"""

from typing import Literal

import numpy as np
import numpy.typing as npt

Decoding = Literal["published", "unbiased"]
Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

REACH = 2
"""Pixels on each side of a peak that are fitted, and the largest step: beyond, neighbouring people count too much."""
FLOOR = 0.01
"""Least value that is fitted, relative to the peak: noise around 0 has no logarithm."""
FLAT = 1e-6
"""Curvature below which a quadratic has no top: that of a Gaussian whose deviation is 1000 pixels."""


def quarter_pixels(heatmaps: Floats, keypoints: Integers, x: Integers, y: Integers) -> Floats:
    """Return steps (N, 2) of a quarter pixel in x and y, towards the higher of a pixel's two neighbours.

    Between equal neighbours the step is negative. At the border a pixel is its own neighbour.

    Args:
        heatmaps: (K, H, W).
        keypoints: (N,) map of each position.
        x: (N,) column of each position.
        y: (N,) row of each position.
    """
    _, height, width = heatmaps.shape
    right = heatmaps[keypoints, y, np.minimum(x + 1, width - 1)] > heatmaps[keypoints, y, np.maximum(x - 1, 0)]
    down = heatmaps[keypoints, np.minimum(y + 1, height - 1), x] > heatmaps[keypoints, np.maximum(y - 1, 0), x]
    return np.where(np.stack([right, down], axis=1), np.float32(0.25), np.float32(-0.25))


def fitted_tops(heatmaps: Floats, keypoints: Integers, x: Integers, y: Integers) -> Floats:
    """Return steps (N, 2) in x and y, in pixels, to the tops of Gaussians fitted to the pixels around the positions.

    The logarithm of a Gaussian of any width and direction is a quadratic, which least squares recover exactly. At the
    border, the nearest 5 x 5 pixels inside the map are fitted. Where the quadratic has no top there is no step; in x
    and in y a step is at most ``REACH`` pixels.

    Args:
        heatmaps: (K, H, W), above 0 at the positions.
        keypoints: (N,) map of each position.
        x: (N,) column of each position.
        y: (N,) row of each position.
    """
    _, height, width = heatmaps.shape
    middle_x = np.clip(x, REACH, max(REACH, width - 1 - REACH))
    middle_y = np.clip(y, REACH, max(REACH, height - 1 - REACH))
    # Only a map of less than 5 pixels has to repeat its last one.
    rows, columns = np.minimum(middle_y[:, None] + _Y, height - 1), np.minimum(middle_x[:, None] + _X, width - 1)
    values = heatmaps[keypoints[:, None], rows, columns].astype(np.float64)
    peaks = heatmaps[keypoints, y, x].astype(np.float64)
    slope_x, slope_y, xx, yy, xy = (np.log(np.maximum(values / peaks[:, None], FLOOR)) @ _FIT).T
    determinant = xx * yy - xy**2
    has_top = (xx < -FLAT) & (determinant > -FLAT * xx)
    tops = np.stack([xy * slope_y - yy * slope_x, xy * slope_x - xx * slope_y], axis=1)
    tops = tops / np.where(has_top, determinant, 1)[:, None] + np.stack([middle_x - x, middle_y - y], axis=1)
    return np.where(has_top[:, None], np.clip(tops, -REACH, REACH), 0).astype(np.float32)


_Y, _X = (offsets.ravel() for offsets in np.mgrid[-REACH : REACH + 1, -REACH : REACH + 1])
_TERMS = np.stack([_X, _Y, _X**2 / 2, _Y**2 / 2, _X * _Y, np.ones_like(_X)], axis=1).astype(np.float64)
_FIT = np.linalg.pinv(_TERMS).T[:, :5]
"""(25, 5): values of the 25 pixels -> first and second derivatives in the middle: x, y, xx, yy, xy."""


def fit_matrix() -> npt.NDArray[np.float64]:
    """Return the matrix (25, 5) of ``fitted_tops``: 25 logarithms, row by row, to the derivatives x, y, xx, yy, xy."""
    return np.array(_FIT, np.float64)
