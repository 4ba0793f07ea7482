"""Training targets of a batch, computed on its device from keypoint coordinates at the step's own map size.

Source: the heatmap and tag targets of HigherHRNet (arXiv 1908.10357): a Gaussian cropped to a square window, and the
position of every keypoint in the flattened tag maps. ``"unbiased"`` places the Gaussian at the keypoint itself, as in
"The Devil is in the Details" (arXiv 1911.07524), and not at its pixel.
"""

from typing import Literal

import torch
from torch import Tensor

Placement = Literal["published", "unbiased"]
"""Centre of a keypoint's Gaussian: that of the pixel that contains it, or the keypoint itself."""

PEOPLE_AT_ONCE = 8
"""Bounds the memory of the windows."""


def pixels(keypoints: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """The pixel of each keypoint, and whether it has one.

    Args:
        keypoints: (B, P, K, 3) as x, y in map pixels and visibility; rows of visibility 0 pad the people.
        size: Height and width of the map.

    Returns:
        x and y (B, P, K) int64, 0 where there is none, and valid (B, P, K) bool: labelled, finite and, cut to whole
        pixels towards zero, inside the map.
    """
    height, width = size
    x, y, visibility = keypoints.unbind(-1)
    valid = (visibility > 0) & (x > -1) & (x < width) & (y > -1) & (y < height)
    return torch.where(valid, x, 0.0).long(), torch.where(valid, y, 0.0).long(), valid


def heatmaps(
    keypoints: Tensor,
    size: tuple[int, int],
    sigma: float = 2.0,
    placement: Placement = "published",
    sigmas: Tensor | None = None,
) -> Tensor:
    """Heatmaps with a Gaussian of height 1 at each keypoint; where people overlap, the maximum.

    A Gaussian reaches 3 * sigma + 1 pixels from the keypoint's pixel in x and in y and is 0 beyond. Only these windows
    are written, so the cost grows with the number of keypoints rather than with people times pixels. Each pixel has the
    Gaussian's value at its centre, so that the highest pixel of an unbiased Gaussian may be below 1.

    Args:
        keypoints: (B, P, K, 3) as x, y in map pixels and visibility; P may be 0.
        size: Height H and width W of the map.
        sigma: Standard deviation in map pixels.
        placement: See ``Placement``.
        sigmas: (B, P), at most ``sigma``: the standard deviation of each person's Gaussians instead.

    Returns:
        (B, K, H, W) float32.
    """
    batch, num_people, num_keypoints, _ = keypoints.shape
    height, width = size
    device = keypoints.device
    radius = int(3 * sigma + 1)

    # With a border as wide as the window, no window needs clipping.
    padded_height, padded_width = height + 2 * radius, width + 2 * radius
    padded = torch.zeros(batch * num_keypoints * padded_height * padded_width, device=device)
    side = torch.arange(2 * radius + 1, device=device)
    window_offsets = (side[:, None] * padded_width + side).flatten()
    maps = torch.arange(batch * num_keypoints, device=device).view(batch, 1, num_keypoints)
    for start in range(0, num_people, PEOPLE_AT_ONCE):
        people = keypoints[:, start : start + PEOPLE_AT_ONCE]
        x, y, valid = pixels(people, size)
        corners = (maps * padded_height + y) * padded_width + x
        positions = (corners[..., None] + window_offsets).flatten()
        if placement == "published":
            shifts = torch.zeros(2, device=device)
        else:
            inside = torch.stack([x, y], dim=-1) + 0.5
            shifts = torch.where(valid[..., None], people[..., :2] - inside, 0.0).float()
        own = sigma if sigmas is None else sigmas[:, start : start + PEOPLE_AT_ONCE, None, None, None]
        padded.scatter_reduce_(0, positions, (valid[..., None] * _windows(shifts, radius, own)).flatten(), "amax")
    bordered = padded.view(batch, num_keypoints, padded_height, padded_width)
    return bordered[:, :, radius : radius + height, radius : radius + width].contiguous()


def _windows(shifts: Tensor, radius: int, sigma: float | Tensor) -> Tensor:
    """Gaussians around the middle of square windows, moved by ``shifts``.

    Args:
        shifts: (..., 2), x and y in pixels.
        radius: Pixels on each side of the middle one.
        sigma: Standard deviation in pixels; a tensor has two more dimensions than the result.

    Returns:
        (..., (2 * radius + 1) ** 2), row by row.
    """
    offsets = torch.arange(-radius, radius + 1, device=shifts.device)
    bells = torch.exp(-(offsets - shifts[..., None]).square() / (2 * sigma**2))
    return (bells[..., 1, :, None] * bells[..., 0, None, :]).flatten(-2)


def person_sizes(people: Tensor) -> Tensor:
    """The size of each person: the longer side of the box around its labelled keypoints.

    Args:
        people: (B, P, K, 3) as x, y and visibility.

    Returns:
        (B, P) in the unit of the coordinates; 0 without any keypoint.
    """
    labelled = people[..., 2:] > 0
    least = torch.where(labelled, people[..., :2], torch.inf).amin(dim=2)
    most = torch.where(labelled, people[..., :2], -torch.inf).amax(dim=2)
    return (most - least).amax(dim=-1).clamp(min=0.0)


def tag_indices(keypoints: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The position of each keypoint in an image's flattened (K, H, W) tag maps.

    Args:
        keypoints: (B, P, K, 3) as x, y in map pixels and visibility.
        size: Height H and width W of the map.

    Returns:
        Indices (B, P, K) int64, keypoint * H * W + y * W + x, and valid (B, P, K) bool; the index of an invalid
        keypoint is an arbitrary position inside the maps.
    """
    height, width = size
    x, y, valid = pixels(keypoints, size)
    keypoint = torch.arange(keypoints.shape[2], device=keypoints.device)
    return (keypoint * height + y) * width + x, valid
