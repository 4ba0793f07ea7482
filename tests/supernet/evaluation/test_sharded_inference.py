"""Several processes together predict what a single one does, image by image."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Barrier

import numpy as np
import pytest
from torch import Tensor

from supernet.compute.distributed import Processes
from supernet.evaluation.sharded_inference import predict_sharded
from supernet.pose.data.pose_dataset import PoseDataset
from supernet.pose.inference import InferenceSettings, PoseEstimator, PosePredictions
from supernet.pose.keypoints import COCO
from supernet.pose.synthetic.dataset import SyntheticPeople


@dataclass
class Table:
    """Where processes that are threads put what they exchange."""

    count: int
    tensors: dict[int, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.barrier = Barrier(self.count, timeout=200)


@dataclass(frozen=True)
class ThreadProcesses(Processes):
    """One of several processes that are threads."""

    table: Table = field(default_factory=lambda: Table(1))

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """See ``Processes``."""
        self.table.tensors[self.index] = tensor
        self.table.barrier.wait()
        gathered = [self.table.tensors[index] for index in range(self.count)]
        self.table.barrier.wait()
        return gathered


def never_run(_: Tensor) -> tuple[Tensor, Tensor]:
    """The network; the people are made without it."""
    raise AssertionError


def numbered_people(_: object, dataset: PoseDataset, *__: object, **___: object) -> list[PosePredictions]:
    """Up to three people in each image, whose scores and coordinates identify the image."""
    predictions = []
    for image_id in map(int, dataset.image_ids):
        scores = np.arange(image_id % 4, dtype=np.float32) + 10 * image_id
        predictions.append(PosePredictions(np.repeat(scores, 3 * COCO.num).reshape(-1, COCO.num, 3), scores))
    return predictions


@pytest.mark.parametrize("num_images", [None, 9, 7, 2, 0])
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_every_process_gets_the_people_of_each_image_in_order(
    count: int, num_images: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PoseEstimator, "on_dataset", numbered_people)
    estimator = PoseEstimator(never_run, 64, COCO, InferenceSettings())
    images, table = SyntheticPeople(COCO, 8, 1, 64, 64), Table(count)
    with ThreadPoolExecutor(count) as threads:
        group = [ThreadProcesses(index, count, table=table) for index in range(count)]
        jobs = [threads.submit(predict_sharded, own, estimator, images, num_images) for own in group]
    expected = numbered_people(None, images)[:num_images]
    for job in jobs:
        assert len(job.result()) == len(expected)
        for people, wanted in zip(job.result(), expected, strict=True):
            np.testing.assert_array_equal(people.poses, wanted.poses)
            np.testing.assert_array_equal(people.scores, wanted.scores)
