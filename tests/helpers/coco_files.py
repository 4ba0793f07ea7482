"""Data sets in COCO's format: synthetic people on disk as a custom set of five keypoints, and random annotations."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from supernet.pose.keypoints import KeypointSet
from supernet.pose.synthetic.dataset import SyntheticPeople
from tests.golden.crowdpose_eval_recipe import detections, ground_truth

SOURCE = KeypointSet(
    "source", ("nose", "right_wrist", "left_wrist", "left_ankle", "right_ankle"), (0.05,) * 5, ((2, 1), (3, 4)), ()
)
NAMES = ["Snout", "RHand", "LHand", "LFoot", "RFoot"]
CATEGORY = {"id": 7, "name": "dancer", "keypoints": NAMES, "skeleton": [[1, 2], [1, 3]]}


def write_people(root: Path, num_images: int, seed: int, images: str = "images") -> dict[str, Any]:
    """Write ``num_images`` images of 96 x 96 to ``root``/``images`` and return their annotations."""
    people = SyntheticPeople(SOURCE, num_images, seed, 96, 96)
    content = people.ground_truth()
    (root / images).mkdir(parents=True)
    for index, image in enumerate(content["images"]):
        cv2.imwrite(str(root / images / image["file_name"]), people[index].image[..., ::-1])
    for person in content["annotations"]:
        person["category_id"] = CATEGORY["id"]
    return {**content, "categories": [CATEGORY, {"id": 8, "name": "dog"}]}


def write_custom_set(root: Path, num_images: int = 8) -> dict[str, Any]:
    """Write a data set with the splits train and val to ``root``; return its description (conf/dataset/custom.yaml)."""
    for seed, split in enumerate(("train", "val"), start=1):
        content = write_people(root, num_images, seed, split)
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"{split}.json").write_text(json.dumps(content))
    splits = {
        name: {"annotations": f"annotations/{split}.json", "images": split, "only_with_people": split == "train"}
        for name, split in (("train", "train"), ("val", "val"), ("test", "val"))
    }
    keypoints = {"name": "dancers", "sigmas": [0.05, 0.06, 0.06, 0.08, 0.08]}
    return {"kind": "coco", "keypoints": keypoints, "root": str(root), "category": "dancer", **splits}


def rewrite(root: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the annotation files of both splits."""
    for split in ("train", "val"):
        path = root / "annotations" / f"{split}.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))


def reorder_keypoints(content: dict[str, Any]) -> None:
    content["categories"][0] = {**CATEGORY, "keypoints": [*NAMES[1:], NAMES[0]]}


def remove_images(content: dict[str, Any]) -> None:
    content["images"] = content["images"][:5]
    kept = {image["id"] for image in content["images"]}
    content["annotations"] = [person for person in content["annotations"] if person["image_id"] in kept]


def remove_skeleton(content: dict[str, Any]) -> None:
    del content["categories"][0]["skeleton"]


GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "crowdpose_eval.json").read_text())
TRUTH = ground_truth()
DETECTIONS = detections(TRUTH, 0.06)
GOLDEN_AP = GOLDEN["levels"]["0.06"]["AP"]


def coco_like(num_images: int, seed: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return random COCO people with areas, crowds and unlabelled people, and up to 25 detections per image."""
    rng = np.random.default_rng(seed)
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for image_id in range(1, num_images + 1):
        for _ in range(rng.integers(0, 5)):
            x, y, width, height = rng.uniform([0, 0, 20, 20], [400, 300, 200, 180])
            points = np.zeros((17, 3))
            points[:, :2] = [x, y] + rng.uniform(0, 1, (17, 2)) * [width, height]
            points[:, 2] = 0 if rng.random() < 0.1 else rng.integers(0, 3, 17)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": 1,
                    "iscrowd": int(rng.random() < 0.05),
                    "num_keypoints": int((points[:, 2] > 0).sum()),
                    "keypoints": points.ravel().tolist(),
                    "bbox": [x, y, width, height],
                    "area": 0.6 * width * height,
                }
            )
            for _ in range(rng.integers(0, 7)):
                noisy = points + rng.normal(0, rng.choice([2, 8, 30]), points.shape)
                noisy[:, 2] = 1
                score = round(float(rng.random()), 1)
                results.append(
                    {"image_id": image_id, "category_id": 1, "score": score, "keypoints": noisy.ravel().tolist()}
                )
    images = [{"id": image_id, "width": 640, "height": 480} for image_id in range(1, num_images + 1)]
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}, results
