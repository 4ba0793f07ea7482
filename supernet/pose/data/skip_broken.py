"""Training on a data set with a few broken images."""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import get_worker_info

from supernet.errors import UserError
from supernet.pose.data.image_decoding import BadImage
from supernet.pose.data.pose_dataset import PoseDataset, PoseSample
from supernet.pose.keypoints import KeypointSet

_MOST_NAMED = 5


class SkipBrokenImages:
    """A data set, itself a ``PoseDataset``, in which the next good image stands for one that cannot be used.

    What stands for what depends on the images alone, so that all processes and a resumed run see the same. What was
    found broken is shared with worker processes, so that the process they work for can ``tell`` it.

    Args:
        dataset: Where the images come from.
        max_bad_share: Share of the images that may be broken.
    """

    def __init__(self, dataset: PoseDataset, max_bad_share: float) -> None:
        self._dataset = dataset
        self._max_bad_share = max_bad_share
        self._is_bad = torch.zeros(len(dataset), dtype=torch.bool).share_memory_()  # type: ignore[no-untyped-call]
        self._told: set[int] = set()

    @property
    def keypoints(self) -> KeypointSet:
        """The K keypoints that people are annotated with."""
        return self._dataset.keypoints

    @property
    def image_ids(self) -> Sequence[int]:
        """The id of each image, in index order, broken ones included."""
        return self._dataset.image_ids

    def __len__(self) -> int:
        """Number of images, broken ones included."""
        return len(self._dataset)

    def __getitem__(self, index: int) -> PoseSample:
        """The image at ``index`` or the first good one after it.

        Raises:
            UserError: More images are broken than may be.
        """
        while True:
            if not self._is_bad[index]:
                try:
                    return self._dataset[index]
                except BadImage:
                    self._is_bad[index] = True
                    self._check_share()
                    if get_worker_info() is None:  # what a worker prints would tear the progress bar of its process
                        self.tell()
            index = (index + 1) % len(self)

    def ground_truth(self) -> dict[str, Any]:
        """Images, annotations and categories in COCO's format, those of broken images included."""
        return self._dataset.ground_truth()

    def skipped(self) -> list[str]:
        """What is wrong with each image found broken so far, whichever process found it, in index order."""
        return [self._reason(index) for index in self._bad_indices()]

    def tell(self) -> None:
        """Warn of each image found broken since this was last called."""
        for index in self._bad_indices():
            if index not in self._told:
                self._told.add(index)
                warnings.warn(f"{self._reason(index)}; another image takes its place", stacklevel=2)

    def _bad_indices(self) -> list[int]:
        # A copy first: torch counts before it lists, and fails if another process adds one in between.
        return [int(index) for index in self._is_bad.clone().nonzero()]

    def _check_share(self) -> None:
        bad = self._bad_indices()
        # All broken is too many whatever the share: nothing would be left to take their place.
        if len(bad) > self._max_bad_share * len(self) or len(bad) == len(self):
            named = "; ".join(self._reason(index) for index in bad[:_MOST_NAMED])
            raise UserError(
                f"{len(bad)} of the {len(self)} training images cannot be used, more than dataset.max_bad_share="
                f"{self._max_bad_share:g} allows ({named}); mend them, python -m supernet.pose.check finds all"
            )

    def _reason(self, index: int) -> str:
        try:
            self._dataset[index]
        except BadImage as error:
            return str(error)
        return f"image {self.image_ids[index]} could not be read, and now it can"


def skipping(dataset: PoseDataset) -> SkipBrokenImages | None:
    """``dataset``, or the one whose images it keeps, if it skips broken images."""
    inner = getattr(dataset, "source", dataset)
    return inner if isinstance(inner, SkipBrokenImages) else None
