"""EXIF orientation: how a camera was held, which viewers undo when they show an image.

Source: the EXIF standard (CIPA DC-008), tag 274; TIFF 6.0 for the layout of the tags.
"""

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import PIL.Image

HEAD_BYTES: Final = 2**13
"""Most files hold their orientation in this many bytes."""

_TAG: Final = 274
_SWAPS_SIDES: Final = (5, 6, 7, 8)
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""JPEG markers of a frame header, which holds height and width."""
_SCAN: Final = 0xDA
_WITHOUT_EXIF: Final = (b"BM", b"GIF8", b"P4", b"P5", b"P6", b"P7", b"II*\0", b"MM\0*")
"""How files begin that hold no orientation, or (TIFF) one that all decoders apply."""


@dataclass(frozen=True)
class Header:
    """What the start of an image file holds; None for what it does not.

    Attributes:
        orientation: 1 to 8; 1 for an image that is stored as it is shown.
        size: Width and height as stored.
    """

    orientation: int | None
    size: tuple[int, int] | None

    @property
    def turned_size(self) -> tuple[int, int] | None:
        """Width and height as shown."""
        return self.size[::-1] if self.size and self.orientation in _SWAPS_SIDES else self.size


def orientation_of(content: bytes) -> int:
    """The EXIF orientation of an image file, 1 to 8; 1 if it has none."""
    return read_header(content).orientation or 1


def read_header(content: bytes) -> Header:
    """Read orientation and size from an image file, or from its start."""
    if content.startswith(b"\xff\xd8"):
        return _jpeg_header(content)
    if content.startswith(_WITHOUT_EXIF):
        return Header(1, None)
    if content[8:12] == b"WEBP" and len(content) > 20 and (content[12:16] != b"VP8X" or not content[20] & 8):
        return Header(1, None)  # its flags say that it has no EXIF block
    is_png = content.startswith(b"\x89PNG")
    if is_png and b"eXIf" not in content[: content.find(b"IDAT")]:
        return Header(1, None)  # much faster than opening it
    try:
        with PIL.Image.open(io.BytesIO(content)) as image:
            return Header(_checked(image.getexif().get(_TAG, 1)), image.size)
    except (OSError, ValueError, SyntaxError, LookupError, TypeError, EOFError, PIL.Image.DecompressionBombError):
        return Header(1 if is_png else None, None)


def turn(image: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    """Turn a stored image (H, W, 3) to how it is shown; the sides of orientations 5 to 8 are swapped."""
    if orientation in _SWAPS_SIDES:
        image = image.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return np.ascontiguousarray(image)


def _jpeg_header(content: bytes) -> Header:
    orientation = None
    for marker, start, end in _jpeg_segments(content):
        if marker in _FRAMES and start + 5 <= len(content):
            height, width = struct.unpack(">HH", content[start + 1 : start + 5])
            return Header(orientation or 1, (width, height))
        if marker == 0xE1 and orientation is None and content[start : start + 6] == b"Exif\0\0":
            orientation = _from_tags(content[start + 6 : end])
    return Header(orientation, None)


def start_of_scan(content: bytes) -> int | None:
    """Return where the first scan of a JPEG begins, behind all thumbnails; None if its segments do not lead there."""
    return next((start for marker, start, _ in _jpeg_segments(content) if marker == _SCAN), None)


def _jpeg_segments(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Walk over the segments of a JPEG up to its first scan: marker, start and end of the data."""
    at = 2
    while at + 4 <= len(content) and content[at] == 0xFF:
        marker = content[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        end = at + 2 + int.from_bytes(content[at + 2 : at + 4], "big")
        yield marker, at + 4, end
        if marker == _SCAN:
            return
        at = end


def _from_tags(tags: bytes) -> int | None:
    """The orientation in a block of TIFF tags; None if it ends before its first directory does."""
    order = {b"II": "<", b"MM": ">"}.get(tags[:2])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}I", tags, 4)
        (count,) = struct.unpack_from(f"{order}H", tags, start)
        for number in range(count):
            tag, kind = struct.unpack_from(f"{order}HH", tags, start + 2 + 12 * number)
            if tag == _TAG:
                (value,) = struct.unpack_from(order + {3: "H", 4: "I"}.get(kind, "H"), tags, start + 10 + 12 * number)
                return _checked(value)
    except struct.error:
        return None
    return 1


def _checked(value: object) -> int:
    return value if type(value) is int and 1 <= value <= 8 else 1
