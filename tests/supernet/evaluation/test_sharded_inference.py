"""What several ranks find in their parts of a data set is what one finds in all of it, image by image."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from threading import Barrier

import numpy as np
import pytest
from torch import Tensor

from supernet.compute.distributed import Processes
from supernet.evaluation import sharded_inference
from supernet.evaluation.sharded_inference import estimate_on_ranks
from supernet.pose.data.pose_dataset import PoseDataset
from supernet.pose.inference import InferenceSettings, PosePredictions
from supernet.pose.keypoints import COCO
from supernet.pose.synthetic.dataset import SyntheticPeople


@dataclass
class Table:
    """Where ranks that are threads lay down what they exchange."""

    count: int
    laid: dict[int, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.barrier = Barrier(self.count, timeout=20)


@dataclass(frozen=True)
class ThreadRanks(Processes):
    """One of several ranks that are threads."""

    table: Table = field(default_factory=lambda: Table(1))

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """See ``Processes``."""
        self.table.laid[self.index] = tensor
        self.table.barrier.wait()
        found = [self.table.laid[index] for index in range(self.count)]
        self.table.barrier.wait()
        return found


def named_people(_: object, dataset: PoseDataset, *__: object, **___: object) -> list[PosePredictions]:
    """Up to three people in each image, whose numbers tell which image it is."""
    found = []
    for image_id in dataset.image_ids:
        scores = np.arange(image_id % 4, dtype=np.float32) + 10 * image_id
        found.append(PosePredictions(np.repeat(scores, 3 * COCO.num).reshape(-1, COCO.num, 3), scores))
    return found


@pytest.mark.parametrize("num_images", [None, 9, 7, 2, 0])
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_every_rank_gets_the_people_of_each_image_in_order(
    count: int, num_images: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharded_inference, "estimate_dataset", named_people)
    images, table = SyntheticPeople(COCO, 8, 1, 64, 64), Table(count)
    with ThreadPoolExecutor(count) as threads:
        ranks = [ThreadRanks(index, count, table=table) for index in range(count)]
        work = partial(estimate_on_ranks, dataset=images, resolution=64, settings=InferenceSettings())
        found = [threads.submit(work, rank, None, num_images=num_images) for rank in ranks]
    expected = named_people(None, images)[:num_images]
    for own in found:
        assert len(own.result()) == len(expected)
        for people, wanted in zip(own.result(), expected, strict=True):
            np.testing.assert_array_equal(people.poses, wanted.poses)
            np.testing.assert_array_equal(people.scores, wanted.scores)
