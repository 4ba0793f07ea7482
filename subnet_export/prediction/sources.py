"""Reads the images to predict on: from files, folders, patterns, videos, a camera or standard input."""

import glob
import logging
import math
import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
import PIL.Image

from supernet.errors import UserError
from supernet.pose.data.image_decoding import (
    IMAGE_SUFFIXES,
    MAX_ASPECT_RATIO,
    MAX_PIXELS,
    decode_image,
    read_image,
)

logger = logging.getLogger(__name__)

VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".gif")
STANDARD_INPUT = "-"
_DEFAULT_FPS = 25.0
_GIF_FPS = 10.0
"""Of a GIF without delays, as browsers show it."""
_GIF_STEP_MS = 40
"""Frames that are all shown for longer need no finer rate in a drawn video."""
_MISSING_SHARE = 0.1
"""Share of the announced frames that a video may lack: the number is often an estimate from its length."""
# Silences OpenCV and FFmpeg, as errors are reported by this module. FFmpeg reads the variable when it opens the first
# video.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


@dataclass(frozen=True)
class Source:
    """An image, a video, a camera or standard input.

    Attributes:
        name: Path of the file, number of the camera, or "-".
        kind: Kind of source.
        upright: Whether an image is turned as its EXIF orientation says.
    """

    name: str
    kind: Literal["image", "video", "camera", "stdin"]
    upright: bool = True


@dataclass(frozen=True, eq=False)
class Frame:
    """An image, or a frame of a video or camera.

    Attributes:
        source: Where it comes from.
        image: (H, W, 3) uint8, RGB.
        number: Frame number from 0; None for an image.
        time_s: Seconds since the video's start.
        fps: Frames per second of the video.
        num_frames: Number of frames that the video announces, often an estimate; 0 if it announces none.
        repeats: How often it is shown at this rate; more than once in a GIF, whose frames have times of their own.
        truth: (P, K, 3) annotated people, if they are known.
    """

    source: Source
    image: npt.NDArray[np.uint8]
    number: int | None = None
    time_s: float = 0.0
    fps: float = _DEFAULT_FPS
    num_frames: int = 0
    repeats: int = 1
    truth: npt.NDArray[np.float32] | None = None


def list_sources(places: Sequence[str]) -> list[Source]:
    """Return the sources that a command line names; folders and patterns give their files in the order of names.

    A number is a camera unless a file has that name.

    Raises:
        UserError: A folder or pattern has no image or video, or a camera or standard input is combined with others.
    """
    sources: list[Source] = []
    for place in places:
        if place == STANDARD_INPUT:
            sources.append(Source(place, "stdin"))
        elif os.path.isdir(place):
            sources += _of_folder(place)
        elif re.match(r"[a-z][a-z0-9+.-]+://", place, re.IGNORECASE):
            raise UserError(f"{place} is an address, and nothing is read from a network; download it and name the file")
        elif not os.path.exists(place) and place.isdecimal():
            sources.append(Source(place, "camera"))
        elif not os.path.exists(place) and any(sign in place for sign in "*?["):
            sources += _media_files(sorted(glob.glob(_pattern(place), recursive=True)), f"pattern {place}")
        else:
            sources.append(Source(place, _kind(place)))
    for kind, name in (("camera", "a camera"), ("stdin", "standard input (-)")):
        if len(sources) > 1 and any(source.kind == kind for source in sources):
            raise UserError(f"{name} cannot be combined with other images; give it alone")
    return sources


def read_frames(source: Source) -> Iterator[Frame]:
    """Yield the images of ``source`` as they are read.

    Raises:
        UserError: It cannot be read, or not to its end, or an image is too elongated.
    """
    if source.kind == "image":
        frames = iter([Frame(source, read_image(source.name, upright=source.upright))])
    elif source.kind == "stdin":
        frames = iter([_read_standard_input(source)])
    elif source.name.lower().endswith(".gif"):
        frames = _read_gif(source)
    else:
        frames = _read_video(source)
    for frame in frames:
        height, width = frame.image.shape[:2]
        if max(height, width) > MAX_ASPECT_RATIO * min(height, width):  # of a video; that of a file is known before
            raise UserError(
                f"the long side of {source.kind} {source.name} must be at most {MAX_ASPECT_RATIO} times its short "
                f"side, got {width} x {height} pixels; crop it"
            )
        yield frame


