"""The interface of all annotated data sets, built-in or on disk."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from supernet.pose.keypoints import KeypointSet

ImageId = int | str
"""An image's id in the annotations; text only where they have text."""


@dataclass(frozen=True)
class PoseSample:
    """One annotated image.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        people: (P, K, 3) float32: x and y in image pixels, and visibility: 0 not annotated, 1 hidden, 2 visible;
            P may be 0.
        mask: (H, W) bool, False where the loss must not count: crowds, and people without annotated keypoints.
        image_id: The image's id as a whole number.
    """

    image: npt.NDArray[np.uint8]
    people: npt.NDArray[np.float32]
    mask: npt.NDArray[np.bool_]
    image_id: int


class PoseDataset(Protocol):
    """Annotated images, addressed by 0 .. len - 1; the same index always gives the same sample."""

    @property
    def keypoints(self) -> KeypointSet:
        """The K keypoints that people are annotated with."""
        ...

    @property
    def image_ids(self) -> Sequence[ImageId]:
        """The id of each image, in index order."""
        ...

    def __len__(self) -> int:
        """Number of images."""
        ...

    def __getitem__(self, index: int) -> PoseSample:
        """The image at ``index``."""
        ...

    def ground_truth(self) -> dict[str, Any]:
        """Images, annotations and categories of exactly these images, in COCO's format, as evaluation reads them."""
        ...


def original_of(dataset: PoseDataset) -> PoseDataset:
    """Return the data set that ``dataset`` wraps, perhaps several times: its ``source``; itself if it wraps none."""
    while (source := getattr(dataset, "source", None)) is not None:
        dataset = source
    return dataset


def fingerprint(dataset: PoseDataset) -> dict[str, int | str]:
    """Return the number of images and a digest of their ids, which say whether a data set has the images it had."""
    return {
        "number": len(dataset),
        "ids_digest": hashlib.sha256(json.dumps(list(dataset.image_ids)).encode()).hexdigest()[:16],
    }


def truth_of(dataset: PoseDataset, image_ids: Sequence[ImageId]) -> dict[str, Any]:
    """Return the ground truth of ``dataset``, restricted to the images with these ids."""
    truth, wanted = dataset.ground_truth(), set(image_ids)
    images = [image for image in truth["images"] if image["id"] in wanted]
    annotations = [annotation for annotation in truth["annotations"] if annotation["image_id"] in wanted]
    return {**truth, "images": images, "annotations": annotations}
