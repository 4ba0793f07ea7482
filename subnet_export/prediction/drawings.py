"""Draws the detected people: an image file per image, a video file per video or camera."""

import os
from contextlib import ExitStack
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from subnet_export.prediction.outputs import Output
from subnet_export.prediction.people import draw_enlarged
from subnet_export.prediction.sources import Frame, Source, check_video_name
from supernet.errors import UserError
from supernet.io import files
from supernet.pose.drawing import contact_sheet, draw_people, save_image
from supernet.pose.inference import PosePredictions
from supernet.pose.keypoints import KeypointSet

_CODEC = "mp4v"
_MOST_BYTES = 200
"""Of a source's name in that of its drawing: file systems allow 255, and a file being written has a longer name."""


class Drawings(Output):
    """Writes a JPEG per image and an MP4 per video or camera, all in one folder.

    Args:
        folder: Created with the first file.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._used_names: set[str] = set()
        self._source: Source | None = None
        self._video: _Video | None = None

    def write(self, frame: Frame, drawn: npt.NDArray[np.uint8]) -> str:
        """Write one drawing (H, W, 3) and return the name of its file."""
        if frame.number is None:
            name = self._free_name(frame.source, ".jpg")
            save_image(self._folder / name, drawn)
            return name
        if self._video is None or frame.source is not self._source:
            self._opened.close()  # ends the previous video
            path = self._folder / self._free_name(frame.source, ".mp4")
            self._video, self._source = _Video(path, frame, drawn, self._opened), frame.source
        self._video.write(drawn, frame)
        return self._video.name

    def _free_name(self, source: Source, suffix: str) -> str:
        stem = {"camera": f"camera_{source.name}", "stdin": "stdin"}.get(source.kind, Path(source.name).stem)
        if len(encoded := os.fsencode(stem)) > _MOST_BYTES:
            stem = encoded[:_MOST_BYTES].decode(errors="ignore")
        name, number = f"{stem}{suffix}", 2
        while name.lower() in self._used_names:
            name, number = f"{stem}_{number}{suffix}", number + 1
        self._used_names.add(name.lower())
        return name


class _Video:
    """A video file that is being written; ``opened`` closes it.

    The codec needs even sides, so the last row or column is repeated if necessary. A camera's images come at the speed
    of prediction, so they are repeated to keep the video in real time.
    """

    def __init__(self, path: Path, first: Frame, drawn: npt.NDArray[np.uint8], opened: ExitStack) -> None:
        self.name, self._is_live, self._fps = path.name, first.source.kind == "camera", first.fps
        self._size = drawn.shape
        self._last: npt.NDArray[np.uint8] | None = None
        self._num_written = 0
        check_video_name(path)
        height, width = (side + side % 2 for side in drawn.shape[:2])
        temporary = opened.enter_context(files.atomic(path))
        codec = cv2.VideoWriter.fourcc(*_CODEC)
        self._writer = cv2.VideoWriter(str(temporary), codec, first.fps, (width, height))
        opened.callback(self._close, path, temporary)

    def write(self, drawn: npt.NDArray[np.uint8], frame: Frame) -> None:
        if drawn.shape != self._size:  # some streams change their size
            drawn = np.asarray(cv2.resize(drawn, self._size[1::-1], interpolation=cv2.INTER_AREA), np.uint8)
        height, width = drawn.shape[:2]
        even = cv2.copyMakeBorder(drawn, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        image = np.asarray(cv2.cvtColor(even, cv2.COLOR_RGB2BGR), np.uint8)
        while self._is_live and self._last is not None and self._num_written < int(frame.time_s * self._fps):
            self._put(self._last)
        for _ in range(frame.repeats):
            self._put(image)
        self._last = image

    def _close(self, path: Path, temporary: Path) -> None:
        """Finish the file and check that it can be read, as OpenCV's writer does not report a full disk."""
        self._writer.release()
        capture = cv2.VideoCapture(str(temporary))
        is_readable = capture.isOpened() and capture.read()[0]
        capture.release()
        if not is_readable:
            raise UserError(f"cannot write video {path}; free space, choose another folder or give --no-drawings")

    def _put(self, image: npt.NDArray[np.uint8]) -> None:
        self._writer.write(image)
        self._num_written += 1


def draw_frame(
    frame: Frame, people: PosePredictions, keypoints: KeypointSet, threshold: float
) -> npt.NDArray[np.uint8]:
    """Draw people on their frame. A small image is enlarged, and annotated people, if known, are drawn to the right.

    Frames of a video keep their size.

    Args:
        frame: The image.
        people: The people detected in it.
        keypoints: The K keypoints of people.
        threshold: Keypoints up to this value, many of them guesses that complete a person, are not drawn.
    """
    if frame.number is not None:
        return draw_people(frame.image, people.poses, keypoints, threshold)
    drawn = draw_enlarged(frame.image, people.poses, keypoints, threshold)
    if frame.truth is None:
        return drawn
    return contact_sheet([drawn, draw_enlarged(frame.image, frame.truth, keypoints, 0.0)], 2)
