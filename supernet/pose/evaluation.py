"""Average precision of poses, on pycocotools, and the evaluation of a network on a data set.

Source: COCO's keypoint evaluation. For CrowdPose (arXiv 1812.00324) the same procedure with its OKS constants, areas
from boxes and three strata by crowd index equals the official evaluation to 1e-6.
"""

import contextlib
import io
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pycocotools.cocoeval import COCOeval

from supernet.errors import UserError
from supernet.files import read_json
from supernet.pose.dataset import PoseDataset
from supernet.pose.evaluation_input import Record, checked_ground_truth, checked_results
from supernet.pose.inference import InferenceSettings, Network, estimate_dataset
from supernet.pose.keypoints import CROWDPOSE, KeypointSet, keypoint_set

MAX_DETECTIONS = 20
CROWD_STRATA = {"AP_easy": (-np.inf, 0.2), "AP_medium": (0.2, 0.8), "AP_hard": (0.8, np.inf)}
"""From this crowd index up to, not including, that one."""

Floats = npt.NDArray[np.float64]


class KeypointEvaluator:
    """Scores results against one ground truth, which is checked once."""

    def __init__(self, ground_truth: dict[str, Any], keypoints: KeypointSet) -> None:
        """Check and keep the ground truth, a dictionary in COCO's format, which is not changed.

        Raises:
            UserError: The ground truth cannot be evaluated against.
        """
        images, annotations = checked_ground_truth(ground_truth, keypoints)
        self.keypoints = keypoints
        self.image_ids = sorted({image["id"] for image in images})
        self._categories = sorted({annotation["category_id"] for annotation in annotations})
        self._crowd_index = {image["id"]: image["crowdIndex"] for image in images if "crowdIndex" in image}
        self._people: defaultdict[tuple[Any, Any], list[Record]] = defaultdict(list)
        for annotation in annotations:
            annotation["ignore"] = bool(annotation["iscrowd"]) or annotation["num_keypoints"] == 0
            self._people[annotation["image_id"], annotation["category_id"]].append(annotation)

    def score(self, results: list[Record]) -> dict[str, float]:
        """Metrics of results in COCO's format, which are not changed.

        Returns:
            AP and AR over OKS 0.50, 0.55, .. 0.95, AP50 and AP75, in 0..1; for CrowdPose with crowd indices also
            AP_easy, AP_medium and AP_hard. As in COCO, -1 stands for a stratum without labelled people.

        Raises:
            UserError: The results are malformed, not finite, or of other pictures.
        """
        checked_results(results, self.keypoints, self.image_ids)
        detections = self._detections(results)
        if not results:
            warnings.warn("there are no detections to evaluate, so AP is 0", stacklevel=2)
        elif not detections:
            warnings.warn(f"0 of {len(results)} detections share a category with the ground truth", stacklevel=2)

        evaluation = COCOeval(iouType="keypoints")
        settings = evaluation.params
        settings.imgIds, settings.catIds, settings.maxDets = self.image_ids, self._categories, [MAX_DETECTIONS]
        settings.areaRng, settings.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation._gts, evaluation._dts = self._people, detections
        pairs = [(image, category) for category in self._categories for image in self.image_ids]
        evaluation.ious = {pair: self._similarities(*pair, detections[pair]) for pair in pairs}
        per_image = [
            evaluation.evaluateImg(image, category, settings.areaRng[0], MAX_DETECTIONS) for image, category in pairs
        ]

        metrics = _summary(evaluation, per_image, self.image_ids)
        if self._crowd_index and self.keypoints is CROWDPOSE:
            for name, (start, end) in CROWD_STRATA.items():
                stratum = {image for image, crowd in self._crowd_index.items() if start <= crowd < end}
                chosen = [one for one, (image, _) in zip(per_image, pairs, strict=True) if image in stratum]
                metrics[name] = _summary(evaluation, chosen, sorted(stratum))["AP"] if stratum else -1.0
        return metrics

    def _detections(self, results: list[Record]) -> defaultdict[tuple[Any, Any], list[Record]]:
        """Results by picture and category, with ids from 1 and the area that tells small poses from large."""
        found: defaultdict[tuple[Any, Any], list[Record]] = defaultdict(list)
        for number, result in enumerate(results, start=1):
            if result["category_id"] in self._categories:
                points = np.asarray(result["keypoints"], np.float64).reshape(-1, 3)
                width, height = np.ptp(points[:, :2], axis=0)
                complete = {**result, "id": number, "area": width * height, "points": points}
                found[result["image_id"], result["category_id"]].append(complete)
        return found

    def _similarities(self, image: Any, category: Any, detections: list[Record]) -> Floats | list[Any]:
        """OKS (D, G) of a picture's best detections, in order of score, and its people."""
        people = self._people[image, category]
        if not people or not detections:
            return []
        order = np.argsort([-one["score"] for one in detections], kind="stable")[:MAX_DETECTIONS]
        found = np.stack([detections[index]["points"][:, :2] for index in order])
        truth = np.array([person["keypoints"] for person in people], np.float64).reshape(len(people), -1, 3)
        areas = np.array([person["area"] for person in people], np.float64) + np.spacing(1)
        return similarities(found, truth, areas, np.array([person["bbox"] for person in people]), self.keypoints)


