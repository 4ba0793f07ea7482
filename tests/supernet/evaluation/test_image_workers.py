"""Processes that share the images of an evaluation find the people that one process finds, to the last bit."""

import os
import signal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from supernet.errors import UserError
from supernet.evaluation.image_blocks import BLOCK
from supernet.evaluation.image_workers import predict_in_workers
from supernet.pose.data.cached import CachedDataset
from supernet.pose.data.pose_dataset import PoseSample
from supernet.pose.inference import InferenceSettings, PoseEstimator, PosePredictions
from supernet.pose.keypoints import COCO
from supernet.pose.synthetic.dataset import SyntheticPeople

NUM_IMAGES = 2 * BLOCK + 3
IMAGES = SyntheticPeople(COCO, NUM_IMAGES, 1, 64, 64)


class Blobs(nn.Module):
    """Maps with peaks and tags that depend on the image; ends in another way if ``fault`` says so."""

    def __init__(self, fault: str = "") -> None:
        super().__init__()
        self.fault, self.home = fault, os.getpid()
        generator = torch.Generator().manual_seed(0)
        self.mix = torch.randn(3 * COCO.num, 3, 5, 5, generator=generator)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        if os.getpid() != self.home:
            if self.fault == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.fault == "user error":
                raise UserError("image 5 is broken")
            if self.fault == "no memory":
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
            if self.fault == "bug":
                raise ZeroDivisionError
        maps = nn.functional.conv2d(images, 0.05 * self.mix, padding=2)
        low = nn.functional.avg_pool2d(maps[:, : 2 * COCO.num], 4)
        return low, nn.functional.avg_pool2d(maps[:, 2 * COCO.num :], 2)


def estimator(fault: str = "") -> PoseEstimator:
    return PoseEstimator(Blobs(fault).eval(), 64, COCO, InferenceSettings(max_people=4), batch_size=3)


def assert_same(actual: list[PosePredictions], expected: list[PosePredictions]) -> None:
    assert len(actual) == len(expected)
    for people, wanted in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(people.poses, wanted.poses)
        np.testing.assert_array_equal(people.scores, wanted.scores)


@pytest.mark.parametrize("num_images", [None, BLOCK + 1, 3, 0])
def test_the_number_of_processes_changes_no_bit(num_images: int | None) -> None:
    expected = estimator().on_dataset(IMAGES, num_images)
    assert num_images in (0, 3) or sum(len(people.scores) for people in expected) > 5
    for num_workers in (1, 2, 3, 9):
        seen: list[tuple[int, int]] = []

        def remember(done: int, of: int, seen: list[tuple[int, int]] = seen) -> None:
            seen.append((done, of))

        people = predict_in_workers(num_workers, estimator(), IMAGES, num_images, remember)
        assert_same(people, expected)
        total = NUM_IMAGES if num_images is None else num_images
        assert [done for done, _ in seen] == sorted(done for done, _ in seen)
        assert not total or seen[-1] == (total, total)


def test_images_are_loaded_before_the_processes_start_and_not_again() -> None:
    home = os.getpid()

    class AtHome(SyntheticPeople):
        def __getitem__(self, index: int) -> PoseSample:
            assert os.getpid() == home
            return super().__getitem__(index)

    images = CachedDataset(AtHome(COCO, NUM_IMAGES, 1, 64, 64))
    assert_same(predict_in_workers(2, estimator(), images), estimator().on_dataset(IMAGES))


def test_the_processes_add_up_their_times() -> None:
    measured = estimator()
    predict_in_workers(2, measured, IMAGES)
    assert all(measured.times.seconds[stage] > 0 for stage in ("loading", "network", "grouping"))


def test_a_user_error_is_that_of_the_process() -> None:
    with pytest.raises(UserError, match="image 5 is broken"):
        predict_in_workers(2, estimator("user error"), IMAGES)


def test_a_killed_process_ends_the_evaluation_in_one_sentence() -> None:
    with pytest.raises(UserError, match=r"was killed .*threads=1"):
        predict_in_workers(2, estimator("killed"), IMAGES)


def test_a_bug_in_a_process_keeps_its_traceback() -> None:
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        predict_in_workers(2, estimator("bug"), IMAGES)


def test_running_out_of_memory_names_the_remedy() -> None:
    with pytest.raises(
        UserError, match=r"out of memory in an evaluation of at most 3 images of 64 px.*lower batch_size"
    ):
        predict_in_workers(2, estimator("no memory"), IMAGES)
