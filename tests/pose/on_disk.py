"""Built-in people written to disk as a data set of one's own: five keypoints, new names, a category of its own."""

import json
from pathlib import Path
from typing import Any

import cv2

from supernet.pose.keypoints import KeypointSet
from supernet.pose.synthetic import SyntheticPeople

SOURCE = KeypointSet(
    "source", ("nose", "right_wrist", "left_wrist", "left_ankle", "right_ankle"), (0.05,) * 5, ((2, 1), (3, 4)), ()
)
NAMES = ["Snout", "RHand", "LHand", "LFoot", "RFoot"]
CATEGORY = {"id": 7, "name": "dancer", "keypoints": NAMES, "skeleton": [[1, 2], [1, 3]]}


def write_people(root: Path, num_images: int, seed: int, pictures: str = "pictures") -> dict[str, Any]:
    """Write ``num_images`` pictures of 96 x 96 to ``root``/``pictures`` and return their annotations."""
    people = SyntheticPeople(SOURCE, num_images, seed, 96, 96)
    content = people.ground_truth()
    (root / pictures).mkdir(parents=True)
    for index, image in enumerate(content["images"]):
        cv2.imwrite(str(root / pictures / image["file_name"]), people[index].image[..., ::-1])
    for each in content["annotations"]:
        each["category_id"] = CATEGORY["id"]
    return {**content, "categories": [CATEGORY, {"id": 8, "name": "dog"}]}


def write_custom_set(root: Path, num_images: int = 8) -> dict[str, Any]:
    """Write a set with the splits train and val to ``root``; returns what conf/dataset/custom.yaml would say."""
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
