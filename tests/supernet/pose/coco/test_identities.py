"""Ids and file names are taken as tools write them, and results carry the file's own ids."""

import json
import shutil
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
import pytest

from supernet.errors import UserError
from supernet.pose.coco.fault_report import check_part
from supernet.pose.coco.identities import name_below, whole_number
from supernet.pose.coco.splits import DatasetOnDisk
from supernet.pose.datasets import build
from supernet.pose.evaluation import average_precision
from supernet.pose.metrics.average_precision import KeypointEvaluator
from tests.helpers.coco_files import CATEGORY, NAMES, write_custom_set

Content = dict[str, Any]


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (17, 17),
        (17.0, 17),
        ("000123", 123),
        ("0", 0),
        (-1, -1),
        (17.5, None),
        (float("nan"), None),
        (float("inf"), None),
        (True, None),
        (None, None),
        ("", None),
        ("-1", None),
        ("1e3", None),
        ("img7", None),
        ("²", None),
        ("9" * 5000, None),
        ([7], None),
    ],
)
def test_only_whole_numbers_are_taken_for_such(value: Any, number: int | None) -> None:
    assert whole_number(value) == number
    assert type(whole_number(value)) is type(number)


class Data:
    """A data set of six images whose training annotations can be changed."""

    def __init__(self, root: Path) -> None:
        self.root, self.dataset = root, write_custom_set(root, 6)
        self.dataset |= {"test": self.dataset["train"], "on_bad_image": "fail"}
        self.file = root / "annotations" / "train.json"
        self.content: Content = json.loads(self.file.read_text())

    def open(self, **options: Any) -> Any:
        self.file.write_text(json.dumps(self.content))
        return build(self.dataset | options, "train")

    def faults(self) -> dict[str, int]:
        self.file.write_text(json.dumps(self.content))
        dataset = DatasetOnDisk.from_plain(self.dataset)
        report = check_part("train", dataset.splits["train"], dataset)
        return {kind: count for kind, count in report.counts.items() if count}


@pytest.fixture
def data(tmp_path: Path) -> Data:
    return Data(tmp_path)


def samples(images: Any) -> list[list[float]]:
    return [images[index].people.ravel().tolist() for index in range(len(images))]


def perfect(truth: Content, category_id: Any) -> list[dict[str, Any]]:
    """The labelled people of a truth as detections."""
    return [
        {"image_id": entry["image_id"], "category_id": category_id, "keypoints": entry["keypoints"], "score": 1.0}
        for entry in truth["annotations"]
        if entry["num_keypoints"]
    ]


def test_ids_from_0_as_floats_and_as_text_are_those_of_the_same_images(data: Data) -> None:
    expected = samples(data.open())
    for number, image in enumerate(data.content["images"]):
        image["own"], image["id"] = image["id"], f"{number:06}"
    ids = {image.pop("own"): image["id"] for image in data.content["images"]}
    for number, person in enumerate(data.content["annotations"]):
        person |= {"id": float(number), "image_id": ids[person["image_id"]], "category_id": "7", "iscrowd": 0.0}
        person["num_keypoints"] = float(person["num_keypoints"])
    data.content["images"][0] |= {"width": 96.0, "height": "96"}
    data.content["categories"][0]["id"] = "7"
    images = data.open()
    assert samples(images) == expected
    assert data.faults() == {}
    assert images.image_ids[0] == "000000"
    assert [sample.image_id for sample in (images[0], images[5])] == [0, 5]
    # What is compared with the file itself carries the file's own ids.
    truth = images.ground_truth()
    results = perfect(truth, "7")
    assert {result["image_id"] for result in results} <= set(ids.values())
    (data.root / "results.json").write_text(json.dumps(results))
    assert average_precision(data.file, data.root / "results.json", images.keypoints)["AP"] == 1
    assert KeypointEvaluator(truth, images.keypoints).score(results)["AP"] == 1


def test_ids_of_both_types_become_numbers(data: Data) -> None:
    first = data.content["images"][0]
    first["id"] = str(first["id"])
    images = data.open()
    assert all(type(image_id) is int for image_id in images.image_ids)
    assert KeypointEvaluator(images.ground_truth(), images.keypoints).image_ids == sorted(images.image_ids)
    data.content["images"][1]["id"] = "00" + first["id"]
    with pytest.raises(UserError, match=r"images\[1\]\.id must be unique"):
        data.open()


def test_a_root_category_of_the_same_name_is_left_aside(data: Data) -> None:
    expected = samples(data.open())
    root = {"id": 0, "name": "dancer", "supercategory": "none"}
    data.content["categories"] = [root, CATEGORY]
    assert samples(data.open()) == expected
    # Both list keypoints, but only one is used.
    data.content["categories"] = [{**root, "keypoints": NAMES}, CATEGORY]
    assert samples(data.open()) == expected
    assert data.open().ground_truth()["categories"] == [CATEGORY]
    data.content["annotations"][0]["category_id"] = 0
    with pytest.raises(UserError, match="named 'dancer', but contain 2"):
        data.open()


def test_a_person_category_of_boxes_beside_the_one_with_keypoints_is_left_aside(data: Data) -> None:
    expected = samples(data.open())
    data.content["categories"] = [{"id": 1, "name": "person", "keypoints": [], "skeleton": []}, CATEGORY]
    box = {**data.content["annotations"][0], "id": 999, "category_id": 1}
    del box["keypoints"]
    data.content["annotations"].append(box)
    assert samples(data.open(category=None)) == expected


