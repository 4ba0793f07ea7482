"""Cached images equal those of the data set and are loaded once."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from supernet.pose.data.cached import CachedDataset, load_into_memory
from supernet.pose.data.pose_dataset import PoseSample
from supernet.pose.data.subset import Subset
from supernet.pose.keypoints import COCO
from supernet.pose.synthetic.dataset import SyntheticPeople


class CountingDataset:
    """Built-in people that record every access."""

    def __init__(self, num_images: int) -> None:
        self.people = SyntheticPeople(COCO, num_images, 1, 64, 64)
        self.keypoints = COCO
        self.loads: list[int] = []
        self.truths = 0

    @property
    def image_ids(self) -> Sequence[int]:
        return self.people.image_ids

    def __len__(self) -> int:
        return len(self.people)

    def __getitem__(self, index: int) -> PoseSample:
        self.loads.append(index)
        return self.people[index]

    def ground_truth(self) -> dict[str, Any]:
        self.truths += 1
        return self.people.ground_truth()


def test_images_and_ground_truth_are_loaded_once() -> None:
    source = CountingDataset(6)
    cached = CachedDataset(source, 4)
    for _ in range(3):
        images = [cached[index] for index in range(len(cached))]
        truth = cached.ground_truth()
    assert (source.loads, source.truths) == ([0, 1, 2, 3], 1)
    assert len(cached) == len(cached.image_ids) == 4
    expected = SyntheticPeople(COCO, 4, 1, 64, 64)
    assert truth == expected.ground_truth()
    assert [np.array_equal(sample.image, expected[i].image) for i, sample in enumerate(images)] == [True] * 4
    assert list(cached.image_ids) == [image.image_id for image in images] == list(expected.image_ids)


def test_images_beyond_the_memory_limit_are_loaded_each_time() -> None:
    source = CountingDataset(3)
    cached = CachedDataset(source, memory_bytes=2 * 64 * 64 * 4)
    for _ in range(2):
        assert [cached[index].image_id for index in range(3)] == [1, 2, 3]
    assert source.loads == [0, 1, 2, 2]


@pytest.mark.parametrize(("num_images", "length"), [(None, 3), (2, 2), (9, 3)])
def test_the_length_is_at_most_that_of_the_data_set(num_images: int | None, length: int) -> None:
    cached = CachedDataset(CountingDataset(3), num_images)
    assert len(cached) == len(cached.image_ids) == length
    with pytest.raises(IndexError):
        cached[length]


def test_images_of_a_subset_are_loaded_into_memory_once() -> None:
    source = CountingDataset(8)
    cached = CachedDataset(source)
    chosen = Subset(Subset(cached, [7, 5, 3, 1]), [2, 0])
    for _ in range(2):
        load_into_memory(chosen)
    assert source.loads == [3, 7]
    assert [chosen[index].image_id for index in range(2)] == [source.people.image_ids[index] for index in (3, 7)]
    assert source.loads == [3, 7]
    load_into_memory(Subset(source, [2]))  # nothing would keep it
    assert source.loads == [3, 7]


def test_loading_into_memory_ends_where_the_memory_does() -> None:
    source = CountingDataset(8)
    one = source.people[0].image.nbytes + source.people[0].mask.nbytes
    cached = CachedDataset(source, memory_bytes=2 * one)
    load_into_memory(cached)
    assert source.loads == [0, 1, 2]
    load_into_memory(cached)  # the third is known not to fit
    assert source.loads == [0, 1, 2]
