"""Average precision of poses, on pycocotools, and the evaluation of a network on a data set.

Source: COCO's keypoint evaluation. For CrowdPose (arXiv 1812.00324) the same procedure with its OKS constants, areas
from boxes and three strata by crowd index equals the official evaluation to 1e-6.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from supernet.errors import UserError
from supernet.io.files import LARGE, read_json
from supernet.pose.data.pose_dataset import PoseDataset, truth_of
from supernet.pose.inference import PoseEstimator, PosePredictions, Progress, as_results
from supernet.pose.keypoints import KeypointSet, keypoint_set
from supernet.pose.metrics.average_precision import KeypointEvaluator
from supernet.pose.metrics.image_matches import ImageMatches
from supernet.pose.metrics.input_checks import Record
from supernet.pose.metrics.stage_times import StageTimes

PredictDataset = Callable[[PoseEstimator, PoseDataset, int | None, Progress | None], list[PosePredictions]]
"""Runs an estimator on the first images of a data set, with the arguments of ``PoseEstimator.on_dataset``."""


def average_precision(
    annotation_file: str | Path, results_file: str | Path, dataset: str | KeypointSet
) -> dict[str, float]:
    """Compute the metrics of a results file against an annotation file, both JSON in COCO's format.

    Args:
        annotation_file: Ground truth.
        results_file: List of detections.
        dataset: "coco" or "crowdpose", or a custom keypoint set.

    Returns:
        As ``KeypointEvaluator.score``.

    Raises:
        UserError: A file cannot be read or evaluated; the message names it.
    """
    keypoints = keypoint_set(dataset) if isinstance(dataset, str) else dataset
    ground_truth = read_json(annotation_file, "annotation file", LARGE)
    results = read_json(results_file, "results file", LARGE)
    with _naming(annotation_file):
        evaluator = KeypointEvaluator(ground_truth, keypoints)
    with _naming(results_file):
        return evaluator.score(results)


@contextlib.contextmanager
def _naming(path: str | Path) -> Iterator[None]:
    """Put the file's name before the message of a UserError."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


@dataclass(frozen=True)
class Evaluation:
    """The result of ``evaluate``.

    Attributes:
        metrics: As of ``KeypointEvaluator.score``.
        results: Detections in COCO's format.
        predictions: People of each image, in the data set's order.
        tool: What computed the metrics, see ``KeypointEvaluator``.
        seconds: Wall time of loading images, network, grouping and scoring together.
        times: Seconds of each stage, added up over the processes that shared the images.
        matches: Of each image, in the order of their ids (:attr:`KeypointEvaluator.matches`).
    """

    metrics: dict[str, float]
    results: list[Record]
    predictions: list[PosePredictions]
    tool: str
    seconds: float
    times: StageTimes = field(default_factory=StageTimes, compare=False)
    matches: ImageMatches | None = None


def evaluate(
    estimator: PoseEstimator,
    dataset: PoseDataset,
    num_images: int | None = None,
    progress: Progress | None = None,
    predict: PredictDataset = PoseEstimator.on_dataset,
) -> Evaluation:
    """Run an estimator on a data set, or on its first ``num_images`` images, and score it on just these.

    Args:
        estimator: The network and its settings.
        dataset: Images and ground truth, of the estimator's keypoints.
        num_images: Images from the start of the data set; all by default.
        progress: See ``inference.Progress``.
        predict: Runs the estimator on the images; several processes may share them
            (:func:`supernet.evaluation.sharded_inference.predict_sharded`).

    Raises:
        UserError: The network is in training mode or not calibrated, it has another number of keypoints than the data
            set, or the images hold no labelled person.
    """
    started = time.perf_counter()
    if estimator.keypoints.num != dataset.keypoints.num:
        raise UserError(
            f"the network predicts {estimator.keypoints.num} keypoints but the data set has {dataset.keypoints.num}; "
            "choose a data set with its keypoints"
        )
    total = len(dataset) if num_images is None else min(num_images, len(dataset))
    with estimator.times.measure("ap"):
        evaluator = evaluator_of(dataset, total)
    predictions = predict(estimator, dataset, total, progress)
    category_id = category_id_of(dataset)
    with estimator.times.measure("ap"):
        results = [
            result
            for image_id, people in zip(dataset.image_ids[:total], predictions, strict=True)
            for result in as_results(people, image_id, category_id)
        ]
        # A network without calibration often finds no one; that needs no warning.
        metrics = evaluator.score(results, allow_empty=not estimator.check_calibration)
    seconds = time.perf_counter() - started
    return Evaluation(metrics, results, predictions, evaluator.tool, seconds, estimator.times, evaluator.matches)


def evaluator_of(dataset: PoseDataset, num_images: int) -> KeypointEvaluator:
    """Return what scores results on the first ``num_images`` images of a data set.

    Raises:
        UserError: Their ground truth cannot be evaluated against; above all, it holds no labelled person.
    """
    truth = truth_of(dataset, dataset.image_ids[:num_images])
    return KeypointEvaluator(truth, dataset.keypoints)


def category_id_of(dataset: PoseDataset) -> int | str:
    """Return the id of the category of a data set's people, which results are compared with."""
    category_id: int | str = dataset.ground_truth()["categories"][0]["id"]
    return category_id


def num_until_people(dataset: PoseDataset, num_images: int) -> int:
    """Return ``num_images``, or more if the first so many images hold no labelled person, on whom AP is measured.

    Raises:
        UserError: No image of the data set holds a labelled person.
    """
    truth = dataset.ground_truth()
    labelled = {
        person["image_id"] for person in truth["annotations"] if person["num_keypoints"] and not person["iscrowd"]
    }
    for number, image_id in enumerate(dataset.image_ids, start=1):
        if image_id in labelled:
            return min(max(number, num_images), len(dataset))
    raise UserError(
        "the data set holds no labelled person (num_keypoints above 0), so AP has no meaning; give images with people"
    )