def check_video_name(path: str | Path) -> None:
    """Raise UserError if the path of a video is not UTF-8, on which OpenCV crashes, reading or writing."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise UserError(f"video {str(path)!a} has a name that is not UTF-8; rename it") from error


def _kind(path: str) -> Literal["image", "video"]:
    return "video" if path.lower().endswith(VIDEO_SUFFIXES) else "image"


def _pattern(place: str) -> str:
    """Return a pattern in which folders that exist stand for themselves, such as ``dir [1]`` of ``dir [1]/*.jpg``."""
    parts = Path(place).parts
    num = len(parts) - 1
    while num and not os.path.isdir(os.path.join(*parts[:num])):
        num -= 1
    folder = os.path.join("", *parts[:num])
    if not any(sign in folder for sign in "*?["):
        return place
    return os.path.join(glob.escape(folder), *parts[num:])


def _of_folder(folder: str) -> list[Source]:
    """Return the images and videos in a folder, without those in folders in it, of which the user is warned."""
    paths = sorted(os.path.join(folder, name) for name in os.listdir(folder) if not name.startswith("."))
    has_folders = any(map(os.path.isdir, paths))
    pattern = os.path.join(folder, "**", "*")
    try:
        sources = _media_files(paths, f"folder {folder}")
    except UserError as error:
        if not has_folders:
            raise
        raise UserError(
            f"folder {folder} has no image or video itself, but folders; name one, or all as the pattern '{pattern}'"
        ) from error
    if has_folders:
        logger.warning("folders in %s are not read; the pattern '%s' reads all images", folder, pattern)
    return sources


def _media_files(paths: list[str], where: str) -> list[Source]:
    """Return the images and videos among ``paths``, without hidden files."""
    suffixes = IMAGE_SUFFIXES + VIDEO_SUFFIXES
    chosen = [path for path in paths if path.lower().endswith(suffixes) and not os.path.basename(path).startswith(".")]
    if not chosen:
        raise UserError(f"{where} has no image or video ({', '.join(suffixes)}); name another")
    return [Source(path, _kind(path)) for path in chosen]


def _read_standard_input(source: Source) -> Frame:
    if sys.stdin.isatty():
        raise UserError("standard input is a terminal; pipe the bytes of an image into it")
    return Frame(source, decode_image(sys.stdin.buffer.read(), "on standard input", upright=source.upright))


def _read_video(source: Source) -> Iterator[Frame]:
    is_camera = source.kind == "camera"
    if not is_camera and not Path(source.name).is_file():
        raise UserError(f"cannot read video {source.name}: there is no such file; check the path")
    check_video_name(source.name)
    capture = cv2.VideoCapture(int(source.name) if is_camera else source.name)
    try:
        if not capture.isOpened():
            raise UserError(
                f"camera {source.name} cannot be opened; check that it is plugged in and not in use, or give another "
                "number"
                if is_camera
                else f"video {source.name} cannot be opened: it is damaged, or OpenCV does not read its format; "
                "convert it to MP4 or leave it out"
            )
        if is_camera:
            capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # buffered images would be shown late
        fps = capture.get(cv2.CAP_PROP_FPS)
        if not (math.isfinite(fps) and 0 < fps <= 1000):
            fps = _DEFAULT_FPS
        num_announced = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        started, number = time.perf_counter(), 0
        while True:
            is_read, image = capture.read()
            if not is_read:
                break
            time_s = time.perf_counter() - started if is_camera else number / fps
            rgb = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
            yield Frame(source, rgb, number, time_s, fps, num_announced)
            number += 1
        _check_end(source, number, num_announced)
    finally:
        capture.release()


def _read_gif(source: Source) -> Iterator[Frame]:
    """Yield the frames of a GIF; of one without delays, OpenCV's video reader gives the first frame only."""
    number = 0
    try:
        with PIL.Image.open(source.name) as image:
            num_announced = int(getattr(image, "n_frames", 1))
            if image.width * image.height > MAX_PIXELS:
                raise UserError(
                    f"video {source.name} must have at most {MAX_PIXELS:,} pixels, got {image.width} x {image.height}; "
                    "scale it down"
                )
            step_ms = _step_ms(image, num_announced)
            time_ms = 0
            for number in range(num_announced):
                image.seek(number)
                end_ms = time_ms + _delay_ms(image)
                repeats = _num_steps(end_ms, step_ms) - _num_steps(time_ms, step_ms)
                rgb = np.asarray(image.convert("RGB"), np.uint8)
                yield Frame(source, rgb, number, time_ms / 1000, 1000 / step_ms, num_announced, repeats)
                time_ms = end_ms
    except FileNotFoundError as error:
        raise UserError(f"cannot read video {source.name}: there is no such file; check the path") from error
    except (OSError, ValueError, SyntaxError, EOFError, PIL.Image.DecompressionBombError) as error:
        raise UserError(
            f"video {source.name} is damaged: it ends after {number} frames ({error}); restore the file"
        ) from error


def _delay_ms(image: PIL.Image.Image) -> int:
    """Return the milliseconds for which the current frame of a GIF is shown."""
    return int(image.info.get("duration") or 0) or round(1000 / _GIF_FPS)


def _step_ms(image: PIL.Image.Image, num_frames: int) -> int:
    """Return the milliseconds of a frame of a video that shows the frames of a GIF for as long as the GIF does."""
    delays = set()
    with suppress(OSError, ValueError, SyntaxError, EOFError):  # which reading the frames reports
        for number in range(num_frames):
            image.seek(number)
            delays.add(_delay_ms(image))
    return max(math.gcd(*delays), min(_GIF_STEP_MS, *delays)) if delays else _GIF_STEP_MS


def _num_steps(time_ms: int, step_ms: int) -> int:
    """Return the nearest number of steps, halves rounded up: a frame of at least one step always counts."""
    return (2 * time_ms + step_ms) // (2 * step_ms)


def _check_end(source: Source, num_read: int, num_announced: int) -> None:
    """Raise UserError if a camera ended, or a video without frames or far before its announced end."""
    if source.kind == "camera":
        raise UserError(f"camera {source.name} stopped after {num_read} images; check that it is still plugged in")
    if num_read == 0:
        raise UserError(f"video {source.name} has no frame that can be read; convert it to MP4 or leave it out")
    if num_read < num_announced * (1 - _MISSING_SHARE):
        raise UserError(
            f"video {source.name} is damaged: it ends after {num_read} of {num_announced} frames; restore the file"
        )
