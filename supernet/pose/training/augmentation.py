"""Augments images to square network inputs of any resolution, and collates them to batches.

A sample depends on (index, resolution, seed) only, so that a resumed run repeats it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import cv2
import numpy as np
import numpy.typing as npt
import torch

from supernet.io.schema import check_numbers
from supernet.pose.data.pose_dataset import PoseDataset, PoseSample
from supernet.pose.keypoints import KeypointSet

SMALLEST_FOCUS = 0.3
"""Smallest window around a person, as a multiple of the short side; a smaller one would show little but blur."""


@dataclass(frozen=True)
class Augmentation:
    """Ranges of the random variations of training images; every amount is drawn uniformly.

    The network sees a square window of the image. Without variation the window is centred and as wide as the image's
    short side, so the ends of the long side lie outside it.

    Attributes:
        rotation_degrees: Largest rotation in either direction.
        scale_min: Smallest window, as a multiple of the short side; below 1 people appear larger.
        scale_max: Largest window; above 1 people appear smaller, and the area outside the image is black.
        translation: Largest shift of the window's centre along either axis, as a fraction of the window.
        slide: Whether the window first moves to a random place along the long side, so that all of the image is used.
        flip_probability: Probability that the image is mirrored, with left and right keypoints exchanged.
        focus_probability: Probability of a window around one random person instead of scale, translation and slide. In
            images of few and small people, most other windows hold hardly anything to learn from.
        focus_min, focus_max: Smallest and largest side of such a window, in sizes of the person: the longer side of the
            box around its keypoints. A window is never smaller than ``SMALLEST_FOCUS`` of the short side.
        smallest_person: People whose size in the input is below this number of pixels are masked in the loss; 0 keeps
            all. People of a single keypoint have no size: none is masked or focused on.
        brightness: Largest shift of all intensities, as a fraction of full intensity.
        contrast: Largest relative change of the distance to mid-grey.
        colour: Largest relative change of each single channel.

    Source: HigherHRNet (arXiv 1908.10357) section 4.1, adopted by LitePose: 30 degrees, 0.75 to 1.5, flip 0.5, and a
    translation of 40 px on a window of 200 px, hence 0.2. The colour changes are ours.
    """

    rotation_degrees: float = 30.0
    scale_min: float = 0.75
    scale_max: float = 1.5
    translation: float = 0.2
    slide: bool = False
    flip_probability: float = 0.5
    focus_probability: float = 0.0
    focus_min: float = 1.5
    focus_max: float = 4.0
    smallest_person: float = 0.0
    brightness: float = 0.1
    contrast: float = 0.2
    colour: float = 0.1

    def __post_init__(self) -> None:
        place = "augmentation."
        check_numbers(self, "scale_min", above=0, place=place)
        check_numbers(self, "scale_max", least=self.scale_min, place=place, remedy="lower scale_min or raise it")
        check_numbers(self, "flip_probability", "focus_probability", least=0, most=1, place=place)
        check_numbers(self, "focus_min", least=1, place=place)
        check_numbers(self, "focus_max", least=self.focus_min, place=place, remedy="lower focus_min or raise it")
        check_numbers(self, "smallest_person", least=0, place=place, remedy="0 keeps all people")
        strengths = ("rotation_degrees", "translation", "brightness", "contrast", "colour")
        check_numbers(self, *strengths, least=0, place=place, remedy="0 switches it off")

    @classmethod
    def none(cls) -> Self:
        """No variation: the centred window."""
        return cls(
            rotation_degrees=0.0,
            scale_min=1.0,
            scale_max=1.0,
            translation=0.0,
            flip_probability=0.0,
            brightness=0.0,
            contrast=0.0,
            colour=0.0,
        )


@dataclass(frozen=True)
class Sample:
    """One network input of resolution R with its annotations.

    Attributes:
        image: (R, R, 3) uint8, RGB.
        people: (P, K, 3) float32: x and y in input pixels and visibility; only people with a keypoint inside.
        mask: (R/2, R/2) bool, False for pixels that the loss ignores.
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
        people: (B, P, K, 3) float32, input pixels; P is the largest number in an image, at least 1; zeros pad the rest.
        mask: (B, R/2, R/2) bool.
        image_ids: (B,) int64.
    """

    images: torch.Tensor
    people: torch.Tensor
    mask: torch.Tensor
    image_ids: torch.Tensor

    def pin_memory(self) -> Self:
        """This batch in page-locked memory; called by ``DataLoader``, which cannot pin the fields of a custom class."""
        return replace(
            self,
            images=self.images.pin_memory(),
            people=self.people.pin_memory(),
            mask=self.mask.pin_memory(),
            image_ids=self.image_ids.pin_memory(),
        )

    def parts(self, count: int) -> list[Self]:
        """Return ``count`` equally large parts of this batch, which share its memory; B must be a multiple of it."""
        if count == 1:
            return [self]
        assert len(self.images) % count == 0
        size = len(self.images) // count
        tensors = (self.images, self.people, self.mask, self.image_ids)
        return [
            replace(self, images=images, people=people, mask=mask, image_ids=image_ids)
            for images, people, mask, image_ids in zip(*(torch.split(tensor, size) for tensor in tensors), strict=True)
        ]


def window_matrix(
    width: int, height: int, resolution: int, scale: float, degrees: float, centre: tuple[float, float], flip: bool
) -> npt.NDArray[np.float64]:
    """The affine matrix (2, 3) from image to input coordinates for a window of an image.

    Args:
        width: Of the image, in pixels.
        height: Of the image, in pixels.
        resolution: Side of the input, R.
        scale: Side of the window as a multiple of the image's short side.
        degrees: Rotation of the content, clockwise on screen.
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
    """Warp ``image`` by ``matrix`` to (size, size), bilinear; pixel i covers coordinates i to i + 1."""
    # OpenCV counts from pixel centres: shift by half a pixel before and after.
    shifted = matrix.copy()
    shifted[:, 2] += matrix[:, :2].sum(axis=1) * 0.5 - 0.5
    warped = cv2.warpAffine(image, shifted, (size, size), flags=cv2.INTER_LINEAR, borderValue=(border,) * 3)
    return np.asarray(warped, dtype=np.uint8)


