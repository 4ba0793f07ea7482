"""The people in one image as a value: their keypoints by name, boxes and scores, drawings and COCO results."""

import io
import operator
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from numbers import Integral
from os import PathLike, fspath
from pathlib import Path
from typing import Any, SupportsIndex, overload

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageOps

from supernet.errors import UserError
from supernet.io.files import check_writable
from supernet.pose.data.image_decoding import read_image
from supernet.pose.data.pose_dataset import ImageId
from supernet.pose.drawing import draw_people_at, save_image
from supernet.pose.inference import PosePredictions, as_results
from supernet.pose.keypoints import KeypointSet

ImageLike = str | PathLike[str] | npt.NDArray[np.uint8] | PIL.Image.Image
"""An image: a file, an array (H, W, 3) uint8 RGB, or an image of Pillow."""

_MIN_SIDE = 480
"""Pixels to which the short side of a smaller image is about enlarged in drawings, so that skeletons can be seen."""
_SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True, eq=False)
class Person:
    """One person.

    Attributes:
        score: Mean confidence, 0..1.
        box: Smallest box around the visible keypoints: left, top, right, bottom in pixels of the image; NaN without
            any.
        keypoints: x, y in pixels of the image and a value by keypoint name; only visible ones, whose value lies above
            the detection threshold of the model.
    """

    score: float
    box: tuple[float, float, float, float]
    keypoints: dict[str, tuple[float, float, float]]


@dataclass(frozen=True, eq=False)
class People:
    """The people found in one image; iterating gives each :class:`Person`.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        poses: (P, K, 3) float32 as x, y in pixels of the image and a value, 0 for a keypoint not found. Values up to
            ``threshold`` are guesses that complete a person.
        scores: (P,) float32, 0..1.
        keypoint_set: The K keypoints.
        threshold: Keypoints with a value above it are visible: drawn, and inside boxes.
        category_id: Of people in the data set of the model, for COCO results.
    """

    image: npt.NDArray[np.uint8] = field(repr=False)
    poses: npt.NDArray[np.float32] = field(repr=False)
    scores: npt.NDArray[np.float32]
    keypoint_set: KeypointSet = field(repr=False)
    threshold: float = 0.0
    category_id: int | str = 1

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the K keypoints."""
        return self.keypoint_set.names

    @property
    def visible(self) -> npt.NDArray[np.bool_]:
        """Whether each keypoint (P, K) is visible."""
        return np.asarray(self.poses[..., 2] > self.threshold)

    @property
    def boxes(self) -> npt.NDArray[np.float32]:
        """Smallest boxes (P, 4) around the visible keypoints: left, top, right, bottom in pixels of the image.

        A person without visible keypoints has NaN.
        """
        boxes = np.full((len(self), 4), np.nan, np.float32)
        for box, pose, visible in zip(boxes, self.poses, self.visible, strict=True):
            if visible.any():
                box[:2], box[2:] = pose[visible, :2].min(axis=0), pose[visible, :2].max(axis=0)
        return boxes

    def __len__(self) -> int:
        """Return the number of people, P."""
        return len(self.scores)

    @overload
    def __getitem__(self, index: SupportsIndex) -> Person: ...

    @overload
    def __getitem__(self, index: slice) -> "People": ...

    def __getitem__(self, index: SupportsIndex | slice) -> "Person | People":
        """Return one person by number, or the people of a slice.

        Raises:
            IndexError: There is no such number.
            UserError: ``index`` is neither a number nor a slice.
        """
        if isinstance(index, slice):
            return replace(self, poses=self.poses[index], scores=self.scores[index])
        try:
            number = operator.index(index)
        except TypeError as error:
            raise UserError(
                f"people are chosen by a number or a slice, as in people[0] or people[:3], got {index!r:.80}"
            ) from error
        pose, visible = self.poses[number], self.visible[number]
        left, top, right, bottom = map(float, self.boxes[number])
        keypoints = {
            name: (float(x), float(y), float(value))
            for name, (x, y, value), is_visible in zip(self.names, pose, visible, strict=True)
            if is_visible
        }
        return Person(float(self.scores[number]), (left, top, right, bottom), keypoints)

    def __iter__(self) -> Iterator[Person]:
        """Iterate over the people."""
        return (self[index] for index in range(len(self)))

    def plot(self) -> PIL.Image.Image:
        """Return the image with skeletons drawn, which notebooks show; a small image is enlarged by a whole factor."""
        return PIL.Image.fromarray(self._drawn())

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the drawing as JPEG or PNG, by the suffix of ``path``; return the path.

        Raises:
            UserError: Another suffix, or the file cannot be written.
        """
        path = Path(path)
        if path.suffix.lower() not in _SUFFIXES:
            raise UserError(f"a drawing is written as one of {', '.join(_SUFFIXES)}, got {path}; change the suffix")
        check_writable(path)
        save_image(path, self._drawn())
        return path

    def to_coco(self, image_id: ImageId = 1) -> list[dict[str, Any]]:
        """Return COCO results: per person ``image_id``, ``category_id``, ``keypoints`` (3K numbers) and ``score``.

        Args:
            image_id: Id of the image in its annotation file, a whole number or text.

        Raises:
            UserError: ``image_id`` is something else.
        """
        if not isinstance(image_id, str | Integral):
            raise UserError(f"image_id is a whole number or text, got {image_id!r:.80}")
        image_id = image_id if isinstance(image_id, str) else int(image_id)  # JSON knows no numbers of NumPy
        return as_results(PosePredictions(self.poses, self.scores), image_id, self.category_id)

    def _repr_png_(self) -> bytes:
        """Return the drawing for notebooks."""
        content = io.BytesIO()
        self.plot().save(content, "PNG")
        return content.getvalue()

    def _drawn(self) -> npt.NDArray[np.uint8]:
        return draw_enlarged(self.image, self.poses, self.keypoint_set, self.threshold)


