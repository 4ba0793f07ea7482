"""Bad input of the evaluation is refused or told of instead of being scored."""

import copy
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from supernet.errors import UserError
from supernet.pose.evaluation import average_precision
from supernet.pose.keypoints import COCO, CROWDPOSE
from supernet.pose.metrics.average_precision import KeypointEvaluator
from tests.helpers.coco_files import FOUND, GOLDEN_AP, TRUTH, coco_like

Change = Callable[[Any], Any]


def every(**fields: Any) -> Change:
    return lambda records: [{**record, **fields} for record in records]


def first(**fields: Any) -> Change:
    return lambda records: [{**records[0], **fields}, *records[1:]]


def without(field: str) -> Change:
    return lambda records: [{k: v for k, v in records[0].items() if k != field}, *records[1:]]


def with_coordinate(value: Any) -> Change:
    return lambda records: [
        {**record, "keypoints": [value, *record["keypoints"][1:]], "score": record.get("score")} for record in records
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            with_coordinate(float("nan")),
            r"results\[0\] \(image_id 10\d\d\) keypoints holds a number that is not finite",
        ),
        (with_coordinate(float("inf")), "not finite"),
        (with_coordinate("7"), "no number"),
        (with_coordinate([1, 2]), "no number"),
        (with_coordinate(None), "no number"),
        (first(score=float("nan")), "score nan; it must be a finite number"),
        (first(score="0.5"), "score '0.5'"),
        (first(score=True), "score True; it must be a finite number"),
        (first(score=10**400), "it must be a finite number"),
        (first(keypoints=[1.0] * 39), "has 39 numbers; it must have 42"),
        (first(keypoints=[1.0] * 51), "has 51 numbers; it must have 42"),
        (first(keypoints=None), "has no numbers"),
        (without("score"), r"results\[0\] has no 'score'"),
        (without("keypoints"), r"results\[0\] has no 'keypoints'"),
        (without("image_id"), r"results\[0\] has no 'image_id'"),
        (first(image_id=7), r"results name 1 images .* such as \[7\] \(int\)"),
        (every(image_id="1000"), r"results name 1 images .* such as \['1000'\] \(str\)"),
        (first(image_id=[1]), "image_id"),
        (lambda records: {"annotations": records}, "the results are a dict"),
        (lambda records: [3, *records], r"results\[0\] is a int"),
    ],
)
def test_bad_results_are_refused_by_name(change: Change, message: str) -> None:
    with pytest.raises(UserError, match=message):
        KeypointEvaluator(TRUTH, CROWDPOSE).score(change(FOUND))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("keypoints"), r"annotations\[0\] has no 'keypoints'"),
        (without("num_keypoints"), r"annotations\[0\] has no 'num_keypoints'"),
        (without("iscrowd"), r"annotations\[0\] has no 'iscrowd'"),
        (without("bbox"), r"annotations\[0\] has no 'bbox'"),
        (first(keypoints=[0] * 51), r"annotations\[0\].keypoints has 51 numbers; it must have 42"),
        (first(bbox=[1, 2, 3]), r"annotations\[0\].bbox has 3 numbers"),
        (first(bbox=[1, 2, 3, float("nan")]), r"annotations\[0\].bbox holds a number that is not finite"),
        (with_coordinate(float("nan")), "not finite"),
        (every(id=5), r"1 annotation ids occur more than once, such as \[5\]"),
        (every(num_keypoints=0), "no labelled person"),
        (first(num_keypoints=[]), r"annotations\[0\] has the num_keypoints \[\]; it must be a finite number"),
        (first(iscrowd="no"), r"annotations\[0\] has the iscrowd 'no'; it must be a finite number"),
        (first(category_id="person"), "annotations have numbers and text as category_id"),
        (lambda records: [], "no labelled person"),
        (lambda records: None, "no list 'annotations'"),
    ],
)
def test_bad_annotations_are_refused_by_name(change: Change, message: str) -> None:
    with pytest.raises(UserError, match=message):
        KeypointEvaluator({**TRUTH, "annotations": change(TRUTH["annotations"])}, CROWDPOSE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (first(width="wide"), r"images\[0\] has the width 'wide'; it must be a finite number"),
        (first(crowdIndex=float("nan")), r"images\[0\] has the crowdIndex nan"),
        (first(id="1000"), "images have numbers and text as id; give numbers"),
    ],
)
def test_bad_images_are_refused_by_name(change: Change, message: str) -> None:
    with pytest.raises(UserError, match=message):
        KeypointEvaluator({**TRUTH, "images": change(TRUTH["images"])}, CROWDPOSE)


@pytest.mark.parametrize("truth", [[], None, {}, {"images": {}, "annotations": []}])
def test_what_is_no_ground_truth_is_refused(truth: Any) -> None:
    with pytest.raises(UserError, match="the ground truth"):
        KeypointEvaluator(truth, CROWDPOSE)


def test_coco_needs_areas_that_crowdpose_does_without() -> None:
    truth, _ = coco_like(3, 0)
    del truth["annotations"][1]["area"]
    with pytest.raises(UserError, match=r"annotations\[1\] has no 'area'"):
        KeypointEvaluator(truth, COCO)
    truth["annotations"][1]["area"] = "big"
    with pytest.raises(UserError, match=r"annotations\[1\].area"):
        KeypointEvaluator(truth, COCO)


def test_no_detections_score_zero_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="no detections"):
        metrics = KeypointEvaluator(TRUTH, CROWDPOSE).score([])
    assert set(metrics.values()) == {0.0}


def test_detections_of_another_category_are_told_of() -> None:
    with pytest.warns(UserWarning, match=f"0 of {len(FOUND)} detections share a category"):
        assert KeypointEvaluator(TRUTH, CROWDPOSE).score(every(category_id=2)(FOUND))["AP"] == 0.0


