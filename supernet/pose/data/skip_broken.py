"""Training on a data set with a few broken images."""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import get_worker_info

from supernet.errors import UserError
from supernet.pose.data.image_decoding import BadImage
from supernet.pose.data.pose_dataset import ImageId, PoseDataset, PoseSample
from supernet.pose.keypoints import KeypointSet

logger = logging.getLogger(__name__)

_MAX_NAMED = 5
"""Broken images named in an error."""


class SkipBrokenImages:
    """A ``PoseDataset`` that replaces each broken image of another data set by the next good one.

    The replacement depends on the images alone, so all processes and a resumed run see the same images. Worker
    processes record broken images in shared memory; the process that iterates over the loader logs them.

    Args:
        dataset: Source of the images.
        max_bad_share: Largest share of the images that may be broken.
    """

    def __init__(self, dataset: PoseDataset, max_bad_share: float) -> None:
        self._dataset = dataset
        self._max_bad_share = max_bad_share
        self._is_bad = torch.zeros(len(dataset), dtype=torch.bool).share_memory_()  # type: ignore[no-untyped-call]
        self._logged: set[int] = set()

    @property
    def source(self) -> PoseDataset:
        """The data set whose broken images are replaced."""
        return self._dataset

    @property
    def keypoints(self) -> KeypointSet:
        """The K keypoints that people are annotated with."""
        return self._dataset.keypoints

    @property
    def image_ids(self) -> Sequence[ImageId]:
        """The id of each image, in index order, broken ones included."""
        return self._dataset.image_ids

    def __len__(self) -> int:
        """Number of images, broken ones included."""
        return len(self._dataset)

    def __getitem__(self, index: int) -> PoseSample:
        """The image at ``index`` or the first good one after it.

        Raises:
            UserError: More than ``max_bad_share`` of the images are broken.
        """
        while True:
            if not self._is_bad[index]:
                try:
                    return self._dataset[index]
                except BadImage:
                    self._is_bad[index] = True
                    self._check_share()
                    if get_worker_info() is None:  # output of a worker would tear its parent's progress bar
                        self.log_skipped()
            index = (index + 1) % len(self)

    def ground_truth(self) -> dict[str, Any]:
        """Images, annotations and categories in COCO's format, those of broken images included."""
        return self._dataset.ground_truth()

    def skipped(self) -> list[str]:
        """The error of each broken image met so far, in any process, in index order."""
        return [self._error(index) for index in self._bad_indices()]

    def log_skipped(self) -> None:
        """Log a warning for each broken image met since the last call."""
        for index in self._bad_indices():
            if index not in self._logged:
                self._logged.add(index)
                logger.warning("%s; another image takes its place", self._error(index))

    def _bad_indices(self) -> list[int]:
        # A copy first: torch counts before it lists, and fails if another process adds an index in between.
        return [int(index) for index in self._is_bad.clone().nonzero()]

    def _check_share(self) -> None:
        bad = self._bad_indices()
        # If all are broken, no share is large enough: there is no image left to replace them.
        if len(bad) > self._max_bad_share * len(self) or len(bad) == len(self):
            errors = "; ".join(self._error(index) for index in bad[:_MAX_NAMED])
            raise UserError(
                f"{len(bad)} of the {len(self)} training images cannot be used, more than dataset.max_bad_share="
                f"{self._max_bad_share:g} allows ({errors}); repair them: python -m supernet.pose.check lists all"
            )

    def _error(self, index: int) -> str:
        try:
            self._dataset[index]
        except BadImage as error:
            return str(error)
        return f"image {self.image_ids[index]} could not be read at first, but can be read now"


def skip_broken_of(dataset: PoseDataset) -> SkipBrokenImages | None:
    """``dataset``, or the data set that it caches, if that skips broken images; else None."""
    source = dataset if isinstance(dataset, SkipBrokenImages) else getattr(dataset, "source", None)
    return source if isinstance(source, SkipBrokenImages) else None
