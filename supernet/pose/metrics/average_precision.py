"""Average precision of poses, computed by pycocotools.

Source: COCO's keypoint evaluation. For CrowdPose (arXiv 1812.00324) the same procedure with its OKS constants, areas
from boxes and three strata by crowd index equals the official evaluation to 1e-6.
"""

import contextlib
import io
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools.cocoeval import COCOeval

from supernet.pose.keypoints import CROWDPOSE, KeypointSet
from supernet.pose.metrics import crowdpose_official
from supernet.pose.metrics.image_matches import ImageMatches
from supernet.pose.metrics.input_checks import Record, checked_ground_truth, checked_results
from supernet.pose.metrics.oks import similarities

MAX_DETECTIONS = 20
"""Per image."""

AREAS = ("", "M", "L")
"""Suffixes of pycocotools' ranges of a person's area: all, 32^2 to 96^2 square pixels, above."""

CROWD_STRATA = {"AP_easy": (-np.inf, 0.2), "AP_medium": (0.2, 0.8), "AP_hard": (0.8, np.inf)}
"""Range of the crowd index of each stratum; the upper end does not belong to it."""

Floats = npt.NDArray[np.float64]
Detections = defaultdict[tuple[Any, Any], list[Record]]
"""Detections by (image id, category id)."""

logger = logging.getLogger(__name__)


