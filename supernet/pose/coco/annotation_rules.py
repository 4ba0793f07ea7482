"""The rules that an annotation file in COCO's format must keep, CrowdPose's included.

pycocotools accepts broken annotations and silently returns a wrong AP. Reading for training stops at the first fault
that would do harm; ``python -m supernet.pose.check`` counts all of them.
"""

import math
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from supernet.pose.keypoints import CROWDPOSE, KeypointSet

LARGEST_COORDINATE = 1e6
"""Pixels; no image is so large, and squares of numbers beyond are no longer exact in float32."""
LARGEST_INTEGER = 2**63 - 1


@dataclass(frozen=True)
class Kind:
    """What a kind of fault is called, and whether training and evaluation refuse a file that has it."""

    title: str
    refused: bool


KINDS = {
    "not_json": Kind("annotation files that are not JSON", True),
    "structure": Kind("lists missing, or entries that are no objects", True),
    "category": Kind("categories that do not fit the keypoints", True),
    "field": Kind("fields missing or of the wrong kind", True),
    "file_name": Kind("file names that lead out of the image folder", True),
    "repeated_id": Kind("ids that an earlier entry has", True),
    "id_zero": Kind("annotations with the id 0", True),
    "dangling_image_id": Kind("annotations of images not listed", True),
    "keypoint_count": Kind("wrong numbers of keypoints", True),
    "not_finite": Kind("numbers that are not finite", True),
    "huge": Kind("numbers too large for any image", True),
    "visibility": Kind("visibilities other than 0, 1, 2", True),
    "negative_box": Kind("boxes of negative size", True),
    "box_outside": Kind("boxes beyond the image", False),
    "zero_area": Kind("people of zero area", False),
    "keypoint_outside": Kind("keypoints outside the image", False),
    "num_keypoints": Kind("num_keypoints that do not match", False),
    "unknown_category": Kind("annotations of unknown categories", False),
}
"""Every kind of fault of an annotation file, in the order of reports."""

_shown = reprlib.Repr()
_shown.maxstring = _shown.maxother = 80


class Fault(NamedTuple):
    """One fault: its kind (a key of ``KINDS``), its place in the file, and what is wrong there."""

    kind: str
    place: str
    rule: str


class ImageRules:
    """Checks the entries of ``images`` in their order.

    Attributes:
        sizes: Width and height of each id met so far, None where they are faulty.
    """

    def __init__(self) -> None:
        self.sizes: dict[int, tuple[int, int] | None] = {}

    def faults(self, entry: Any, place: str) -> list[Fault]:
        """Faults of one entry."""
        if not isinstance(entry, dict):
            return [Fault("structure", place, "must be an object")]
        faults: list[Fault] = []
        image_id = _integer(entry, place, "id", 0, faults)
        _file_name(entry, place, faults)
        width, height = (_integer(entry, place, key, 1, faults) for key in ("width", "height"))
        crowd_index = entry.get("crowdIndex")
        if crowd_index is not None and (type(crowd_index) not in (int, float) or not 0 <= crowd_index <= 1):
            rule = f"is {_shown.repr(crowd_index)}, but must lie between 0 and 1"
            faults.append(Fault("field", f"{place}.crowdIndex", rule))
        if image_id is not None:
            if image_id in self.sizes:
                faults.append(Fault("repeated_id", f"{place}.id", f"is {image_id}, which an earlier image has"))
            self.sizes.setdefault(image_id, None if width is None or height is None else (width, height))
        return faults


