"""A supernet and its data set in one folder, for tests of evaluation."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from subnet_export.exported_model import Calibration, ExportedModel, Measurement, Origin
from subnet_export.model import save_model
from supernet.checkpoints.supernet_file import SUPERNET_FILE, load_supernet, save_supernet
from supernet.evaluation.subnet_estimator import subnet_estimator
from supernet.evaluation.subnet_scorer import SubnetScorer
from supernet.pose.coco.dataset import CocoPeople
from supernet.pose.datasets import build
from supernet.pose.drawing import save_image
from supernet.pose.evaluation import evaluate
from supernet.pose.inference import InferenceSettings
from supernet.pose.keypoints import CROWDPOSE
from supernet.pose.synthetic.dataset import SyntheticPeople
from supernet.pose.training.objective import PoseObjective
from supernet.space import SearchSpace
from tests.helpers.spaces import SHALLOW
from tests.helpers.supernets import lively_supernet

SPACE = SearchSpace.from_dict(SHALLOW)
SIZES = [(96, 96), (128, 80), (80, 128), (112, 64)]
PER_SIZE = 3
SETTINGS = InferenceSettings(detection_threshold=0.3, max_people=4)
Json = dict[str, Any]


def write_supernet(root: Path) -> None:
    """Write a supernet of random weights to a folder, its only data set images of several sizes in COCO's layout.

    The images are annotated with the predictions of its smallest subnet, some moved or left out, so that APs lie
    between 0 and 1.
    """
    images: list[Json] = []
    annotations: list[Json] = []
    for seed, (width, height) in enumerate(SIZES):
        drawn = SyntheticPeople(CROWDPOSE, PER_SIZE, seed, width, height)
        truth = drawn.ground_truth()
        for index in range(PER_SIZE):
            image_id = len(images) + 1
            save_image(root / "images" / f"{image_id}.png", drawn[index].image)
            images.append({"id": image_id, "file_name": f"{image_id}.png", "width": width, "height": height})
            for person in truth["annotations"]:
                if person["image_id"] == drawn.image_ids[index]:
                    annotations.append({**person, "id": len(annotations) + 1, "image_id": image_id})
    category = {"id": 1, "name": "person", "keypoints": list(CROWDPOSE.names), "skeleton": []}
    truth = {"images": images, "annotations": annotations, "categories": [category]}
    (root / "truth.json").write_text(json.dumps(truth))

    supernet = lively_supernet(SPACE, CROWDPOSE.num)
    split = {"annotations": "truth.json", "images": "images", "only_with_people": False}
    dataset = {
        "kind": "coco",
        "keypoints": "crowdpose",
        "root": str(root),
        **dict.fromkeys(("train", "val", "test"), split),
    }
    save_supernet(
        root / SUPERNET_FILE, SPACE, supernet.state_dict(), CROWDPOSE, dataset, asdict(SETTINGS), PoseObjective(14)
    )

    people = CocoPeople(root / "truth.json", root / "images", CROWDPOSE, only_with_people=False)
    trained = load_supernet(root)
    evaluation = SubnetScorer(trained.supernet, people, people, SETTINGS, 12, 1)(SPACE.smallest())
    rng = np.random.default_rng(0)
    truth["annotations"] = []
    for result in evaluation.results:
        points = np.array(result["keypoints"]).reshape(-1, 3)
        points[:, :2] += rng.normal(0, rng.choice([0.0, 2.0, 5.0]), (14, 2))
        points[:, 2] = 2
        if rng.random() < 0.8:
            inside = np.clip(points[:, :2], 0, SIZES[(result["image_id"] - 1) // PER_SIZE])
            corner, size = inside.min(axis=0), np.ptp(inside, axis=0)
            truth["annotations"].append(
                {
                    "id": len(truth["annotations"]) + 1,
                    "image_id": result["image_id"],
                    "category_id": 1,
                    "iscrowd": 0,
                    "num_keypoints": 14,
                    "keypoints": points.ravel().tolist(),
                    "bbox": [*corner.tolist(), *size.tolist()],
                }
            )
    (root / "truth.json").write_text(json.dumps(truth))


def export_smallest(folder: Path) -> Path:
    """Export the smallest subnet of that supernet and return the folder of the model."""
    trained = load_supernet(folder)
    images = build(trained.dataset, "test")
    network = SubnetScorer(trained.supernet, images, images, SETTINGS, 12, 4).subnet(SPACE.smallest())
    metrics = evaluate(subnet_estimator(network, CROWDPOSE, SETTINGS, batch_size=4), images).metrics
    model = ExportedModel(
        network,
        CROWDPOSE,
        SETTINGS,
        trained.objective,
        trained.dataset,
        Calibration("train", 12, 64),
        Origin(SPACE.name, SPACE.digest()),
        Measurement("test", 12, metrics),
        {"params": 1, "macs": 1},
    )
    save_model(folder / "model", model)
    return folder / "model"
