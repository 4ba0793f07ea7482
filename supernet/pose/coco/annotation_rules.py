"""The rules for annotation files in COCO's format, including CrowdPose's.

pycocotools accepts broken annotations and silently returns a wrong AP. Reading for training stops at the first harmful
fault; ``python -m supernet.pose.check`` counts all of them.
"""

import math
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from supernet.pose.coco.identities import name_below, whole_number
from supernet.pose.keypoints import CROWDPOSE, KeypointSet

LARGEST_COORDINATE = 1e6
"""Pixels. No image is so large, and squares of larger numbers are not exact in float32."""
LARGEST_INTEGER = 2**63 - 1


@dataclass(frozen=True)
class Kind:
    """The title of a kind of fault, and whether training and evaluation refuse a file with it."""

    title: str
    refused: bool


KINDS = {
    "not_json": Kind("annotation files that are not JSON", True),
    "structure": Kind("missing lists, or entries that are not objects", True),
    "category": Kind("categories that do not match the keypoints", True),
    "field": Kind("missing fields, or fields of the wrong type", True),
    "file_name": Kind("file names that lead out of the image folder", True),
    "repeated_id": Kind("repeated ids", True),
    "repeated_file": Kind("images listed several times", False),
    "repeated_file_size": Kind("images listed with different sizes", True),
    "dangling_image_id": Kind("annotations of unlisted images", True),
    "keypoint_count": Kind("wrong numbers of keypoints", True),
    "not_finite": Kind("numbers that are not finite", True),
    "huge": Kind("numbers too large for any image", True),
    "visibility": Kind("visibilities other than 0, 1, 2", True),
    "negative_box": Kind("boxes of negative size", True),
    "box_outside": Kind("boxes beyond the image", False),
    "zero_area": Kind("people of zero area", False),
    "keypoint_outside": Kind("keypoints outside the image", False),
    "keypoint_corner": Kind("keypoints labelled at 0, 0 or -1, -1", False),
    "normalised": Kind("people whose coordinates are shares of the image", False),
    "area": Kind("people whose area does not fit their box", False),
    "repeated_person": Kind("people annotated twice", False),
    "unlabelled_keypoint": Kind("keypoints labelled on no person", False),
    "num_keypoints": Kind("wrong num_keypoints", False),
    "unknown_category": Kind("annotations of unknown categories", False),
}
"""All kinds of faults of an annotation file, in the order of reports."""

_short_repr = reprlib.Repr()
_short_repr.maxstring = _short_repr.maxother = 80


class Fault(NamedTuple):
    """One fault: its kind (a key of ``KINDS``), its place in the file, and the rule that it breaks."""

    kind: str
    place: str
    rule: str


OnFault = Callable[[Fault], None]
"""Called with every fault. It may raise to stop reading; else entries with faults of refused kinds are skipped."""


