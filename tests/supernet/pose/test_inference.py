"""Whole images: neither batches nor mirrors change the predictions."""

from types import SimpleNamespace
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
from supernet.pose.inference import InferenceSettings, PoseEstimator, as_results
from supernet.pose.keypoints import COCO, CROWDPOSE
from supernet.pose.metrics.average_precision import KeypointEvaluator
from supernet.space import SearchSpace
from tests.helpers.images import GreyImages, Oracle

Image = npt.NDArray[np.uint8]
BLANK: Image = np.zeros((64, 64, 3), np.uint8)


def oracle_estimator(
    dataset: GreyImages, resolution: int = 128, settings: InferenceSettings | None = None, batch_size: int = 32
) -> PoseEstimator:
    oracle = Oracle(dataset, resolution)
    return PoseEstimator(oracle, resolution, COCO, settings or InferenceSettings(), batch_size)


@pytest.mark.parametrize("flip_test", [False, True])
def test_batch_size_and_neighbours_have_no_influence(flip_test: bool) -> None:
    dataset = GreyImages(14)
    settings = InferenceSettings(flip_test=flip_test)
    images = [dataset[index].image for index in range(len(dataset))]
    oracle = Oracle(dataset, 128, noise=0.03)
    estimator = PoseEstimator(oracle, 128, COCO, settings)
    alone = [estimator([image])[0] for image in images]
    for batch_size in (1, 3, 32):
        oracle.batch_sizes.clear()
        together = PoseEstimator(oracle, 128, COCO, settings, batch_size)(images)
        assert max(oracle.batch_sizes) <= batch_size
        for actual, expected in zip(together, alone, strict=True):
            np.testing.assert_array_equal(actual.poses, expected.poses)
            np.testing.assert_array_equal(actual.scores, expected.scores)


def test_people_follow_the_data_set_and_each_image_is_loaded_once() -> None:
    dataset = GreyImages(9)
    loaded: list[int] = []
    steps: list[tuple[int, int]] = []

    class Counting(GreyImages):
        def __getitem__(self, index: int) -> PoseSample:
            loaded.append(index)
            return super().__getitem__(index)

    predictions = oracle_estimator(dataset, batch_size=2).on_dataset(
        Counting(9), num_images=7, progress=lambda done, total: steps.append((done, total))
    )
    assert loaded == list(range(7))
    assert steps == [(done, 7) for done in range(1, 8)]
    assert len(predictions) == 7
    (alone,) = oracle_estimator(dataset)([dataset[6].image])
    np.testing.assert_array_equal(predictions[6].poses, alone.poses)
    results = as_results(predictions[6], 1006)
    assert len(results) == len(alone.scores) > 0
    for result, pose, score in zip(results, alone.poses, alone.scores, strict=True):
        assert (result["image_id"], result["category_id"], result["score"]) == (1006, 1, float(score))
        assert result["keypoints"][0::3] == pose[:, 0].tolist()
        assert result["keypoints"][1::3] == pose[:, 1].tolist()
        assert result["keypoints"][2::3] == [1.0] * 17


def test_part_of_a_data_set_is_scored_on_that_part_alone() -> None:
    dataset = GreyImages(6)
    part = evaluate(oracle_estimator(dataset, 192), dataset, num_images=3)
    truth = dataset.ground_truth()
    kept = set(dataset.image_ids[:3])
    truth["images"] = [image for image in truth["images"] if image["id"] in kept]
    truth["annotations"] = [person for person in truth["annotations"] if person["image_id"] in kept]
    assert part.metrics == KeypointEvaluator(truth, COCO).score(part.results)
    assert part.metrics["AP"] > 0.9


def test_a_keypoint_not_found_stays_all_zero_in_the_image() -> None:
    dataset = GreyImages(1)
    dataset.people[0][:, 3:, 2] = 0
    (people,) = oracle_estimator(dataset, settings=InferenceSettings(refine=False))([dataset[0].image])
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
    with pytest.raises(UserError, match=f"^{name} must"):
        InferenceSettings(**change)


def test_a_network_that_was_never_calibrated_is_refused_unless_it_is_asked_for() -> None:
    """Its metrics would mean nothing: fresh statistics fit no layer's inputs."""
    network = LitePose(SearchSpace.load("nano").smallest(), COCO.num).eval()
    estimator = PoseEstimator(network, 64, COCO, InferenceSettings())
    with pytest.raises(UserError, match=r"first\.0\.1.*calibrate"):
        estimator([BLANK])
    assert len(PoseEstimator(network, 64, COCO, InferenceSettings(), check_calibration=False)([BLANK])) == 1
    assert all(layer.num_batches_tracked == 0 for layer in network.modules() if isinstance(layer, torch.nn.BatchNorm2d))
    calibrate(network, [torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)])
    assert len(estimator([BLANK])) == 1


def test_a_network_in_training_mode_is_refused() -> None:
    for check_calibration in (True, False):
        estimator = PoseEstimator(
            torch.nn.Identity(), 64, COCO, InferenceSettings(), check_calibration=check_calibration
        )
        with pytest.raises(UserError, match="training mode"):
            estimator([BLANK])


def test_a_batch_of_no_image_and_a_scale_that_the_network_cannot_take_are_refused_at_once() -> None:
    with pytest.raises(UserError, match="batch_size"):
        oracle_estimator(GreyImages(1), batch_size=0)
    with pytest.raises(UserError, match=r"scale 0\.5"):
        oracle_estimator(GreyImages(1), 112, InferenceSettings(scales=(0.5, 1.0)))


@pytest.mark.parametrize(
    ("memory_gib", "options", "expected"),
    [
        (12, {}, 7),
        (12, {"flip_test": True}, 5),
        (12, {"scales": (1.0, 2.0)}, 7),
        (80, {}, 32),
        (80, {"scales": (1.0, 2.0)}, 8),
        (0.1, {}, 1),
    ],
)
def test_the_maps_of_a_pass_take_a_share_of_the_memory_of_a_gpu(
    memory_gib: float, options: dict[str, Any], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = int(memory_gib * 2**30)
    properties = SimpleNamespace(total_memory=memory)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    estimator = PoseEstimator(torch.nn.Identity(), 512, COCO, InferenceSettings(**options), device="cuda")
    image = estimator.resized(0, np.zeros((512, 768, 3), np.uint8))
    assert estimator.images_per_pass(image) == expected
    # Heatmaps and tags of 17 keypoints, 4 bytes each, at 512 x 768 px: 53.5 MB per image, with mirrored tags 80.2.
    if expected > 1:
        map_bytes = 17 * 4 * (3 if options.get("flip_test") else 2) * 512 * 768
        assert expected * map_bytes <= memory / 32


def test_a_data_set_of_other_keypoints_is_refused() -> None:
    with pytest.raises(UserError, match="17 keypoints but the data set has 14"):
        evaluate(oracle_estimator(GreyImages(1)), GreyImages(1, CROWDPOSE))
