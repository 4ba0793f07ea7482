"""Ideal network outputs, made from annotations, to measure the loss of evaluation itself."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from supernet.pose.training.objective import HIGH_STRIDE, LOW_STRIDE
from supernet.pose.training.targets import Placement, heatmaps

TAG_STEP = 3.0
"""Difference between the tags of successive people; larger than any tag threshold in use."""

MAX_ERROR = 1.25
"""Largest error in x and in y, in input pixels, of an isolated keypoint after grouping with adjustment.

Targets peak at whole pixels of 4 and of 2 input pixels; their resized mean peaks 1 or 2 input pixels from the start of
the smaller one, and adjustment moves by a quarter: errors range from -1 to 1.25. This is for published targets and
decoding; ``max_error`` knows the others.
"""

TWIN_DISTANCE = 12.0
"""Input pixels in x and in y, three pixels of the coarser heatmap. If the same keypoint of two people is nearer, one
may be lost or, as tags are interpolated, get a tag between both, which may be that of a third person."""

UNBIASED_TWIN_DISTANCE = 16.0
"""Input pixels in x and in y within which the same keypoint of another person moves a fitted top.

Half way between both, the other Gaussian is the higher one. The fit sees pixel centres up to 2.5 px from a keypoint,
which are interpolated from pixels of 2 px up to 1.5 px further away, and these from pixels of 4 px up to 3 px further.
"""

UNBIASED_BORDER = 6.0
"""Input pixels from the border within which resizing moves a fitted top: it repeats the pixels of 4 px beyond the last
centre, 2 px from the border, and those of 2 px beyond theirs; pixels up to 3 px from the border show it."""


def max_error(sigma: float, placement: Placement) -> float:
    """Return the largest error in x and in y, in input pixels, of a keypoint that is decoded as it was placed.

    It is that of keypoints far enough from others and, if unbiased, from the border.

    Args:
        sigma: Standard deviation of the Gaussians, in pixels of each output.
        placement: Where the Gaussians are centred.

    Unbiased maps are inexact only because they are resized. Bilinear interpolation between samples h apart errs by up
    to h^2 / 8 times the second derivative, which at the top of a Gaussian is 1 / (8 sigma^2) of its height; the errors
    of fitted tops shrink with sigma likewise, and reach two thirds of that number in pixels.
    """
    return MAX_ERROR if placement == "published" else 1 / (8 * sigma**2)


def has_near_twin(
    points: npt.NDArray[np.floating], labelled: npt.NDArray[np.bool_], distance: float = TWIN_DISTANCE
) -> npt.NDArray[np.bool_]:
    """Whether each person (P,) has a labelled keypoint near the same keypoint of another person.

    Args:
        points: (P, K, 2), x and y in input pixels.
        labelled: (P, K).
        distance: Input pixels in x and in y within which a keypoint is near.
    """
    near = (np.abs(points[:, None] - points[None]) < distance).all(axis=-1) & labelled[:, None] & labelled[None]
    near[np.arange(len(points)), np.arange(len(points))] = False
    return np.asarray(near.any(axis=(1, 2)))


def ideal_outputs(
    people: npt.NDArray[np.float32], size: tuple[int, int], sigma: float = 2.0, placement: Placement = "published"
) -> tuple[Tensor, Tensor]:
    """Return both outputs for one image: target heatmaps, and around each keypoint the tag of the nearest person.

    Args:
        people: (P, K, 3) as x, y in input pixels and visibility.
        size: Height H and width W of the input.
        sigma: Standard deviation of the Gaussians, in pixels of each output.
        placement: Where the Gaussians are centred.

    Returns:
        ``low`` (1, 2K, H/4, W/4) and ``high`` (1, K, H/2, W/2).
    """
    maps = []
    for stride in (LOW_STRIDE, HIGH_STRIDE):
        scaled = torch.from_numpy(people) * torch.tensor([1 / stride, 1 / stride, 1.0])
        maps.append((scaled, (size[0] // stride, size[1] // stride)))
    (low_people, low_size), (high_people, high_size) = maps
    if not len(people):
        tags = torch.zeros(1, people.shape[1], *low_size)
    else:
        # With each person as a separate image, the argmax is the person whose Gaussian is highest at a pixel.
        alone = heatmaps(low_people[:, None], low_size, sigma, placement)
        tags = TAG_STEP * alone.argmax(dim=0, keepdim=True)
    low = torch.cat([heatmaps(low_people[None], low_size, sigma, placement), tags], dim=1)
    return low, heatmaps(high_people[None], high_size, sigma, placement)


def smallest_safe_side(sigmas: tuple[float, ...], similarity: float = 0.95, error: float = MAX_ERROR) -> float:
    """Square root of the area, in input pixels, from which an isolated person always reaches ``similarity``.

    From this size on, the OKS is reached even if every keypoint has the largest error in x and in y.

    Args:
        sigmas: Of the person's labelled keypoints, relative to the square root of the area.
        similarity: The OKS, below 1.
        error: Largest error in x and in y, in input pixels.
    """
    spreads = (2 * np.array(sigmas)) ** 2
    least, most = 1e-3, 1e6
    while most - least > 1e-6 * most:
        side = (least + most) / 2
        oks = np.exp(-(2 * error**2) / (2 * spreads * side**2)).mean()
        least, most = (least, side) if oks >= similarity else (side, most)
    return most