class AnnotationRules:
    """Checks the entries of ``annotations`` that belong to the annotated category, in their order.

    Args:
        keypoints: What people are annotated with.
        sizes: Width and height of each image listed, by id, None where unknown.
    """

    def __init__(self, keypoints: KeypointSet, sizes: Mapping[int, tuple[int, int] | None]) -> None:
        self._keypoints, self._sizes = keypoints, sizes
        self._ids_met: set[int] = set()

    def faults(self, entry: Mapping[str, Any], place: str) -> list[Fault]:
        """Faults of one entry."""
        faults: list[Fault] = []
        self._ids(entry, place, faults)
        is_crowd = entry.get("iscrowd", 0)
        if is_crowd not in (0, 1):
            faults.append(Fault("field", f"{place}.iscrowd", f"is {_shown.repr(is_crowd)}, but must be 0 or 1"))
        box = _numbers(entry, place, "bbox", 4, "x, y, width, height", faults)
        area = None
        if not self._keypoints.area_from_box:
            area = self._area(entry, place, faults)
        # An id of a wrong kind, perhaps a list, was named above.
        image_id = entry.get("image_id")
        size = self._sizes.get(image_id) if type(image_id) is int else None
        if box is not None:
            _box(box, size, place, faults)
            empty = box[2] * box[3] == 0 or area == 0
            if not is_crowd and empty and min(box[2:]) >= 0:
                faults.append(Fault("zero_area", place, "is a person of zero area"))
        if not is_crowd:
            self._points(entry, size, place, faults)
        return faults

    def _ids(self, entry: Mapping[str, Any], place: str, faults: list[Fault]) -> None:
        own = _integer(entry, place, "id", 0, faults)
        if own == 0:
            rule = "is 0, but must be an integer of at least 1, as evaluation takes 0 for no match"
            faults.append(Fault("id_zero", f"{place}.id", rule))
        elif own is not None:
            if own in self._ids_met:
                faults.append(Fault("repeated_id", f"{place}.id", f"is {own}, which an earlier annotation has"))
            self._ids_met.add(own)
        image_id = _integer(entry, place, "image_id", 0, faults)
        if image_id is not None and image_id not in self._sizes:
            faults.append(Fault("dangling_image_id", f"{place}.image_id", f"is {image_id}, which no image has"))

    def _area(self, entry: Mapping[str, Any], place: str, faults: list[Fault]) -> Any:
        if "area" not in entry:
            rule = "is missing (for a custom set, dataset.keypoints.area_from_box=true takes it from the box)"
            faults.append(Fault("field", f"{place}.area", rule))
            return None
        area = entry["area"]
        if type(area) not in (int, float) or not 0 <= area < math.inf:
            rule = f"is {_shown.repr(area)}, but must be a number of at least 0"
            is_number = isinstance(area, float) and not math.isfinite(area)
            faults.append(Fault("not_finite" if is_number else "field", f"{place}.area", rule))
            return None
        if area > LARGEST_COORDINATE**2:
            faults.append(Fault("huge", f"{place}.area", f"is {_shown.repr(area)}, more than any image has"))
        return area

    def _points(self, entry: Mapping[str, Any], size: tuple[int, int] | None, place: str, faults: list[Fault]) -> None:
        num = self._keypoints.num
        why = f"x, y and visibility of the {num} keypoints of {self._keypoints.name}"
        flat = _numbers(entry, place, "keypoints", num * 3, why, faults)
        if flat is None:
            return
        place_of = f"{place}.keypoints"
        x, y, visibility = flat.reshape(num, 3).T
        if not ((visibility == 0) | (visibility == 1) | (visibility == 2)).all():
            faults.append(Fault("visibility", place_of, "holds a visibility other than 0, 1 and 2"))
        labelled = visibility > 0
        if size is not None:
            outside = labelled & ((x < 0) | (y < 0) | (x > size[0]) | (y > size[1]))
            for k in np.flatnonzero(outside):
                rule = f"has {self._keypoints.names[k]} at {x[k]:g}, {y[k]:g} in an image of {size[0]} x {size[1]}"
                faults.append(Fault("keypoint_outside", place_of, rule))
        if "num_keypoints" in entry:
            told, count = _integer(entry, place, "num_keypoints", 0, faults), int(labelled.sum())
            # CrowdPose leaves head and neck out of its count.
            if told is not None and (told > count or (told != count and self._keypoints != CROWDPOSE)):
                rule = f"is {told}, but {count} keypoints are labelled"
                faults.append(Fault("num_keypoints", f"{place}.num_keypoints", rule))


def _integer(entry: Mapping[str, Any], place: str, key: str, least: int, faults: list[Fault]) -> int | None:
    """The integer under ``key``, or None and a fault."""
    if key not in entry:
        faults.append(Fault("field", f"{place}.{key}", "is missing"))
        return None
    value = entry[key]
    if type(value) is not int or not least <= value <= LARGEST_INTEGER:
        rule = f"is {_shown.repr(value)}, but must be an integer of at least {least}"
        faults.append(Fault("field", f"{place}.{key}", rule))
        return None
    return value


def _numbers(
    entry: Mapping[str, Any], place: str, key: str, count: int, why: str, faults: list[Fault]
) -> npt.NDArray[np.float64] | None:
    """The ``count`` numbers under ``key``, or None and a fault."""
    place = f"{place}.{key}"
    if key not in entry:
        faults.append(Fault("field", place, "is missing"))
        return None
    value = entry[key]
    if not isinstance(value, list) or len(value) != count or not set(map(type, value)) <= {int, float}:
        found = _shown.repr(value)
        if isinstance(value, list):
            found = f"{len(value)} entries" + (", some of them no numbers" if len(value) == count else "")
        short = key == "keypoints" and isinstance(value, list) and len(value) != count
        faults.append(
            Fault("keypoint_count" if short else "field", place, f"must be {count} numbers ({why}), not {found}")
        )
        return None
    try:
        array = np.array(value, np.float64)
    except OverflowError:  # an integer beyond all floats
        array = np.full(count, 2 * LARGEST_COORDINATE)
    largest = np.abs(array).max()
    if largest <= LARGEST_COORDINATE:
        return array
    if math.isfinite(largest):
        faults.append(Fault("huge", place, f"holds a number beyond {LARGEST_COORDINATE:g}"))
    else:
        faults.append(Fault("not_finite", place, "holds a number that is not finite"))
    return None


def _file_name(entry: Mapping[str, Any], place: str, faults: list[Fault]) -> None:
    place = f"{place}.file_name"
    if "file_name" not in entry:
        faults.append(Fault("field", place, "is missing"))
        return
    name = entry["file_name"]
    # Escapes of JSON can make text that is none (half a surrogate pair), which no file is called and no screen shows.
    if not isinstance(name, str) or not name or "\0" in name or not _is_text(name):
        faults.append(Fault("field", place, f"is {_shown.repr(name)}, but must be the name of a file"))
        return
    for pure in (PurePosixPath(name), PureWindowsPath(name)):
        if pure.anchor or ".." in pure.parts:
            rule = f"is {_shown.repr(name)}, which leads out of the image folder"
            faults.append(Fault("file_name", place, rule))
            return


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
        faults.append(Fault("negative_box", place, f"has a negative size of {width} x {height}"))
    # Boxes of whole pixels may be rounded over the border.
    elif size is not None and (min(x, y) < -1 or x + width > size[0] + 1 or y + height > size[1] + 1):
        rule = f"goes from {x:g}, {y:g} to {x + width:g}, {y + height:g} in an image of {size[0]} x {size[1]}"
        faults.append(Fault("box_outside", place, rule))
