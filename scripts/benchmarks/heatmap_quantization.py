"""Measure the AP of ideal network outputs at each resolution, or of noisy ones. Prints JSON.

The loss is due to rounding to heatmap pixels, and to small and colliding people. Run as
``python -m scripts.benchmarks.heatmap_quantization``; for a data set in COCO's layout add ``--root FOLDER --annotations
FILE --images FOLDER``, for the other way to place and decode keypoints ``--targets unbiased``, and for maps more like a
network's ``--height 0.4 --noise 0.03``.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scripts.benchmarks.ideal_outputs import (
    TWIN_DISTANCE,
    UNBIASED_BORDER,
    UNBIASED_TWIN_DISTANCE,
    has_near_twin,
    ideal_outputs,
    max_error,
    smallest_safe_side,
)
from scripts.benchmarks.timing import print_report
from supernet.cli.console import STDERR, run_command
from supernet.pose.coco.dataset import CocoPeople
from supernet.pose.data.pose_dataset import PoseDataset, PoseSample
from supernet.pose.geometry import input_transform, resized_size
from supernet.pose.grouping import group
from supernet.pose.inference import InferenceSettings, PosePredictions, as_results
from supernet.pose.keypoints import KeypointSet, keypoint_set
from supernet.pose.metrics.average_precision import KeypointEvaluator
from supernet.pose.metrics.oks import similarities
from supernet.pose.multiscale_flip import predict_maps
from supernet.pose.subpixel import Decoding
from supernet.pose.synthetic.dataset import SyntheticPeople
from supernet.pose.training.targets import Placement
from supernet.space import SearchSpace

REASONS = ("detected", "outside the input", "near twin", "small", "beside a near twin", "at the border", "unexplained")
"""Whether a person is detected with ``MIN_OKS``, and if not, why."""
MIN_OKS = 0.95


@dataclass(frozen=True)
class IdealMaps:
    """What a perfect network outputs, and how it is decoded.

    Attributes:
        targets: Where the Gaussians are centred.
        sigma: Their standard deviation, in pixels of each output.
        decoding: How positions are read; None for as ``targets``.
        height: Height of the Gaussians.
        noise: Standard deviation of the noise on every pixel of both outputs' heatmaps.
    """

    targets: Placement = "published"
    sigma: float = 2.0
    decoding: Decoding | None = None
    height: float = 1.0
    noise: float = 0.0

    def outputs(self, people: npt.NDArray[np.float32], size: tuple[int, int], seed: int) -> tuple[Tensor, Tensor]:
        """Return both outputs for people in input pixels; see ``ideal_outputs``."""
        low, high = ideal_outputs(people, size, self.sigma, self.targets)
        generator = torch.Generator().manual_seed(seed)
        for maps in (low[:, : people.shape[1]], high):
            maps.mul_(self.height).add_(torch.randn(maps.shape, generator=generator), alpha=self.noise)
        return low, high

    @property
    def twin_distance(self) -> float:
        """Input pixels within which the same keypoint of two people is not safe."""
        return TWIN_DISTANCE if self.targets == "published" else UNBIASED_TWIN_DISTANCE

    @property
    def border(self) -> float:
        """Input pixels from the border within which a keypoint is not safe."""
        return 0.0 if self.targets == "published" else UNBIASED_BORDER

    def smallest_side(self, sigmas: tuple[float, ...]) -> float:
        """Return the square root of the area from which an isolated person is detected with ``MIN_OKS``."""
        return smallest_safe_side(sigmas, MIN_OKS, max_error(self.sigma, self.targets))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="folder of a data set in COCO's layout (default: built-in people)")
    parser.add_argument("--annotations", default="annotations/person_keypoints_val2017.json", help="relative to ROOT")
    parser.add_argument("--images", default="val2017", help="relative to ROOT")
    parser.add_argument("--keypoints", default="coco", help="keypoint set (default: %(default)s)")
    parser.add_argument("--num-images", type=int, default=100, help="number of images (default: %(default)s)")
    parser.add_argument("--resolutions", type=int, nargs="+", help="only these (default: all of both spaces)")
    ways = ("published", "unbiased")
    parser.add_argument("--targets", choices=ways, default="published", help="how keypoints are placed and decoded")
    parser.add_argument("--decoding", choices=ways, help="how keypoints are decoded, if not as they are placed")
    for name, value, meaning in (
        ("--sigma", 2.0, "standard deviation of the Gaussians, in map pixels"),
        ("--height", 1.0, "height of the Gaussians"),
        ("--noise", 0.0, "standard deviation of noise on every pixel"),
    ):
        parser.add_argument(name, type=float, default=value, help=f"{meaning} (default: %(default)s)")
    options = parser.parse_args()

    keypoints = keypoint_set(options.keypoints)
    if options.root is None:
        people: PoseDataset = SyntheticPeople(keypoints, options.num_images, seed=3, width=192, height=192)
    else:
        people = CocoPeople(options.root / options.annotations, options.root / options.images, keypoints)
    maps = IdealMaps(options.targets, options.sigma, options.decoding, options.height, options.noise)
    safe_side = maps.smallest_side(keypoints.sigmas)
    results: dict[str, Any] = {"smallest_safe_side_px_with_all_keypoints": round(safe_side, 1)}
    for space in ("nano", "litepose"):
        for resolution in SearchSpace.load(space).resolutions:
            if options.resolutions and resolution not in options.resolutions:
                continue
            results[f"{space} {resolution}"] = measure(people, resolution, options.num_images, maps)
    workload = {name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()}
    print_report(workload, results)


def measure(dataset: PoseDataset, resolution: int, num_images: int, maps: IdealMaps) -> dict[str, Any]:
    """AP, AP50, AR, and the number of labelled people by ``REASONS``."""
    total = min(num_images, len(dataset))
    truth = dataset.ground_truth()
    image_ids = set(list(dataset.image_ids)[:total])
    annotations = [annotation for annotation in truth["annotations"] if annotation["image_id"] in image_ids]
    images = [image for image in truth["images"] if image["id"] in image_ids]
    results: list[dict[str, Any]] = []
    reasons: dict[str, int] = dict.fromkeys(REASONS, 0)
    for index in range(total):
        sample, image_id = dataset[index], dataset.image_ids[index]
        height, width = sample.image.shape[:2]
        detections = detected_people(sample, resolution, dataset.keypoints, maps)
        results += as_results(detections, image_id)
        people = [
            annotation
            for annotation in annotations
            if annotation["image_id"] == image_id and annotation["num_keypoints"] and not annotation["iscrowd"]
        ]
        for reason in reasons_of(detections, people, (width, height), resolution, dataset, maps):
            reasons[reason] += 1
    evaluator = KeypointEvaluator({**truth, "images": images, "annotations": annotations}, dataset.keypoints)
    metrics = evaluator.score(results)
    return {name: round(value, 4) for name, value in metrics.items() if name in ("AP", "AP50", "AR")} | reasons


def detected_people(sample: PoseSample, resolution: int, keypoints: KeypointSet, maps: IdealMaps) -> PosePredictions:
    """The people that evaluation detects in ideal outputs for an image."""
    size = (sample.image.shape[1], sample.image.shape[0])
    settings, transform = InferenceSettings(decoding=maps.decoding or maps.targets), input_transform(*size, resolution)
    width, height = resized_size(*size, resolution)
    moved = sample.people.copy()
    moved[..., :2] = transform.to_input(moved[..., :2])
    outputs = maps.outputs(moved, (height, width), sample.image_id)
    images = {1.0: torch.zeros(1, 3, height, width)}
    ((heat, tags),) = predict_maps(lambda _: outputs, images, keypoints, flip_test=False)
    poses, scores = group(heat, tags, **settings.grouping)
    is_detected = poses[..., 2] > 0
    poses[is_detected, :2] = transform.to_image(poses[is_detected, :2])
    return PosePredictions(poses, scores)


def reasons_of(
    detections: PosePredictions,
    truth: list[dict[str, Any]],
    size: tuple[int, int],
    resolution: int,
    dataset: PoseDataset,
    maps: IdealMaps,
) -> list[str]:
    """The reason (of ``REASONS``) for each labelled person of an image."""
    if not truth:
        return []
    people = np.array([person["keypoints"] for person in truth], np.float64).reshape(len(truth), -1, 3)
    areas, boxes = (
        np.array([person["area"] for person in truth], np.float64),
        np.array([person["bbox"] for person in truth]),
    )
    oks = similarities(detections.poses[..., :2].astype(np.float64), people, areas, boxes, dataset.keypoints)
    best = oks.max(axis=0) if len(detections.poses) else np.zeros(len(truth))
    transform = input_transform(*size, resolution)
    points = transform.to_input(people[..., :2])
    width, height = resized_size(*size, resolution)
    labelled = people[..., 2] > 0
    border = np.minimum(points, (width, height) - points).min(axis=2)
    inside = np.asarray(((points >= 0) & (points < (width, height))).all(axis=2))
    sigmas = np.array(dataset.keypoints.sigmas)
    near_twins = has_near_twin(points, labelled, maps.twin_distance)
    reasons = []
    for number, is_labelled in enumerate(labelled):
        safe_side = maps.smallest_side(tuple(sigmas[is_labelled]))
        if best[number] >= MIN_OKS:
            reasons.append("detected")
        elif (is_labelled & ~inside[number]).any():
            reasons.append("outside the input")
        elif near_twins[number]:
            reasons.append("near twin")
        elif np.sqrt(areas[number]) / transform.scale < safe_side:
            reasons.append("small")
        elif (is_labelled & (border[number] < maps.border)).any():
            reasons.append("at the border")
        else:
            reasons.append("beside a near twin" if near_twins.any() else "unexplained")
    return reasons


if __name__ == "__main__":
    run_command(main, STDERR)
