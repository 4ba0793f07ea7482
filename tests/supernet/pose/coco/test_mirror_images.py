"""Keypoints whose names tell no side are their own mirror images unless people show that they lie on one side."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from supernet.errors import UserError
from supernet.pose.coco.fault_report import check_part
from supernet.pose.coco.mirror_images import on_one_side
from supernet.pose.coco.splits import DatasetOnDisk
from supernet.pose.custom_keypoints import from_plain
from supernet.pose.data.pose_dataset import PoseSample
from supernet.pose.datasets import build, resolved
from supernet.pose.inference import InferenceSettings, check_mirroring
from supernet.pose.keypoints import COCO, KeypointSet
from supernet.pose.training.augmentation import Augmentation, augment
from tests.helpers.coco_files import CATEGORY, write_custom_set

Floats = np.ndarray[Any, np.dtype[np.float64]]

PLACES = {
    "left_eye": (3.0, 0.0, 8.0),
    "right_eye": (-3.0, 0.0, 8.0),
    "left_shoulder": (20.0, 25.0, 0.0),
    "right_shoulder": (-20.0, 25.0, 0.0),
    "tip": (0.0, 4.0, 10.0),
    "middle-1": (0.0, 15.0, 0.0),
    "point-0": (7.0, 6.0, 0.0),
    "point-1": (-7.0, 6.0, 0.0),
    "point-2": (0.0, 12.0, 4.0),
}
"""Name -> place on a head and shoulders, cm: to the left, down, to the front."""
NAMES = tuple(PLACES)
PAIRS = ((0, 1), (2, 3))


def people(num: int, seed: int = 0) -> Floats:
    """``num`` people who turn in any direction, lean, and are far or near; every fifth mark is missing."""
    rng = np.random.default_rng(seed)
    body = np.array(list(PLACES.values()))
    marked = np.zeros((num, len(body), 3))
    for person in marked:
        turn, lean, size = rng.uniform(-np.pi, np.pi), rng.uniform(-0.6, 0.6), rng.uniform(0.5, 4)
        across = body[:, 0] * np.cos(turn) + body[:, 2] * np.sin(turn)
        points = np.stack([across * np.cos(lean) - body[:, 1] * np.sin(lean), across * np.sin(lean) + body[:, 1]], 1)
        person[:, :2] = size * points + rng.uniform(100, 400, 2) + rng.normal(0, 0.5, points.shape)
        person[:, 2] = np.where(rng.random(len(body)) < 0.2, 0, 2)
    return marked


@pytest.mark.parametrize("seed", range(4))
def test_a_numbered_family_of_which_some_lie_on_one_side_is_found(seed: int) -> None:
    keypoints = KeypointSet("own", NAMES, (0.1,) * len(NAMES), PAIRS, ())
    assert on_one_side(people(300, seed), keypoints) == ("point-0", "point-1", "point-2")


@pytest.mark.parametrize("seed", range(4))
def test_keypoints_on_the_plane_of_symmetry_are_not(seed: int) -> None:
    names = tuple(name.replace("point-2", "end") for name in NAMES)
    listed = KeypointSet("own", names, (0.1,) * len(names), (*PAIRS, (6, 7)), ())
    assert on_one_side(people(300, seed), listed) == ()
    assert on_one_side(people(3, seed), KeypointSet("own", names, (0.1,) * len(names), PAIRS, ())) == ()


def test_the_published_sets_have_none() -> None:
    marked = np.random.default_rng(0).uniform(0, 300, (50, 17, 3))
    assert on_one_side(marked, COCO) == ()


@pytest.mark.data
def test_on_photographs_every_half_of_a_pair_is_found_and_the_nose_is_not(data_folder: Path) -> None:
    file = data_folder / "coco_people" / "annotations" / "person_keypoints_train2017.json"
    if not file.exists():
        pytest.skip("no coco_people")
    content = json.loads(file.read_text())
    marked = np.array([entry["keypoints"] for entry in content["annotations"]], np.float64).reshape(-1, 17, 3)
    for pair in COCO.flip_pairs:
        others = tuple(other for other in COCO.flip_pairs if other != pair)
        unnamed = ["a" if k == pair[0] else "b" if k == pair[1] else name for k, name in enumerate(COCO.names)]
        unnamed[0] = "c"  # the nose, under a name that says nothing
        keypoints = KeypointSet("own", tuple(unnamed), COCO.sigmas, others, ())
        assert on_one_side(marked, keypoints) == ("a", "b"), pair


def half_named(root: Path) -> dict[str, Any]:
    """A data set whose hands are called p1 and p2, so that only its feet have sides."""
    dataset = write_custom_set(root, 60)
    for split in ("train", "val"):
        file = root / "annotations" / f"{split}.json"
        content = json.loads(file.read_text())
        content["categories"][0] = {**CATEGORY, "keypoints": ["Snout", "p1", "p2", "LFoot", "RFoot"]}
        file.write_text(json.dumps(content))
    return dataset


def test_training_does_not_mirror_where_a_mirror_image_is_unknown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = half_named(tmp_path)
    images = build(dataset, "train")
    assert images.keypoints.unpaired == ("p1", "p2")
    assert any("p1, p2" in message and "flip_pairs" in message for message in caplog.messages)
    described = resolved(dataset, images.keypoints)
    assert from_plain(described["keypoints"]).unpaired == ("p1", "p2")
    assert build(described, "val").keypoints.unpaired == ("p1", "p2")
    with pytest.raises(UserError, match=r"flip_test.*p1, p2"):
        check_mirroring(InferenceSettings(flip_test=True), images.keypoints)
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, :32] = 255
    sample = PoseSample(image, np.zeros((0, 5, 3), np.float32), np.ones((64, 64), bool), 1)
    always = replace(Augmentation.none(), flip_probability=1.0)
    rng = np.random.default_rng(0)
    assert augment(sample, 64, rng, always, images.keypoints).image[0, 0, 0] == 255
    listed = from_plain({**described["keypoints"], "flip_pairs": [[2, 3], [4, 5]], "unpaired": []})
    assert augment(sample, 64, rng, always, listed).image[0, 0, 0] == 0


def test_the_check_lists_them(tmp_path: Path) -> None:
    dataset = DatasetOnDisk.from_plain(half_named(tmp_path))
    report = check_part("train", dataset.splits["train"], dataset, limit=0)
    assert {kind: count for kind, count in report.counts.items() if count} == {"unpaired": 2}
    assert report.examples["unpaired"][0].startswith("p1 ")
