"""Made-up ground truth and detections, and the AP that the official evaluation gives them."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.golden.crowdpose_eval_recipe import detections, ground_truth

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "crowdpose_eval.json").read_text())
TRUTH = ground_truth()
FOUND = detections(TRUTH, 0.06)
GOLDEN_AP = GOLDEN["levels"]["0.06"]["AP"]


def coco_like(num_images: int, seed: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Made-up COCO people with areas, crowds and unlabelled people, and up to 25 detections of a picture."""
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
