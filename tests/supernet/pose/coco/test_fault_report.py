"""The check counts every fault, none ends it, and training refuses exactly the kinds marked as refused."""

import copy
import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from supernet.errors import UserError
from supernet.pose.coco.annotation_rules import KINDS
from supernet.pose.coco.annotations import read_annotations
from supernet.pose.coco.fault_report import Report, check_part, distinct_parts
from supernet.pose.coco.splits import DatasetOnDisk
from supernet.pose.keypoints import COCO, CROWDPOSE, KeypointSet
from tests.helpers.coco_files import write_custom_set

Content = dict[str, Any]
FUZZ = settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def clean(keypoints: KeypointSet = COCO) -> Content:
    """Eight images, two people in each of the first four."""
    annotations = []
    for number in range(8):
        points = [[20 + k, 30 + k + number, 2 - k % 2] for k in range(keypoints.num)]
        box = [15, 25, 40, 40]
        annotations.append(
            {
                "id": number + 1,
                "image_id": 10 + number // 2,
                "category_id": 1,
                "iscrowd": 0,
                "keypoints": [value for point in points for value in point],
                "num_keypoints": keypoints.num,
                "bbox": box,
                "area": 700.5,
                "segmentation": [],
            }
        )
    images = [{"id": 10 + i, "file_name": f"{i}.jpg", "width": 90, "height": 80} for i in range(8)]
    category = {"id": 1, "name": "person", "keypoints": list(keypoints.names)}
    return {"images": images, "annotations": annotations, "categories": [category, {"id": 3, "name": "dog"}]}


class Folder:
    """A data set with replaceable annotations."""

    def __init__(self, path: Path) -> None:
        self.file = path / "people.json"
        (path / "images").mkdir()
        part = {"annotations": "people.json", "images": "images", "only_with_people": False}
        value = {"kind": "coco", "keypoints": "coco", "root": str(path), "train": part, "val": part, "test": part}
        self.file.write_text("{}")
        self.dataset = DatasetOnDisk.from_plain(value)

    def check(self, content: Content | str | bytes, keypoints: KeypointSet = COCO, limit: int | None = 0) -> Report:
        if isinstance(content, dict | list):
            content = json.dumps(content)
        self.file.write_bytes(content.encode() if isinstance(content, str) else content)
        dataset = replace(self.dataset, keypoints=keypoints)
        (part,) = distinct_parts(dataset, ["train", "val"]).values()
        report = check_part("train", part, dataset, limit=limit, num_examples=2, num_threads=1)
        if any(report.counts[kind] for kind, details in KINDS.items() if details.refused):
            with pytest.raises(UserError, match=re.escape(str(self.file))) as caught:
                read_annotations(self.file, keypoints)
            assert "\n" not in str(caught.value)
        else:
            read_annotations(self.file, keypoints)
        json.dumps(report.to_plain(), allow_nan=False)
        "".join(text for texts in report.examples.values() for text in texts).encode()  # printable
        return report


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def fault_counts(report: Report) -> Counter[str]:
    return Counter({kind: count for kind, count in report.counts.items() if count})


@pytest.mark.parametrize("keypoints", [COCO, CROWDPOSE])
def test_a_clean_file_has_no_faults(folder: Folder, keypoints: KeypointSet) -> None:
    report = folder.check(clean(keypoints), keypoints)
    assert not report.num_faults
    assert (report.num_images, report.num_people, report.keypoints) == (8, 8, keypoints)


def set_item(key: str, index: int, value: Any) -> Callable[[Content], None]:
    return lambda entry: entry[key].__setitem__(index, value)


