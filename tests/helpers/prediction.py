"""Runs ``python -m subnet_export.predict`` on images and videos of noise or grey, and reads what it wrote."""

import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from subnet_export import predict
from supernet.pose.drawing import save_image

Image = npt.NDArray[np.uint8]


def run(monkeypatch: pytest.MonkeyPatch, model: Path, *arguments: object) -> int:
    """Call the entry point as from a command line; returns its exit status."""
    monkeypatch.setattr(sys, "argv", ["predict", "--device", "cpu", "--model", str(model), *map(str, arguments)])
    try:
        predict.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def lines(folder: Path) -> list[dict[str, Any]]:
    """Return the JSON objects of ``people.jsonl``."""
    return [json.loads(line) for line in (folder / "people.jsonl").read_text().splitlines()]


def summary(folder: Path) -> dict[str, Any]:
    """Return the content of ``summary.json``."""
    value: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return value


def noise(seed: int = 0, height: int = 120, width: int = 160) -> Image:
    """Return an image of noise; the untrained network of the fixtures finds people in it."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def write_images(folder: Path, names: list[str]) -> list[Image]:
    """Write different images of noise and return them; PNG files are read back exactly."""
    images = [noise(seed) for seed in range(len(names))]
    for name, image in zip(names, images, strict=True):
        save_image(folder / name, image)
    return images


def write_video(path: Path, num_frames: int, size: tuple[int, int] = (96, 64), fps: float = 5.0) -> None:
    """Write a video of ``size`` (width, height) with uniform grey frames that get lighter."""
    codec = cv2.VideoWriter.fourcc(*("MJPG" if path.suffix == ".avi" else "mp4v"))
    writer = cv2.VideoWriter(str(path), codec, fps, size)
    assert writer.isOpened()
    for number in range(num_frames):
        writer.write(np.full((size[1], size[0], 3), 20 + 10 * (number % 20), np.uint8))
    writer.release()


def read_video(path: Path) -> tuple[list[Image], float]:
    """Return the frames (H, W, 3), RGB, and the frames per second of a video."""
    capture = cv2.VideoCapture(str(path))
    frames: list[Image] = []
    while True:
        is_read, image = capture.read()
        if not is_read:
            return frames, capture.get(cv2.CAP_PROP_FPS)
        frames.append(np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8))


def distance(first: Image, second: Image) -> float:
    """Return the mean absolute difference of two images; JPEG and video codecs cause a few levels."""
    assert first.shape == second.shape
    return float(np.abs(first.astype(int) - second).mean())


class FakeCamera:
    """A camera that gives a number of images and then fails; with 0 it cannot be opened."""

    def __init__(self, num_frames: int) -> None:
        self.num_left = num_frames
        self.is_opened, self.released = num_frames > 0, False

    def isOpened(self) -> bool:
        return self.is_opened

    def set(self, _: int, __: float) -> bool:
        return True

    def get(self, key: int) -> float:
        return {cv2.CAP_PROP_FPS: float("nan")}.get(key, -1.0)

    def read(self) -> tuple[bool, np.ndarray | None]:
        self.num_left -= 1
        return (True, noise(self.num_left)) if self.num_left >= 0 else (False, None)

    def release(self) -> None:
        self.released = True
