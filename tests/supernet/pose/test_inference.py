"""Whole images: neither batches nor mirrors change who is found."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from supernet.errors import UserError
from supernet.evaluation.calibration import calibrate
from supernet.litepose import LitePose
from supernet.pose.data.pose_dataset import PoseSample
from supernet.pose.evaluation import evaluate
from supernet.pose.inference import InferenceSettings, as_results, estimate, estimate_dataset
from supernet.pose.keypoints import COCO
from supernet.pose.metrics.average_precision import KeypointEvaluator
from supernet.space import SearchSpace
from tests.helpers.images import GreyImages, Oracle

Image = npt.NDArray[np.uint8]


@pytest.mark.parametrize("flip_test", [False, True])
def test_batch_size_and_neighbours_have_no_influence(flip_test: bool) -> None:
    dataset = GreyImages(14)
    settings = InferenceSettings(flip_test=flip_test)
    images = [dataset[index].image for index in range(len(dataset))]
    oracle = Oracle(dataset, 128, noise=0.03)
    alone = [estimate(oracle, [image], 128, COCO, settings)[0] for image in images]
    for batch_size in (1, 3, 32):
        oracle.batch_sizes.clear()
        together = estimate(oracle, images, 128, COCO, settings, batch_size)
        assert max(oracle.batch_sizes) <= batch_size
        for one, other in zip(together, alone, strict=True):
            np.testing.assert_array_equal(one.poses, other.poses)
            np.testing.assert_array_equal(one.scores, other.scores)


def test_people_follow_the_data_set_and_each_image_is_loaded_once() -> None:
    dataset = GreyImages(9)
    loaded: list[int] = []
    steps: list[tuple[int, int]] = []

    class Counting(GreyImages):
        def __getitem__(self, index: int) -> PoseSample:
            loaded.append(index)
            return super().__getitem__(index)

    counting = Counting(9)
    people = estimate_dataset(
        Oracle(dataset, 128),
        counting,
        128,
        InferenceSettings(),
        batch_size=2,
        num_images=7,
        progress=lambda done, total: steps.append((done, total)),
    )
    assert loaded == list(range(7))
    assert steps == [(done, 7) for done in range(1, 8)]
    assert len(people) == 7
    alone = estimate(Oracle(dataset, 128), [dataset[6].image], 128, COCO, InferenceSettings())[0]
    np.testing.assert_array_equal(people[6].poses, alone.poses)
    results = as_results(people[6], 1006)
    assert len(results) == len(alone.scores) > 0
    for one, pose, score in zip(results, alone.poses, alone.scores, strict=True):
        assert (one["image_id"], one["category_id"], one["score"]) == (1006, 1, float(score))
        assert one["keypoints"][0::3] == pose[:, 0].tolist()
        assert one["keypoints"][1::3] == pose[:, 1].tolist()
        assert one["keypoints"][2::3] == [1.0] * 17


def test_part_of_a_data_set_is_scored_on_that_part_alone() -> None:
    dataset = GreyImages(6)
    part = evaluate(Oracle(dataset, 192), dataset, 192, InferenceSettings(), num_images=3)
    truth = dataset.ground_truth()
    kept = set(dataset.image_ids[:3])
    truth["images"] = [one for one in truth["images"] if one["id"] in kept]
    truth["annotations"] = [one for one in truth["annotations"] if one["image_id"] in kept]
    assert part.metrics == KeypointEvaluator(truth, COCO).score(part.results)
    assert part.metrics["AP"] > 0.9


def test_a_keypoint_not_found_stays_all_zero_in_the_image() -> None:
    dataset = GreyImages(1)
    dataset.people[0][:, 3:, 2] = 0
    (people,) = estimate(Oracle(dataset, 128), [dataset[0].image], 128, COCO, InferenceSettings(refine=False))
    assert not people.poses[:, 3:].any()
    assert len(people.poses) == len(people.scores) > 0


@pytest.mark.parametrize(
    "change",
    [
        {"nms_kernel": 4},
        {"max_people": 0},
        {"tag_threshold": 0.0},
        {"size_divisor": 8},
        {"matching": "best"},
        {"scales": (2.0,)},
    ],
)
def test_impossible_settings_are_refused_when_they_are_made(change: dict[str, Any]) -> None:
    (name,) = change
    with pytest.raises(UserError, match=f"{name}(=| are)"):
        InferenceSettings(**change)


def test_a_network_that_was_never_calibrated_is_refused() -> None:
    """Its figures would be those of no network: fresh statistics fit no layer's inputs."""
    network = LitePose(SearchSpace.load("nano").smallest(), COCO.num).eval()
    image: Image = np.zeros((64, 64, 3), np.uint8)
    with pytest.raises(UserError, match=r"statistics of batch norm first\.0\.1 were never computed; calibrate"):
        estimate(network, [image], 64, COCO, InferenceSettings())
    calibrate(network, [torch.rand(2, 3, 64, 64)])
    assert len(estimate(network, [image], 64, COCO, InferenceSettings())) == 1


def test_a_network_in_training_mode_is_refused() -> None:
    image: Image = np.zeros((64, 64, 3), np.uint8)
    with pytest.raises(UserError, match="training mode"):
        estimate(torch.nn.Identity(), [image], 64, COCO, InferenceSettings())
    with pytest.raises(UserError, match="batch_size=0"):
        estimate(torch.nn.Identity().eval(), [image], 64, COCO, InferenceSettings(), batch_size=0)