def _recolour(
    image: npt.NDArray[np.uint8], shift: float, contrast: float, gains: npt.NDArray[np.float64]
) -> npt.NDArray[np.uint8]:
    """Map intensities v of channel c to (v - 127.5) * contrast * gains[c] + 127.5 + 255 * shift, clipped to 0..255."""
    levels = (np.arange(256.0)[:, None] - 127.5) * (contrast * gains) + (127.5 + 255.0 * shift)
    table = np.clip(np.rint(levels), 0, 255).astype(np.uint8).reshape(1, 256, 3)
    return np.asarray(cv2.LUT(image, table), dtype=np.uint8)


def augment(
    source: PoseSample,
    resolution: int,
    rng: np.random.Generator,
    augmentation: Augmentation,
    keypoints: KeypointSet,
) -> Sample:
    """Draw one random view of ``source`` at ``resolution`` R (even).

    Keypoints outside the input become unannotated (zeros); people without any keypoint left are dropped. Outside the
    image the input is black, and the loss includes these pixels (HigherHRNet excludes them): evaluation pads with black
    margins, where the network must not detect anything. Nothing is mirrored where the mirror image of a keypoint is
    unknown (``KeypointSet.mirrors``).
    """
    height, width = source.image.shape[:2]
    # Always the same number of draws, so that switching one variation off does not change the others.
    draws = rng.random(11)
    signed = 2.0 * draws - 1.0
    scale = augmentation.scale_min + (augmentation.scale_max - augmentation.scale_min) * draws[0]
    short = min(width, height)
    shift = augmentation.translation * scale * short * signed[1:3]
    if augmentation.slide:
        shift += 0.5 * signed[3] * np.array([width - short, height - short])
    flip = keypoints.mirrors and bool(draws[4] < augmentation.flip_probability)
    centre = (width / 2 + float(shift[0]), height / 2 + float(shift[1]))
    degrees = augmentation.rotation_degrees * float(signed[5])
    focus_draws = rng.random(5) if augmentation.focus_probability else np.ones(5)
    boxes = keypoint_boxes(source.people)
    if focus_draws[0] < augmentation.focus_probability and len(boxes):
        box = boxes[int(focus_draws[1] * len(boxes))]
        ratio = augmentation.focus_max / augmentation.focus_min
        side = float((box[2:] - box[:2]).max()) * augmentation.focus_min * ratio ** float(focus_draws[2])
        scale = min(max(side / short, SMALLEST_FOCUS), augmentation.scale_max)
        # The person may lie anywhere in the window, up to a tenth of its size beyond the border.
        room = np.maximum(0.5 * scale * short - 0.4 * (box[2:] - box[:2]), 0.0)
        middle = 0.5 * (box[:2] + box[2:]) + room * (2.0 * focus_draws[3:5] - 1.0)
        centre = (float(middle[0]), float(middle[1]))
    matrix = window_matrix(width, height, resolution, scale, degrees, centre, flip)

    image = _warp(source.image, matrix, resolution, border=0)
    if augmentation.brightness or augmentation.contrast or augmentation.colour:
        image = _recolour(
            image,
            augmentation.brightness * signed[6],
            1.0 + augmentation.contrast * signed[7],
            1.0 + augmentation.colour * signed[8:11],
        )
    half = resolution // 2
    if source.mask.all():
        mask = np.ones((half, half), dtype=np.bool_)
    else:
        mask = _warp(source.mask.astype(np.uint8) * 255, matrix * 0.5, half, border=255) > 127
    people = move_people(source.people, matrix, resolution)
    if augmentation.smallest_person > 0 and keypoints.num > 1:
        people, mask = _mask_small(people, mask, augmentation.smallest_person)
    if flip:
        people = people[:, keypoints.flip_index]
    return Sample(image, people, mask, source.image_id)


