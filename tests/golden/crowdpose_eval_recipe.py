"""Made-up CrowdPose ground truth and detections behind ``crowdpose_eval.json`` (``RandomState``, frozen streams)."""

from typing import Any

import numpy as np

KEYPOINTS = [
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
    "head",
    "neck",
]


def ground_truth(num_images: int = 60, seed: int = 0) -> dict[str, Any]:
    """COCO-style dictionary in CrowdPose's annotation format (no ``area``; ``crowdIndex`` per image)."""
    r = np.random.RandomState(seed)
    images, annotations, next_id = [], [], 1
    for i in range(num_images):
        image = {
            "id": 1000 + i,
            "file_name": f"{1000 + i}.jpg",
            "width": 640,
            "height": 480,
            "crowdIndex": round(float(r.uniform(0, 1)), 2),
        }
        images.append(image)
        for _ in range(int(r.randint(1, 9))):
            w, h = r.uniform(30, 200), r.uniform(60, 300)
            x, y = r.uniform(0, 640 - w), r.uniform(0, max(1.0, 480 - h))
            v = r.choice([0, 1, 2], size=14, p=[0.15, 0.2, 0.65])
            k = np.zeros((14, 3), int)
            k[:, 0] = np.round(x + r.uniform(0, 1, 14) * w)
            k[:, 1] = np.round(y + r.uniform(0, 1, 14) * h)
            k[:, 2] = v
            k[v == 0] = 0
            u = r.uniform()
            if u < 0.05:  # nobody labelled: ignored by the evaluation
                k[:] = 0
            num = int((k[:, 2] == 2).sum())
            if 0.05 <= u < 0.08:  # labelled joints but num_keypoints 0: ignored too
                k[:, 2] = np.minimum(k[:, 2], 1)
                num = 0
            annotations.append(
                {
                    "id": next_id,
                    "image_id": image["id"],
                    "category_id": 1,
                    "iscrowd": int(0.08 <= u < 0.11),
                    "num_keypoints": num,
                    "keypoints": [int(t) for t in k.ravel()],
                    "bbox": [round(float(t), 2) for t in (x, y, w, h)],
                }
            )
            next_id += 1
    category = {"supercategory": "person", "id": 1, "name": "person", "skeleton": [], "keypoints": KEYPOINTS}
    return {"images": images, "annotations": annotations, "categories": [category]}


def detections(truth: dict[str, Any], level: float, seed: int = 0) -> list[dict[str, Any]]:
    """COCO results: truth jittered by N(0, level * sqrt(0.53 w h)), with misses, duplicates and false positives."""
    r = np.random.RandomState(seed)
    out: list[dict[str, Any]] = []
    for a in truth["annotations"]:
        k = np.array(a["keypoints"], float).reshape(-1, 3)
        x, y, w, h = a["bbox"]
        s = np.sqrt(max(w * h * 0.53, 1.0))
        u = r.uniform(size=4)
        noise = r.normal(size=(2, 14, 2))
        fill = r.uniform(size=(14, 2))
        score = r.uniform(size=2)
        xy = np.where((k[:, 2] > 0)[:, None], k[:, :2], np.array([x, y]) + fill * np.array([w, h]))

        def put(points: np.ndarray, value: float, image_id: int = a["image_id"]) -> None:
            flat = [v for q in points for v in (round(float(q[0]), 2), round(float(q[1]), 2), 1.0)]
            out.append({"image_id": image_id, "category_id": 1, "score": round(float(value), 2), "keypoints": flat})

        if u[0] > 0.08:
            put(xy + noise[0] * level * s, 0.3 + 0.7 * score[0])
        if u[1] < 0.10:
            put(xy + noise[1] * (level + 0.05) * s, 0.6 * score[1])
        if u[2] < 0.12:
            put(np.array([x, y]) + (fill[::-1] * 1.6 - 0.3) * np.array([w, h]), 0.5 * u[3])
    return out