ON_PEOPLE: list[tuple[str, Callable[[Content], object]]] = [
    ("keypoint_count", lambda entry: entry.update(keypoints=entry["keypoints"][:-3])),
    ("keypoint_count", lambda entry: entry.update(keypoints=[])),
    ("field", lambda entry: entry.update(keypoints=None)),
    ("field", lambda entry: entry.pop("keypoints")),
    ("field", set_item("keypoints", 0, "20")),
    ("field", set_item("keypoints", 0, [20])),
    ("field", set_item("keypoints", 0, True)),
    ("not_finite", set_item("keypoints", 0, float("nan"))),
    ("not_finite", set_item("keypoints", 1, float("-inf"))),
    ("huge", set_item("keypoints", 1, 1e9)),
    ("huge", set_item("keypoints", 1, 10**400)),
    ("visibility", set_item("keypoints", 2, 3)),
    ("visibility", set_item("keypoints", 2, 1.5)),
    ("keypoint_outside", set_item("keypoints", 0, -1)),
    ("keypoint_outside", set_item("keypoints", 1, 80.5)),
    ("negative_box", lambda entry: entry.update(bbox=[5, 5, -3, 4])),
    ("box_outside", lambda entry: entry.update(bbox=[60, 5, 40, 20])),
    ("box_outside", lambda entry: entry.update(bbox=[-2, 5, 40, 20])),
    ("zero_area", lambda entry: entry.update(bbox=[5, 5, 0, 4])),
    ("zero_area", lambda entry: entry.update(area=0)),
    ("area", lambda entry: entry.update(area=1.0)),
    ("area", lambda entry: entry.update(bbox=[5, 5, 10, 10])),
    ("keypoint_corner", lambda entry: entry["keypoints"].__setitem__(slice(0, 2), [0, 0])),
    ("keypoint_corner", lambda entry: entry["keypoints"].__setitem__(slice(3, 5), [-1, -1])),
    (
        "normalised",
        lambda entry: entry.update(keypoints=[value for k in range(17) for value in (k / 17, entry["id"] / 9, 2)]),
    ),
    ("field", lambda entry: entry.update(bbox=[1, 2, 3])),
    ("not_finite", lambda entry: entry.update(bbox=[1, 2, 3, float("inf")])),
    ("huge", lambda entry: entry.update(bbox=[1, 2, 3, 1e8])),
    ("field", lambda entry: entry.pop("area")),
    ("field", lambda entry: entry.update(area="5")),
    ("field", lambda entry: entry.update(area=-1)),
    ("not_finite", lambda entry: entry.update(area=float("inf"))),
    ("not_finite", lambda entry: entry.update(area=float("nan"))),
    ("huge", lambda entry: entry.update(area=1e13)),
    ("huge", lambda entry: entry.update(area=10**400)),
    ("num_keypoints", lambda entry: entry.update(num_keypoints=0)),
    ("field", lambda entry: entry.update(num_keypoints=1.5)),
    ("field", lambda entry: entry.update(iscrowd=2)),
    ("field", lambda entry: entry.update(iscrowd=[])),
    ("field", lambda entry: entry.update(id="seven")),
    ("field", lambda entry: entry.update(id=True)),
    ("field", lambda entry: entry.update(id=2**63)),
    ("dangling_image_id", lambda entry: entry.update(image_id=99)),
    ("field", lambda entry: entry.update(image_id=[10])),
    ("unknown_category", lambda entry: entry.update(category_id=2)),
    ("field", lambda entry: entry.update(category_id=None)),
]
ON_IMAGES: list[tuple[str, Callable[[Content], object]]] = [
    ("field", lambda entry: entry.pop("width")),
    ("field", lambda entry: entry.update(height=0)),
    ("field", lambda entry: entry.update(height=80.5)),
    ("field", lambda entry: entry.update(file_name=7)),
    ("field", lambda entry: entry.update(file_name="a\0b")),
    ("field", lambda entry: entry.update(file_name="\ud800.jpg")),
    ("field", lambda entry: entry.update(crowdIndex=1.5)),
    ("field", lambda entry: entry.update(id=-1)),
    ("file_name", lambda entry: entry.update(file_name="../../etc/passwd")),
    ("file_name", lambda entry: entry.update(file_name="/etc/passwd")),
    ("file_name", lambda entry: entry.update(file_name="C:\\x.jpg")),
    ("repeated_id", lambda entry: entry.update(id=10)),
]


@FUZZ
@given(
    people=st.lists(st.sampled_from([None, *ON_PEOPLE]), min_size=8, max_size=8),
    images=st.lists(st.sampled_from([None, *ON_IMAGES]), min_size=4, max_size=4),
    data=st.data(),
)
def test_all_faults_of_a_file_are_counted(folder: Folder, people: Any, images: Any, data: st.DataObject) -> None:
    content, expected = clean(), Counter[str]()
    # Only images without people get faults, so that no fault hides another.
    for entries, faults in ((content["annotations"], people), (content["images"][4:], images)):
        for entry, fault in zip(entries, faults, strict=True):
            if fault is not None:
                expected[fault[0]] += 1
                fault[1](entry)
    for key in ("annotations", "images"):
        junk: list[Any] = data.draw(st.lists(st.sampled_from([None, 7, "x", []]), max_size=2))
        content[key] += junk
        expected["structure"] += len(junk)
    report = folder.check(content)
    assert report.counts.pop("no_people") == 0  # where nobody is left, refused faults say so
    assert fault_counts(report) == +expected
    for kind, count in expected.items():
        assert len(report.examples[kind]) == min(count, 2)


def test_every_kind_of_fault_of_annotations_can_be_fault_counts() -> None:
    of_whole_files = {"not_json", "structure", "category", "repeated_person", "unlabelled_keypoint"}
    of_whole_files |= {"repeated_file", "repeated_file_size"}
    assert {kind for kind, _ in ON_PEOPLE + ON_IMAGES} | of_whole_files == KINDS.keys()


JUNK: st.SearchStrategy[Any] = st.sampled_from(
    [
        None,
        True,
        0,
        -1,
        10**30,
        1e308,
        float("nan"),
        float("inf"),
        "",
        "x",
        "\ud800",
        [],
        [[]],
        {},
        {"a": [1]},
        "../x",
        "e" * 999,
    ]
)


