"""Subsets of a data set."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from supernet.pose.data.pose_dataset import ImageId, PoseDataset, PoseSample, truth_of
from supernet.pose.keypoints import KeypointSet


class Subset:
    """A ``PoseDataset`` of chosen images of another one.

    Args:
        dataset: Source of the images.
        indices: Indices of the chosen images in ``dataset``, in the order of the subset.
    """

    def __init__(self, dataset: PoseDataset, indices: Sequence[int]) -> None:
        self._dataset, self._indices = dataset, tuple(indices)

    @property
    def source(self) -> PoseDataset:
        """The data set that the images are chosen from."""
        return self._dataset

    @property
    def keypoints(self) -> KeypointSet:
        """The K keypoints that people are annotated with."""
        return self._dataset.keypoints

    @cached_property
    def image_ids(self) -> Sequence[ImageId]:
        """The id of each image, in index order."""
        ids = self._dataset.image_ids
        return [ids[index] for index in self._indices]

    def __len__(self) -> int:
        """Number of images."""
        return len(self._indices)

    def __getitem__(self, index: int) -> PoseSample:
        """The image at ``index``, from 0."""
        return self._dataset[self._indices[index]]

    def indices_in_source(self, indices: Sequence[int]) -> list[int]:
        """Return the indices in ``source`` of the images at ``indices``."""
        return [self._indices[index] for index in indices]

    def ground_truth(self) -> dict[str, Any]:
        """Images, annotations and categories of exactly these images, in COCO's format; do not modify it."""
        return self._ground_truth

    @cached_property
    def _ground_truth(self) -> dict[str, Any]:
        return truth_of(self._dataset, self.image_ids)


def spread_indices(total: int, num: int) -> list[int]:
    """Return ``num`` indices below ``total``, evenly spaced from the first to the last; all if ``num`` is larger."""
    indices: list[int] = np.linspace(0, total - 1, min(num, total)).round().astype(int).tolist()
    return indices


def evenly_spread(dataset: PoseDataset, num_images: int) -> PoseDataset:
    """Return ``num_images`` evenly spaced images of ``dataset``; all of them if there are no more."""
    if num_images >= len(dataset):
        return dataset
    return Subset(dataset, spread_indices(len(dataset), num_images))
