"""Training inputs: a random affine map of an image onto a square of any resolution, and batches of these.

What a training step sees depends on (index, resolution, seed) only, so that a resumed run repeats itself.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import cv2
import numpy as np
import numpy.typing as npt
import torch

from supernet.errors import UserError
from supernet.pose.data.pose_dataset import PoseDataset, PoseSample
from supernet.pose.keypoints import KeypointSet


@dataclass(frozen=True)
class Augmentation:
    """How far training images are varied; every amount is drawn uniformly.

    The network sees a square window of the image. Unvaried, the window is centred and as wide as the image's short
    side, so the ends of the long side lie outside it.

    Attributes:
        rotation_degrees: Largest rotation either way.
        scale_min: Smallest window, as a multiple of the short side; below 1 people grow.
        scale_max: Largest window; above 1 people shrink, and what lies outside the image is black.
        translation: Largest shift of the window's centre along either axis, as a fraction of the window.
        slide: Whether the window first goes to a random place along the long side, so that all of the image is seen.
        flip_probability: How often the image is mirrored, with left and right keypoints exchanged.
        brightness: Largest shift of all intensities, as a fraction of full intensity.
        contrast: Largest relative change of the distance to mid-grey.
        colour: Largest relative change of each channel by itself.

    Source: HigherHRNet (arXiv 1908.10357) section 4.1, which LitePose takes over: 30 degrees, 0.75 to 1.5, flip 0.5,
    and a translation of 40 px, counted on a window of 200 px, hence 0.2. The changes of colour are ours.
    """

    rotation_degrees: float = 30.0
    scale_min: float = 0.75
    scale_max: float = 1.5
    translation: float = 0.2
    slide: bool = False
    flip_probability: float = 0.5
    brightness: float = 0.1
    contrast: float = 0.2
    colour: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.scale_min <= self.scale_max:
            raise UserError(
                f"augmentation scale_min={self.scale_min}, scale_max={self.scale_max} must be positive and in order; "
                "exchange or raise them"
            )
        if not 0 <= self.flip_probability <= 1:
            raise UserError(
                f"augmentation flip_probability={self.flip_probability} must lie between 0 and 1; change it"
            )
        for name in ("rotation_degrees", "translation", "brightness", "contrast", "colour"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UserError(f"augmentation {name}={getattr(self, name)} must be 0 or more; use 0 to switch it off")

    @classmethod
    def none(cls) -> Self:
        """The centred, unvaried window."""
        return cls(0.0, 1.0, 1.0, 0.0, False, 0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Sample:
    """One network input with its annotations, R its resolution.

    Attributes:
        image: (R, R, 3) uint8, RGB.
        people: (P, K, 3) float32: x and y in input pixels and visibility; only people with a keypoint inside.
        mask: (R/2, R/2) bool, False where the loss must not count.
        image_id: The image's id.
    """

    image: npt.NDArray[np.uint8]
    people: npt.NDArray[np.float32]
    mask: npt.NDArray[np.bool_]
    image_id: int


@dataclass(frozen=True)
class Batch:
    """B samples of one resolution R.

    Attributes:
        images: (B, 3, R, R) uint8, in channels-last order.
        people: (B, P, K, 3) float32, input pixels; P is that of the fullest image, at least 1, the rest zeros.
        mask: (B, R/2, R/2) bool.
        image_ids: (B,) int64.
    """

    images: torch.Tensor
    people: torch.Tensor
    mask: torch.Tensor
    image_ids: torch.Tensor

    def pin_memory(self) -> Self:
        """This batch in page-locked memory; a ``DataLoader`` calls it, as it cannot look into a class of ours."""
        return replace(
            self,
            images=self.images.pin_memory(),
            people=self.people.pin_memory(),
            mask=self.mask.pin_memory(),
            image_ids=self.image_ids.pin_memory(),
        )


def window_matrix(
    width: int, height: int, resolution: int, scale: float, degrees: float, centre: tuple[float, float], flip: bool
) -> npt.NDArray[np.float64]:
    """The affine map (2, 3) from image to input coordinates for a window on an image.

    Args:
        width: Of the image, in pixels.
        height: Of the image, in pixels.
        resolution: Side of the input, R.
        scale: Side of the window as a multiple of the image's short side.
        degrees: The content turns by this angle, clockwise on screen.
        centre: The window's centre in image pixels.
        flip: Whether the input is mirrored left to right.
    """
    zoom = resolution / (scale * min(width, height))
    cosine, sine = zoom * math.cos(math.radians(degrees)), zoom * math.sin(math.radians(degrees))
    linear = np.array([[cosine, -sine], [sine, cosine]])
    if flip:
        linear[0] = -linear[0]
    offset = resolution / 2 - linear @ np.array(centre)
    return np.column_stack([linear, offset])


def _warp(
    image: npt.NDArray[np.uint8], matrix: npt.NDArray[np.float64], size: int, border: int
) -> npt.NDArray[np.uint8]:
    """``image`` under ``matrix`` as a (size, size) image, bilinear; coordinates of pixel i run from i to i + 1."""
    # OpenCV counts from pixel centres: half a pixel in, half a pixel out.
    shifted = matrix.copy()
    shifted[:, 2] += matrix[:, :2].sum(axis=1) * 0.5 - 0.5
    warped = cv2.warpAffine(image, shifted, (size, size), flags=cv2.INTER_LINEAR, borderValue=(border,) * 3)
    return np.asarray(warped, dtype=np.uint8)


def _recolour(
    image: npt.NDArray[np.uint8], shift: float, contrast: float, gains: npt.NDArray[np.float64]
) -> npt.NDArray[np.uint8]:
    """Intensities v of each channel c to (v - 127.5) * contrast * gains[c] + 127.5 + 255 * shift, within 0..255."""
    levels = (np.arange(256.0)[:, None] - 127.5) * (contrast * gains) + (127.5 + 255.0 * shift)
    table = np.clip(np.rint(levels), 0, 255).astype(np.uint8).reshape(1, 256, 3)
    return np.asarray(cv2.LUT(image, table), dtype=np.uint8)


def augment(
    example: PoseSample,
    resolution: int,
    rng: np.random.Generator,
    augmentation: Augmentation,
    keypoints: KeypointSet,
) -> Sample:
    """Draw one view of ``example`` at ``resolution`` R (even).

    Keypoints outside the input become unannotated (zeros), people without any left are dropped. Outside the image the
    input is black and the loss counts (HigherHRNet: it does not), as the network must keep silent on the black margins
    that evaluation pads with.
    """
    height, width = example.image.shape[:2]
    # Always the same number of draws, so that switching one variation off leaves the others as they are.
    draws = rng.random(11)
    signed = 2.0 * draws - 1.0
    scale = augmentation.scale_min + (augmentation.scale_max - augmentation.scale_min) * draws[0]
    short = min(width, height)
    shift = augmentation.translation * scale * short * signed[1:3]
    if augmentation.slide:
        shift += 0.5 * signed[3] * np.array([width - short, height - short])
    flip = bool(draws[4] < augmentation.flip_probability)
    centre = (width / 2 + float(shift[0]), height / 2 + float(shift[1]))
    degrees = augmentation.rotation_degrees * float(signed[5])
    matrix = window_matrix(width, height, resolution, scale, degrees, centre, flip)

    image = _warp(example.image, matrix, resolution, border=0)
    if augmentation.brightness or augmentation.contrast or augmentation.colour:
        image = _recolour(
            image,
            augmentation.brightness * signed[6],
            1.0 + augmentation.contrast * signed[7],
            1.0 + augmentation.colour * signed[8:11],
        )
    half = resolution // 2
    if example.mask.all():
        mask = np.ones((half, half), dtype=np.bool_)
    else:
        mask = _warp(example.mask.astype(np.uint8) * 255, matrix * 0.5, half, border=255) > 127
    people = move_people(example.people, matrix, resolution)
    if flip:
        people = people[:, keypoints.flip_index]
    return Sample(image, people, mask, example.image_id)


def move_people(
    people: npt.NDArray[np.float32], matrix: npt.NDArray[np.float64], resolution: int
) -> npt.NDArray[np.float32]:
    """``people`` (P, K, 3) under the affine ``matrix`` (2, 3); see ``augment`` for those that leave the input."""
    points = people[..., :2].astype(np.float64) @ matrix[:, :2].T + matrix[:, 2]
    inside = ((points >= 0) & (points < resolution)).all(axis=-1) & (people[..., 2] > 0)
    moved = np.concatenate([points, people[..., 2:]], axis=-1).astype(np.float32)
    moved[~inside] = 0.0
    return moved[inside.any(axis=-1)]


def collate(samples: Sequence[Sample], max_people: int = 30) -> Batch:
    """Stack samples of one resolution; of more than ``max_people`` in an image those with most keypoints are kept."""
    kept = []
    for sample in samples:
        most_first = np.argsort(-(sample.people[..., 2] > 0).sum(axis=1), kind="stable")
        kept.append(sample.people[np.sort(most_first[:max_people])])
    num_keypoints = samples[0].people.shape[1]
    people = np.zeros((len(samples), max(1, *(len(each) for each in kept)), num_keypoints, 3), dtype=np.float32)
    for row, each in zip(people, kept, strict=True):
        row[: len(each)] = each
    return Batch(
        images=torch.from_numpy(np.stack([sample.image for sample in samples])).permute(0, 3, 1, 2),
        people=torch.from_numpy(people),
        mask=torch.from_numpy(np.stack([sample.mask for sample in samples])),
        image_ids=torch.tensor([sample.image_id for sample in samples], dtype=torch.int64),
    )


class TrainingImages(torch.utils.data.Dataset[Sample]):
    """Samples addressed by (index, resolution, seed), so that a batch sampler decides all that a step sees.

    Args:
        dataset: Where the images come from.
        augmentation: How they are varied.
    """

    def __init__(self, dataset: PoseDataset, augmentation: Augmentation) -> None:
        self.dataset = dataset
        self.augmentation = augmentation

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: tuple[int, int, int]) -> Sample:
        index, resolution, _ = key
        rng = np.random.default_rng(key)
        return augment(self.dataset[index], resolution, rng, self.augmentation, self.dataset.keypoints)
