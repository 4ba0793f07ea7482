"""Maps an image to the network's input at evaluation, and points between the two frames.

Source: the evaluation protocol of HigherHRNet (arXiv 1908.10357) and LitePose (arXiv 2205.01271); sizes and offsets
agree with their published code. We differ for resolutions that are not a multiple of ``size_divisor``: they are not
rounded, so that every resolution of a search space is evaluated at itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from supernet.errors import UserError
from supernet.pose.data.image_decoding import MAX_ASPECT_RATIO

TOTAL_STRIDE = 16
"""Input pixels per pixel of the network's coarsest features; both sides of an input are multiples of it."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
MAX_SCALE = 8.0

Image = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Transform:
    """Image point = input point * scale + offset, all in pixels; one scale for both axes."""

    scale: float
    offset_x: float
    offset_y: float

    def to_image(self, points: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """Map points (..., 2) from the input frame to the image frame."""
        return np.asarray(points, np.float64) * self.scale + (self.offset_x, self.offset_y)

    def to_input(self, points: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """Map points (..., 2) from the image frame to the input frame."""
        return (np.asarray(points, np.float64) - (self.offset_x, self.offset_y)) / self.scale


def normalise(images: Tensor) -> Tensor:
    """Normalise images (B, 3, H, W), RGB 0..255, to float32: ImageNet's mean subtracted, divided by its deviation.

    The memory format stays.
    """
    mean, std = _mean_and_deviation(images.device)
    return images.to(torch.float32, copy=True).sub_(mean).div_(std)


@cache
def _mean_and_deviation(device: torch.device) -> tuple[Tensor, Tensor]:
    """ImageNet's, for channels 0..255; made once per device, as copying them would make the host wait for a GPU."""
    with torch.inference_mode(False):
        mean = torch.tensor(IMAGENET_MEAN, device=device).view(1, 3, 1, 1) * 255.0
        return mean, torch.tensor(IMAGENET_STD, device=device).view(1, 3, 1, 1) * 255.0


def check_scales(scales: Sequence[float], size_divisor: int = 64, resolution: int | None = None) -> None:
    """Check the scales of a multi-scale test, and with ``resolution`` that the network can take each of them.

    Raises:
        UserError: Scale 1 is missing, a scale is repeated, not above 0, or gives sides that the network cannot take.
    """
    shown = ", ".join(f"{scale:g}" for scale in scales)
    if not all(0 < scale <= MAX_SCALE for scale in scales) or len(set(scales)) != len(scales):
        raise UserError(f"scales must be different numbers above 0 and at most {MAX_SCALE:g}, got [{shown}]")
    if 1 not in scales:
        raise UserError(f"scales must include 1, which gives the tags, got [{shown}]")
    for scale in scales:
        if (scale / min(scales) * size_divisor) % TOTAL_STRIDE:
            raise UserError(
                f"scale {scale:g} with {min(scales):g} gives sides that are not multiples of {TOTAL_STRIDE} px; "
                "choose scales like [0.5, 1, 2]"
            )
        if resolution is not None and (scale * resolution) % TOTAL_STRIDE:
            raise UserError(
                f"scale {scale:g} of resolution {resolution} is {scale * resolution:g} px, which is not a multiple of "
                f"{TOTAL_STRIDE}; leave it out or evaluate a subnet of another resolution"
            )


def resized_size(
    width: int, height: int, resolution: int, size_divisor: int = 64, smallest_scale: float = 1.0
) -> tuple[int, int]:
    """Return the input size (width, height) at scale 1 for an image of ``width`` x ``height`` pixels.

    At the smallest scale, the short side is ``resolution`` times that scale and the long side the next multiple of
    ``size_divisor`` that holds its whole pixels; a square image stays square. Other scales enlarge this size, so that
    all show the same part of the image.

    Raises:
        UserError: A size, the resolution or the divisor is below 1.
    """
    if min(width, height, resolution, size_divisor) < 1:
        raise UserError(
            f"cannot resize an image of {width} x {height} pixels to resolution {resolution} with size_divisor "
            f"{size_divisor}; all four must be at least 1"
        )
    if width == height:
        return resolution, resolution
    short, long = sorted((width, height))
    least = round(resolution * smallest_scale)
    long_resized = max(-(-(long * least // short) // size_divisor) * size_divisor, least)
    long_resized = round(long_resized / smallest_scale)
    return (resolution, long_resized) if width < height else (long_resized, resolution)


def input_transform(
    width: int, height: int, resolution: int, size_divisor: int = 64, smallest_scale: float = 1.0
) -> Transform:
    """Return the transform between an image of ``width`` x ``height`` pixels and its input, of one (rounded) centre."""
    resized_width, resized_height = resized_size(width, height, resolution, size_divisor, smallest_scale)
    scale = min(width, height) / resolution
    return Transform(
        scale, (width + 1) // 2 - resized_width * scale / 2, (height + 1) // 2 - resized_height * scale / 2
    )


def resize_for_network(image: Image, resolution: int, size_divisor: int = 64) -> tuple[Image, Transform]:
    """Resize an image (H, W, 3) in one bilinear warp; outside the image the input is black.

    Returns:
        The input (H', W', 3) uint8 of size ``resized_size`` and its transform.

    Raises:
        UserError: As ``resize_at_scales``.
    """
    (resized,), transform = resize_at_scales(image, resolution, size_divisor, (1.0,))
    return resized, transform


def resize_at_scales(
    image: Image, resolution: int, size_divisor: int, scales: Sequence[float]
) -> tuple[tuple[Image, ...], Transform]:
    """Resize an image (H, W, 3) to its input at each of the scales, as ``resize_for_network`` does at scale 1.

    Returns:
        One input (H' * scale, W' * scale, 3) uint8 per scale, all of the same part of the image, and the transform of
        scale 1.

    Raises:
        UserError: The image is not (H, W, 3) uint8, or is a longer strip than ``MAX_ASPECT_RATIO`` allows.
    """
    if not isinstance(image, np.ndarray):
        raise UserError(
            f"an image must be an array (H, W, 3) uint8, not {type(image).__name__}; for one of PIL give "
            "numpy.asarray(image.convert('RGB'))"
        )
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise UserError(f"an image must be (H, W, 3) uint8, not {image.shape} {image.dtype}; convert it to 8-bit RGB")
    height, width = image.shape[:2]
    if 0 < MAX_ASPECT_RATIO * min(width, height) < max(width, height):  # its input would fill the memory
        raise UserError(
            f"an image must have an aspect ratio of at most {MAX_ASPECT_RATIO}, got {width} x {height} pixels; crop it"
        )
    transform = input_transform(width, height, resolution, size_divisor, min(scales))
    size = resized_size(width, height, resolution, size_divisor, min(scales))
    resized = []
    for scale in scales:
        step = transform.scale / scale
        # OpenCV counts from pixel centres: half a pixel out of the input frame, half a pixel into the image frame.
        centre = 0.5 * step - 0.5
        to_image = np.array([[step, 0.0, transform.offset_x + centre], [0.0, step, transform.offset_y + centre]])
        sides = (round(size[0] * scale), round(size[1] * scale))
        warped = cv2.warpAffine(image, to_image, sides, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        resized.append(np.asarray(warped, np.uint8))
    return tuple(resized), transform
