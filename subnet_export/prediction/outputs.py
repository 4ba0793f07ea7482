"""Files that a prediction run writes image by image: JSON lines and COCO results.

Memory does not grow with the length of a video or folder. A file is created when its first image is written.
"""

import json
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from subnet_export.prediction.sources import Frame
from supernet.errors import UserError
from supernet.io import files
from supernet.pose.data.pose_dataset import ImageId
from supernet.pose.inference import PosePredictions, as_results


class Output:
    """Base of outputs: opens files when they are first needed, and closes them at the end of a ``with`` block."""

    def __init__(self) -> None:
        self._opened = ExitStack()

    def __enter__(self) -> Self:
        """Return the output itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the open files; after an exception, files that are written all or nothing are discarded."""
        self._opened.__exit__(kind, error, trace)


class JsonLines(Output):
    """Writes one JSON object per line, each at once, so that another program can follow.

    Args:
        target: A new file, or an open stream such as standard output.
    """

    def __init__(self, target: Path | TextIO) -> None:
        super().__init__()
        self._target = target
        self._stream: TextIO | None = None if isinstance(target, Path) else target

    def write(self, value: dict[str, Any]) -> None:
        """Append a line.

        Raises:
            BrokenPipeError: The program that reads standard output has ended.
            UserError: The file cannot be written.
        """
        try:
            if self._stream is None:
                assert isinstance(self._target, Path)
                self._target.parent.mkdir(parents=True, exist_ok=True)
                self._stream = self._opened.enter_context(self._target.open("x", encoding="utf-8"))
            self._stream.write(json.dumps(value, allow_nan=False) + "\n")
            self._stream.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            reason = error.strerror or error
            raise UserError(f"cannot write {self._target}: {reason}; free space or choose another file") from error


class CocoResults(Output):
    """Writes a list of detections in COCO's results format; the file appears complete at the end, or not at all.

    Args:
        path: The new file.
        category_id: Of the people in the data set that the results are for.
    """

    def __init__(self, path: Path, category_id: int | str = 1) -> None:
        super().__init__()
        self._path, self._category_id = path, category_id
        self._file: TextIO | None = None
        self._is_first = True

    def write(self, people: PosePredictions, image_id: ImageId) -> None:
        """Append the people of one image."""
        if self._file is None:
            temporary = self._opened.enter_context(files.atomic(self._path))
            self._file = self._opened.enter_context(temporary.open("w", encoding="utf-8"))
            self._opened.callback(self._file.write, "\n]\n")
            self._file.write("[")
        for result in as_results(people, image_id, self._category_id):
            self._file.write(("\n" if self._is_first else ",\n") + json.dumps(result, allow_nan=False))
            self._is_first = False


def image_record(frame: Frame, people: PosePredictions, image_id: ImageId, drawing: str | None) -> dict[str, Any]:
    """Return the JSON object of one image.

    ``keypoints`` holds x, y in pixels of the image and the heatmap's value for each of K keypoints, all 0 where a
    keypoint was not found.
    """
    height, width = frame.image.shape[:2]
    position = {} if frame.number is None else {"frame": frame.number, "time_s": round(frame.time_s, 3)}
    return {
        "image_id": image_id,
        "source": frame.source.name,
        **position,
        "width": width,
        "height": height,
        "drawing": drawing,
        "people": [
            {"score": round(float(score), 5), "keypoints": [round(float(value), 4) for value in pose.ravel()]}
            for pose, score in zip(people.poses, people.scores, strict=True)
        ],
    }
