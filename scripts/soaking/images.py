"""Images on disk on which APs of barely trained subnets differ, so that the search has a choice."""

from pathlib import Path

from supernet.io import files
from supernet.pose.drawing import save_image
from supernet.pose.keypoints import COCO
from supernet.pose.synthetic.dataset import SyntheticPeople

SIDE = 96
NUM_IMAGES = {"train": 16, "val": 6, "test": 6}
SIGMA = 1.0
"""OKS sigma of every keypoint: so large that any detection near a person counts partly."""
DATASET = {
    "keypoints": {"name": "soak", "sigmas": [SIGMA] * COCO.num, "skeleton": []},
    **{split: {"annotations": f"{split}.json", "images": split, "only_with_people": False} for split in NUM_IMAGES},
}
"""Options of ``conf/dataset/custom.yaml`` for these images, except the root."""


def write_images(root: Path) -> None:
    """Write images of built-in people to ``root``, with annotations in COCO's format."""
    category = {"id": 1, "name": "person", "keypoints": list(COCO.names), "skeleton": []}
    for seed, (split, num_images) in enumerate(NUM_IMAGES.items(), start=1):
        people = SyntheticPeople(COCO, num_images, seed, SIDE, SIDE)
        images = []
        for index, image_id in enumerate(people.image_ids):
            name = f"{image_id}.png"
            save_image(root / split / name, people[index].image)
            images.append({"id": int(image_id), "file_name": name, "width": SIDE, "height": SIDE})
        truth = {"images": images, "annotations": people.ground_truth()["annotations"], "categories": [category]}
        files.write_json(root / f"{split}.json", truth)
