"""Reading the maps of a batch on their device gives the people of ``group``, ties included."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from supernet.errors import UserError
from supernet.evaluation.device_inference import predict_on_device
from supernet.pose.inference import InferenceSettings, PoseEstimator
from supernet.pose.keypoints import COCO
from supernet.pose.synthetic.dataset import SyntheticPeople

IMAGES = SyntheticPeople(COCO, 11, 1, 96, 64)


class Blobs(nn.Module):
    """Maps with peaks and tags that depend on the image; ``levels`` rounds them, which makes pixels equal."""

    def __init__(self, levels: float, offset: float = 0.0) -> None:
        super().__init__()
        self.levels, self.offset = levels, offset
        self.mix = torch.randn(3 * COCO.num, 3, 5, 5, generator=torch.Generator().manual_seed(0))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        maps = nn.functional.conv2d(images, 0.03 * self.mix, padding=2) + self.offset
        maps = (maps * self.levels).round() / self.levels if self.levels else maps
        low = nn.functional.avg_pool2d(maps[:, : 2 * COCO.num], 4)
        return low, nn.functional.avg_pool2d(maps[:, 2 * COCO.num :], 2)


def estimator(levels: float = 0, **options: Any) -> PoseEstimator:
    settings = replace(InferenceSettings(max_people=4, detection_threshold=0.2), **options)
    return PoseEstimator(Blobs(levels).eval(), 64, COCO, settings, batch_size=3)


@pytest.mark.parametrize("num_workers", [1, 2])
@pytest.mark.parametrize("levels", [0, 4])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"decoding": "unbiased", "flip_test": True},
        {"refine": False, "matching": "reference"},
        {"adjust": False, "max_people": 1, "nms_kernel": 3, "scales": (1.0, 2.0)},
        {"detection_threshold": 1e6},
    ],
)
def test_people_are_those_of_the_cpu(options: dict[str, Any], levels: float, num_workers: int) -> None:
    expected = estimator(levels, **options).on_dataset(IMAGES)
    measured = estimator(levels, **options)
    actual = predict_on_device(num_workers, measured, IMAGES)
    num_people = sum(len(people.scores) for people in expected)
    assert num_people > 8 or options.get("detection_threshold") == 1e6
    for people, wanted in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(people.poses, wanted.poses)
        np.testing.assert_array_equal(people.scores, wanted.scores)
    assert all(measured.times.seconds[stage] > 0 for stage in ("loading", "network", "transfer", "grouping"))


@pytest.mark.parametrize("num_images", [None, 7, 1, 0])
def test_progress_counts_the_images(num_images: int | None) -> None:
    seen: list[int] = []
    total = 11 if num_images is None else num_images
    people = predict_on_device(1, estimator(), IMAGES, num_images, lambda done, _: seen.append(done))
    assert len(people) == total
    assert seen == list(range(1, total + 1))


def test_maps_that_are_not_finite_are_refused() -> None:
    broken = replace(estimator(), network=Blobs(0, float("nan")).eval())
    with pytest.raises(UserError, match="finite"):
        predict_on_device(1, broken, IMAGES)


@pytest.mark.gpu
def test_people_on_a_gpu_are_those_of_the_maps_read_on_the_cpu() -> None:
    on_gpu = replace(estimator(decoding="unbiased"), network=Blobs(0).eval().cuda(), device="cuda")
    on_gpu.network.mix = on_gpu.network.mix.cuda()  # type: ignore[attr-defined]
    for people, wanted in zip(predict_on_device(2, on_gpu, IMAGES), on_gpu.on_dataset(IMAGES), strict=True):
        np.testing.assert_array_equal(people.poses, wanted.poses)
        np.testing.assert_array_equal(people.scores, wanted.scores)
