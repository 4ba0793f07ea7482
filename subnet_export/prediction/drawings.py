"""Drawings of the people found: an image file per image, a video file per video or camera."""

from contextlib import ExitStack
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from subnet_export.prediction.outputs import Output
from subnet_export.prediction.sources import Frame, Source, check_video_name
from supernet.errors import UserError
from supernet.io import files
from supernet.pose.drawing import contact_sheet, draw_people, draw_people_at, save_image
from supernet.pose.inference import PosePredictions
from supernet.pose.keypoints import KeypointSet

_LEAST_PIXELS = 480
_CODEC = "mp4v"


class Drawings(Output):
    """A JPEG per image and an MP4 per video or camera, in one folder.

    Args:
        folder: Made when there is something to write.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._taken: set[str] = set()
        self._source: Source | None = None
        self._video: _Video | None = None

    def write(self, frame: Frame, drawn: npt.NDArray[np.uint8]) -> str:
        """Write one drawing (H, W, 3) and return the name of the file it is in."""
        if frame.number is None:
            name = self._free_name(frame.source, ".jpg")
            save_image(self._folder / name, drawn)
            return name
        if self._video is None or frame.source is not self._source:
            self._opened.close()  # the video before
            path = self._folder / self._free_name(frame.source, ".mp4")
            self._video, self._source = _Video(path, frame, drawn, self._opened), frame.source
        self._video.write(drawn, frame.time_s)
        return self._video.name

    def _free_name(self, source: Source, suffix: str) -> str:
        stem = {"camera": f"camera_{source.name}", "stdin": "stdin"}.get(source.kind, Path(source.name).stem)
        name, number = f"{stem}{suffix}", 2
        while name.lower() in self._taken:
            name, number = f"{stem}_{number}{suffix}", number + 1
        self._taken.add(name.lower())
        return name


class _Video:
    """A video file that is being written, closed by ``opened``.

    Sides are made even by repeating the last row or column, as the codec needs. A camera's images come as fast as
    they are predicted on, so they are repeated to keep its pace.
    """

    def __init__(self, path: Path, first: Frame, drawn: npt.NDArray[np.uint8], opened: ExitStack) -> None:
        self.name, self._is_live, self._fps = path.name, first.source.kind == "camera", first.fps
        self._size = drawn.shape
        self._last: npt.NDArray[np.uint8] | None = None
        self._written = 0
        check_video_name(path)
        height, width = (side + side % 2 for side in drawn.shape[:2])
        temporary = opened.enter_context(files.atomic(path))
        codec = cv2.VideoWriter.fourcc(*_CODEC)
        self._writer = cv2.VideoWriter(str(temporary), codec, first.fps, (width, height))
        opened.callback(self._close, path, temporary)

    def write(self, drawn: npt.NDArray[np.uint8], time_s: float) -> None:
        if drawn.shape != self._size:  # a stream that changes its size
            drawn = np.asarray(cv2.resize(drawn, self._size[1::-1], interpolation=cv2.INTER_AREA), np.uint8)
        height, width = drawn.shape[:2]
        even = cv2.copyMakeBorder(drawn, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        image = np.asarray(cv2.cvtColor(even, cv2.COLOR_RGB2BGR), np.uint8)
        while self._is_live and self._last is not None and self._written < int(time_s * self._fps):
            self._put(self._last)
        self._put(image)
        self._last = image

    def _close(self, path: Path, temporary: Path) -> None:
        """End the file and see that it can be read, as the writer tells nobody of a full disk."""
        self._writer.release()
        written = cv2.VideoCapture(str(temporary))
        whole = written.isOpened() and written.read()[0]
        written.release()
        if not whole:
            raise UserError(f"cannot write video {path}; free space, choose another folder or give --no-drawings")

    def _put(self, image: npt.NDArray[np.uint8]) -> None:
        self._writer.write(image)
        self._written += 1


def draw_frame(frame: Frame, people: PosePredictions, keypoints: KeypointSet, least: float) -> npt.NDArray[np.uint8]:
    """Draw people on their frame; a small image is enlarged, and the truth, where it is known, stands to the right.

    Frames of a video keep their size.

    Args:
        frame: The image.
        people: Found in it.
        keypoints: The K keypoints of people.
        least: Keypoints of a lower value, which are guesses to complete a person, are not drawn.
    """
    if frame.number is not None:
        return draw_people(frame.image, people.poses, keypoints, least)
    drawn = _enlarged(frame.image, people.poses, keypoints, least)
    if frame.truth is None:
        return drawn
    return contact_sheet([drawn, _enlarged(frame.image, frame.truth, keypoints, 0.0)], 2)


def _enlarged(
    image: npt.NDArray[np.uint8], poses: npt.NDArray[np.floating], keypoints: KeypointSet, least: float
) -> npt.NDArray[np.uint8]:
    """Draw ``poses`` (P, K, 3) on ``image`` (H, W, 3), enlarged by a whole number if it is small."""
    factor = max(1, round(_LEAST_PIXELS / min(image.shape[:2])))
    return draw_people_at(image, poses, keypoints, factor, least)
