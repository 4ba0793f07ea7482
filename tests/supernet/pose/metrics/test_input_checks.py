"""Bad input of the evaluation is an error or a warning instead of being scored."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from supernet.errors import UserError
from supernet.pose.evaluation import average_precision
from supernet.pose.keypoints import COCO, CROWDPOSE
from supernet.pose.metrics.average_precision import KeypointEvaluator
from tests.helpers.coco_files import DETECTIONS, GOLDEN_AP, TRUTH, coco_like

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
            r"results\[0\] \(image_id 10\d\d\) keypoints .* not finite",
        ),
        (with_coordinate(float("inf")), "not finite"),
        (with_coordinate("7"), r"results\[0\].* not a number"),
        (with_coordinate([1, 2]), r"results\[0\].* not a number"),
        (with_coordinate(None), r"results\[0\].* not a number"),
        (first(score=float("nan")), "score must be a finite number, got nan"),
        (first(score="0.5"), "score must be a finite number, got '0.5'"),
        (first(score=True), "score must be a finite number, got True"),
        (first(score=10**400), "score must be a finite number"),
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
        KeypointEvaluator(TRUTH, CROWDPOSE).score(change(DETECTIONS))


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
        (first(num_keypoints=[]), r"annotations\[0\]: num_keypoints must be a finite number, got \[\]"),
        (first(iscrowd="no"), r"annotations\[0\]: iscrowd must be a finite number, got 'no'"),
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
        (first(width="wide"), r"images\[0\]: width must be a finite number, got 'wide'"),
        (first(crowdIndex=float("nan")), r"images\[0\]: crowdIndex must be a finite number, got nan"),
        (first(id="1000"), "images have numbers and text as id; give numbers"),
    ],
)
def test_bad_images_are_refused_by_name(change: Change, message: str) -> None:
    with pytest.raises(UserError, match=message):
        KeypointEvaluator({**TRUTH, "images": change(TRUTH["images"])}, CROWDPOSE)


@pytest.mark.parametrize("truth", [[], None, {}, {"images": {}, "annotations": []}])
def test_an_invalid_ground_truth_is_refused(truth: Any) -> None:
    with pytest.raises(UserError, match="the ground truth"):
        KeypointEvaluator(truth, CROWDPOSE)


def test_coco_needs_areas_and_crowdpose_does_not() -> None:
    truth, _ = coco_like(3, 0)
    del truth["annotations"][1]["area"]
    with pytest.raises(UserError, match=r"annotations\[1\] has no 'area'"):
        KeypointEvaluator(truth, COCO)
    truth["annotations"][1]["area"] = "big"
    with pytest.raises(UserError, match=r"annotations\[1\].area"):
        KeypointEvaluator(truth, COCO)


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The messages of the log, which are all warnings."""
    assert {record.levelname for record in caplog.records} <= {"WARNING"}
    return caplog.messages


def test_no_detections_score_zero_with_a_warning_unless_they_are_allowed(caplog: pytest.LogCaptureFixture) -> None:
    evaluator = KeypointEvaluator(TRUTH, CROWDPOSE)
    assert set(evaluator.score([], allow_empty=True).values()) == {0.0}
    assert warned(caplog) == []
    assert set(evaluator.score([]).values()) == {0.0}
    (message,) = warned(caplog)
    assert "no detections" in message


def test_detections_of_another_category_give_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert KeypointEvaluator(TRUTH, CROWDPOSE).score(every(category_id=2)(DETECTIONS))["AP"] == 0.0
    (message,) = warned(caplog)
    assert message.startswith(f"0 of {len(DETECTIONS)} detections")


def test_boxes_given_as_corners_give_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    truth = copy.deepcopy(TRUTH)
    for annotation in truth["annotations"]:
        x, y, width, height = annotation["bbox"]
        annotation["bbox"] = [x, y, x + width, y + height]
    KeypointEvaluator(truth, CROWDPOSE)
    (message,) = warned(caplog)
    assert "boxes" in message


def test_repeated_images_and_annotations_of_missing_ones_give_warnings(caplog: pytest.LogCaptureFixture) -> None:
    truth = {**TRUTH, "images": [TRUTH["images"][1], *TRUTH["images"][1:]]}
    missing = TRUTH["images"][0]["id"]
    kept = [detection for detection in DETECTIONS if detection["image_id"] != missing]
    num_lost = sum(person["image_id"] == missing for person in TRUTH["annotations"])
    metrics = KeypointEvaluator(truth, CROWDPOSE).score(kept)
    repeated, dangling = warned(caplog)
    assert repeated.startswith("1 images")
    assert dangling.startswith(f"{num_lost} annotations")
    assert metrics["AP"] > 0.5


