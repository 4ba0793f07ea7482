"""How a picture becomes the network's input at evaluation, and how points find their way back.

Source: the evaluation protocol of HigherHRNet (arXiv 1908.10357) and LitePose (arXiv 2205.01271), whose published code
the sizes and offsets agree with. We differ for resolutions that are no multiple of ``size_divisor``: they are kept as
they are, so that every resolution of a search space is evaluated at itself.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from supernet.errors import UserError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Transform:
    """Image point = input point * scale + offset, all in pixels; one scale for both axes."""

    scale: float
    offset_x: float
    offset_y: float

    def to_image(self, points: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """Points (..., 2) of the input frame, in the image frame (..., 2)."""
        return np.asarray(points, np.float64) * self.scale + (self.offset_x, self.offset_y)

    def to_input(self, points: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """Points (..., 2) of the image frame, in the input frame (..., 2)."""
        return (np.asarray(points, np.float64) - (self.offset_x, self.offset_y)) / self.scale


def normalise(images: Tensor) -> Tensor:
    """Pictures (B, 3, H, W), RGB 0..255, as float32 less ImageNet's mean, over its deviation; memory format kept."""
    mean = torch.tensor(IMAGENET_MEAN, device=images.device).view(1, 3, 1, 1) * 255.0
    std = torch.tensor(IMAGENET_STD, device=images.device).view(1, 3, 1, 1) * 255.0
    return images.to(torch.float32, copy=True).sub_(mean).div_(std)


def resized_size(width: int, height: int, resolution: int, size_divisor: int = 64) -> tuple[int, int]:
    """Input size (width, height) for a picture of ``width`` x ``height`` pixels.

    The short side becomes ``resolution`` and the long side the next multiple of ``size_divisor`` that holds its whole
    pixels; a square picture stays square.

    Raises:
        UserError: A size, the resolution or the divisor is below 1.
    """
    if min(width, height, resolution, size_divisor) < 1:
        raise UserError(
            f"cannot resize a picture of {width} x {height} pixels to resolution {resolution} with size_divisor "
            f"{size_divisor}; all four must be at least 1"
        )
    if width == height:
        return resolution, resolution
    short, long = sorted((width, height))
    long_resized = -(-(long * resolution // short) // size_divisor) * size_divisor
    long_resized = max(long_resized, resolution)
    return (resolution, long_resized) if width < height else (long_resized, resolution)


def input_transform(width: int, height: int, resolution: int, size_divisor: int = 64) -> Transform:
    """Transform between a picture of ``width`` x ``height`` pixels and its input, which shares its (rounded) centre."""
    resized_width, resized_height = resized_size(width, height, resolution, size_divisor)
    scale = min(width, height) / resolution
    return Transform(
        scale, (width + 1) // 2 - resized_width * scale / 2, (height + 1) // 2 - resized_height * scale / 2
    )


def resize_for_network(
    image: npt.NDArray[np.uint8], resolution: int, size_divisor: int = 64
) -> tuple[npt.NDArray[np.uint8], Transform]:
    """Resize a picture (H, W, 3) in one bilinear warp; what lies outside the picture is black.

    Returns:
        The input (H', W', 3) uint8 of size ``resized_size`` and its transform.

    Raises:
        UserError: The picture is not (H, W, 3) uint8.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise UserError(f"a picture must be (H, W, 3) uint8, not {image.shape} {image.dtype}; convert it to 8-bit RGB")
    height, width = image.shape[:2]
    transform = input_transform(width, height, resolution, size_divisor)
    # OpenCV counts from pixel centres: half a pixel out of the input frame, half a pixel into the image frame.
    centre = 0.5 * transform.scale - 0.5
    to_image = np.array(
        [[transform.scale, 0.0, transform.offset_x + centre], [0.0, transform.scale, transform.offset_y + centre]]
    )
    size = resized_size(width, height, resolution, size_divisor)
    resized = cv2.warpAffine(image, to_image, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    return np.asarray(resized, np.uint8), transform
