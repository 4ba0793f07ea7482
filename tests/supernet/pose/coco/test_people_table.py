"""Tables of arrays hold what the file says, to the bit, and find the faults that the rules for single entries find."""

import copy
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supernet.errors import UserError
from supernet.pose.coco import people_table
from supernet.pose.coco.annotation_rules import AnnotationRules, Fault
from supernet.pose.coco.annotations import check_content, read_content
from supernet.pose.coco.dataset import CocoPeople
from supernet.pose.coco.identities import whole_number
from supernet.pose.coco.image_table import Sizes
from supernet.pose.coco.texts import Texts
from supernet.pose.keypoints import COCO, CROWDPOSE, KeypointSet
from tests.helpers.coco_files import coco_like

FUZZ = settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
SIDES = np.array([640, 480])


def content_of(num_images: int = 6, keypoints: KeypointSet = COCO) -> dict[str, Any]:
    content, _ = coco_like(num_images, 3)
    rng = np.random.default_rng(1)
    for image in content["images"]:
        image["file_name"] = f"{image['id']}.jpg"
    for person in content["annotations"]:
        points = np.array(person["keypoints"]).reshape(17, 3)[: keypoints.num]
        points[:, :2] = points[:, :2].clip(0, SIDES).round(int(rng.integers(0, 3)))
        person["keypoints"] = points.ravel().tolist()
        person["num_keypoints"] = int((points[:, 2] > 0).sum())
        person["segmentation"] = [[1.5, 2, 3, 4, 5, 6.25]]
        if rng.random() < 0.5:
            person["area"] = int(person["area"])
    content["categories"][0]["keypoints"] = list(keypoints.names)
    return content


def opened(path: Path, content: dict[str, Any]) -> CocoPeople:
    (path / "people.json").write_text(json.dumps(content))
    (path / "images").mkdir(exist_ok=True)
    return CocoPeople(path / "people.json", path / "images", COCO, only_with_people=False)


def test_the_ground_truth_is_that_of_the_file(tmp_path: Path) -> None:
    content = content_of(20)
    np.random.default_rng(0).shuffle(content["annotations"])
    truth = opened(tmp_path, content).ground_truth()
    kept = ("id", "image_id", "category_id", "keypoints", "num_keypoints", "bbox", "area", "iscrowd")
    by_image = sorted(content["annotations"], key=lambda person: int(person["image_id"]))
    expected = [{key: person[key] for key in kept} for person in by_image]
    for person in expected:
        if person["iscrowd"]:
            person["keypoints"] = [0.0] * 51
        person["keypoints"] = [float(value) for value in person["keypoints"]]
    assert json.dumps(truth["annotations"]) == json.dumps(expected)
    assert truth["images"] == [
        {key: image[key] for key in ("id", "file_name", "width", "height")} for image in content["images"]
    ]


def test_regions_are_kept_of_crowds_and_of_people_without_keypoints_only(tmp_path: Path) -> None:
    content = content_of(20)
    people = opened(tmp_path, content)._file.people
    kept = {int(people.ids[row]) for row in range(len(people.ids)) if people.region(row) is not None}
    expected = {person["id"] for person in content["annotations"] if person["iscrowd"] or not person["num_keypoints"]}
    assert kept == expected
    assert people.region(int(people.region_rows[0])) == [[1.5, 2, 3, 4, 5, 6.25]]


NAN = float("nan")


@pytest.mark.parametrize("unlabelled", [[None, None, 0], [NAN, NAN, 0], [NAN, None, 0.0], [float("inf"), 5, 0]])
def test_a_keypoint_that_is_not_labelled_needs_no_position(unlabelled: list[Any], tmp_path: Path) -> None:
    content = content_of(4)
    people = [person for person in content["annotations"] if person["num_keypoints"] > 1]
    for person in people:
        person["keypoints"][:3] = [0, 0, 0]
        person["num_keypoints"] = sum(value > 0 for value in person["keypoints"][2::3])
    expected = opened(tmp_path, content).ground_truth()
    people[0]["keypoints"][:3] = unlabelled
    assert opened(tmp_path, content).ground_truth() == expected
    people[0]["keypoints"][:3] = [*unlabelled[:2], 1]
    people[0]["num_keypoints"] += 1
    with pytest.raises(UserError, match=r"annotations\[\d+\]\.keypoints"):
        opened(tmp_path, content)


@pytest.mark.parametrize("given", [{"keypoints": []}, {"keypoints": None}, {}])
@pytest.mark.parametrize("count", [{}, {"num_keypoints": 0}])
def test_a_person_without_keypoints_needs_no_list_of_zeros(
    given: dict[str, Any], count: dict[str, Any], tmp_path: Path
) -> None:
    content = content_of(4)
    person = next(person for person in content["annotations"] if not person["iscrowd"])
    person.update(keypoints=[0] * 51, num_keypoints=0)
    expected = opened(tmp_path, content)
    del person["keypoints"], person["num_keypoints"]
    person.update({**given, **count})
    people = opened(tmp_path, content)
    assert people.ground_truth() == expected.ground_truth()
    np.testing.assert_array_equal(people._file.people.region_rows, expected._file.people.region_rows)
    person["num_keypoints"] = 3  # a number says that keypoints were lost
    with pytest.raises(UserError, match="keypoints"):
        opened(tmp_path, content)


