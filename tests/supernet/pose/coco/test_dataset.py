"""Data sets on disk: images, people and masks are read; errors name the file and the place."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from supernet.errors import UserError
from supernet.pose.coco.dataset import CocoPeople
from supernet.pose.keypoints import COCO, CROWDPOSE, KeypointSet

WIDTH, HEIGHT = 60, 40


def keypoints(num: int, visible: int) -> list[int]:
    """Flat x, y, v of ``num`` keypoints, of which the first ``visible`` are annotated."""
    flat: list[int] = []
    for k in range(num):
        flat += [10 + k, 20 - k, 2] if k < visible else [0, 0, 0]
    return flat


def annotation(number: int, image_id: int, visible: int = 5, num: int = 17, **more: Any) -> dict[str, Any]:
    return {
        "id": number,
        "image_id": image_id,
        "category_id": 1,
        "keypoints": keypoints(num, visible),
        "num_keypoints": visible,
        "bbox": [5, 10, 20, 10],
        "area": 123.5,
        "iscrowd": 0,
    } | more


class Folder:
    """A data set of three images: two people and a crowd; a person without keypoints; no people."""

    def __init__(self, path: Path, keypoint_set: KeypointSet = COCO) -> None:
        self.path = path
        self.keypoint_set = keypoint_set
        self.folder = path / "images"
        self.folder.mkdir()
        self.images = {}
        for image_id in (30, 10, 20):
            image = np.full((HEIGHT, WIDTH, 3), image_id, np.uint8)
            cv2.circle(image, (image_id, 20), 8, (250, 120, 30), -1)
            self.images[image_id] = image
            cv2.imwrite(str(self.folder / f"{image_id}.png"), image[..., ::-1])
        runs = [0] * (WIDTH * HEIGHT)
        runs[: 3 * HEIGHT] = [1] * (3 * HEIGHT)
        num = keypoint_set.num
        self.content: dict[str, Any] = {
            "images": [
                {"id": image_id, "file_name": f"{image_id}.png", "width": WIDTH, "height": HEIGHT}
                for image_id in (30, 10, 20)
            ],
            "annotations": [
                annotation(1, 30, visible=5, num=num),
                annotation(2, 30, visible=1, num=num),
                annotation(
                    3,
                    30,
                    0,
                    num,
                    iscrowd=1,
                    segmentation={"size": [HEIGHT, WIDTH], "counts": [0, 3 * HEIGHT, 57 * HEIGHT]},
                ),
                annotation(4, 10, visible=0, num=num, segmentation=[[10, 10, 30, 10, 30, 20, 10, 20]]),
            ],
            "categories": [{"id": 1, "name": "person", "keypoints": list(keypoint_set.names)}],
        }

    def open(self, **options: Any) -> CocoPeople:
        file = self.path / "people.json"
        file.write_text(json.dumps(self.content))
        return CocoPeople(file, self.folder, self.keypoint_set, **options)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_images_with_people_are_read_in_rgb_with_their_people_and_mask(folder: Folder) -> None:
    people = folder.open()
    assert people.image_ids == (30,)
    assert people.keypoints is COCO
    sample = people[0]
    assert np.array_equal(sample.image, folder.images[30])
    assert sample.image_id == 30
    assert sample.people.dtype == np.float32
    assert sample.people.shape == (2, 17, 3)
    assert np.array_equal(sample.people[0].ravel(), keypoints(17, 5))
    expected = np.ones((HEIGHT, WIDTH), bool)
    expected[:, :3] = False
    assert np.array_equal(sample.mask, expected)


def test_images_without_people_can_be_included_and_people_without_keypoints_are_masked(folder: Folder) -> None:
    people = folder.open(only_with_people=False)
    assert people.image_ids == (30, 10, 20)
    without_keypoints, without_people = people[1], people[2]
    assert without_keypoints.people.shape == without_people.people.shape == (0, 17, 3)
    assert without_people.mask.all()
    expected = np.ones((HEIGHT, WIDTH), bool)
    expected[10:20, 10:30] = False
    assert np.array_equal(without_keypoints.mask, expected)


@pytest.mark.parametrize("none", [None, [], [[]], [[], []], ""])
def test_a_region_without_segmentation_is_its_box(folder: Folder, none: object) -> None:
    folder.content["annotations"][3]["segmentation"] = none
    if none == "":
        del folder.content["annotations"][3]["segmentation"]
    masked = ~folder.open(only_with_people=False)[1].mask
    assert masked.sum() == 20 * 10
    assert masked[10:20, 5:25].all()


def test_a_file_without_people_is_refused_where_they_are_needed(folder: Folder) -> None:
    folder.content["annotations"].clear()
    assert len(folder.open(only_with_people=False)) == 3
    with pytest.raises(UserError, match="no images with annotated people"):
        folder.open()


def test_ground_truth_is_restricted_to_the_chosen_images(folder: Folder) -> None:
    folder.content["images"].append({"id": 99, "file_name": "absent.png", "width": 5, "height": 5})
    truth = folder.open().ground_truth()
    assert [image["id"] for image in truth["images"]] == [30]
    wanted = ["id", "image_id", "category_id", "keypoints", "num_keypoints", "bbox", "area", "iscrowd"]
    expected = [{key: entry[key] for key in wanted} for entry in folder.content["annotations"][:3]]
    assert truth["annotations"] == expected
    assert truth["categories"] == folder.content["categories"]
    json.dumps(truth)


def test_crowdpose_layout_has_no_areas_but_a_crowd_index(tmp_path: Path) -> None:
    folder = Folder(tmp_path, CROWDPOSE)
    folder.content["images"][0]["crowdIndex"] = 0.33
    for entry in folder.content["annotations"]:
        del entry["area"]
    # CrowdPose counts labelled keypoints differently; evaluation uses the number in the file.
    folder.content["annotations"][0]["num_keypoints"] = 3
    people = folder.open()
    assert people[0].people.shape == (2, 14, 3)
    truth = people.ground_truth()
    assert truth["images"][0]["crowdIndex"] == 0.33
    assert truth["annotations"][0]["area"] == pytest.approx(0.53 * 20 * 10)
    assert truth["annotations"][0]["num_keypoints"] == 3


def broken(folder: Folder, change: Callable[[dict[str, Any]], object]) -> str:
    change(folder.content)
    with pytest.raises(UserError) as caught:
        folder.open(only_with_people=False)
    message = str(caught.value)
    assert str(folder.path / "people.json") in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("place", "change"),
    [
        ("images is missing", lambda c: c.pop("images")),
        ("annotations is missing", lambda c: c.pop("annotations")),
        ("categories is missing", lambda c: c.pop("categories")),
        ("images must be a list", lambda c: c.update(images={})),
        ("images[1] must be an object", lambda c: c["images"].__setitem__(1, 7)),
        ("images[0].id is missing", lambda c: c["images"][0].pop("id")),
        ("images[0].id must be an integer of at least 0, got 'a30'", lambda c: c["images"][0].update(id="a30")),
        ("images[0].id must be an integer of at most 9223372036854775807", lambda c: c["images"][0].update(id=2**63)),
        ("images[1].id must be unique, but an earlier image has the id 30", lambda c: c["images"][1].update(id=30)),
        ("images[0].width must be an integer of at least 1, got 0", lambda c: c["images"][0].update(width=0)),
        ("images[0].file_name must be a file name, got 3", lambda c: c["images"][0].update(file_name=3)),
        ("images[0].crowdIndex must be from 0 to 1, got 2", lambda c: c["images"][0].update(crowdIndex=2)),
        ("annotations[0].keypoints is missing", lambda c: c["annotations"][0].pop("keypoints")),
        (
            "annotations[1].keypoints must be 51 numbers",
            lambda c: c["annotations"][1].update(keypoints=keypoints(14, 3)),
        ),
        ("annotations[0].keypoints must be 51 numbers", lambda c: c["annotations"][0]["keypoints"].__setitem__(0, "1")),
        (
            "annotations[0].keypoints contains a number that",
            lambda c: c["annotations"][0]["keypoints"].__setitem__(0, float("nan")),
        ),
        (
            "annotations[0].keypoints contains a visibility",
            lambda c: c["annotations"][0]["keypoints"].__setitem__(2, 3),
        ),
        ("annotations[0].bbox must be 4 numbers", lambda c: c["annotations"][0].update(bbox=[1, 2, 3])),
        ("annotations[0].bbox has a negative size", lambda c: c["annotations"][0].update(bbox=[1, 2, -3, 4])),
        ("annotations[0].area is missing", lambda c: c["annotations"][0].pop("area")),
        ("annotations[0].area is missing", lambda c: c["annotations"][0].update(area=None)),
        ("annotations[0].area must be a number of at least 0, got '5'", lambda c: c["annotations"][0].update(area="5")),
        ("annotations[0].id must be an integer of at least 0, got -1", lambda c: c["annotations"][0].update(id=-1)),
        (
            "annotations[1].id must be unique",
            lambda c: c["annotations"][1].update(id=1),
        ),
        ("annotations[0].image_id is 5", lambda c: c["annotations"][0].update(image_id=5)),
        ("annotations[0].iscrowd must be 0 or 1, got 2", lambda c: c["annotations"][0].update(iscrowd=2)),
        ("categories[0].keypoints lists 14", lambda c: c["categories"][0].update(keypoints=list(CROWDPOSE.names))),
        ("categories must contain one", lambda c: c["categories"].clear()),
    ],
)
def test_errors_of_annotations_name_file_and_place(
    folder: Folder, place: str, change: Callable[[dict[str, Any]], object]
) -> None:
    assert place in broken(folder, change)


def test_annotations_of_other_categories_are_left_out(folder: Folder) -> None:
    folder.content["categories"].append({"id": 2, "name": "dog"})
    folder.content["annotations"].append({"id": 50, "image_id": 30, "category_id": 2, "bbox": [0, 0, 1, 1]})
    assert len(folder.open().ground_truth()["annotations"]) == 3


@pytest.mark.parametrize("name", ["../secret.png", "a/../../secret.png", "/etc/passwd", "C:\\x.png", "..\\x.png"])
def test_file_names_leading_out_of_the_folder_are_refused(folder: Folder, name: str) -> None:
    assert "leads out of the image folder" in broken(folder, lambda c: c["images"][0].update(file_name=name))


def test_missing_files_and_folders_are_named(folder: Folder, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"image folder .*absent does not exist"):
        CocoPeople(tmp_path / "people.json", tmp_path / "absent", COCO)
    with pytest.raises(UserError, match=r"annotation file .*absent\.json"):
        CocoPeople(tmp_path / "absent.json", folder.folder, COCO)
    (tmp_path / "cut.json").write_text('{"images": [')
    with pytest.raises(UserError, match=r"cut\.json"):
        CocoPeople(tmp_path / "cut.json", folder.folder, COCO)
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(UserError, match=r"list\.json: the top level"):
        CocoPeople(tmp_path / "list.json", folder.folder, COCO)


def test_an_image_of_another_size_than_annotated_is_refused(folder: Folder) -> None:
    folder.content["images"][0].update(width=HEIGHT, height=WIDTH)
    with pytest.raises(UserError, match=r"30\.png is 60 x 40, but the annotation file gives 40 x 60"):
        folder.open()[0]


@pytest.mark.parametrize(
    "segmentation",
    [
        {"size": [HEIGHT, WIDTH], "counts": [5, 6]},
        {"size": [HEIGHT, WIDTH], "counts": "PPPP0000"},
        {"size": [HEIGHT, WIDTH], "counts": "Ã"},
        {"size": [HEIGHT, WIDTH], "counts": "o"},
        {"size": [HEIGHT, WIDTH], "counts": [-1, HEIGHT * WIDTH + 1]},
        {"size": [WIDTH, HEIGHT], "counts": [HEIGHT * WIDTH]},
        {"counts": [HEIGHT * WIDTH]},
        "polygon",
        5,
        [[1, 2, 3, 4]],
        [[1, 2, 3, 4, 5, 6, 7]],
        [[1, 2, "3", 4, 5, 6]],
        [[[1, 2], [3]]],
        [[1, 2, 1e9, 4, 5, 6]],
        [[1, 2, float("nan"), 4, 5, 6]],
    ],
)
def test_invalid_segmentations_are_refused(folder: Folder, segmentation: object) -> None:
    folder.content["annotations"][3]["segmentation"] = segmentation
    people = folder.open(only_with_people=False)
    with pytest.raises(UserError, match=r"annotation 4 of image 10\.png"):
        people[1]
    evaluated = folder.open(only_with_people=False, with_masks=False)
    assert np.array_equal(evaluated[1].image, folder.images[10])
    assert evaluated[1].mask.all()


@pytest.mark.data
def test_real_images_are_read_whole(data_folder: Path) -> None:
    root = data_folder / "coco_mini"
    file = root / "annotations" / "person_keypoints_train2017.json"
    people = CocoPeople(file, root / "train2017", COCO)
    everything = CocoPeople(file, root / "train2017", COCO, only_with_people=False)
    assert (len(people), len(everything)) == (28, 80)
    samples = [everything[index] for index in range(80)]
    assert sum(len(sample.people) for sample in samples) == 86
    assert 0.9 < np.mean([sample.mask.mean() for sample in samples]) < 1
    for sample in samples:
        height, width = sample.image.shape[:2]
        annotated = sample.people[sample.people[..., 2] > 0]
        assert (annotated[:, :2] >= 0).all()
        assert (annotated[:, 0] <= width).all()
        assert (annotated[:, 1] <= height).all()
        assert sample.mask.shape == (height, width)
