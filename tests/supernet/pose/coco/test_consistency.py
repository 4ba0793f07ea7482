"""Values that do not fit together are counted by the check, and training and evaluation warn of them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from supernet.pose.coco.consistency import WARNED, contradictions
from supernet.pose.coco.fault_report import check_part
from supernet.pose.coco.splits import DatasetOnDisk
from supernet.pose.datasets import build
from supernet.pose.keypoints import COCO, CROWDPOSE
from tests.helpers.coco_files import write_custom_set

Person = dict[str, Any]


def at_corner(people: list[Person]) -> int:
    people[0]["keypoints"][:3] = [0, 0, 2]
    people[1]["keypoints"][3:6] = [-1, -1, 1]
    people[2]["keypoints"][:3] = [0, 0, 0]  # not annotated
    people[3]["keypoints"][:3] = [0, 5, 2]
    return 2


def as_shares(people: list[Person]) -> int:
    for person in people:
        x, y = person["keypoints"][::3], person["keypoints"][1::3]
        person["keypoints"][::3] = [value / 96 for value in x]
        person["keypoints"][1::3] = [value / 96 for value in y]
    return sum(sum(value > 0 for value in person["keypoints"][2::3]) > 1 for person in people)


def of_one_pixel(people: list[Person]) -> int:
    people[0]["area"] = 1.0
    people[1]["area"] = 2.1 * people[1]["bbox"][2] * people[1]["bbox"][3]
    people[2]["area"] = 0.02 * people[2]["bbox"][2] * people[2]["bbox"][3]
    return 2


def of_no_area(people: list[Person]) -> int:
    people[0]["area"] = 0
    return 1


def twice(people: list[Person]) -> int:
    labelled = [person for person in people if any(person["keypoints"][2::3])]
    copies: list[Person] = [json.loads(json.dumps(person)) for person in labelled[:3]]
    copies[1]["keypoints"][0] += 1
    copies[1]["keypoints"][2] = 2
    for number, copy in enumerate(copies):
        copy["id"] = 10_000 + number
    people.extend(copies)
    return 2


def without_a_snout(people: list[Person]) -> int:
    for person in people:
        person["keypoints"][:3] = [0, 0, 0]
    return 1


def miscounted(people: list[Person]) -> int:
    for person in people:
        person["num_keypoints"] = 0
    return sum(any(person["keypoints"][2::3]) for person in people)


def of_no_category(people: list[Person]) -> int:
    people[0]["category_id"] = 9
    return 1


def of_larger_images(people: list[Person]) -> int:
    for person in people:
        person["keypoints"] = [value if k % 3 == 2 else 97 + value for k, value in enumerate(person["keypoints"])]
    return sum(visibility > 0 for person in people for visibility in person["keypoints"][2::3])


CHANGES: dict[str, Callable[[list[Person]], int]] = {
    "keypoint_corner": at_corner,
    "normalised": as_shares,
    "area": of_one_pixel,
    "zero_area": of_no_area,
    "repeated_person": twice,
    "unlabelled_keypoint": without_a_snout,
    "num_keypoints": miscounted,
    "unknown_category": of_no_category,
    "keypoint_outside": of_larger_images,
}
"""Those of annotations; images of one file are tested with the identities."""


def test_every_warned_kind_is_tested() -> None:
    assert set(WARNED) == CHANGES.keys() | {"repeated_file"}


@pytest.mark.parametrize("kind", CHANGES)
def test_contradictions_are_counted_and_warned_of(kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dataset = write_custom_set(tmp_path, 6)
    build(dataset, "train")
    assert caplog.messages == []
    file = tmp_path / "annotations" / "train.json"
    content = json.loads(file.read_text())
    for person in content["annotations"]:
        del person["num_keypoints"]
    count = CHANGES[kind](content["annotations"])
    file.write_text(json.dumps(content))
    described = DatasetOnDisk.from_plain(dataset)
    report = check_part("train", described.splits["train"], described, limit=0)
    assert {name: number for name, number in report.counts.items() if number} == {kind: count}
    for split in ("train", "val"):
        caplog.clear()
        part = {**dataset["val"], "annotations": "annotations/train.json", "images": "train"}
        build({**dataset, "val": part}, split)
        (message,) = caplog.messages
        assert str(file) in message
        assert f": {count}, such as " in message


def test_a_few_keypoints_beyond_the_border_need_no_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dataset = write_custom_set(tmp_path, 20)
    file = tmp_path / "annotations" / "train.json"
    content = json.loads(file.read_text())
    labelled = next(person for person in content["annotations"] if person["keypoints"][2])
    labelled["keypoints"][0] = 97.5
    file.write_text(json.dumps(content))
    build(dataset, "train")
    assert caplog.messages == []


def test_random_people_do_not_contradict_each_other() -> None:
    rng = np.random.default_rng(0)
    for keypoints in (COCO, CROWDPOSE):
        people = np.dstack([rng.uniform(0, 300, (50, keypoints.num, 2)), rng.integers(0, 3, (50, keypoints.num))])
        boxes = rng.uniform(1, 300, (50, 4))
        areas = boxes[:, 2] * boxes[:, 3] * rng.uniform(0.02, 1, 50)
        numbers = list(range(50))
        assert list(contradictions(people, boxes, areas, [number // 3 for number in numbers], numbers, keypoints)) == []
        nobody: Any = (people[:0], boxes[:0], areas[:0], [], [], keypoints)
        assert list(contradictions(*nobody)) == []


@pytest.mark.data
@pytest.mark.parametrize("name", ["coco_people", "coco_mini"])
def test_photographs_have_no_contradictions(name: str, data_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    for file in sorted((data_folder / name / "annotations").glob("person_keypoints_*.json")):
        part = {"annotations": str(file), "images": str(data_folder / name), "only_with_people": True}
        splits = {"train": part, "val": part, "test": part}
        build({"kind": "coco", "keypoints": "coco", "root": "/", **splits}, "val")
    assert caplog.messages == []
