"""What the two matchings of grouping make of the same maps: people split and merged, and AP. Prints one JSON object.

Run as ``python -m scripts.benchmarks.matchings [--annotations FILE ...]``. The maps are those of a network that is
right but for noise, made from annotations: built-in images, built-in images laid over each other as crowds, and any
file in COCO's format with 17 keypoints. Tags of people are normal, as trained ones are roughly; people whose tags come
close are hard to tell apart, the more the more people there are.
"""

import argparse
import json
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

from supernet.compute.machine import machine, versions
from supernet.errors import UserError
from supernet.io.files import read_json
from supernet.pose.geometry import input_transform, resized_size
from supernet.pose.grouping import Matching
from supernet.pose.inference import InferenceSettings, as_results, estimate
from supernet.pose.keypoints import COCO
from supernet.pose.metrics.average_precision import KeypointEvaluator
from supernet.pose.synthetic.dataset import SyntheticPeople
from supernet.pose.training.targets import heatmaps

MATCHINGS: tuple[Matching, ...] = ("thresholded", "reference")
NEAR = 3.0
"""Input pixels within which a found keypoint is that of the person annotated there."""

Floats = npt.NDArray[np.float64]
Truth = dict[str, Any]


@dataclass(frozen=True)
class Noise:
    """How far the maps are from the truth.

    Attributes:
        heat: Deviation of every pixel of the heatmaps, smoothed over a few pixels.
        tag: Deviation of the tags of a person's keypoints from the person's own.
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
"""Deviation of people's tags; the tag threshold is 1."""


def crowds(num_images: int, together: int, seed: int) -> Truth:
    """Built-in images of which ``together`` lie over each other, so that people crowd."""
    truth = SyntheticPeople(COCO, num_images * together, seed, 320, 320).ground_truth()
    for annotation in truth["annotations"]:
        annotation["image_id"] = 1 + (annotation["image_id"] - 1) // together
    return truth | {"images": truth["images"][:num_images]}


def annotated(truth: Truth) -> dict[int, Floats]:
    """People (P, K, 3) by image, for images that have any."""
    people = defaultdict(list)
    for annotation in truth["annotations"]:
        if annotation["num_keypoints"] and not annotation["iscrowd"]:
            people[annotation["image_id"]].append(np.array(annotation["keypoints"], float).reshape(-1, 3))
    return {image_id: np.stack(some) for image_id, some in people.items()}


