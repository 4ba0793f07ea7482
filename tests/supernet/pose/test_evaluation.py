"""The metrics equal those of the official evaluations."""

import contextlib
import copy
import io

import numpy as np
import pytest
from pycocotools.coco import COCO as Annotations
from pycocotools.cocoeval import COCOeval

from supernet.pose.keypoints import COCO, CROWDPOSE
from supernet.pose.metrics.average_precision import KeypointEvaluator
from tests.golden.crowdpose_eval_recipe import detections
from tests.helpers.coco_files import DETECTIONS, GOLDEN, GOLDEN_AP, TRUTH, coco_like


@pytest.mark.parametrize("level", GOLDEN["levels"])
def test_crowdpose_metrics_are_those_of_the_official_evaluation(level: str) -> None:
    metrics = KeypointEvaluator(TRUTH, CROWDPOSE).score(detections(TRUTH, float(level)))
    assert set(metrics) == {"AP", "AP50", "AP75", "AR", "AR50", "AR75", "AP_easy", "AP_medium", "AP_hard"}
    for name, value in metrics.items():
        assert value == pytest.approx(GOLDEN["levels"][level][name], abs=1e-6), name


@pytest.mark.parametrize("seed", range(4))
def test_coco_metrics_are_those_of_plain_pycocotools(seed: int) -> None:
    truth, results = coco_like(40, seed)
    with contextlib.redirect_stdout(io.StringIO()):
        annotations = Annotations()
        annotations.dataset = copy.deepcopy(truth)
        annotations.createIndex()
        plain = COCOeval(annotations, annotations.loadRes(copy.deepcopy(results)), "keypoints")
        plain.evaluate()
        plain.accumulate()
        plain.summarize()
    metrics = KeypointEvaluator(truth, COCO).score(results)
    assert list(metrics) == ["AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL"]
    assert len(set(metrics.values())) == 10
    np.testing.assert_allclose(list(metrics.values()), plain.stats, atol=1e-9)


def test_the_ground_truth_itself_scores_one() -> None:
    truth, _ = coco_like(30, 9)
    people = [person for person in truth["annotations"] if person["num_keypoints"] and not person["iscrowd"]]
    perfect = [
        {"image_id": person["image_id"], "category_id": 1, "score": 1.0, "keypoints": person["keypoints"]}
        for person in people
    ]
    assert set(KeypointEvaluator(truth, COCO).score(perfect).values()) == {1.0}


def test_crowdpose_takes_areas_from_boxes_whatever_its_file_says() -> None:
    truth = copy.deepcopy(TRUTH)
    for annotation in truth["annotations"]:
        annotation["area"] = 1.0
    assert KeypointEvaluator(truth, CROWDPOSE).score(DETECTIONS)["AP"] == pytest.approx(GOLDEN_AP, abs=1e-6)


def test_nothing_is_printed_and_no_argument_is_modified(capsys: pytest.CaptureFixture[str]) -> None:
    truth, results = copy.deepcopy(TRUTH), copy.deepcopy(DETECTIONS)
    evaluator = KeypointEvaluator(truth, CROWDPOSE)
    assert evaluator.score(results) == evaluator.score(results[::1])
    assert capsys.readouterr() == ("", "")
    assert (truth, results) == (TRUTH, DETECTIONS)


def test_annotation_id_zero_does_not_lose_a_match() -> None:
    truth = copy.deepcopy(TRUTH)
    for annotation in truth["annotations"]:
        annotation["id"] -= 1
    assert KeypointEvaluator(truth, CROWDPOSE).score(DETECTIONS)["AP"] == pytest.approx(GOLDEN_AP, abs=1e-6)


def test_a_stratum_without_images_is_minus_one() -> None:
    truth = copy.deepcopy(TRUTH)
    for image in truth["images"]:
        image["crowdIndex"] = 0.9
    metrics = KeypointEvaluator(truth, CROWDPOSE).score(DETECTIONS)
    assert metrics["AP_easy"] == metrics["AP_medium"] == -1.0
    assert metrics["AP_hard"] == metrics["AP"]