class KeypointEvaluator:
    """Scores results against one ground truth, which is checked once.

    Attributes:
        tool: What computed the latest score: "crowdposetools" for CrowdPose where it is installed, else "pycocotools".
        matches: Of the latest score, image by image; None if crowdposetools computed it, or with several categories.
    """

    tool = "pycocotools"
    matches: ImageMatches | None = None

    def __init__(self, ground_truth: dict[str, Any], keypoints: KeypointSet) -> None:
        """Check and keep the ground truth, a dictionary in COCO's format, which is not modified.

        Raises:
            UserError: The ground truth cannot be evaluated against.
        """
        images, annotations = checked_ground_truth(ground_truth, keypoints)
        self.keypoints = keypoints
        self._areas = AREAS[:1] if keypoints is CROWDPOSE else AREAS  # CrowdPose has strata by crowd index instead
        self.image_ids = sorted({image["id"] for image in images})
        self._categories = sorted({annotation["category_id"] for annotation in annotations})
        self._crowd_index = {image["id"]: image["crowdIndex"] for image in images if "crowdIndex" in image}
        self._people: Detections = defaultdict(list)
        for annotation in annotations:
            annotation["ignore"] = bool(annotation["iscrowd"]) or annotation["num_keypoints"] == 0
            self._people[annotation["image_id"], annotation["category_id"]].append(annotation)

    def score(self, results: list[Record], *, allow_empty: bool = False) -> dict[str, float]:
        """Compute the metrics of results in COCO's format, which are not modified.

        Args:
            results: The detections.
            allow_empty: No warning if there are none.

        Returns:
            In 0..1, AP and AR over OKS 0.50, 0.55, .. 0.95 and at 0.50 and 0.75 (``AP50``, ``AR75``). For COCO and sets
            like it also those of medium and large people (``APM``, ``ARL``), for CrowdPose those by crowd index
            (``AP_easy``, ``AP_medium``, ``AP_hard``). As in COCO, -1 stands for a stratum without labelled people.

        Raises:
            UserError: The results are malformed, not finite, or of other images.
        """
        checked_results(results, self.keypoints, self.image_ids)
        detections = self._detections(results)
        if not results and not allow_empty:
            logger.warning("there are no detections to evaluate, so AP is 0")
        elif results and not detections:
            logger.warning("0 of %d detections share a category with the ground truth", len(results))

        parts = {"": self.image_ids}
        if self._crowd_index and self.keypoints is CROWDPOSE:
            for name, (start, end) in CROWD_STRATA.items():
                parts[name] = sorted(image for image, crowd in self._crowd_index.items() if start <= crowd < end)
        evaluations = self._official(results, parts) if self.keypoints is CROWDPOSE and detections else None
        self.tool = "pycocotools" if evaluations is None else "crowdposetools"
        self.matches = None
        if evaluations is None:
            evaluations = self._evaluated(detections, parts)
        metrics = _metrics(evaluations[""], self._areas)
        for name in (name for name in parts if name):
            metrics[name] = _metrics(evaluations[name], self._areas)["AP"] if parts[name] else -1.0
        return metrics

    def _evaluated(self, detections: Detections, parts: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
        """Evaluate each part of the images with pycocotools; return what ``accumulate`` leaves, by part."""
        evaluation = COCOeval(iouType="keypoints")
        settings = evaluation.params
        settings.catIds, settings.maxDets = self._categories, [MAX_DETECTIONS]
        settings.areaRng = settings.areaRng[: len(self._areas)]
        evaluation._gts, evaluation._dts, evaluation._paramsEval = self._people, detections, settings
        pairs = [(image, category) for category in self._categories for image in self.image_ids]
        evaluation.ious = {pair: self._similarities(*pair, detections[pair]) for pair in pairs}
        per_image = {
            (category, number, image): evaluation.evaluateImg(image, category, area, MAX_DETECTIONS)
            for image, category in pairs
            for number, area in enumerate(settings.areaRng)
        }
        if len(self._categories) == 1:
            (category,) = self._categories
            self.matches = ImageMatches.from_evaluations([per_image[category, 0, image] for image in self.image_ids])
        evaluations = {}
        for name, image_ids in parts.items():
            settings.imgIds = image_ids
            evaluation.evalImgs = [
                per_image[category, number, image]
                for category in self._categories
                for number in range(len(settings.areaRng))
                for image in image_ids
            ]
            with contextlib.redirect_stdout(io.StringIO()):
                evaluation.accumulate()
            evaluations[name] = evaluation.eval
        return evaluations

    def _official(self, results: list[Record], parts: Mapping[str, Sequence[Any]]) -> dict[str, Any] | None:
        """As ``_evaluated``, with CrowdPose's own package; None where that is not installed or does not run."""
        truth = {
            "images": [{"id": image} for image in self.image_ids],
            "annotations": [annotation for people in self._people.values() for annotation in people],
            "categories": [{"id": category, "name": "person"} for category in self._categories],
        }
        return crowdpose_official.evaluated(truth, results, {name: part for name, part in parts.items() if part})

    def _detections(self, results: list[Record]) -> Detections:
        """Results by image and category, with ids from 1 and the area, which decides between small and large poses."""
        detections: Detections = defaultdict(list)
        for number, result in enumerate(results, start=1):
            if result["category_id"] in self._categories:
                points = np.asarray(result["keypoints"], np.float64).reshape(-1, 3)
                width, height = np.ptp(points[:, :2], axis=0)
                complete = {**result, "id": number, "area": width * height, "points": points}
                detections[result["image_id"], result["category_id"]].append(complete)
        return detections

    def _similarities(self, image: Any, category: Any, detections: list[Record]) -> Floats | list[Any]:
        """OKS (D, G) of an image's best detections, in order of score, and its people."""
        people = self._people[image, category]
        if not people or not detections:
            return []
        order = np.argsort([-detection["score"] for detection in detections], kind="stable")[:MAX_DETECTIONS]
        predicted = np.stack([detections[index]["points"][:, :2] for index in order])
        truth = np.array([person["keypoints"] for person in people], np.float64).reshape(len(people), -1, 3)
        areas = np.array([person["area"] for person in people], np.float64) + np.spacing(1)
        return similarities(predicted, truth, areas, np.array([person["bbox"] for person in people]), self.keypoints)


def _metrics(evaluation: Mapping[str, Any], areas: Sequence[str]) -> dict[str, float]:
    """Metrics by name from what pycocotools' ``accumulate`` leaves; the first of the ``areas`` stands for all."""

    def mean(values: Floats) -> float:
        return float(values[values > -1].mean()) if (values > -1).any() else -1.0

    metrics = {}
    for kind, values in (("AP", evaluation["precision"][..., 0]), ("AR", evaluation["recall"][..., 0])):
        all_areas = values[..., 0]
        metrics[kind] = mean(all_areas)
        for threshold in (0.5, 0.75):
            chosen = all_areas[np.isclose(evaluation["params"].iouThrs, threshold)]
            metrics[f"{kind}{threshold * 100:.0f}"] = mean(chosen)
        metrics |= {f"{kind}{area}": mean(values[..., number]) for number, area in enumerate(areas) if area}
    return metrics
