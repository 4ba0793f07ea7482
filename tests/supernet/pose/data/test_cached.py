"""Kept images are the data set's own, loaded once."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from supernet.pose.data.cached import CachedDataset
from supernet.pose.data.pose_dataset import PoseSample
from supernet.pose.keypoints import COCO
from supernet.pose.synthetic.dataset import SyntheticPeople


class Counting:
    """Built-in people that count how often they are asked."""

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


def test_images_and_truth_are_asked_for_once() -> None:
    source = Counting(6)
    kept = CachedDataset(source, 4)
    for _ in range(3):
        images = [kept[index] for index in range(len(kept))]
        truth = kept.ground_truth()
    assert (source.loads, source.truths) == ([0, 1, 2, 3], 1)
    assert len(kept) == len(kept.image_ids) == 4
    expected = SyntheticPeople(COCO, 4, 1, 64, 64)
    assert truth == expected.ground_truth()
    assert [np.array_equal(mine.image, expected[i].image) for i, mine in enumerate(images)] == [True] * 4
    assert list(kept.image_ids) == [image.image_id for image in images] == list(expected.image_ids)


def test_what_exceeds_the_memory_is_loaded_each_time() -> None:
    source = Counting(3)
    kept = CachedDataset(source, memory_bytes=2 * 64 * 64 * 4)
    for _ in range(2):
        assert [kept[index].image_id for index in range(3)] == [1, 2, 3]
    assert source.loads == [0, 1, 2, 2]


@pytest.mark.parametrize(("asked", "length"), [(None, 3), (2, 2), (9, 3)])
def test_no_more_images_than_there_are(asked: int | None, length: int) -> None:
    kept = CachedDataset(Counting(3), asked)
    assert len(kept) == len(kept.image_ids) == length
    with pytest.raises(IndexError):
        kept[length]