def similarities(found: Floats, truth: Floats, areas: Floats, boxes: Floats, keypoints: KeypointSet) -> Floats:
    """Object keypoint similarity of every detection to every person.

    For a person without labelled keypoints, the distance is that to a box of three times the person's size, over all
    keypoints (such people are ignored in scoring; near detections are then ignored with them).

    Args:
        found: (D, K, 2) x, y in image pixels.
        truth: (G, K, 3) x, y, visibility.
        areas: (G,) square pixels.
        boxes: (G, 4) x, y, width, height.
        keypoints: The K keypoints.

    Returns:
        (D, G) in 0..1.

    Source: COCO's keypoint evaluation.
    """
    labelled = truth[..., 2] > 0
    nobody = ~labelled.any(axis=1)
    distances = found[:, None] - truth[None, ..., :2]
    if nobody.any():
        start = (boxes[:, :2] - boxes[:, 2:])[nobody, None]
        end = (boxes[:, :2] + 2 * boxes[:, 2:])[nobody, None]
        distances[:, nobody] = np.maximum(0, start - found[:, None]) + np.maximum(0, found[:, None] - end)
        labelled[nobody] = True
    variances = (2 * np.array(keypoints.sigmas)) ** 2
    exponents = np.square(distances).sum(axis=3) / (2 * variances * areas[:, None])
    closeness: Floats = (np.exp(-exponents) * labelled).sum(axis=2) / labelled.sum(axis=1)
    return closeness


def _summary(evaluation: Any, per_image: list[Any], image_ids: Sequence[Any]) -> dict[str, float]:
    """AP, AP50, AP75 and AR over some of the pictures."""
    evaluation.evalImgs, evaluation.params.imgIds = per_image, list(image_ids)
    evaluation._paramsEval = evaluation.params
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.accumulate()
    precision, recall = evaluation.eval["precision"], evaluation.eval["recall"]
    thresholds = evaluation.params.iouThrs

    def mean(values: Floats) -> float:
        return float(values[values > -1].mean()) if (values > -1).any() else -1.0

    def at(threshold: float) -> float:
        return mean(precision[np.isclose(thresholds, threshold)])

    return {"AP": mean(precision), "AP50": at(0.5), "AP75": at(0.75), "AR": mean(recall)}


def average_precision(annotation_file: str | Path, results_file: str | Path, dataset: str) -> dict[str, float]:
    """Metrics of a results file against an annotation file, both JSON in COCO's format.

    Args:
        annotation_file: Ground truth.
        results_file: List of detections.
        dataset: "coco" or "crowdpose".

    Returns:
        As ``KeypointEvaluator.score``.

    Raises:
        UserError: A file cannot be read or evaluated; the message names it.
    """
    keypoints = keypoint_set(dataset)
    ground_truth = read_json(annotation_file, "annotation file")
    results = read_json(results_file, "results file")
    with _naming(annotation_file):
        evaluator = KeypointEvaluator(ground_truth, keypoints)
    with _naming(results_file):
        return evaluator.score(results)


@contextlib.contextmanager
def _naming(path: str | Path) -> Iterator[None]:
    """Put the file's name before a user's mistake found in it."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


@dataclass(frozen=True)
class Evaluation:
    """What ``evaluate`` found.

    Attributes:
        metrics: As of ``KeypointEvaluator.score``.
        results: Detections in COCO's format.
        seconds: Wall time, of loading pictures, network, grouping and scoring together.
    """

    metrics: dict[str, float]
    results: list[Record]
    seconds: float


def evaluate(
    network: Network,
    dataset: PoseDataset,
    resolution: int,
    settings: InferenceSettings,
    batch_size: int = 32,
    num_images: int | None = None,
    *,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Run a network on a data set, or on its first ``num_images`` pictures, and score it on just these.

    Args:
        network: See ``inference.Network``; on ``device``, in evaluation mode, batch norm calibrated.
        dataset: Pictures and ground truth.
        resolution: Short side of the input.
        settings: How pictures become people.
        batch_size: Pictures run together at most.
        num_images: Pictures from the start of the data set; all by default.
        device: Where the network is.
        progress: Called with (pictures done, pictures in all) after each picture.

    Raises:
        UserError: The network is in training mode, or the pictures hold no labelled person.
    """
    started = time.perf_counter()
    total = len(dataset) if num_images is None else min(num_images, len(dataset))
    chosen = {dataset.image_ids[index] for index in range(total)}
    truth = dataset.ground_truth()
    images = [image for image in truth["images"] if image["id"] in chosen]
    annotations = [annotation for annotation in truth["annotations"] if annotation["image_id"] in chosen]
    evaluator = KeypointEvaluator({**truth, "images": images, "annotations": annotations}, dataset.keypoints)
    results = estimate_dataset(
        network, dataset, resolution, settings, batch_size, num_images=total, device=device, progress=progress
    )
    metrics = evaluator.score(results)
    return Evaluation(metrics, results, time.perf_counter() - started)