def draw_enlarged(
    image: npt.NDArray[np.uint8], poses: npt.NDArray[np.floating], keypoints: KeypointSet, threshold: float
) -> npt.NDArray[np.uint8]:
    """Draw ``poses`` (P, K, 3) on ``image`` (H, W, 3), enlarged by a whole factor if it is small."""
    factor = max(1, round(_MIN_SIDE / min(image.shape[:2])))
    return draw_people_at(image, poses, keypoints, factor, threshold)


def as_image(image: ImageLike) -> npt.NDArray[np.uint8]:
    """Return an image as (H, W, 3) uint8, RGB; files and Pillow images are turned as their EXIF orientation says.

    Raises:
        UserError: The file cannot be read, or ``image`` is something else.
    """
    if isinstance(image, str | PathLike):
        return read_image(fspath(image), upright=True)
    if isinstance(image, PIL.Image.Image):
        try:
            return _pixels_of(PIL.ImageOps.exif_transpose(image))
        except (OSError, ValueError, SyntaxError) as error:  # Pillow reads a file when its pixels are needed
            raise UserError(f"a Pillow image cannot be read ({error}); convert it to RGB, or give the file") from error
    if isinstance(image, np.ndarray):
        return image  # its type and shape are checked where it is resized
    raise UserError(f"an image is a file, an array (H, W, 3) or a Pillow image, got {type(image).__name__}; convert it")


def as_images(images: Iterable[ImageLike]) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield several images as :func:`as_image` returns each; a generator of images is read one by one.

    Raises:
        UserError: ``images`` is one image or no collection; or as :func:`as_image`.
    """
    is_one = isinstance(images, str | PathLike | PIL.Image.Image) or getattr(images, "ndim", 4) < 4
    if is_one or not isinstance(images, Iterable):
        raise UserError(f"several images are given as a list, got one {type(images).__name__}; write [image]")
    yield from map(as_image, images)


def _pixels_of(image: PIL.Image.Image) -> npt.NDArray[np.uint8]:
    """Return a Pillow image as (H, W, 3) uint8, RGB."""
    if image.mode.startswith("I;16"):  # Pillow would clip it
        grey = (np.asarray(image) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise UserError(f"a Pillow image of mode {image.mode} has no defined white; convert it to mode L or RGB")
    return np.asarray(image.convert("RGB"), np.uint8)
