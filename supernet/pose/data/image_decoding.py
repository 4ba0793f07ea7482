"""Decoding images, and refusing those that are damaged or of an impossible size."""

import io
import os
import stat
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
import PIL.Image
import simplejpeg

from supernet.errors import UserError

MOST_BYTES: Final = 2**28
"""Largest image file."""
MOST_PIXELS: Final = 2**27
"""Largest image, 134 million pixels or 400 MB decoded; a small file can claim to be far larger."""
MOST_ELONGATED: Final = 64
"""Longest side in short sides. The network's input keeps an image's shape, so a longer strip would fill the memory."""


class BadImage(UserError):
    """One image that cannot be used.

    Attributes:
        kind: "missing", "undecodable", "damaged", "impossible_size", "wrong_size" or "segmentation".
    """

    def __init__(self, message: str, kind: str = "undecodable") -> None:
        # Workers of a DataLoader hand it on by its message alone.
        super().__init__(message)
        self.kind = kind


def read_image(path: str | Path, *, upright: bool = False) -> npt.NDArray[np.uint8]:
    """The image in a file as (H, W, 3) uint8, RGB; see ``decode_image``.

    Raises:
        BadImage: The file is missing, unreadable, or ``decode_image`` refuses it.
    """
    return decode_image(read_bytes(path), str(path), upright=upright)


def read_bytes(path: str | Path) -> bytes:
    """Content of an image file.

    Raises:
        BadImage: It is missing, unreadable, no file, or larger than ``MOST_BYTES``.
    """
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            if stat.S_ISREG(status.st_mode) and status.st_size > MOST_BYTES:
                raise BadImage(f"image {path} has {status.st_size} bytes, more than {MOST_BYTES}", "impossible_size")
            return file.read()
    except (OSError, ValueError) as error:
        if isinstance(error, BadImage):
            raise
        reason = error.strerror if isinstance(error, OSError) else error
        raise BadImage(f"cannot read image {path}: {reason}; check the path", "missing") from error


def decode_image(content: bytes, name: str, *, upright: bool = False, strict: bool = False) -> npt.NDArray[np.uint8]:
    """An image as (H, W, 3) uint8, RGB; grey, CMYK, 16-bit and transparent ones are converted.

    Args:
        content: A file of a kind that both OpenCV and Pillow know, such as JPEG, PNG, BMP, GIF, TIFF or WebP.
        name: What to call it in error messages.
        upright: Turn it as its camera noted. Not for annotated sets: their coordinates belong to the stored pixels.
        strict: Also refuse a JPEG whose data contradict themselves, which decoders otherwise fill in silently.

    Raises:
        BadImage: It is no image, damaged, cut short, or of an impossible size.
    """
    is_jpeg = content.startswith(b"\xff\xd8")
    width, height, colours = _jpeg_header(content) if is_jpeg else (0, 0, "")
    if not width:
        width, height = _claimed_size(content)
    if not width or not height:  # the decoder might find that it is huge
        raise BadImage(f"image {name} cannot be decoded (damaged, or not an image); fetch it again or leave it out")
    if width * height > MOST_PIXELS or max(width, height) > MOST_ELONGATED * min(width, height):
        raise BadImage(
            f"image {name} claims to be {width} x {height}, but at most {MOST_PIXELS} pixels and sides of 1 to "
            f"{MOST_ELONGATED} can be used; scale it down, crop it or leave it out",
            "impossible_size",
        )
    # Some decoders fill the rest of a cut JPEG with grey and tell nobody. Its end marker (FFD9) must follow the start
    # of its last scan (FFDA); inside a scan neither can occur.
    if is_jpeg and content.rfind(b"\xff\xd9") <= content.rfind(b"\xff\xda"):
        raise BadImage(f"image {name} is cut short (no end-of-image marker); fetch it again")
    if strict and not upright and colours in ("YCbCr", "Gray"):
        try:
            # To the bit what OpenCV gives, whose copy of the same decoder keeps its doubts to itself.
            return np.asarray(simplejpeg.decode_jpeg(content, strict=True), np.uint8)
        except ValueError as error:
            reason = " ".join(str(error).split())
            raise BadImage(f"image {name} is damaged ({reason}); fetch it again or leave it out", "damaged") from error
    flags = cv2.IMREAD_COLOR | (0 if upright else cv2.IMREAD_IGNORE_ORIENTATION)
    try:
        decoded = cv2.imdecode(np.frombuffer(content, np.uint8), flags) if content else None
    except cv2.error as error:
        raise BadImage(f"image {name} cannot be decoded ({error.err}); fetch it again or leave it out") from error
    if decoded is None:
        raise BadImage(f"image {name} cannot be decoded (damaged, or not an image); fetch it again or leave it out")
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)


def _jpeg_header(content: bytes) -> tuple[int, int, str]:
    """Width, height and colour space that a JPEG claims; 0, 0 and nothing where there is no telling."""
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
    except ValueError:
        return 0, 0, ""
    return int(width), int(height), str(colours)


def _claimed_size(content: bytes) -> tuple[int, int]:
    """Width and height that a file claims; 0 and 0 where there is no telling."""
    try:
        with PIL.Image.open(io.BytesIO(content)) as header:
            return header.size
    except PIL.Image.DecompressionBombError:
        return MOST_PIXELS, MOST_PIXELS  # Pillow has a limit too, and keeps the size to itself
    except (OSError, ValueError, SyntaxError, LookupError, TypeError, EOFError):
        return 0, 0
