"""CrowdPose's own package is used where it is installed, with the same figures as pycocotools here.

The package is on no index. A stand-in is built from pycocotools with the differences of the published one: it reads
files, keeps their names, has its own OKS constants, takes areas from boxes, and its ``summarize`` must not be called.
"""

import json
import sys
import types
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO as PlainCOCO
from pycocotools.cocoeval import COCOeval as PlainCOCOeval

from supernet.pose.keypoints import COCO, CROWDPOSE
from supernet.pose.metrics.average_precision import KeypointEvaluator
from tests.golden.crowdpose_eval_recipe import detections, ground_truth

GOLDEN = json.loads((Path(__file__).parents[3] / "golden" / "crowdpose_eval.json").read_text())
TRUTH = ground_truth()


class OfficialCOCO(PlainCOCO):  # type: ignore[misc]
    """Annotations from a file, the only way the published package takes them."""

    def __init__(self, annotation_file: str) -> None:
        assert isinstance(annotation_file, str)
        assert Path(annotation_file).is_file()
        super().__init__(annotation_file)
        self.anno_file = [annotation_file]

    def loadRes(self, resFile: str) -> Any:
        """Read results from a file; the results are a plain ``COCO``, as they have no annotation file."""
        assert isinstance(resFile, str)
        plain = PlainCOCO()
        plain.dataset = self.dataset
        plain.createIndex()
        return plain.loadRes(resFile)


class OfficialCOCOeval(PlainCOCOeval):  # type: ignore[misc]
    """The published evaluation: CrowdPose's constants, areas from boxes, everything printed."""

    num_evaluated: list[int]

    def __init__(self, truth: OfficialCOCO, results: Any, kind: str) -> None:
        super().__init__(truth, results, kind)
        self.anno_file = truth.anno_file
        self.params.kpt_oks_sigmas = np.array(GOLDEN["sigmas"])

    def _prepare(self) -> None:
        super()._prepare()
        self.num_evaluated.append(len(self.params.imgIds))
        for people in self._gts.values():
            for person in people:
                person["area"] = 0.53 * person["bbox"][2] * person["bbox"][3]

    def summarize(self) -> None:
        """Fail: the published one rounds the strata to four digits."""
        raise AssertionError("summarize rounds")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> type[OfficialCOCOeval]:
    """The stand-in, installed; ``num_evaluated`` lists the number of images of each evaluation."""
    monkeypatch.setattr(OfficialCOCOeval, "num_evaluated", [], raising=False)
    for name, content in (("", {}), (".coco", {"COCO": OfficialCOCO}), (".cocoeval", {"COCOeval": OfficialCOCOeval})):
        module = types.ModuleType(f"crowdposetools{name}")
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return OfficialCOCOeval


@pytest.mark.parametrize("level", GOLDEN["levels"])
def test_the_package_gives_the_figures_of_the_official_evaluation(
    level: str, installed: type[OfficialCOCOeval], capsys: pytest.CaptureFixture[str]
) -> None:
    evaluator = KeypointEvaluator(TRUTH, CROWDPOSE)
    metrics = evaluator.score(detections(TRUTH, float(level)))
    assert evaluator.tool == "crowdposetools"
    strata: defaultdict[str, int] = defaultdict(int)
    for image in TRUTH["images"]:
        crowd = image["crowdIndex"]
        strata["easy" if crowd < 0.2 else "medium" if crowd < 0.8 else "hard"] += 1
    assert installed.num_evaluated == [len(TRUTH["images"]), *(strata[name] for name in ("easy", "medium", "hard"))]
    for name, value in metrics.items():
        assert value == pytest.approx(GOLDEN["levels"][level][name], abs=1e-6), name
    assert capsys.readouterr() == ("", "")


def test_both_ways_agree_to_the_last_digits(installed: type[OfficialCOCOeval], monkeypatch: pytest.MonkeyPatch) -> None:
    evaluator, results = KeypointEvaluator(TRUTH, CROWDPOSE), detections(TRUTH, 0.1)
    official = evaluator.score(results)
    monkeypatch.setitem(sys.modules, "crowdposetools.coco", None)
    plain = evaluator.score(results)
    assert evaluator.tool == "pycocotools"
    assert list(plain) == list(official)
    np.testing.assert_allclose(list(plain.values()), list(official.values()), atol=1e-12)


def test_other_keypoint_sets_and_empty_results_are_not_given_to_the_package(
    installed: type[OfficialCOCOeval], caplog: pytest.LogCaptureFixture
) -> None:
    assert set(KeypointEvaluator(TRUTH, CROWDPOSE).score([]).values()) == {0.0}
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "no detections" in caplog.text
    people = [
        {
            **person,
            "keypoints": [*person["keypoints"], *([0] * 9)],
            "area": 0.53 * person["bbox"][2] * person["bbox"][3],
        }
        for person in TRUTH["annotations"]
    ]
    results = [{**result, "keypoints": [*result["keypoints"], *([0.0] * 9)]} for result in detections(TRUTH, 0.1)]
    evaluator = KeypointEvaluator({**TRUTH, "annotations": people}, COCO)
    assert evaluator.score(results)["AP"] > 0.05
    assert evaluator.tool == "pycocotools"
    assert installed.num_evaluated == []


def test_a_package_that_numpy_has_outgrown_gives_a_warning_and_is_replaced(
    installed: type[OfficialCOCOeval], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def outdated(*_: Any) -> None:
        raise AttributeError("module 'numpy' has no attribute 'float'")

    monkeypatch.setattr(installed, "accumulate", outdated)
    evaluator = KeypointEvaluator(TRUTH, CROWDPOSE)
    metrics = evaluator.score(detections(TRUTH, 0.06))
    (message,) = caplog.messages
    assert "crowdposetools" in message
    assert "no attribute 'float'" in message
    assert evaluator.tool == "pycocotools"
    assert metrics["AP_hard"] == pytest.approx(GOLDEN["levels"]["0.06"]["AP_hard"], abs=1e-6)
