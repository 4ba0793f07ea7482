"""Reads and decodes images; rejects damaged, huge and extremely elongated ones."""

import io
import os
import stat
import warnings
from pathlib import Path, PurePath
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
import PIL.Image
import simplejpeg

from supernet.errors import UserError
from supernet.pose.data.exif import orientation_of, start_of_scan, turn

MAX_BYTES: Final = 2**28
"""Largest image file."""
MAX_PIXELS: Final = 2**27
"""Largest image, 134 million pixels or 400 MB decoded; the header of a small file can claim far more."""
MAX_SIDE: Final = 2**15 - 2
"""Longest side, in pixels, that OpenCV 4 resizes."""
MAX_ASPECT_RATIO: Final = 64
"""Largest ratio of long to short side. The network's input has the same ratio: longer strips would fill the memory."""
IMAGE_SUFFIXES: Final = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".avif"),
    *(".jp2", ".j2k", ".ppm", ".pgm", ".pbm", ".pnm"),
)
"""How the names of files end that ``decode_image`` reads: formats that both OpenCV and Pillow know. It looks at the
content, so other names are read too; a GIF as its first frame."""


# Their sizes are checked here, in one sentence that names the image.
warnings.filterwarnings("ignore", category=PIL.Image.DecompressionBombWarning)


class BadImage(UserError):
    """An image that cannot be used.

    Attributes:
        kind: "missing", "undecodable", "damaged", "impossible_size", "wrong_size", "exif" or "segmentation".
    """

    def __init__(self, message: str, kind: str = "undecodable") -> None:
        # A DataLoader worker passes it to its parent as the message alone, so ``kind`` needs a default.
        super().__init__(message)
        self.kind = kind


def read_image(path: str | Path, *, upright: bool = False) -> npt.NDArray[np.uint8]:
    """The image in a file as (H, W, 3) uint8, RGB; see ``decode_image``.

    Raises:
        BadImage: The file is missing or unreadable, or ``decode_image`` rejects it.
    """
    return decode_image(read_bytes(path), str(path), upright=upright)


def read_bytes(path: str | Path, num_bytes: int = -1) -> bytes:
    """The content of an image file, or its first ``num_bytes``.

    Raises:
        BadImage: The file is missing, unreadable, not a file, or larger than ``MAX_BYTES``.
    """
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            if stat.S_ISREG(status.st_mode) and status.st_size > MAX_BYTES:
                raise BadImage(f"image {path} has {status.st_size} bytes; the limit is {MAX_BYTES}", "impossible_size")
            return file.read(num_bytes)
    except (OSError, ValueError) as error:
        if isinstance(error, BadImage):
            raise
        reason = error.strerror if isinstance(error, OSError) else error
        raise BadImage(f"cannot read image {path}: {reason}; check the path", "missing") from error


def decode_image(content: bytes, name: str, *, upright: bool = False, strict: bool = False) -> npt.NDArray[np.uint8]:
    """Decode an image to (H, W, 3) uint8, RGB; grey, CMYK, 16-bit and transparent images are converted.

    Args:
        content: A file in one of the formats of ``IMAGE_SUFFIXES``.
        name: Name of the image in error messages.
        upright: Apply the EXIF orientation. Coordinates of annotated sets may refer to the stored pixels instead.
        strict: Also reject a JPEG with inconsistent data, which decoders otherwise fill in silently.

    Raises:
        BadImage: The content is not an image, damaged, truncated, or of an impossible size.
    """
    is_jpeg = content.startswith(b"\xff\xd8")
    width, height, colour_space = _jpeg_header(content) if is_jpeg else (0, 0, "")
    if not width:
        width, height = _claimed_size(content)
    if not width or not height:  # the decoder might find a huge one
        raise _undecodable(name)
    long_side, short_side = max(width, height), min(width, height)
    if width * height > MAX_PIXELS or long_side > min(MAX_SIDE, MAX_ASPECT_RATIO * short_side):
        raise BadImage(
            f"image {name} is {width} x {height}; at most {MAX_PIXELS} pixels, {MAX_SIDE} on a side, and an aspect "
            f"ratio of {MAX_ASPECT_RATIO} are allowed; scale it down, crop it or remove it",
            "impossible_size",
        )
    # Some decoders silently fill the rest of a truncated JPEG with grey. Scans cannot hold the end marker, but what
    # cameras append to an image can, such as a short film.
    if is_jpeg and content.find(b"\xff\xd9", start_of_scan(content) or content.rfind(b"\xff\xda")) < 0:
        raise BadImage(f"image {name} is truncated (no end-of-image marker); download it again")
    image = _decode(content, name, strict and colour_space in ("YCbCr", "Gray"))
    return turn(image, orientation_of(content)) if upright else image


def _undecodable(name: str) -> BadImage:
    """The error of an image that a decoder rejects without a reason."""
    suffix = PurePath(name).suffix.lower()
    if suffix and suffix not in IMAGE_SUFFIXES:
        formats = ", ".join(IMAGE_SUFFIXES)
        return BadImage(f"image {name} cannot be decoded (not in a known format); convert it: {formats} are read")
    return BadImage(f"image {name} cannot be decoded (damaged, or not an image); download it again or remove it")


def _decode(content: bytes, name: str, strict: bool) -> npt.NDArray[np.uint8]:
    """Decode to RGB, as stored; ``strict`` is for JPEGs in common colour spaces."""
    if strict:
        try:
            # Equal to OpenCV's result to the bit; OpenCV uses the same decoder but hides its warnings.
            return np.asarray(simplejpeg.decode_jpeg(content, strict=True), np.uint8)
        except ValueError as error:
            reason = " ".join(str(error).split())
            raise BadImage(f"image {name} is damaged ({reason}); download it again or remove it", "damaged") from error
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        decoded = cv2.imdecode(np.frombuffer(content, np.uint8), flags) if content else None
    except cv2.error as error:
        raise BadImage(f"image {name} cannot be decoded ({error.err}); download it again or remove it") from error
    if decoded is None:
        raise _undecodable(name)
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)


def _jpeg_header(content: bytes) -> tuple[int, int, str]:
    """Width, height and colour space in a JPEG's header; 0, 0 and an empty string if it cannot be read."""
    try:
        height, width, colour_space, _ = simplejpeg.decode_jpeg_header(content)
    except ValueError:
        return 0, 0, ""
    return int(width), int(height), str(colour_space)


def _claimed_size(content: bytes) -> tuple[int, int]:
    """Width and height in an image file's header; 0 and 0 if it cannot be read."""
    try:
        with PIL.Image.open(io.BytesIO(content)) as header:
            return header.size
    except PIL.Image.DecompressionBombError:
        return MAX_PIXELS, MAX_PIXELS  # Pillow has a limit too, and does not report the size
    except (OSError, ValueError, SyntaxError, LookupError, TypeError, EOFError):
        return 0, 0
