"""The AP of perfect outputs at each resolution: what whole pixels, small and colliding people cost by themselves.

Prints one JSON object; run as ``python -m scripts.benchmarks.heatmap_quantization``, or with ``--root FOLDER
--annotations FILE --images FOLDER`` on people in COCO's layout.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from scripts.benchmarks.ideal_outputs import has_near_twin, ideal_outputs, smallest_safe_side
from supernet.pose.coco.dataset import CocoPeople
from supernet.pose.data.pose_dataset import PoseDataset
from supernet.pose.geometry import input_transform, resized_size
from supernet.pose.grouping import group
from supernet.pose.inference import InferenceSettings, PosePredictions, as_results
from supernet.pose.keypoints import keypoint_set
from supernet.pose.metrics.average_precision import KeypointEvaluator
from supernet.pose.metrics.oks import similarities
from supernet.pose.multiscale_flip import predict_maps
from supernet.pose.synthetic.dataset import SyntheticPeople
from supernet.space import SearchSpace

REASONS = ("found", "beyond the input", "has_near_twin", "small", "beside colliding", "unexplained")


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="a data set in COCO's layout (default: built-in people)")
    parser.add_argument("--annotations", default="annotations/person_keypoints_val2017.json", help="below ROOT")
    parser.add_argument("--images", default="val2017", help="below ROOT")
    parser.add_argument("--keypoints", default="coco", help="keypoint set (default: %(default)s)")
    parser.add_argument("--num-images", type=int, default=100, help="images from the start (default: %(default)s)")
    options = parser.parse_args()

    keypoints = keypoint_set(options.keypoints)
    if options.root is None:
        people: PoseDataset = SyntheticPeople(keypoints, options.num_images, seed=3, width=192, height=192)
    else:
        people = CocoPeople(options.root / options.annotations, options.root / options.images, keypoints)
    report: dict[str, Any] = {
        "smallest_safe_side_px_with_all_keypoints": round(smallest_safe_side(keypoints.sigmas), 1)
    }
    for space in ("nano", "litepose"):
        for resolution in SearchSpace.load(space).resolutions:
            report[f"{space} {resolution}"] = measure(people, resolution, options.num_images)
    print(json.dumps(report, indent=2))


def measure(dataset: PoseDataset, resolution: int, num_images: int) -> dict[str, Any]:
    """AP, the share of labelled people found with OKS 0.95, and why the others are not."""
    total = min(num_images, len(dataset))
    truth = dataset.ground_truth()
    chosen = set(list(dataset.image_ids)[:total])
    annotations = [one for one in truth["annotations"] if one["image_id"] in chosen]
    images = [one for one in truth["images"] if one["id"] in chosen]
    results: list[dict[str, Any]] = []
    reasons: dict[str, int] = dict.fromkeys(REASONS, 0)
    for index in range(total):
        example, image_id = dataset[index], dataset.image_ids[index]
        height, width = example.image.shape[:2]
        transform = input_transform(width, height, resolution)
        found = perfect_people(example.people, (width, height), resolution, dataset)
        results += as_results(found, image_id)
        own = [one for one in annotations if one["image_id"] == image_id]
        own = [one for one in own if one["num_keypoints"] and not one["iscrowd"]]
        for reason in judged(found, own, transform.scale, resolution, (width, height), dataset):
            reasons[reason] += 1
    evaluator = KeypointEvaluator({**truth, "images": images, "annotations": annotations}, dataset.keypoints)
    metrics = evaluator.score(results)
    return {name: round(value, 4) for name, value in metrics.items() if name in ("AP", "AP50", "AR")} | reasons


def perfect_people(
    people: npt.NDArray[np.float32], size: tuple[int, int], resolution: int, dataset: PoseDataset
) -> PosePredictions:
    """The people that evaluation makes of perfect outputs for an image of ``size`` (width, height)."""
    settings, transform = InferenceSettings(), input_transform(*size, resolution)
    width, height = resized_size(*size, resolution)
    moved = people.copy()
    moved[..., :2] = transform.to_input(people[..., :2])
    outputs = ideal_outputs(moved, (height, width))
    images = {1.0: torch.zeros(1, 3, height, width)}
    ((heat, tags),) = predict_maps(lambda _: outputs, images, dataset.keypoints, flip_test=False)
    poses, scores = group(heat, tags, matching=settings.matching)
    seen = poses[..., 2] > 0
    poses[seen, :2] = transform.to_image(poses[seen, :2])
    return PosePredictions(poses, scores)


def judged(
    found: PosePredictions,
    truth: list[dict[str, Any]],
    scale: float,
    resolution: int,
    size: tuple[int, int],
    dataset: PoseDataset,
) -> list[str]:
    """Why each labelled person of an image is found with OKS 0.95 or not."""
    if not truth:
        return []
    people = np.array([one["keypoints"] for one in truth], np.float64).reshape(len(truth), -1, 3)
    areas, boxes = np.array([one["area"] for one in truth], np.float64), np.array([one["bbox"] for one in truth])
    close = similarities(found.poses[..., :2].astype(np.float64), people, areas, boxes, dataset.keypoints)
    best = close.max(axis=0) if len(found.poses) else np.zeros(len(truth))
    points = input_transform(*size, resolution).to_input(people[..., :2])
    width, height = resized_size(*size, resolution)
    labelled = people[..., 2] > 0
    inside = np.asarray(((points >= 0) & (points < (width, height))).all(axis=2))
    sigmas = np.array(dataset.keypoints.sigmas)
    collides = has_near_twin(points, labelled)
    reasons = []
    for number, is_labelled in enumerate(labelled):
        safe = smallest_safe_side(tuple(sigmas[is_labelled]))
        if best[number] >= 0.95:
            reasons.append("found")
        elif (is_labelled & ~inside[number]).any():
            reasons.append("beyond the input")
        elif collides[number]:
            reasons.append("has_near_twin")
        elif np.sqrt(areas[number]) / scale < safe:
            reasons.append("small")
        else:
            reasons.append("beside colliding" if collides.any() else "unexplained")
    return reasons


if __name__ == "__main__":
    main()