def keypoint_boxes(people: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The boxes (N, 4), as x0, y0, x1, y1, around those of the ``people`` (P, K, 3) with at least two keypoints."""
    labelled = people[..., 2:] > 0
    some = labelled.sum(axis=(1, 2)) > 1
    points, labelled = people[some, :, :2], labelled[some]
    low = np.where(labelled, points, np.inf).min(axis=1, initial=np.inf)
    high = np.where(labelled, points, -np.inf).max(axis=1, initial=-np.inf)
    return np.concatenate([low, high], axis=1).astype(np.float32)


def _mask_small(
    people: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_], smallest: float
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Remove people (P, K, 3) smaller than ``smallest`` px, and mask their boxes in a copy of ``mask`` (R/2, R/2)."""
    labelled = people[..., 2] > 0
    keep, mask = np.ones(len(people), dtype=np.bool_), mask.copy()
    for i in range(len(people)):
        points = people[i, labelled[i], :2]
        low, high = points.min(axis=0), points.max(axis=0)
        size = float((high - low).max())
        if size < smallest:
            keep[i] = False
            margin = 0.3 * size + 2.0
            x0, y0 = np.maximum((low - margin) / 2, 0).astype(int)
            x1, y1 = np.ceil((high + margin) / 2).astype(int)
            mask[y0:y1, x0:x1] = False
    return people[keep], mask


def move_people(
    people: npt.NDArray[np.float32], matrix: npt.NDArray[np.float64], resolution: int
) -> npt.NDArray[np.float32]:
    """Transform ``people`` (P, K, 3) by the affine ``matrix`` (2, 3); drop what leaves the input (see ``augment``)."""
    points = people[..., :2].astype(np.float64) @ matrix[:, :2].T + matrix[:, 2]
    inside = ((points >= 0) & (points < resolution)).all(axis=-1) & (people[..., 2] > 0)
    moved = np.concatenate([points, people[..., 2:]], axis=-1).astype(np.float32)
    moved[~inside] = 0.0
    return moved[inside.any(axis=-1)]


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples of one resolution; images with fewer people than others get people without keypoints."""
    num_people, num_keypoints = max(1, *(len(sample.people) for sample in samples)), samples[0].people.shape[1]
    people = np.zeros((len(samples), num_people, num_keypoints, 3), dtype=np.float32)
    for row, sample in zip(people, samples, strict=True):
        row[: len(sample.people)] = sample.people
    return Batch(
        images=torch.from_numpy(np.stack([sample.image for sample in samples])).permute(0, 3, 1, 2),
        people=torch.from_numpy(people),
        mask=torch.from_numpy(np.stack([sample.mask for sample in samples])),
        image_ids=torch.tensor([sample.image_id for sample in samples], dtype=torch.int64),
    )


class TrainingImages(torch.utils.data.Dataset[Sample]):
    """Augmented samples, addressed by (index, resolution, seed), so that the batch sampler determines each step.

    Args:
        dataset: Source of the images.
        augmentation: Random variation of the images.
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