@pytest.mark.parametrize("area", [NAN, -1, 10**400, "5"], ids=["nan", "negative", "huge", "text"])
def test_an_area_that_nobody_needs_may_be_anything(area: Any, tmp_path: Path) -> None:
    content = content_of(4, CROWDPOSE)
    content["annotations"][0]["area"] = area
    (tmp_path / "x.json").write_text(json.dumps(content))
    faults: list[Fault] = []
    file, _ = check_content(read_content(tmp_path / "x.json"), CROWDPOSE, None, None, faults.append)
    assert file is not None
    assert not [fault for fault in faults if "area" in fault.place]
    assert len(file.people.ids) == len(content["annotations"])
    assert np.isfinite(file.people.areas).all()


CHANGES: list[dict[str, Any]] = [
    {"id": 1},
    {"id": -1},
    {"id": 5.0},
    {"image_id": 99},
    {"image_id": "1"},
    {"image_id": -1},
    {"category_id": 7},
    {"category_id": "1"},
    {"iscrowd": True},
    {"iscrowd": 2},
    {"iscrowd": 1, "keypoints": []},
    {"bbox": [0, 0, -1, 5]},
    {"bbox": [-0.9, 0, 641.8, 5.0]},
    {"bbox": [-1.1, 0, 5, 5]},
    {"bbox": [0, 0, 5, 482]},
    {"bbox": [0, 0, 0, 5]},
    {"bbox": [0, 0, 5]},
    {"bbox": [0, 0, 1e7, 5]},
    {"bbox": [0, 0, float("nan"), 5]},
    {"bbox": [0, 0, 10**400, 5]},
    {"area": 0},
    {"area": -1},
    {"area": None},
    {"area": float("nan")},
    {"area": 1e13},
    {"area": 10**400},
    {"num_keypoints": 0},
    {"num_keypoints": 17},
    {"num_keypoints": -1},
    {"num_keypoints": 3.0},
    {"keypoints": [1, 2, 2] * 17},
    {"keypoints": [1, 2, 3] * 17},
    {"keypoints": [641, 2, 2] * 17},
    {"keypoints": [640, 480, 2] * 17, "num_keypoints": 17},
    {"keypoints": [-1, -1, 1] * 17},
    {"keypoints": [1e7, 2, 0] * 17},
    {"keypoints": [1.1, 2, float("inf")] * 17},
    {"keypoints": [1, 2] * 17},
    {"keypoints": [True, 2, 2] * 17},
    {"keypoints": None},
    {"segmentation": {"size": [480, 640], "counts": "x"}},
    {"segmentation": [[]]},
]


@FUZZ
@given(
    chosen=st.lists(st.tuples(st.integers(0, 10), st.integers(0, len(CHANGES) - 1)), max_size=6),
    removed=st.lists(st.tuples(st.integers(0, 10), st.sampled_from(["id", "area", "num_keypoints", "keypoints"]))),
    keypoints=st.sampled_from([COCO, CROWDPOSE]),
    batch=st.sampled_from([1, 3, 4096]),
)
def test_passes_over_columns_find_what_the_rules_for_entries_find(
    chosen: Any, removed: Any, keypoints: KeypointSet, batch: int, tmp_path: Path
) -> None:
    content = content_of(6, keypoints)
    entries = content["annotations"]
    for number, change in chosen:
        entries[number % len(entries)] |= copy.deepcopy(CHANGES[change])
    for number, key in removed:
        entries[number % len(entries)].pop(key, None)
    content["categories"].append({"id": 2, "name": "dog"})
    (tmp_path / "x.json").write_text(json.dumps(content))
    faults: list[Fault] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("supernet.io.json_lists._CHUNK_BYTES", 4096 if batch == 4096 else 50 * batch)
        patch.setattr("supernet.io.json_lists.BATCH_SIZE", batch)
        patch.setattr(people_table, "_BLOCK", 2)
        file, images = check_content(read_content(tmp_path / "x.json"), keypoints, None, None, faults.append)
    assert file is not None
    sides = np.full(len(images), 640), np.full(len(images), 480)
    rules = AnnotationRules(keypoints, Sizes(images.ids, *sides))
    expected: list[Fault] = []
    read = json.loads(json.dumps(content))["annotations"]
    for number, entry in enumerate(read):
        if whole_number(entry.get("category_id")) == 1:
            has_none = entry.get("keypoints") in (None, []) and entry.get("num_keypoints", 0) == 0
            zeros = {"keypoints": [0, 0, 0] * keypoints.num} if has_none else {}
            expected += rules.faults({**entry, **zeros}, f"annotations[{number}]")
    contradictory = {"keypoint_corner", "normalised", "area", "repeated_person", "unlabelled_keypoint"}
    found = [fault for fault in faults if fault.kind not in {*contradictory, "unknown_category"}]
    assert Counter((fault.kind, fault.place) for fault in found) == Counter((f.kind, f.place) for f in expected)
    assert [fault.place for fault in found] == [fault.place for fault in expected]


def test_sizes_are_found_by_id() -> None:
    ids = np.array([30, 10, 2**62, 20])
    sizes = Sizes(ids, np.array([3, 1, 6, 0]), np.array([33, 11, 66, 0]))
    assert sizes.rows(np.array([10, 5, 30, 2**62, 99])).tolist() == [1, -1, 0, 2, -1]
    assert (sizes.get(30), sizes.get(20), sizes.get(5), sizes.get(2**62)) == ((3, 33), None, None, (6, 66))
    assert 20 in sizes
    assert 5 not in sizes
    empty = Sizes(*(np.empty(0, np.int64),) * 3)
    assert (1 in empty, empty.get(1), empty.sides(empty.rows(np.array([1]))).tolist()) == (False, None, [[0, 0]])


@FUZZ
@given(st.lists(st.text(max_size=5), max_size=8))
def test_texts_are_kept_in_order(texts: list[str]) -> None:
    block = Texts(texts)
    assert [block[index] for index in range(len(block))] == texts
