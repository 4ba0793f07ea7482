"""Ground truth as prediction, from annotations over target maps and grouping back to AP, and what whole pixels cost."""

import numpy as np
import numpy.typing as npt
import pytest
import torch

from scripts.benchmarks.ideal_outputs import COLLISION, GREATEST_ERROR, has_near_twin, ideal_outputs, smallest_safe_side
from supernet.pose.evaluation import evaluate
from supernet.pose.geometry import input_transform
from supernet.pose.grouping import group
from supernet.pose.inference import InferenceSettings
from supernet.pose.keypoints import COCO, CROWDPOSE, KeypointSet
from supernet.pose.metrics.oks import similarities
from supernet.pose.multiscale_flip import predict_maps
from supernet.pose.synthetic.dataset import SyntheticPeople
from supernet.space import SearchSpace
from tests.helpers.images import GreyImages, Oracle

RESOLUTIONS = [size for name in ("nano", "litepose") for size in SearchSpace.load(name).resolutions]
People = npt.NDArray[np.float32]


class PeopleApart(GreyImages):
    """People side by side, each just large enough at this resolution to survive the whole pixels of the maps."""

    def __init__(self, num_images: int, keypoints: KeypointSet, resolution: int) -> None:
        self.resolution, self.safe_side = resolution, smallest_safe_side(keypoints.sigmas)
        super().__init__(num_images, keypoints)

    def _people(self, rng: np.random.Generator, width: int, height: int) -> People:
        scale = min(width, height) / self.resolution
        people: list[People] = []
        left = float(rng.uniform(0, 5))
        while len(people) < 6:
            tall = rng.uniform(0.75, 0.99) * height
            wide = 1.01 * (self.safe_side * scale) ** 2 / (0.53 * tall)
            if left + wide >= width:
                break
            corner, size = np.array([left, rng.uniform(0, height - tall)]), np.array([wide, tall])
            person = np.full((self.keypoints.num, 3), 2.0, np.float32)
            person[:, :2] = corner + rng.uniform(0, 1, (self.keypoints.num, 2)) * size
            person[[0, 1], :2] = corner, corner + size  # its box, from which its area is taken
            people.append(person)
            left += wide + 2 * COLLISION * scale
        return np.stack(people)


@pytest.mark.parametrize("resolution", RESOLUTIONS)
@pytest.mark.parametrize("keypoints", [COCO, CROWDPOSE])
def test_people_apart_and_large_enough_score_ap_1_at_every_resolution(keypoints: KeypointSet, resolution: int) -> None:
    dataset = PeopleApart(5, keypoints, resolution)
    found = evaluate(Oracle(dataset, resolution), dataset, resolution, InferenceSettings(), batch_size=4)
    assert sum(map(len, dataset.people)) >= 5
    assert found.metrics["AP"] == found.metrics["AR"] == 1.0


@pytest.mark.parametrize(("resolution", "least"), [(128, 0.985), (160, 0.99), (192, 0.995), (256, 0.995)])
@pytest.mark.parametrize("keypoints", [COCO, CROWDPOSE])
def test_smaller_people_lose_ap_to_whole_pixels_and_less_the_larger_the_input(
    keypoints: KeypointSet, resolution: int, least: float
) -> None:
    """People of a third of an image: 0.006 at 128, 0.002 at 160 and nothing from 192 were measured here."""
    dataset = GreyImages(40, keypoints)
    found = evaluate(Oracle(dataset, resolution), dataset, resolution, InferenceSettings())
    assert found.metrics["AP"] >= least
    assert found.metrics["AP50"] >= 0.99
    assert found.seconds > 0


def grouped(people: People, size: tuple[int, int], keypoints: KeypointSet, adjust: bool = True) -> People:
    """The poses (P, K, 3) found in perfect outputs, in input pixels."""
    outputs = ideal_outputs(people, size)
    images = {1.0: torch.zeros(1, 3, *size)}
    ((heat, tags),) = predict_maps(lambda _: outputs, images, keypoints, flip_test=False)
    return group(heat, tags, adjust=adjust)[0]


