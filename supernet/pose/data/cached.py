"""Images kept in memory between many passes over them."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Final

from supernet.pose.data.pose_dataset import PoseDataset, PoseSample, truth_of
from supernet.pose.keypoints import KeypointSet

MEMORY_BYTES: Final = 512 * 2**20


class CachedDataset:
    """The first images of a data set, itself a ``PoseDataset``.

    Loading (or drawing) images and their ground truth anew takes about as long as running a small network on them.
    Images are kept as they are first asked for, until the memory is used up; the rest is loaded each
    time.

    Args:
        dataset: Where the images come from.
        num_images: Images from the start of the data set; all if None or beyond its end.
        memory_bytes: Most to keep, counting images and masks.
    """

    def __init__(self, dataset: PoseDataset, num_images: int | None = None, memory_bytes: int = MEMORY_BYTES) -> None:
        self._dataset = dataset
        self._num_images = len(dataset) if num_images is None else min(num_images, len(dataset))
        self._free_bytes = memory_bytes
        self._kept: dict[int, PoseSample] = {}

    @property
    def source(self) -> PoseDataset:
        """Where the images come from."""
        return self._dataset

    @property
    def keypoints(self) -> KeypointSet:
        """The K keypoints that people are annotated with."""
        return self._dataset.keypoints

    @property
    def image_ids(self) -> Sequence[int]:
        """The id of each image, in index order."""
        return self._dataset.image_ids[: self._num_images]

    def __len__(self) -> int:
        """Number of images."""
        return self._num_images

    def __getitem__(self, index: int) -> PoseSample:
        """The image at ``index``, from 0."""
        if not 0 <= index < self._num_images:
            raise IndexError(f"image {index} of {self._num_images}")
        if index in self._kept:
            return self._kept[index]
        example = self._dataset[index]
        size = example.image.nbytes + example.mask.nbytes
        if size <= self._free_bytes:
            self._free_bytes -= size
            self._kept[index] = example
        return example

    def ground_truth(self) -> dict[str, Any]:
        """Images, annotations and categories of exactly these images, in COCO's format; not to be changed."""
        return self._ground_truth

    @cached_property
    def _ground_truth(self) -> dict[str, Any]:
        return truth_of(self._dataset, self.image_ids)
