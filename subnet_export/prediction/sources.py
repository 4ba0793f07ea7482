"""Where images to predict on come from: files, folders, patterns, videos, a camera, standard input."""

import glob
import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from supernet.errors import UserError
from supernet.pose.data.image_decoding import decode_image, read_image

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".gif")
STANDARD_INPUT = "-"
MOST_ELONGATED = 16
"""Longest side over shortest; beyond, the network's input would need gigabytes."""
_DEFAULT_FPS = 25.0
_MISSING_SHARE = 0.1
"""Frames that a video may have less than it announces, which is often a guess from its length."""
# What goes wrong is told in a sentence of ours, which lines of these libraries would only surround. The first is read
# when the first video is opened.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


@dataclass(frozen=True)
class Source:
    """One image, video, camera or standard input.

    Attributes:
        name: Path of the file, number of the camera, or "-".
        kind: What it is.
    """

    name: str
    kind: Literal["image", "video", "camera", "stdin"]


@dataclass(frozen=True, eq=False)
class Frame:
    """One image, alone or of a video.

    Attributes:
        source: Where it came from.
        image: (H, W, 3) uint8, RGB, upright.
        number: Its number in its video, from 0; None for an image.
        time_s: Seconds since the video's start.
        fps: Frames per second of its video.
        num_frames: Frames that its video announces, often a guess; 0 if it does not.
        truth: (P, K, 3) annotated people, where they are known.
    """

    source: Source
    image: npt.NDArray[np.uint8]
    number: int | None = None
    time_s: float = 0.0
    fps: float = _DEFAULT_FPS
    num_frames: int = 0
    truth: npt.NDArray[np.float32] | None = None


def list_sources(places: Sequence[str]) -> list[Source]:
    """Return what the places of a command line name, folders and patterns taken apart in the order of names.

    A number is a camera unless there is such a file.

    Raises:
        UserError: A folder or pattern holds nothing to predict on, or a camera or standard input is not alone.
    """
    found: list[Source] = []
    for place in places:
        if place == STANDARD_INPUT:
            found.append(Source(place, "stdin"))
        elif os.path.isdir(place):
            found += _usable(sorted(os.path.join(place, name) for name in os.listdir(place)), f"folder {place}")
        elif not os.path.exists(place) and place.isdecimal():
            found.append(Source(place, "camera"))
        elif not os.path.exists(place) and any(sign in place for sign in "*?["):
            found += _usable(sorted(glob.glob(place, recursive=True)), f"pattern {place}")
        else:
            found.append(Source(place, _kind(place)))
    for kind, name in (("camera", "a camera"), ("stdin", "standard input (-)")):
        if len(found) > 1 and any(source.kind == kind for source in found):
            raise UserError(f"{name} cannot be combined with other images; give it alone")
    return found


def frames(source: Source) -> Iterator[Frame]:
    """Yield the images of ``source`` as they are read.

    Raises:
        UserError: It cannot be read (further), or an image is far too long for its width.
    """
    if source.kind == "image":
        found = iter([Frame(source, read_image(source.name, upright=True))])
    elif source.kind == "stdin":
        found = iter([_piped(source)])
    else:
        found = _video(source)
    for frame in found:
        height, width = frame.image.shape[:2]
        if max(height, width) > MOST_ELONGATED * min(height, width):
            raise UserError(
                f"{source.kind} {source.name} is {width} x {height} pixels, more than {MOST_ELONGATED} times as long "
                "on one side as on the other; crop it"
            )
        yield frame


def check_video_name(path: str | Path) -> None:
    """Raise UserError if OpenCV would crash on the path of a video, read or written: one that is not UTF-8."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise UserError(f"video {str(path)!a} has a name that is not UTF-8; rename it") from error


def _kind(path: str) -> Literal["image", "video"]:
    return "video" if path.lower().endswith(VIDEO_SUFFIXES) else "image"


def _usable(paths: list[str], where: str) -> list[Source]:
    """Return the images and videos among ``paths``, hidden files left out."""
    suffixes = IMAGE_SUFFIXES + VIDEO_SUFFIXES
    chosen = [path for path in paths if path.lower().endswith(suffixes) and not os.path.basename(path).startswith(".")]
    if not chosen:
        raise UserError(f"{where} holds no image or video ({', '.join(suffixes)}); name another")
    return [Source(path, _kind(path)) for path in chosen]


def _piped(source: Source) -> Frame:
    if sys.stdin.isatty():
        raise UserError("standard input is a terminal; pipe the bytes of an image into it")
    return Frame(source, decode_image(sys.stdin.buffer.read(), "on standard input", upright=True))


def _video(source: Source) -> Iterator[Frame]:
    is_camera = source.kind == "camera"
    if not is_camera and not Path(source.name).is_file():
        raise UserError(f"cannot read video {source.name}: there is no such file; check the path")
    check_video_name(source.name)
    capture = cv2.VideoCapture(int(source.name) if is_camera else source.name)
    try:
        if not capture.isOpened():
            raise UserError(
                f"camera {source.name} cannot be opened; see that it is plugged in and free, or give another number"
                if is_camera
                else f"video {source.name} cannot be opened (damaged, or of a kind that OpenCV does not read); convert "
                "it to MP4 or leave it out"
            )
        if is_camera:
            capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # old images would come late
        told = capture.get(cv2.CAP_PROP_FPS)
        fps = told if math.isfinite(told) and 0 < told <= 1000 else _DEFAULT_FPS
        announced = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        began, number = time.perf_counter(), 0
        while True:
            whole, image = capture.read()
            if not whole:
                break
            time_s = time.perf_counter() - began if is_camera else number / fps
            rgb = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
            yield Frame(source, rgb, number, time_s, fps, announced)
            number += 1
        _check_end(source, number, announced)
    finally:
        capture.release()


def _check_end(source: Source, number: int, announced: int) -> None:
    """Raise UserError if a video ended where it should not."""
    if source.kind == "camera":
        raise UserError(f"camera {source.name} gives no more images after {number}; see that it is still plugged in")
    if number == 0:
        raise UserError(f"video {source.name} has no frame that can be read; convert it to MP4 or leave it out")
    if number < announced * (1 - _MISSING_SHARE):
        raise UserError(f"video {source.name} ends after {number} of {announced} frames (damaged); fetch it again")
