"""Ideal network outputs, made from annotations, to measure the loss of evaluation itself."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from supernet.pose.training.objective import HIGH_STRIDE, LOW_STRIDE
from supernet.pose.training.targets import heatmaps

TAG_STEP = 3.0
"""Difference between the tags of successive people; larger than any tag threshold in use."""

MAX_ERROR = 1.25
"""Largest error in x and in y, in input pixels, of an isolated keypoint after grouping with adjustment.

Targets peak at whole pixels of 4 and of 2 input pixels; their resized mean peaks 1 or 2 input pixels from the start of
the smaller one, and adjustment moves by a quarter: errors range from -1 to 1.25.
"""

TWIN_DISTANCE = 12.0
"""Input pixels in x and in y, three pixels of the coarser heatmap. If the same keypoint of two people is nearer, one
may be lost or, as tags are interpolated, get a tag between both, which may be that of a third person."""


def has_near_twin(points: npt.NDArray[np.floating], labelled: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Whether each person (P,) has a labelled keypoint within ``TWIN_DISTANCE`` of the same keypoint of another person.

    Args:
        points: (P, K, 2), x and y in input pixels.
        labelled: (P, K).
    """
    near = (np.abs(points[:, None] - points[None]) < TWIN_DISTANCE).all(axis=-1) & labelled[:, None] & labelled[None]
    near[np.arange(len(points)), np.arange(len(points))] = False
    return np.asarray(near.any(axis=(1, 2)))


def ideal_outputs(people: npt.NDArray[np.float32], size: tuple[int, int], sigma: float = 2.0) -> tuple[Tensor, Tensor]:
    """Return both outputs for one image: target heatmaps, and around each keypoint the tag of the nearest person.

    Args:
        people: (P, K, 3) as x, y in input pixels and visibility.
        size: Height H and width W of the input.
        sigma: Standard deviation of the Gaussians, in pixels of each output.

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
        tags = TAG_STEP * heatmaps(low_people[:, None], low_size, sigma).argmax(dim=0, keepdim=True)
    low = torch.cat([heatmaps(low_people[None], low_size, sigma), tags], dim=1)
    return low, heatmaps(high_people[None], high_size, sigma)


def smallest_safe_side(sigmas: tuple[float, ...], similarity: float = 0.95) -> float:
    """Square root of the area, in input pixels, from which an isolated person always reaches ``similarity``.

    From this size on, the OKS is reached even if every keypoint has ``MAX_ERROR`` in x and in y.

    Args:
        sigmas: Of the person's labelled keypoints, relative to the square root of the area.
        similarity: The OKS, below 1.
    """
    spreads = (2 * np.array(sigmas)) ** 2
    least, most = 1e-3, 1e6
    while most - least > 1e-6 * most:
        side = (least + most) / 2
        oks = np.exp(-(2 * MAX_ERROR**2) / (2 * spreads * side**2)).mean()
        least, most = (least, side) if oks >= similarity else (side, most)
    return most