def noisy_outputs(
    people: Floats, size: tuple[int, int], noise: Noise, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """What a network would give for people (P, K, 3), in input pixels, on an input of ``size`` (width, height)."""
    width, height = size
    seen = people.copy()
    seen[..., 2] *= rng.random(seen.shape[:2]) >= noise.missed
    own = rng.normal(0, TAG_SPREAD, len(seen))[:, None] + rng.normal(0, noise.tag, seen.shape[:2])
    maps = []
    for stride in (4, 2):
        scaled = torch.from_numpy(seen * (1 / stride, 1 / stride, 1)).float()
        each = heatmaps(scaled[:, None], (height // stride, width // stride))
        heat = each.amax(dim=0).numpy()
        maps.append(heat + _smooth_noise(rng, heat.shape, noise.heat))
        if stride == 4:
            # A pixel has the tag of the person whose Gaussian is highest there, and that of nobody elsewhere.
            owner = np.take_along_axis(own[:, :, None, None], each.numpy().argmax(axis=0)[None], axis=0)[0]
            nobody = _smooth_noise(rng, heat.shape, TAG_SPREAD)
            tags = np.where(heat > 0.05, owner, nobody) + _smooth_noise(rng, heat.shape, noise.tag / 2)
    low = torch.from_numpy(np.concatenate([maps[0], tags])[None]).float()
    return low, torch.from_numpy(maps[1][None]).float()


def _smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], deviation: float) -> Floats:
    """Noise (K, H, W) that changes over a few pixels."""
    smooth = [cv2.GaussianBlur(rng.normal(0, 1, shape[1:]), (0, 0), 1.5) for _ in range(shape[0])]
    return np.stack([one * (deviation / one.std()) for one in smooth])


def _always(outputs: tuple[Tensor, Tensor], _: Tensor) -> tuple[Tensor, Tensor]:
    """A network that gives ``outputs`` whatever it sees."""
    return outputs


def splits_and_merges(found: Floats, people: Floats) -> tuple[int, int]:
    """Extra people found with keypoints of the same person, and found people with keypoints of several.

    Args:
        found: (N, K, 3) in the frame of ``people``, not refined, so that every keypoint is a detection.
        people: (P, K, 3) as annotated.
    """
    holds = np.zeros((len(found), len(people)), bool)
    for k in range(people.shape[1]):
        rows, columns = np.flatnonzero(found[:, k, 2] > 0), np.flatnonzero(people[:, k, 2] > 0)
        apart = np.linalg.norm(found[rows, None, k, :2] - people[None, columns, k, :2], axis=2)
        for row, column in zip(*linear_sum_assignment(apart), strict=True):
            if apart[row, column] <= NEAR:
                holds[rows[row], columns[column]] = True
    return int((holds.sum(axis=0) - 1).clip(min=0).sum()), int((holds.sum(axis=1) > 1).sum())


def compare(truth: Truth, noise: Noise, resolution: int, repeats: int, seed: int) -> dict[str, Any]:
    """Both matchings on the same maps, ``repeats`` draws of noise per image; AP is the mean over the draws."""
    evaluator, people = KeypointEvaluator(truth, COCO), annotated(truth)
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
            truly = people[image["id"]].copy()
            truly[..., :2] = transform.to_input(truly[..., :2])
            rng = np.random.default_rng([seed, draw, image["id"]])
            outputs = noisy_outputs(truly, resized_size(*size, resolution), noise, rng)
            blank = np.zeros((*size[::-1], 3), np.uint8)
            for matching in MATCHINGS:
                for refine in (True, False):
                    settings = InferenceSettings(matching=matching, refine=refine)
                    (some,) = estimate(partial(_always, outputs), [blank], resolution, COCO, settings)
                    if refine:
                        results[matching] += as_results(some, image["id"])
                    else:
                        poses = some.poses.astype(float)
                        poses[..., :2] = transform.to_input(poses[..., :2])
                        counts[matching] += (len(poses), *splits_and_merges(poses, truly))
        for matching in MATCHINGS:
            scores = evaluator.score(results[matching])
            metrics[matching].append((scores["AP"], scores["AR"]))
    for matching in MATCHINGS:
        ap, ar = np.mean(metrics[matching], axis=0).round(4).tolist()
        found, split, merged = counts[matching].tolist()
        figures[matching] = {"found": found, "split": split, "merged": merged, "AP": ap, "AR": ar}
    ours, theirs = (np.array([ap for ap, _ in metrics[matching]]) for matching in MATCHINGS)
    difference = ours - theirs
    figures["AP_thresholded_minus_reference"] = {
        "mean": round(float(difference.mean()), 4),
        "least": round(float(difference.min()), 4),
        "most": round(float(difference.max()), 4),
    }
    return figures


def sources(options: argparse.Namespace) -> Iterable[tuple[str, Truth]]:
    """Names and ground truths to compare on."""
    yield "built-in images", crowds(options.num_images, 1, options.seed)
    for together in (3, 6):
        yield f"{together} built-in images over each other", crowds(options.num_images, together, options.seed)
    for path in options.annotations:
        yield path.name, read_json(path, "annotation file")


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--annotations", type=Path, nargs="*", default=[], help="files in COCO's format")
    parser.add_argument("--num-images", type=int, default=40, help="of each kind of built-in image")
    parser.add_argument("--repeats", type=int, default=3, help="draws of noise per image")
    parser.add_argument("--resolution", type=int, default=256, help="short side of the network's input")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    report: dict[str, Any] = {"machine": machine(), "versions": versions(), "resolution": options.resolution}
    try:
        for name, truth in sources(options):
            report[name] = {
                level: compare(truth, noise, options.resolution, options.repeats, options.seed)
                for level, noise in NOISES.items()
            }
    except UserError as error:
        parser.error(str(error))
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
