"""Images that a network can tell apart by their grey, and a network that knows them."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from scripts.benchmarks.ideal_outputs import ideal_outputs
from subnet_export import predict
from supernet.pose.data.pose_dataset import PoseSample
from supernet.pose.drawing import save_image
from supernet.pose.geometry import IMAGENET_MEAN, IMAGENET_STD, input_transform
from supernet.pose.keypoints import COCO, KeypointSet

SIZES = [(640, 480), (480, 640), (500, 375), (427, 640)]


class GreyImages:
    """Images of one grey each, by which a network can tell them apart, with made-up people beside each other."""

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
    """A network that knows its data set: perfect outputs for the image whose grey it sees."""

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


Image = npt.NDArray[np.uint8]


def run(monkeypatch: pytest.MonkeyPatch, model: Path, *arguments: object) -> int:
    """Call the entry point as from a command line; returns its exit status."""
    monkeypatch.setattr(sys, "argv", ["predict", "--device", "cpu", "--model", str(model), *map(str, arguments)])
    try:
        predict.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def noise(seed: int = 0, height: int = 120, width: int = 160) -> Image:
    """Noise; the untrained network of the fixtures finds people in it."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def write_images(folder: Path, names: list[str]) -> list[Image]:
    """Write a different image of noise under each name and return them; those of PNG files come back exactly."""
    images = [noise(seed) for seed in range(len(names))]
    for name, image in zip(names, images, strict=True):
        save_image(folder / name, image)
    return images


def write_video(path: Path, num_frames: int, size: tuple[int, int] = (96, 64), fps: float = 5.0) -> None:
    """Write a video of ``size`` (width, height), each frame of one grey and lighter than the one before."""
    codec = cv2.VideoWriter.fourcc(*("MJPG" if path.suffix == ".avi" else "mp4v"))
    writer = cv2.VideoWriter(str(path), codec, fps, size)
    assert writer.isOpened()
    for number in range(num_frames):
        writer.write(np.full((size[1], size[0], 3), 20 + 10 * (number % 20), np.uint8))
    writer.release()


def read_video(path: Path) -> tuple[list[Image], float]:
    """Frames (H, W, 3), RGB, and frames per second of a video."""
    capture = cv2.VideoCapture(str(path))
    frames: list[Image] = []
    while True:
        whole, image = capture.read()
        if not whole:
            return frames, capture.get(cv2.CAP_PROP_FPS)
        frames.append(np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8))


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "people.jsonl").read_text().splitlines()]


def summary(folder: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return value


def distance(one: Image, other: Image) -> float:
    """Mean difference of two images, which JPEG and video codecs make a few levels."""
    assert one.shape == other.shape
    return float(np.abs(one.astype(int) - other).mean())
