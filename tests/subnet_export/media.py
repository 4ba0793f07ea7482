"""Pictures and videos for the tests of prediction, and a call of its command."""

import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from subnet_export import predict
from supernet.pose.drawing import save_picture

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


def write_pictures(folder: Path, names: list[str]) -> list[Image]:
    """Write a different picture of noise under each name and return them; those of PNG files come back exactly."""
    pictures = [noise(seed) for seed in range(len(names))]
    for name, picture in zip(names, pictures, strict=True):
        save_picture(folder / name, picture)
    return pictures


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
    """Mean difference of two pictures, which JPEG and video codecs make a few levels."""
    assert one.shape == other.shape
    return float(np.abs(one.astype(int) - other).mean())