class ImageRules:
    """Checks the entries of ``images`` in file order.

    Args:
        folder: The image folder, which absolute file names may lead into; None for an archive.

    Attributes:
        sizes: Width and height by id of the images checked so far, None if faulty.
        first_ids: Id of the first entry with the same file, by id of each image that was listed before.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.sizes: dict[int, tuple[int, int] | None] = {}
        self.first_ids: dict[int, int] = {}
        self._folder = folder
        self._ids_by_file: dict[str, int] = {}

    def faults(self, entry: Any, place: str) -> list[Fault]:
        """The faults of one entry."""
        if not isinstance(entry, dict):
            return [Fault("structure", place, "must be an object")]
        faults: list[Fault] = []
        image_id = _integer(entry, place, "id", 0, faults)
        name = _file_name(entry, place, self._folder, faults)
        width, height = (_integer(entry, place, key, 1, faults) for key in ("width", "height"))
        crowd_index = entry.get("crowdIndex")
        if crowd_index is not None and (type(crowd_index) not in (int, float) or not 0 <= crowd_index <= 1):
            rule = f"must be from 0 to 1, got {_short_repr.repr(crowd_index)}"
            faults.append(Fault("field", f"{place}.crowdIndex", rule))
        if image_id is not None:
            if image_id in self.sizes:
                faults.append(
                    Fault(
                        "repeated_id", f"{place}.id", f"must be unique, but an earlier image has the id {image_id}, too"
                    )
                )
            elif name is not None:
                self._compare(image_id, name, (width, height), place, faults)
            self.sizes.setdefault(image_id, None if width is None or height is None else (width, height))
        return faults

    def _compare(
        self, image_id: int, name: str, size: tuple[int | None, int | None], place: str, faults: list[Fault]
    ) -> None:
        """Compare a new image with an earlier one of the same file."""
        file = PurePosixPath(name).as_posix()
        first = self._ids_by_file.setdefault(file, image_id)
        if first == image_id:
            return
        self.first_ids[image_id] = first
        if self.sizes[first] not in (size, None):
            rule = f"is {size[0]} x {size[1]}, but image {first} has the same file and another size"
            faults.append(Fault("repeated_file_size", place, rule))
        else:
            rule = f"is the file of image {first}, too, so the people of both are those of one image"
            faults.append(Fault("repeated_file", f"{place}.file_name", rule))


def crowd_flag(entry: Mapping[str, Any]) -> bool | None:
    """Whether an annotation is of a crowd; None if its flag is neither 0 nor 1."""
    value = entry.get("iscrowd", 0)
    number = int(value) if isinstance(value, bool) else whole_number(value)
    return bool(number) if number in (0, 1) else None


class KnownSizes(Protocol):
    """The listed images."""

    def get(self, image_id: int) -> tuple[int, int] | None:
        """Width and height of an image, None if unknown."""
        ...

    def __contains__(self, image_id: object) -> bool:
        """Whether an image is listed."""
        ...


class AnnotationRules:
    """Checks the entries of ``annotations`` of the annotated category in file order.

    Args:
        keypoints: The keypoint set of the annotations.
        sizes: Width and height of each listed image.
    """

    def __init__(self, keypoints: KeypointSet, sizes: KnownSizes) -> None:
        self._keypoints, self._sizes = keypoints, sizes
        self._seen_ids: set[int] = set()

    def faults(self, entry: Mapping[str, Any], place: str) -> list[Fault]:
        """The faults of one entry."""
        faults: list[Fault] = []
        self._ids(entry, place, faults)
        is_crowd = crowd_flag(entry)
        if is_crowd is None:
            rule = f"must be 0 or 1, got {_short_repr.repr(entry['iscrowd'])}"
            faults.append(Fault("field", f"{place}.iscrowd", rule))
        box = _numbers(entry, place, "bbox", 4, "x, y, width, height", faults)
        area = None
        if not self._keypoints.area_from_box:
            area = self._area(entry, place, faults)
        image_id = whole_number(entry.get("image_id"))
        size = None if image_id is None else self._sizes.get(image_id)
        if box is not None:
            _box(box, size, place, faults)
            empty = box[2] * box[3] == 0 or area == 0
            if not is_crowd and empty and min(box[2:]) >= 0:
                faults.append(Fault("zero_area", place, "is a person with zero area"))
        if not is_crowd:
            self._points(entry, size, place, faults)
        return faults

    def _ids(self, entry: Mapping[str, Any], place: str, faults: list[Fault]) -> None:
        annotation_id = _integer(entry, place, "id", 0, faults)
        if annotation_id is not None:
            if annotation_id in self._seen_ids:
                rule = f"must be unique, but an earlier annotation has the id {annotation_id}, too"
                faults.append(Fault("repeated_id", f"{place}.id", rule))
            self._seen_ids.add(annotation_id)
        image_id = _integer(entry, place, "image_id", 0, faults)
        if image_id is not None and image_id not in self._sizes:
            faults.append(Fault("dangling_image_id", f"{place}.image_id", f"is {image_id}, but no image has this id"))

    def _area(self, entry: Mapping[str, Any], place: str, faults: list[Fault]) -> Any:
        if entry.get("area") is None:
            rule = "is missing (for a custom set, dataset.keypoints.area_from_box=true derives it from the box)"
            faults.append(Fault("field", f"{place}.area", rule))
            return None
        area = entry["area"]
        if type(area) not in (int, float) or not 0 <= area < math.inf:
            rule = f"must be a number of at least 0, got {_short_repr.repr(area)}"
            is_not_finite = isinstance(area, float) and not math.isfinite(area)
            faults.append(Fault("not_finite" if is_not_finite else "field", f"{place}.area", rule))
            return None
        if area > LARGEST_COORDINATE**2:
            faults.append(Fault("huge", f"{place}.area", f"is {_short_repr.repr(area)}, larger than any image"))
        return area

    def _points(self, entry: Mapping[str, Any], size: tuple[int, int] | None, place: str, faults: list[Fault]) -> None:
        num = self._keypoints.num
        meaning = f"x, y and visibility of the {num} keypoints of {self._keypoints.name}"
        flat = _numbers(entry, place, "keypoints", num * 3, meaning, faults)
        if flat is None:
            return
        keypoints_place = f"{place}.keypoints"
        x, y, visibility = flat.reshape(num, 3).T
        if not ((visibility == 0) | (visibility == 1) | (visibility == 2)).all():
            faults.append(Fault("visibility", keypoints_place, "contains a visibility other than 0, 1 and 2"))
        labelled = visibility > 0
        if size is not None:
            outside = labelled & ((x < 0) | (y < 0) | (x > size[0]) | (y > size[1])) & ((x != -1) | (y != -1))
            for k in np.flatnonzero(outside):
                rule = f"has {self._keypoints.names[k]} at {x[k]:g}, {y[k]:g} in an image of {size[0]} x {size[1]}"
                faults.append(Fault("keypoint_outside", keypoints_place, rule))
        if "num_keypoints" in entry:
            num_given, num_labelled = _integer(entry, place, "num_keypoints", 0, faults), int(labelled.sum())
            # CrowdPose does not count head and neck, so its number may be smaller.
            may_be_smaller = self._keypoints == CROWDPOSE
            if num_given is not None and not (
                num_given == num_labelled or (may_be_smaller and num_given < num_labelled)
            ):
                rule = (
                    f"is {num_given}, but {num_labelled} keypoints are labelled; AP leaves out people of whom it is 0"
                )
                faults.append(Fault("num_keypoints", f"{place}.num_keypoints", rule))


def _integer(entry: Mapping[str, Any], place: str, key: str, least: int, faults: list[Fault]) -> int | None:
    """The integer under ``key``, or None and a fault."""
    if key not in entry:
        faults.append(Fault("field", f"{place}.{key}", "is missing"))
        return None
    value = whole_number(entry[key])
    if value is None or not least <= value <= LARGEST_INTEGER:
        is_too_large = value is not None and value > LARGEST_INTEGER
        bound = f"at most {LARGEST_INTEGER}" if is_too_large else f"at least {least}"
        rule = f"must be an integer of {bound}, got {_short_repr.repr(entry[key])}"
        faults.append(Fault("field", f"{place}.{key}", rule))
        return None
    return value


def _numbers(
    entry: Mapping[str, Any], place: str, key: str, count: int, meaning: str, faults: list[Fault]
) -> npt.NDArray[np.float64] | None:
    """The ``count`` numbers under ``key``, or None and a fault."""
    place = f"{place}.{key}"
    if key not in entry:
        faults.append(Fault("field", place, "is missing"))
        return None
    value = entry[key]
    if not isinstance(value, list) or len(value) != count or not set(map(type, value)) <= {int, float}:
        problem = _short_repr.repr(value)
        if isinstance(value, list):
            problem = f"{len(value)} entries" + (", some of them not numbers" if len(value) == count else "")
        is_wrong_count = key == "keypoints" and isinstance(value, list) and len(value) != count
        kind = "keypoint_count" if is_wrong_count else "field"
        faults.append(Fault(kind, place, f"must be {count} numbers ({meaning}), got {problem}"))
        return None
    try:
        array = np.array(value, np.float64)
    except OverflowError:  # an integer too large for a float
        array = np.full(count, 2 * LARGEST_COORDINATE)
    largest = np.abs(array).max()
    if largest <= LARGEST_COORDINATE:
        return array
    if math.isfinite(largest):
        faults.append(Fault("huge", place, f"contains a number beyond {LARGEST_COORDINATE:g}"))
    else:
        faults.append(Fault("not_finite", place, "contains a number that is not finite"))
    return None


def _file_name(entry: Mapping[str, Any], place: str, folder: Path | None, faults: list[Fault]) -> str | None:
    """The file's name below the image folder, or None and a fault."""
    place = f"{place}.file_name"
    if "file_name" not in entry:
        faults.append(Fault("field", place, "is missing"))
        return None
    name = entry["file_name"]
    # JSON escapes can produce invalid text (half a surrogate pair), which is not a file name and cannot be printed.
    if not isinstance(name, str) or not name or "\0" in name or not _is_text(name):
        faults.append(Fault("field", place, f"must be a file name, got {_short_repr.repr(name)}"))
        return None
    below = name_below(name, folder)
    if below is None:
        rule = f"is {_short_repr.repr(name)}, which leads out of the image folder"
        faults.append(Fault("file_name", place, rule))
    return below


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _box(box: npt.NDArray[np.float64], size: tuple[int, int] | None, place: str, faults: list[Fault]) -> None:
    x, y, width, height = box.tolist()
    place = f"{place}.bbox"
    if width < 0 or height < 0:
        faults.append(Fault("negative_box", place, f"has a negative size, {width} x {height}"))
    # Boxes of whole pixels may reach one pixel over the border by rounding.
    elif size is not None and (min(x, y) < -1 or x + width > size[0] + 1 or y + height > size[1] + 1):
        rule = f"goes from {x:g}, {y:g} to {x + width:g}, {y + height:g} in an image of {size[0]} x {size[1]}"
        faults.append(Fault("box_outside", place, rule))