def test_several_categories_are_named_with_the_option_that_chooses(data: Data) -> None:
    parts = [{"id": number, "name": f"part {number}", "keypoints": [f"point {number}"]} for number in range(1, 9)]
    data.content["categories"] = parts
    for number, person in enumerate(data.content["annotations"]):
        person |= {"category_id": 1 + number % 8, "keypoints": person["keypoints"][:3], "num_keypoints": 0}
    with pytest.raises(UserError, match=r"'part 1', .*'part 8'.*dataset\.category=NAME") as caught:
        data.open(category=None)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"named 'port', but contain 'part 1'.*dataset\.category"):
        data.open(category="port")
    with pytest.raises(UserError, match=r"categories\[1\]\.keypoints are not those of 'part 1'"):
        data.open(category=["part 1", "part 2"], keypoints={"name": "part", "sigmas": [0.1]})


@pytest.mark.parametrize("category", [[], [7], "", 7, ["a", None]])
def test_the_option_category_takes_names_only(data: Data, category: Any) -> None:
    with pytest.raises(UserError, match=r"dataset\.category"):
        data.open(category=category)


def test_categories_with_the_same_keypoints_can_be_merged(data: Data) -> None:
    expected = samples(data.open())
    spelled = [name.replace("Hand", " hand") for name in NAMES]
    data.content["categories"].append({"id": 9, "name": "singer", "keypoints": spelled})
    for person in data.content["annotations"][::2]:
        person["category_id"] = 9
    assert sum(map(len, samples(data.open()))) < sum(map(len, expected))
    merged = data.open(category=["dancer", "singer"])
    assert samples(merged) == expected
    truth = merged.ground_truth()
    assert {person["category_id"] for person in truth["annotations"]} == {7}
    assert KeypointEvaluator(truth, merged.keypoints).score(perfect(truth, 7))["AP"] == 1


def test_an_image_that_is_listed_once_for_each_person_is_one_image(data: Data) -> None:
    whole = data.open()
    expected, ids = samples(whole), whole.image_ids
    images = {image["id"]: image for image in data.content["images"]}
    data.content["images"] = []
    for number, person in enumerate(data.content["annotations"]):
        entry = {**images[person["image_id"]], "id": 1000 + number}
        entry["file_name"] = ("./" if number % 2 else "") + entry["file_name"]
        data.content["images"].append(entry)
        person["image_id"] = 1000 + number
    merged = data.open()
    assert len(merged) == len(ids) < len(data.content["images"])
    assert sorted(samples(merged)) == sorted(expected)
    assert data.faults() == {"repeated_file": len(data.content["images"]) - len(merged)}
    truth = merged.ground_truth()
    assert {person["image_id"] for person in truth["annotations"]} == set(merged.image_ids)
    data.content["images"].append({**data.content["images"][0], "id": 5000, "width": 97})
    with pytest.raises(UserError, match="another size"):
        data.open()
    assert data.faults()["repeated_file_size"] == 1


def test_two_files_of_one_name_in_different_folders_stay_two_images(data: Data) -> None:
    folder = data.root / "train"
    for number, image in enumerate(data.content["images"][:2]):
        (folder / str(number)).mkdir()
        shutil.move(folder / image["file_name"], folder / str(number) / "same.png")
        image["file_name"] = f"{number}/same.png"
    images = data.open()
    assert len(images) == 6
    assert data.faults() == {}
    assert not np.array_equal(images[0].image, images[1].image)


def test_absolute_names_in_the_folder_and_backslashes_are_taken(data: Data) -> None:
    expected = [image.image.tolist() for image in map(data.open().__getitem__, range(6))]
    folder = data.root / "train"
    (folder / "sub").mkdir()
    names = [image["file_name"] for image in data.content["images"]]
    shutil.move(folder / names[0], folder / "sub" / names[0])
    (data.root / "link").symlink_to(folder)
    (folder / names[3]).rename(folder / "a\\b.png")
    for image, name in zip(
        data.content["images"],
        [f"sub\\{names[0]}", str(folder / names[1]), str(folder.resolve() / names[2]), "a\\b.png", *names[4:]],
        strict=True,
    ):
        image["file_name"] = name
    assert data.faults() == {}
    assert [data.open()[index].image.tolist() for index in range(6)] == expected
    part = {**data.dataset["train"], "images": "link"}
    assert len(data.open(train=part)) == 6
    data.content["images"][0]["file_name"] = str(data.root / "val" / names[0])
    assert data.faults() == {"file_name": 1}


@pytest.mark.parametrize(
    ("name", "below"),
    [
        ("a/b.jpg", "a/b.jpg"),
        ("a\\b.jpg", "a/b.jpg"),
        ("/data/x.jpg", "x.jpg"),
        ("/data/sub/x.jpg", "sub/x.jpg"),
        ("/datas/x.jpg", None),
        ("/data/../x.jpg", None),
        ("\\\\server\\x.jpg", None),
        ("..\\x.jpg", None),
        ("C:\\data\\x.jpg", None),
        ("C:x.jpg", None),
    ],
)
def test_names_that_lead_out_are_refused(name: str, below: str | None) -> None:
    assert name_below(name, Path("/data")) == below
    if name.startswith("/"):
        assert name_below(name, None) is None
    assert PureWindowsPath(name).anchor or below is not None or ".." in PureWindowsPath(name).parts