def of_truth(change: Callable[[dict[str, Any]], object]) -> Change:
    """Change a copy of the ground truth."""

    def changed(truth: dict[str, Any], results: list[dict[str, Any]]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        change(truth)
        return truth, results

    return changed  # type: ignore[return-value]


def of_all(**fields: Any) -> Callable[[dict[str, Any]], object]:
    return lambda truth: [annotation.update(fields) for annotation in truth["annotations"]]


def in_all(index: slice, value: float) -> Change:
    """Set numbers in the keypoints of every detection."""

    def changed(truth: dict[str, Any], results: list[dict[str, Any]]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        for result in results:
            numbers = np.array(result["keypoints"], object)
            numbers[index] = value
            result["keypoints"] = numbers.tolist()
        return truth, results

    return changed  # type: ignore[return-value]


def of_results(change: Callable[[list[dict[str, Any]]], Any]) -> Any:
    """Change the results."""
    return lambda truth, results: (truth, change(results))


def as_corners(truth: dict[str, Any]) -> None:
    for annotation in truth["annotations"]:
        x, y, width, height = annotation["bbox"]
        annotation["bbox"] = [x, y, x + width, y + height]


MISJUDGED: dict[str, tuple[Any, str]] = {
    "one coordinate NaN": (in_all(slice(0, 1), float("nan")), "refused"),
    "all x NaN": (in_all(slice(0, None, 3), float("nan")), "refused"),
    "one coordinate infinite": (in_all(slice(1, 2), float("inf")), "refused"),
    "scores NaN": (of_results(every(score=float("nan"))), "refused"),
    "annotation id 0": (of_truth(lambda truth: truth["annotations"][0].update(id=0)), "correct"),
    "repeated ids": (of_truth(of_all(id=7)), "refused"),
    "corners for boxes": (of_truth(as_corners), "warning"),
    "another category": (of_results(every(category_id=9)), "warning"),
    "no area": (of_truth(lambda truth: [person.pop("area", None) for person in truth["annotations"]]), "correct"),
    "17 keypoints for 14": (of_truth(of_all(keypoints=[1] * 51)), "refused"),
    "13 keypoints detected": (of_results(every(keypoints=[1.0] * 39)), "refused"),
    "no detections": (of_results(lambda results: []), "warning"),
    "unknown images": (of_results(every(image_id="1000")), "refused"),
    "no num_keypoints": (of_truth(lambda truth: truth["annotations"][3].pop("num_keypoints")), "refused"),
    "annotations of missing images": (of_truth(lambda truth: truth["annotations"][0].update(image_id=9)), "warning"),
    "visibility 0 in detections": (in_all(slice(2, None, 3), 0.0), "correct"),
}


@pytest.mark.parametrize("name", MISJUDGED)
def test_input_that_pycocotools_misjudges_is_an_error_a_warning_or_corrected(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    change, outcome = MISJUDGED[name]
    truth, results = change(copy.deepcopy(TRUTH), copy.deepcopy(DETECTIONS))
    if outcome == "refused":
        with pytest.raises(UserError):
            KeypointEvaluator(truth, CROWDPOSE).score(results)
        return
    metrics = KeypointEvaluator(truth, CROWDPOSE).score(results)
    assert bool(warned(caplog)) == (outcome == "warning")
    if outcome == "correct":
        assert metrics["AP"] == pytest.approx(GOLDEN_AP, abs=1e-6)


def test_files_are_scored_and_named_when_they_are_wrong(tmp_path: Path) -> None:
    truth_file, results_file = tmp_path / "truth.json", tmp_path / "results.json"
    truth_file.write_text(json.dumps(TRUTH))
    results_file.write_text(json.dumps(DETECTIONS))
    metrics = average_precision(truth_file, results_file, "crowdpose")
    assert metrics["AP"] == pytest.approx(GOLDEN_AP, abs=1e-6)
    with pytest.raises(UserError, match=r"truth\.json: annotations\[0\]\.keypoints has 42 numbers; it must have 51"):
        average_precision(truth_file, results_file, "coco")
    results_file.write_text(json.dumps(first(score=float("nan"))(DETECTIONS)))
    with pytest.raises(UserError, match=r"results\.json: results\[0\].*score must be a finite number, got nan"):
        average_precision(truth_file, results_file, "crowdpose")
    with pytest.raises(UserError, match="missing"):
        average_precision(truth_file, tmp_path / "missing.json", "crowdpose")
    with pytest.raises(UserError, match="'mpii'"):
        average_precision(truth_file, results_file, "mpii")