def test_a_keypoint_comes_back_within_the_greatest_error() -> None:
    """Every place in the 4 x 4 pixels that the coarser map takes together, at steps of a sixteenth of a pixel."""
    places = np.arange(0, 4, 1 / 16)
    worst = {True: 0.0, False: 0.0}
    for start in range(0, len(places), 16):
        offsets = places[start : start + 16]
        people = np.ones((1, CROWDPOSE.num, 3), np.float32)
        for x in range(0, 16, CROWDPOSE.num):
            part = offsets[x : x + CROWDPOSE.num]
            people[0, :, :2] = 30.0
            people[0, : len(part), 0] = 32 + part
            people[0, : len(part), 1] = 40 + part[::-1]
            for adjust in worst:
                (pose,) = grouped(people, (96, 96), CROWDPOSE, adjust)
                worst[adjust] = max(worst[adjust], float(np.abs(pose[:, :2] - people[0, :, :2]).max()))
    assert worst[True] == GREATEST_ERROR
    assert worst[False] > GREATEST_ERROR


def test_the_smallest_safe_person_reaches_the_similarity_with_every_keypoint_at_its_greatest_error() -> None:
    for keypoints in (COCO, CROWDPOSE):
        points = np.full((1, keypoints.num, 3), 50.0)
        found = points[..., :2] + GREATEST_ERROR
        for factor, is_safe in ((1.001, True), (0.999, False)):
            area = np.array([(factor * smallest_safe_side(keypoints.sigmas)) ** 2])
            reached = similarities(found, points, area, np.zeros((1, 4)), keypoints)[0, 0]
            assert (reached >= 0.95) == is_safe


@pytest.mark.parametrize("resolution", [128, 256])
def test_only_small_and_colliding_people_are_lost(resolution: int) -> None:
    """Built-in crowds: whoever is large enough is found with OKS 0.95 where no two people share a keypoint's place."""
    dataset = SyntheticPeople(COCO, 40, 3, 192, 192)
    truth, transform = dataset.ground_truth()["annotations"], input_transform(192, 192, resolution)
    sure = lost = 0
    for index in range(len(dataset)):
        own = [one for one in truth if one["image_id"] == dataset.image_ids[index] and one["num_keypoints"]]
        people = np.array([one["keypoints"] for one in own], np.float32).reshape(-1, COCO.num, 3)
        people[..., :2] = transform.to_input(people[..., :2])
        poses = grouped(people, (resolution, resolution), COCO)
        areas = np.array([one["area"] for one in own]) / transform.scale**2
        found, exact = poses[..., :2].astype(np.float64), people.astype(np.float64)
        best = similarities(found, exact, areas, np.zeros((len(own), 4)), COCO).max(axis=0)
        labelled = people[..., 2] > 0
        collides = has_near_twin(people[..., :2], labelled).any()
        for number, is_labelled in enumerate(labelled):
            safe = smallest_safe_side(tuple(np.array(COCO.sigmas)[is_labelled]))
            if not collides and areas[number] >= safe**2:
                sure += 1
                assert best[number] >= 0.95
            else:
                lost += best[number] < 0.95
    assert sure > 5
    assert lost > 0


def test_people_collide_where_the_same_labelled_keypoint_is_near_in_both_directions() -> None:
    points = np.zeros((3, 2, 2))
    points[0], points[1], points[2] = [[0, 0], [100, 0]], [[11, 11], [200, 0]], [[0, 13], [101, 1]]
    everything = np.ones((3, 2), bool)
    assert has_near_twin(points, everything).tolist() == [True, True, True]
    assert has_near_twin(points, np.array([[1, 0], [1, 1], [1, 1]], bool)).tolist() == [True, True, True]
    assert has_near_twin(points, np.array([[0, 1], [1, 1], [0, 1]], bool)).tolist() == [True, False, True]
    assert has_near_twin(points[:1], everything[:1]).tolist() == [False]


def test_nobody_in_the_image_gives_empty_maps() -> None:
    low, high = ideal_outputs(np.zeros((0, 17, 3), np.float32), (32, 64))
    assert (low.shape, high.shape) == ((1, 34, 8, 16), (1, 17, 16, 32))
    assert not low.any()
    assert not high.any()
