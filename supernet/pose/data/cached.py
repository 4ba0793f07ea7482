"""Keeps decoded images in memory between passes over a data set."""

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, Final

from supernet.pose.data.pose_dataset import ImageId, PoseDataset, PoseSample, truth_of
from supernet.pose.data.subset import Subset
from supernet.pose.keypoints import KeypointSet

MEMORY_BYTES: Final = 512 * 2**20


class CachedDataset:
    """A ``PoseDataset`` of the first images of another one, which caches them in memory.

    Loading (or drawing) an image and its ground truth takes about as long as running a small network on it. Images
    are cached on first access until the memory is used up; the others are loaded on every access.

    Args:
        dataset: Source of the images.
        num_images: Number of images from the start of the data set; None or a larger number takes all.
        memory_bytes: Largest size of the cache, images and masks together.
    """

    def __init__(self, dataset: PoseDataset, num_images: int | None = None, memory_bytes: int = MEMORY_BYTES) -> None:
        self._dataset = dataset
        self._num_images = len(dataset) if num_images is None else min(num_images, len(dataset))
        self._free_bytes = memory_bytes
        self._cache: dict[int, PoseSample] = {}
        self._without_room: set[int] = set()

    @property
    def source(self) -> PoseDataset:
        """The data set that is cached."""
        return self._dataset

    @property
    def keypoints(self) -> KeypointSet:
        """The K keypoints that people are annotated with."""
        return self._dataset.keypoints

    @property
    def image_ids(self) -> Sequence[ImageId]:
        """The id of each image, in index order."""
        return self._dataset.image_ids[: self._num_images]

    def __len__(self) -> int:
        """Number of images."""
        return self._num_images

    def __getitem__(self, index: int) -> PoseSample:
        """The image at ``index``, from 0."""
        if not 0 <= index < self._num_images:
            raise IndexError(f"image {index} of {self._num_images}")
        if index in self._cache:
            return self._cache[index]
        sample = self._dataset[index]
        size = sample.image.nbytes + sample.mask.nbytes
        if size <= self._free_bytes:
            self._free_bytes -= size
            self._cache[index] = sample
        else:
            self._without_room.add(index)  # as room only shrinks, it never fits
        return sample

    def load(self, indices: Iterable[int]) -> None:
        """Cache the images at ``indices``, in this order, up to the first one that the memory has no room for."""
        for index in indices:
            if index in self._cache:
                continue
            if index not in self._without_room:
                self[index]
            if index in self._without_room:
                return

    def ground_truth(self) -> dict[str, Any]:
        """Images, annotations and categories of exactly these images, in COCO's format; do not modify it."""
        return self._ground_truth

    @cached_property
    def _ground_truth(self) -> dict[str, Any]:
        return truth_of(self._dataset, self.image_ids)


def load_into_memory(dataset: PoseDataset) -> None:
    """Cache the images of a subset of a :class:`CachedDataset`, or of one itself; other data sets stay as they are.

    Processes that are forked later find the images; what they load themselves is lost when they end.
    """
    indices: Sequence[int] = range(len(dataset))
    while isinstance(dataset, Subset):
        indices = dataset.indices_in_source(indices)
        dataset = dataset.source
    if isinstance(dataset, CachedDataset):
        dataset.load(indices)
