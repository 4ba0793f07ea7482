"""Annotations of turned and of stored images are distinguished by sizes, for the data set as a whole."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from supernet.errors import UserError
from supernet.pose.coco.dataset import CocoPeople
from supernet.pose.coco.fault_report import check_part
from supernet.pose.coco.splits import DatasetOnDisk
from supernet.pose.data.exif import turn
from supernet.pose.data.image_decoding import BadImage
from supernet.pose.datasets import build, resolved
from supernet.pose.keypoints import COCO
from tests.supernet.pose.coco.test_dataset import annotation
from tests.supernet.pose.data.test_exif import gradient, with_orientation

Shape = tuple[int, int]
TALL, SQUARE = (48, 32), (32, 32)


def data_set(root: Path, images: list[tuple[Shape, int, bool]]) -> dict[str, Any]:
    """JPEGs of a stored shape with an orientation, each with a person, annotated as stored or (True) as turned."""
    (root / "images").mkdir()
    entries = []
    for number, (shape, orientation, is_turned) in enumerate(images):
        stored = gradient(*shape)
        (root / "images" / f"{number}.jpg").write_bytes(with_orientation(stored, orientation))
        height, width = (turn(stored, orientation) if is_turned else stored).shape[:2]
        entries.append({"id": number, "file_name": f"{number}.jpg", "width": width, "height": height})
    people = [annotation(number + 1, number, 17, bbox=[2, 2, 20, 20], area=200) for number in range(len(images))]
    category = {"id": 1, "name": "person", "keypoints": list(COCO.names)}
    content = {"images": entries, "annotations": people, "categories": [category]}
    (root / "people.json").write_text(json.dumps(content))
    part = {"annotations": "people.json", "images": "images", "only_with_people": False}
    return {"kind": "coco", "keypoints": "coco", "root": str(root), "train": part, "val": part, "test": part}


def opened(dataset: dict[str, Any], exif: str) -> Any:
    return build({**dataset, "exif": exif, "on_bad_image": "fail"}, "train")


def shapes(dataset: dict[str, Any], exif: str) -> list[Shape]:
    images = opened(dataset, exif)
    return [images[index].image.shape[:2] for index in range(len(images))]


def faults(dataset: dict[str, Any], exif: str) -> dict[str, int]:
    described = DatasetOnDisk.from_plain({**dataset, "exif": exif})
    report = check_part("train", described.splits["train"], described)
    return {kind: count for kind, count in report.counts.items() if count}


@pytest.mark.parametrize("is_turned", [False, True])
def test_all_images_follow_those_whose_sizes_tell(tmp_path: Path, is_turned: bool) -> None:
    files = [(TALL, 1, is_turned), (TALL, 3, is_turned), (TALL, 6, is_turned), (SQUARE, 8, is_turned)]
    dataset = data_set(tmp_path, files)
    right, wrong = ("turned", "stored") if is_turned else ("stored", "turned")
    images = opened(dataset, "auto")
    assert images.exif == right
    for index, (shape, orientation, _) in enumerate(files):
        upright = turn(gradient(*shape), orientation) if is_turned else gradient(*shape)
        assert images[index].image.shape == upright.shape
        assert np.abs(images[index].image.astype(int) - upright).mean() < 12
    assert shapes(dataset, right) == shapes(dataset, "auto")
    assert resolved({**dataset, "exif": "auto"}, images.keypoints, images)["exif"] == right
    assert faults(dataset, "auto") == faults(dataset, right) == {}
    assert faults(dataset, wrong) == {"wrong_size": 1}
    with pytest.raises(BadImage, match=rf"2\.jpg.*dataset\.exif={right}"):
        opened(dataset, wrong)[2]


def test_where_no_size_tells_the_user_decides(tmp_path: Path) -> None:
    dataset = data_set(tmp_path, [(TALL, 1, True), (TALL, 3, True), (SQUARE, 6, True)])
    with pytest.raises(UserError, match=r"1\.jpg.*dataset\.exif"):
        opened(dataset, "auto")
    assert faults(dataset, "auto") == {"exif": 2}
    stored, turned = opened(dataset, "stored"), opened(dataset, "turned")
    assert np.array_equal(turned[1].image, stored[1].image[::-1, ::-1])
    assert np.array_equal(turned[0].image, stored[0].image)


def test_images_of_both_kinds_are_each_taken_by_their_size(tmp_path: Path) -> None:
    dataset = data_set(tmp_path, [(TALL, 6, True), (TALL, 8, False), (TALL, 1, True)])
    assert shapes(dataset, "auto") == [(32, 48), (48, 32), (48, 32)]
    assert faults(dataset, "auto") == {}


def test_without_orientations_nothing_is_decided(tmp_path: Path) -> None:
    dataset = data_set(tmp_path, [(TALL, 1, True), (SQUARE, 1, True)])
    images = opened(dataset, "auto")
    assert images.exif == "auto"
    assert shapes(dataset, "auto") == [TALL, SQUARE]
    (tmp_path / "images" / "0.jpg").unlink()
    assert opened(dataset, "auto")[1].image.shape == (*SQUARE, 3)


def test_earlier_descriptions_are_of_stored_images(tmp_path: Path) -> None:
    dataset = data_set(tmp_path, [(TALL, 6, False)])
    assert DatasetOnDisk.from_plain(dataset).exif == "stored"
    assert CocoPeople(tmp_path / "people.json", tmp_path / "images", COCO)[0].image.shape == (*TALL, 3)
