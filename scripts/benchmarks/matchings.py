"""Compare the two matchings of grouping on the same maps: split people, merged people, AP. Prints JSON.

Run as ``python -m scripts.benchmarks.matchings [--annotations FILE ...]``. The maps are ideal network outputs with
noise, made from annotations: of built-in images, of overlaid built-in images (crowds), and of any file in COCO's format
with 17 keypoints. Tags of people are normally distributed, roughly as trained ones. People with similar tags are hard
to separate, which happens more often in larger crowds.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from scripts.benchmarks.timing import print_report
from supernet.cli.console import STDERR, run_command
from supernet.io.files import read_json
from supernet.pose.geometry import input_transform, resized_size
from supernet.pose.grouping import Matching
from supernet.pose.inference import InferenceSettings, PoseEstimator, as_results
from supernet.pose.keypoints import COCO
from supernet.pose.metrics.average_precision import KeypointEvaluator
from supernet.pose.synthetic.dataset import SyntheticPeople
from supernet.pose.training.targets import heatmaps

MATCHINGS: tuple[Matching, ...] = ("thresholded", "reference")
NEAR = 3.0
"""Input pixels within which a detected keypoint belongs to the person annotated there."""

Floats = npt.NDArray[np.float64]
Truth = dict[str, Any]


@dataclass(frozen=True)
class Noise:
    """Noise of the maps.

    Attributes:
        heat: Standard deviation of the heatmaps' pixels, smoothed over a few pixels.
        tag: Standard deviation of a person's keypoint tags around the person's tag.
        missed: Share of the keypoints without a peak.
    """

    heat: float
    tag: float
    missed: float


NOISES = {
    "little": Noise(heat=0.01, tag=0.1, missed=0.02),
    "some": Noise(heat=0.02, tag=0.2, missed=0.05),
    "much": Noise(heat=0.035, tag=0.3, missed=0.1),
}
TAG_SPREAD = 3.0
"""Standard deviation of people's tags; the tag threshold is 1."""


def crowds(num_images: int, num_overlaid: int, seed: int) -> Truth:
    """Ground truth of crowds: each image combines the people of ``num_overlaid`` built-in images."""
    truth = SyntheticPeople(COCO, num_images * num_overlaid, seed, 320, 320).ground_truth()
    for annotation in truth["annotations"]:
        annotation["image_id"] = 1 + (annotation["image_id"] - 1) // num_overlaid
    return truth | {"images": truth["images"][:num_images]}


def people_by_image(truth: Truth) -> dict[int, Floats]:
    """People (P, K, 3) by image id, for images with people."""
    people = defaultdict(list)
    for annotation in truth["annotations"]:
        if annotation["num_keypoints"] and not annotation["iscrowd"]:
            people[annotation["image_id"]].append(np.array(annotation["keypoints"], float).reshape(-1, 3))
    return {image_id: np.stack(of_image) for image_id, of_image in people.items()}