def test_boxes_given_as_corners_are_told_of() -> None:
    truth = copy.deepcopy(TRUTH)
    for annotation in truth["annotations"]:
        x, y, width, height = annotation["bbox"]
        annotation["bbox"] = [x, y, x + width, y + height]
    with pytest.warns(UserWarning, match="boxes end beyond their image"):
        KeypointEvaluator(truth, CROWDPOSE)


def test_repeated_images_and_annotations_of_missing_ones_are_told_of() -> None:
    truth = {**TRUTH, "images": [TRUTH["images"][1], *TRUTH["images"][1:]]}
    kept = [one for one in FOUND if one["image_id"] != TRUTH["images"][0]["id"]]
    lost = sum(one["image_id"] == TRUTH["images"][0]["id"] for one in TRUTH["annotations"])
    with pytest.warns(UserWarning, match="repeat|belong") as told:
        metrics = KeypointEvaluator(truth, CROWDPOSE).score(kept)
    assert [str(one.message).split(" ", 1)[0] for one in told] == ["1", str(lost)]
    assert metrics["AP"] > 0.5


def of_truth(change: Callable[[dict[str, Any]], object]) -> Change:
    """Change a copy of the ground truth."""

    def changed(truth: dict[str, Any], found: list[dict[str, Any]]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        change(truth)
        return truth, found

    return changed  # type: ignore[return-value]


def of_all(**fields: Any) -> Callable[[dict[str, Any]], object]:
    return lambda truth: [annotation.update(fields) for annotation in truth["annotations"]]


def in_all(index: slice, value: float) -> Change:
    """Set numbers in the keypoints of every detection."""

    def changed(truth: dict[str, Any], found: list[dict[str, Any]]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        for one in found:
            one["keypoints"] = np.array(one["keypoints"], object)
            one["keypoints"][index] = value
            one["keypoints"] = one["keypoints"].tolist()
        return truth, found

    return changed  # type: ignore[return-value]


def of_found(change: Callable[[list[dict[str, Any]]], Any]) -> Any:
    return lambda truth, found: (truth, change(found))


def as_corners(truth: dict[str, Any]) -> None:
    for annotation in truth["annotations"]:
        x, y, width, height = annotation["bbox"]
        annotation["bbox"] = [x, y, x + width, y + height]


MISJUDGED: dict[str, tuple[Any, str]] = {
    "one coordinate no number": (in_all(slice(0, 1), float("nan")), "refused"),
    "all x no numbers": (in_all(slice(0, None, 3), float("nan")), "refused"),
    "one coordinate infinite": (in_all(slice(1, 2), float("inf")), "refused"),
    "scores no numbers": (of_found(every(score=float("nan"))), "refused"),
    "annotation id 0": (of_truth(lambda truth: truth["annotations"][0].update(id=0)), "right"),
    "repeated ids": (of_truth(of_all(id=7)), "refused"),
    "corners for boxes": (of_truth(as_corners), "told"),
    "another category": (of_found(every(category_id=9)), "told"),
    "no area": (of_truth(lambda truth: [each.pop("area", None) for each in truth["annotations"]]), "right"),
    "17 keypoints for 14": (of_truth(of_all(keypoints=[1] * 51)), "refused"),
    "13 keypoints detected": (of_found(every(keypoints=[1.0] * 39)), "refused"),
    "no detections": (of_found(lambda found: []), "told"),
    "unknown images": (of_found(every(image_id="1000")), "refused"),
    "no num_keypoints": (of_truth(lambda truth: truth["annotations"][3].pop("num_keypoints")), "refused"),
    "annotations of missing images": (of_truth(lambda truth: truth["annotations"][0].update(image_id=9)), "told"),
    "visibility 0 in detections": (in_all(slice(2, None, 3), 0.0), "right"),
}


@pytest.mark.parametrize("name", MISJUDGED)
def test_what_pycocotools_misjudges_is_refused_told_or_made_right(name: str) -> None:
    change, outcome = MISJUDGED[name]
    truth, found = change(copy.deepcopy(TRUTH), copy.deepcopy(FOUND))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        if outcome == "refused":
            with pytest.raises(UserError):
                KeypointEvaluator(truth, CROWDPOSE).score(found)
            return
        metrics = KeypointEvaluator(truth, CROWDPOSE).score(found)
    assert bool(told) == (outcome == "told")
    if outcome == "right":
        assert metrics["AP"] == pytest.approx(GOLDEN_AP, abs=1e-6)


def test_files_are_scored_and_named_when_they_are_wrong(tmp_path: Path) -> None:
    truth_file, results_file = tmp_path / "truth.json", tmp_path / "results.json"
    truth_file.write_text(json.dumps(TRUTH))
    results_file.write_text(json.dumps(FOUND))
    metrics = average_precision(truth_file, results_file, "crowdpose")
    assert metrics["AP"] == pytest.approx(GOLDEN_AP, abs=1e-6)
    with pytest.raises(UserError, match=r"truth\.json: annotations\[0\]\.keypoints has 42 numbers; it must have 51"):
        average_precision(truth_file, results_file, "coco")
    results_file.write_text(json.dumps(first(score=float("nan"))(FOUND)))
    with pytest.raises(UserError, match=r"results\.json: results\[0\].*score nan"):
        average_precision(truth_file, results_file, "crowdpose")
    with pytest.raises(UserError, match="missing"):
        average_precision(truth_file, tmp_path / "missing.json", "crowdpose")
    with pytest.raises(UserError, match="'mpii'"):
        average_precision(truth_file, results_file, "mpii")
