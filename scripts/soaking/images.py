"""Images on disk whose APs differ between subnets that have hardly been trained, so that a search has to choose."""

from pathlib import Path

from supernet.io import files
from supernet.pose.drawing import save_image
from supernet.pose.keypoints import COCO
from supernet.pose.synthetic.dataset import SyntheticPeople

SIDE = 96
NUM_IMAGES = {"train": 16, "val": 6, "test": 6}
SIGMA = 1.0
"""Of every keypoint, for AP: so wide that what is found anywhere near a person is right in part."""
SET = {
    "keypoints": {"name": "soak", "sigmas": [SIGMA] * COCO.num, "skeleton": []},
    **{split: {"annotations": f"{split}.json", "images": split, "only_with_people": False} for split in NUM_IMAGES},
}
"""What ``conf/dataset/custom.yaml`` is to say of them, but for their root."""


def write_images(root: Path) -> None:
    """Draw built-in people into ``root``, with annotations in COCO's format."""
    category = {"id": 1, "name": "person", "keypoints": list(COCO.names), "skeleton": []}
    for seed, (split, number) in enumerate(NUM_IMAGES.items(), start=1):
        drawn = SyntheticPeople(COCO, number, seed, SIDE, SIDE)
        images = []
        for index, image_id in enumerate(drawn.image_ids):
            name = f"{image_id}.png"
            save_image(root / split / name, drawn[index].image)
            images.append({"id": int(image_id), "file_name": name, "width": SIDE, "height": SIDE})
        truth = {"images": images, "annotations": drawn.ground_truth()["annotations"], "categories": [category]}
        files.write_json(root / f"{split}.json", truth)
