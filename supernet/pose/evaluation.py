"""Average precision of poses, on pycocotools, and the evaluation of a network on a data set.

Source: COCO's keypoint evaluation. For CrowdPose (arXiv 1812.00324) the same procedure with its OKS constants, areas
from boxes and three strata by crowd index equals the official evaluation to 1e-6.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from supernet.errors import UserError
from supernet.io.files import LARGE, read_json
from supernet.pose.data.pose_dataset import PoseDataset
from supernet.pose.geometry import normalise
from supernet.pose.inference import InferenceSettings, PosePredictions, Preprocess, as_results, estimate_dataset
from supernet.pose.keypoints import KeypointSet, keypoint_set
from supernet.pose.metrics.average_precision import KeypointEvaluator
from supernet.pose.metrics.input_checks import Record
from supernet.pose.multiscale_flip import Network


def average_precision(
    annotation_file: str | Path, results_file: str | Path, dataset: str | KeypointSet
) -> dict[str, float]:
    """Metrics of a results file against an annotation file, both JSON in COCO's format.

    Args:
        annotation_file: Ground truth.
        results_file: List of detections.
        dataset: "coco" or "crowdpose", or a keypoint set of one's own.

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
        people: Of each image, in the data set's order.
        tool: What computed the metrics, see ``KeypointEvaluator``.
        seconds: Wall time, of loading images, network, grouping and scoring together.
    """

    metrics: dict[str, float]
    results: list[Record]
    people: list[PosePredictions]
    tool: str
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
    prepare: Preprocess = normalise,
    estimate: Callable[..., list[PosePredictions]] = estimate_dataset,
) -> Evaluation:
    """Run a network on a data set, or on its first ``num_images`` images, and score it on just these.

    Args:
        network: See ``maps.Network``; on ``device``, in evaluation mode, batch norm calibrated.
        dataset: Images and ground truth.
        resolution: Short side of the input.
        settings: How images become people.
        batch_size: Images run together at most.
        num_images: Images from the start of the data set; all by default.
        device: Where the network is.
        progress: Called with (images done, images in all) after each image.
        prepare: See ``inference.Prepare``.
        estimate: Called as ``inference.estimate_dataset`` is, to find the people of all images.

    Raises:
        UserError: The network is in training mode or not calibrated, or the images hold no labelled person.
    """
    started = time.perf_counter()
    total = len(dataset) if num_images is None else min(num_images, len(dataset))
    chosen = {dataset.image_ids[index] for index in range(total)}
    truth = dataset.ground_truth()
    images = [image for image in truth["images"] if image["id"] in chosen]
    annotations = [annotation for annotation in truth["annotations"] if annotation["image_id"] in chosen]
    evaluator = KeypointEvaluator({**truth, "images": images, "annotations": annotations}, dataset.keypoints)
    people = estimate(
        network,
        dataset,
        resolution,
        settings,
        batch_size,
        num_images=total,
        device=device,
        progress=progress,
        prepare=prepare,
    )
    category_id = truth["categories"][0]["id"]
    results = [
        result
        for image_id, found in zip(dataset.image_ids[:total], people, strict=True)
        for result in as_results(found, image_id, category_id)
    ]
    metrics = evaluator.score(results)
    return Evaluation(metrics, results, people, evaluator.tool, time.perf_counter() - started)
