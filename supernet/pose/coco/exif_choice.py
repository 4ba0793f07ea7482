"""Decides whether annotations refer to images as stored, or as their EXIF orientation shows them."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

from supernet.errors import UserError
from supernet.pose.coco.image_table import ImageInfo
from supernet.pose.data.exif import HEAD_BYTES, Header, read_header
from supernet.pose.data.image_decoding import BadImage
from supernet.pose.data.image_source import ImageSource

Exif = Literal["stored", "turned", "auto"]

_THREADS = 8
_LONG_HEAD_BYTES = 2**17
"""Holds the frame header of almost every JPEG, behind a thumbnail."""


@dataclass(frozen=True)
class ExifChoice:
    """The frame of the annotations of a data set.

    Attributes:
        exif: "stored" or "turned"; "auto" if the sizes of some images show one and those of others the other, so that
            each is taken by its own size, or if no image has an orientation.
        unclear: Images with an orientation that neither their own size nor that of other images explains.
    """

    exif: Exif
    unclear: tuple[str, ...] = ()

    def check(self, annotation_file: object) -> None:
        """Raise UserError if an image is unclear."""
        if self.unclear:
            raise UserError(f"annotation file {annotation_file}: {unclear_rule(self.unclear[0])}")


def unclear_rule(name: str) -> str:
    """What to do about an unclear image."""
    return (
        f"image {name} has an EXIF orientation, and its size does not tell whether it was annotated as stored or as "
        "turned by that; set dataset.exif to stored or to turned"
    )


def choose_exif(source: ImageSource, images: Iterable[ImageInfo]) -> ExifChoice:
    """Decide by the sizes of those images that have an EXIF orientation.

    An image that is stored as 160 x 120 and annotated as 120 x 160 was annotated as turned. Square images and those
    that are turned upside down or mirrored do not show it, and follow the others, if these agree.

    Args:
        source: The image files, of which mostly the first few kilobytes are read; faulty ones are left to others.
        images: What the annotation file says of them.
    """
    images = list(images)
    with ThreadPoolExecutor(_THREADS) as threads:
        headers = list(threads.map(lambda image: _header(source, image.file_name), images, chunksize=64))
    votes = {"stored": 0, "turned": 0}
    unclear = []
    for image, header in zip(images, headers, strict=True):
        if header.orientation in (None, 1) or header.size is None:
            continue
        sizes = {"stored": header.size, "turned": header.turned_size}
        fitting = [kind for kind, size in sizes.items() if size == (image.width, image.height)]
        if len(fitting) == 1:
            votes[fitting[0]] += 1
        elif fitting:
            unclear.append(image.file_name)
    winners: list[Exif] = [kind for kind in ("stored", "turned") if votes[kind]]
    if len(winners) == 1:
        return ExifChoice(winners[0])
    return ExifChoice("auto", tuple(unclear))


def _header(source: ImageSource, name: str) -> Header:
    """The header of an image file; empty if the file cannot be read."""
    try:
        for num_bytes in (HEAD_BYTES, _LONG_HEAD_BYTES, None):
            header = read_header(source.read(name) if num_bytes is None else source.head(name, num_bytes))
            if header.orientation == 1 or (header.orientation and header.size):
                return header
    except BadImage:
        pass
    return Header(None, None)
