"""Images that differ in their grey level, and a network that recognises them by it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scripts.benchmarks.ideal_outputs import ideal_outputs
from supernet.pose.data.pose_dataset import PoseSample
from supernet.pose.geometry import IMAGENET_MEAN, IMAGENET_STD, input_transform
from supernet.pose.keypoints import COCO, KeypointSet

SIZES = [(640, 480), (480, 640), (500, 375), (427, 640)]


class GreyImages:
    """Images of one grey level each, by which a network can identify them, with invented people side by side."""

    def __init__(self, num_images: int, keypoints: KeypointSet = COCO, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.keypoints = keypoints
        self.image_ids: Sequence[int] = [1000 + index for index in range(num_images)]
        self.sizes = [SIZES[rng.integers(len(SIZES))] for _ in range(num_images)]
        self.people = [self._people(rng, *size) for size in self.sizes]

    def _people(self, rng: np.random.Generator, width: int, height: int) -> npt.NDArray[np.float32]:
        num_people = int(rng.integers(1, 4))
        column = width / num_people
        people = np.zeros((num_people, self.keypoints.num, 3), np.float32)
        for index, person in enumerate(people):
            size = rng.uniform([0.7 * column, 0.5 * height], [0.9 * column, 0.9 * height])
            corner = np.array([index * column, 0]) + rng.uniform(0, [column - size[0], height - size[1]])
            person[:, :2] = corner + rng.uniform(0, 1, (self.keypoints.num, 2)) * size
            person[:, 2] = rng.choice([0, 1, 2], self.keypoints.num, p=[0.1, 0.1, 0.8])
            person[person[:, 2] == 0] = 0
        return people

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, index: int) -> PoseSample:
        width, height = self.sizes[index]
        image = np.full((height, width, 3), 2 * index + 1, np.uint8)
        return PoseSample(image, self.people[index], np.ones((height, width), bool), self.image_ids[index])

    def ground_truth(self) -> dict[str, Any]:
        annotations: list[dict[str, Any]] = []
        for image_id, people in zip(self.image_ids, self.people, strict=True):
            for person in people:
                seen = person[person[:, 2] > 0, :2]
                corner, size = seen.min(axis=0), np.ptp(seen, axis=0)
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": image_id,
                        "category_id": 1,
                        "iscrowd": 0,
                        "num_keypoints": len(seen),
                        "keypoints": person.ravel().tolist(),
                        "bbox": [*corner.tolist(), *size.tolist()],
                        "area": float(0.53 * size.prod()),
                    }
                )
        images = [
            {"id": image_id, "width": width, "height": height}
            for image_id, (width, height) in zip(self.image_ids, self.sizes, strict=True)
        ]
        return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}


class Oracle:
    """A network with perfect outputs for each image of a data set, which it identifies by its grey level."""

    def __init__(self, dataset: GreyImages, resolution: int, noise: float = 0.0) -> None:
        self.dataset, self.resolution, self.noise = dataset, resolution, noise
        self.batch_sizes: list[int] = []

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        assert images.dtype == torch.float32
        assert images.is_contiguous(memory_format=torch.channels_last)
        self.batch_sizes.append(len(images))
        height, width = images.shape[2:]
        lows, highs = [], []
        for image in images:
            grey = (image[0, height // 2, width // 2] * IMAGENET_STD[0] + IMAGENET_MEAN[0]) * 255
            index = round((float(grey) - 1) / 2)
            people = self.dataset.people[index].copy()
            people[..., :2] = input_transform(*self.dataset.sizes[index], self.resolution).to_input(people[..., :2])
            low, high = ideal_outputs(people, (height, width))
            noise = torch.Generator().manual_seed(index)
            lows.append(low + self.noise * torch.randn(low.shape, generator=noise))
            highs.append(high + self.noise * torch.randn(high.shape, generator=noise))
        return torch.cat(lows), torch.cat(highs)