def noisy_outputs(
    people: Floats, size: tuple[int, int], noise: Noise, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Noisy network outputs for people (P, K, 3), in input pixels, on an input of ``size`` (width, height)."""
    width, height = size
    detected = people.copy()
    detected[..., 2] *= rng.random(detected.shape[:2]) >= noise.missed
    keypoint_tags = rng.normal(0, TAG_SPREAD, len(detected))[:, None] + rng.normal(0, noise.tag, detected.shape[:2])
    maps = []
    for stride in (4, 2):
        scaled = torch.from_numpy(detected * (1 / stride, 1 / stride, 1)).float()
        of_person = heatmaps(scaled[:, None], (height // stride, width // stride))
        heat = of_person.amax(dim=0).numpy()
        maps.append(heat + _smooth_noise(rng, heat.shape, noise.heat))
        if stride == 4:
            # A pixel has the tag of the person whose Gaussian is highest there, and a random tag in the background.
            owner = np.take_along_axis(keypoint_tags[:, :, None, None], of_person.numpy().argmax(axis=0)[None], axis=0)[
                0
            ]
            background = _smooth_noise(rng, heat.shape, TAG_SPREAD)
            tags = np.where(heat > 0.05, owner, background) + _smooth_noise(rng, heat.shape, noise.tag / 2)
    low = torch.from_numpy(np.concatenate([maps[0], tags])[None]).float()
    return low, torch.from_numpy(maps[1][None]).float()


def _smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], deviation: float) -> Floats:
    """Noise (K, H, W) that varies over a few pixels."""
    smooth = [cv2.GaussianBlur(rng.normal(0, 1, shape[1:]), (0, 0), 1.5) for _ in range(shape[0])]
    return np.stack([channel * (deviation / channel.std()) for channel in smooth])


def _fixed_network(outputs: tuple[Tensor, Tensor], _: Tensor) -> tuple[Tensor, Tensor]:
    """A network that returns ``outputs`` for every input."""
    return outputs


def splits_and_merges(detections: Floats, people: Floats) -> tuple[int, int]:
    """Count splits (extra detections with keypoints of the same person) and merges (detections of several people).

    Args:
        detections: (N, K, 3) in the frame of ``people``, not refined, so that every keypoint is a peak.
        people: (P, K, 3), the annotated people.
    """
    contains = np.zeros((len(detections), len(people)), bool)
    for k in range(people.shape[1]):
        rows, columns = np.flatnonzero(detections[:, k, 2] > 0), np.flatnonzero(people[:, k, 2] > 0)
        distances = np.linalg.norm(detections[rows, None, k, :2] - people[None, columns, k, :2], axis=2)
        for row, column in zip(*linear_sum_assignment(distances), strict=True):
            if distances[row, column] <= NEAR:
                contains[rows[row], columns[column]] = True
    return int((contains.sum(axis=0) - 1).clip(min=0).sum()), int((contains.sum(axis=1) > 1).sum())


def compare(truth: Truth, noise: Noise, resolution: int, repeats: int, seed: int) -> dict[str, Any]:
    """Run both matchings on the same maps, with ``repeats`` draws of noise per image; AP is the mean over the draws."""
    evaluator, people = KeypointEvaluator(truth, COCO), people_by_image(truth)
    figures: dict[str, Any] = {"images": len(people), "people": repeats * sum(map(len, people.values()))}
    counts = {matching: np.zeros(3, int) for matching in MATCHINGS}
    metrics: dict[Matching, list[tuple[float, float]]] = {matching: [] for matching in MATCHINGS}
    for draw in range(repeats):
        results: dict[Matching, list[dict[str, Any]]] = {matching: [] for matching in MATCHINGS}
        for image in truth["images"]:
            if image["id"] not in people:
                continue
            size = (image["width"], image["height"])
            transform = input_transform(*size, resolution)
            in_input = people[image["id"]].copy()
            in_input[..., :2] = transform.to_input(in_input[..., :2])
            rng = np.random.default_rng([seed, draw, image["id"]])
            outputs = noisy_outputs(in_input, resized_size(*size, resolution), noise, rng)
            blank = np.zeros((*size[::-1], 3), np.uint8)
            for matching in MATCHINGS:
                for refine in (True, False):
                    settings = InferenceSettings(matching=matching, refine=refine)
                    (predictions,) = PoseEstimator(partial(_fixed_network, outputs), resolution, COCO, settings)(
                        [blank]
                    )
                    if refine:
                        results[matching] += as_results(predictions, image["id"])
                    else:
                        poses = predictions.poses.astype(float)
                        poses[..., :2] = transform.to_input(poses[..., :2])
                        counts[matching] += (len(poses), *splits_and_merges(poses, in_input))
        for matching in MATCHINGS:
            scores = evaluator.score(results[matching])
            metrics[matching].append((scores["AP"], scores["AR"]))
    for matching in MATCHINGS:
        ap, ar = np.mean(metrics[matching], axis=0).round(4).tolist()
        detected, split, merged = counts[matching].tolist()
        figures[matching] = {"detected": detected, "split": split, "merged": merged, "AP": ap, "AR": ar}
    thresholded, reference = (np.array([ap for ap, _ in metrics[matching]]) for matching in MATCHINGS)
    difference = thresholded - reference
    figures["AP_thresholded_minus_reference"] = {
        "mean": round(float(difference.mean()), 4),
        "least": round(float(difference.min()), 4),
        "most": round(float(difference.max()), 4),
    }
    return figures


def sources(options: argparse.Namespace) -> Iterable[tuple[str, Truth]]:
    """The names and ground truths to compare on."""
    yield "built-in images", crowds(options.num_images, 1, options.seed)
    for num_overlaid in (3, 6):
        yield f"{num_overlaid} overlaid built-in images", crowds(options.num_images, num_overlaid, options.seed)
    for path in options.annotations:
        yield path.name, read_json(path, "annotation file")


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--annotations", type=Path, nargs="*", default=[], help="files in COCO's format")
    parser.add_argument("--num-images", type=int, default=40, help="images of each kind of built-in image")
    parser.add_argument("--repeats", type=int, default=3, help="draws of noise per image")
    parser.add_argument("--resolution", type=int, default=256, help="short side of the network's input")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    results: dict[str, Any] = {}
    for name, truth in sources(options):
        results[name] = {
            level: compare(truth, noise, options.resolution, options.repeats, options.seed)
            for level, noise in NOISES.items()
        }
    workload = vars(options) | {"annotations": [str(path) for path in options.annotations]}
    print_report(workload, results)


if __name__ == "__main__":
    run_command(main, STDERR)