def nodes(value: Any) -> list[tuple[Any, Any]]:
    """Every place (container, key) of a JSON value."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    return [(value, key) for key in keys] + [node for key in keys for node in nodes(value[key])]


@FUZZ
@given(data=st.data())
def test_no_random_change_ends_the_check(folder: Folder, data: st.DataObject) -> None:
    content = copy.deepcopy(clean())
    del content["annotations"][2:], content["images"][3:]
    for _ in range(data.draw(st.integers(1, 4))):
        places = nodes(content)
        container, key = places[data.draw(st.integers(0, len(places) - 1))]
        action = data.draw(st.sampled_from(["replace", "remove", "repeat"]))
        if action == "replace":
            container[key] = data.draw(JUNK)
        elif action == "remove":
            del container[key]
        elif isinstance(container, list):
            container.append(copy.deepcopy(container[key]))
        if not content:
            break
    folder.check(content, limit=None)


@FUZZ
@given(cut=st.integers(0, 2000), flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=5))
def test_no_random_bytes_end_the_check(folder: Folder, cut: int, flips: list[tuple[int, int]]) -> None:
    content = clean()
    del content["annotations"][2:], content["images"][3:]
    text = bytearray(json.dumps(content).encode())
    for at, byte in flips:
        text[at % len(text)] = byte
    folder.check(bytes(text[: len(text) - cut]))


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("not_json", ""),
        ("not_json", '{"images": ['),
        ("not_json", "<html>"),
        ("not_json", '{"images": ' + "9" * 5000 + "}"),
        ("not_json", "[" * 100_000),
        ("not_json", b"\xff\xfe{}"),
        ("not_json", '{"images": [], "annotations": [], "categories": [' + "[" * 500 + "]" * 500 + "]}"),
        ("not_json", '{"images": [' + "[" * 500 + "]" * 500 + '], "annotations": [], "categories": []}'),
        ("not_json", '{"images": [], "annotations": [{"id": ' + "[" * 500 + "]" * 500 + '}], "categories": []}'),
        ("structure", "[]"),
        ("structure", "null"),
        ("structure", '{"images": [], "annotations": []}'),
        ("structure", '{"images": {}, "annotations": [], "categories": [{"id": 1, "name": "person"}]}'),
        ("structure", '{"images": [], "annotations": 7, "categories": [{"id": 1, "name": "person"}]}'),
        ("category", '{"images": [], "annotations": [], "categories": []}'),
        ("category", '{"images": [], "annotations": [], "categories": [{"id": 1}, {"id": 2}]}'),
        ("category", '{"images": [], "annotations": [], "categories": [{"id": "one", "name": "person"}]}'),
        ("category", '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "person", "keypoints": 4}]}'),
        ("category", '{"images": [], "annotations": [], "categories": [{"id": 1, "keypoints": ["nose", "left_eye"]}]}'),
    ],
)
def test_files_broken_as_a_whole_are_counted(folder: Folder, kind: str, text: str | bytes) -> None:
    report = folder.check(text)
    assert report.counts[kind] >= 1
    assert len(report.examples[kind][0]) < 500


def test_a_byte_order_mark_and_nan_are_read(folder: Folder) -> None:
    content = clean()
    content["annotations"][0]["keypoints"][0] = float("nan")
    assert fault_counts(folder.check(b"\xef\xbb\xbf" + json.dumps(content).encode())) == {"not_finite": 1}


def test_the_count_of_keypoints_of_crowdpose_is_not_a_fault(folder: Folder) -> None:
    content = clean(CROWDPOSE)
    for entry in content["annotations"]:
        entry["num_keypoints"] = 12  # without head and neck
        del entry["area"]
    assert not folder.check(content, CROWDPOSE).num_faults
    content["annotations"][0]["num_keypoints"] = 15
    assert fault_counts(folder.check(content, CROWDPOSE)) == {"num_keypoints": 1}


def test_a_split_without_a_labelled_person_is_a_fault(folder: Folder) -> None:
    content = clean()
    for entry in content["annotations"]:
        entry |= {"keypoints": [0] * 51, "num_keypoints": 0}
    assert fault_counts(folder.check(content)) == {"no_people": 1}
    assert fault_counts(folder.check(content | {"annotations": []})) == {"no_people": 1}


def test_crowds_need_no_keypoints_and_boxes_may_be_rounded_over_the_border(folder: Folder) -> None:
    content = clean()
    content["annotations"][0] |= {"iscrowd": 1, "keypoints": [], "num_keypoints": 0, "bbox": [-0.5, -1, 91.4, 81.9]}
    assert not folder.check(content).num_faults


def test_splits_that_share_files_are_checked_once_and_missing_files_are_named(tmp_path: Path) -> None:
    dataset = DatasetOnDisk.from_plain(write_custom_set(tmp_path, 2))
    assert list(distinct_parts(dataset, ["train", "val", "test"])) == ["train", "val and test"]
    with pytest.raises(UserError, match="no split 'tests'; choose among train, val, test"):
        distinct_parts(dataset, ["tests"])
    (tmp_path / "annotations" / "val.json").unlink()
    with pytest.raises(UserError, match=r"no annotation file .*val\.json; .*dataset\.val\.annotations"):
        distinct_parts(dataset, ["train", "val"])
