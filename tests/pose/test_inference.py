"""Whole pictures: neither batches nor mirrors change who is found, and target maps come back as people."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from supernet.calibration import calibrate
from supernet.errors import UserError
from supernet.litepose import LitePose
from supernet.pose.dataset import Example
from supernet.pose.evaluation import KeypointEvaluator, evaluate
from supernet.pose.geometry import IMAGENET_MEAN, IMAGENET_STD, input_transform
from supernet.pose.inference import InferenceSettings, as_results, estimate, estimate_dataset
from supernet.pose.keypoints import COCO, CROWDPOSE, KeypointSet
from supernet.pose.targets import heatmaps
from supernet.space import SearchSpace

SIZES = [(640, 480), (480, 640), (500, 375), (427, 640)]
Image = npt.NDArray[np.uint8]


class GreyPictures:
    """Pictures of one grey each, by which a network can tell them apart, with made-up people beside each other."""

    def __init__(self, num_images: int, keypoints: KeypointSet = COCO, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.keypoints = keypoints
        self.image_ids: Sequence[int] = [1000 + index for index in range(num_images)]
        self.sizes = [SIZES[rng.integers(len(SIZES))] for _ in range(num_images)]
        self.people = [self._people(rng, *size) for size in self.sizes]

    def _people(self, rng: np.random.Generator, width: int, height: int) -> npt.NDArray[np.float32]:
        num_people = int(rng.integers(1, 4))
        column = width / num_people
        people = np.zeros((num_people, self.keypoints.num, 3), np.float32)
        for index, person in enumerate(people):
            size = rng.uniform([0.7 * column, 0.5 * height], [0.9 * column, 0.9 * height])
            corner = np.array([index * column, 0]) + rng.uniform(0, [column - size[0], height - size[1]])
            person[:, :2] = corner + rng.uniform(0, 1, (self.keypoints.num, 2)) * size
            person[:, 2] = rng.choice([0, 1, 2], self.keypoints.num, p=[0.1, 0.1, 0.8])
            person[person[:, 2] == 0] = 0
        return people

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, index: int) -> Example:
        width, height = self.sizes[index]
        image = np.full((height, width, 3), 2 * index + 1, np.uint8)
        return Example(image, self.people[index], np.ones((height, width), bool), self.image_ids[index])

    def ground_truth(self) -> dict[str, Any]:
        annotations: list[dict[str, Any]] = []
        for image_id, people in zip(self.image_ids, self.people, strict=True):
            for person in people:
                seen = person[person[:, 2] > 0, :2]
                corner, size = seen.min(axis=0), np.ptp(seen, axis=0)
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": image_id,
                        "category_id": 1,
                        "iscrowd": 0,
                        "num_keypoints": len(seen),
                        "keypoints": person.ravel().tolist(),
                        "bbox": [*corner.tolist(), *size.tolist()],
                        "area": float(0.53 * size.prod()),
                    }
                )
        images = [
            {"id": image_id, "width": width, "height": height}
            for image_id, (width, height) in zip(self.image_ids, self.sizes, strict=True)
        ]
        return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}


class Oracle:
    """A network that knows its data set: target maps of the picture whose grey it sees, tags of 3 times the person."""

    def __init__(self, dataset: GreyPictures, resolution: int, noise: float = 0.0) -> None:
        self.dataset, self.resolution, self.noise = dataset, resolution, noise
        self.batch_sizes: list[int] = []

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        assert images.dtype == torch.float32
        assert images.is_contiguous(memory_format=torch.channels_last)
        self.batch_sizes.append(len(images))
        height, width = images.shape[2:]
        lows, highs = [], []
        for picture in images:
            grey = (picture[0, height // 2, width // 2] * IMAGENET_STD[0] + IMAGENET_MEAN[0]) * 255
            index = round((float(grey) - 1) / 2)
            people = torch.from_numpy(self.dataset.people[index]).clone()
            transform = input_transform(*self.dataset.sizes[index], self.resolution)
            people[..., :2] = torch.from_numpy(transform.to_input(people[..., :2].numpy()))
            low_people, high_people = people.clone(), people
            low_people[..., :2] /= 4
            high_people[..., :2] /= 2
            # Each person as a picture of its own tells whose Gaussian is the highest at a pixel.
            owner = heatmaps(low_people[:, None], (height // 4, width // 4)).argmax(dim=0)
            low = torch.cat([heatmaps(low_people[None], (height // 4, width // 4))[0], 3.0 * owner])
            high = heatmaps(high_people[None], (height // 2, width // 2))[0]
            noise = torch.Generator().manual_seed(index)
            lows.append(low + self.noise * torch.randn(low.shape, generator=noise))
            highs.append(high + self.noise * torch.randn(high.shape, generator=noise))
        return torch.stack(lows), torch.stack(highs)


@pytest.mark.parametrize(("resolution", "least"), [(128, 0.985), (160, 0.99), (192, 0.995), (256, 0.995)])
@pytest.mark.parametrize("keypoints", [COCO, CROWDPOSE])
def test_target_maps_come_back_as_the_people_they_were_made_of(
    keypoints: KeypointSet, resolution: int, least: float
) -> None:
    """Whole pixels of the maps cost AP: 0.006 at 128, 0.002 at 160 and nothing from 192 were measured here."""
    dataset = GreyPictures(40, keypoints)
    found = evaluate(Oracle(dataset, resolution), dataset, resolution, InferenceSettings())
    assert found.metrics["AP"] >= least
    assert found.metrics["AP50"] >= 0.99
    assert found.seconds > 0


@pytest.mark.parametrize("flip_test", [False, True])
def test_batch_size_and_neighbours_have_no_influence(flip_test: bool) -> None:
    dataset = GreyPictures(14)
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


def test_people_follow_the_data_set_and_each_picture_is_loaded_once() -> None:
    dataset = GreyPictures(9)
    loaded: list[int] = []
    steps: list[tuple[int, int]] = []

    class Counting(GreyPictures):
        def __getitem__(self, index: int) -> Example:
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
    dataset = GreyPictures(6)
    part = evaluate(Oracle(dataset, 192), dataset, 192, InferenceSettings(), num_images=3)
    truth = dataset.ground_truth()
    kept = set(dataset.image_ids[:3])
    truth["images"] = [one for one in truth["images"] if one["id"] in kept]
    truth["annotations"] = [one for one in truth["annotations"] if one["image_id"] in kept]
    assert part.metrics == KeypointEvaluator(truth, COCO).score(part.results)
    assert part.metrics["AP"] > 0.9


def test_a_keypoint_not_found_stays_all_zero_in_the_picture() -> None:
    dataset = GreyPictures(1)
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
