"""Entries of an annotation file as columns: arrays instead of objects, which take a tenth of the memory.

An entry whose fields all have the expected types becomes a row. Every other one is kept as it is, for the rules that
name what is wrong with it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from supernet.io.limits import check_limits
from supernet.pose.coco.identities import whole_number

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Columns = dict[str, npt.NDArray[Any]]

_ABSENT = object()
"""In place of a field that an entry lacks, as null is a value."""
_IDS = ("id", "image_id", "category_id")
_MOST_IN_REGION = 10**6
"""Values in one segmentation."""


@dataclass(eq=False)
class Rows:
    """Regular annotations in columns, and the others.

    Attributes:
        place: (N,) index in the file.
        columns: By name, (N,): id, image_id, category_id, is_crowd, num_keypoints (-1: not given), area (NaN: not
            given), area_is_whole, first and length of the keypoints in ``points`` (length -1: not given); (N, 4): bbox.
        points: All values of ``keypoints`` in one array.
        regions: Segmentations as JSON, by place, of crowds and of people without keypoints.
        others: By place, the entries that are no rows.
    """

    place: Integers
    columns: Columns
    points: npt.NDArray[np.floating]
    regions: dict[int, bytes]
    others: dict[int, Any]

    def entry(self, row: int) -> dict[str, Any]:
        """The entry of a row with plain values, without its segmentation."""
        column = {name: values[row].tolist() for name, values in self.columns.items()}
        entry = {name: column[name] for name in (*_IDS, "bbox")}
        entry["iscrowd"] = int(column["is_crowd"])
        if column["num_keypoints"] >= 0:
            entry["num_keypoints"] = column["num_keypoints"]
        if not np.isnan(column["area"]):
            entry["area"] = int(column["area"]) if column["area_is_whole"] else column["area"]
        if column["length"] >= 0:
            entry["keypoints"] = self.keypoints(row).tolist()
        return entry

    def release_points(self) -> None:
        """Free the values of the keypoints, which a table has copied."""
        self.points = np.empty(0)

    def keypoints(self, row: int) -> Floats:
        """The values of a row's keypoints."""
        first, length = int(self.columns["first"][row]), max(0, int(self.columns["length"][row]))
        return self.points[first : first + length].astype(np.float64)


class RowCollector:
    """Turns batches of annotations into rows."""

    def __init__(self) -> None:
        self._count = 0
        self._places: list[Integers] = []
        self._columns: list[Columns] = []
        self._points: list[npt.NDArray[np.floating]] = []
        self._num_points = 0
        self._regions: dict[int, bytes] = {}
        self._others: dict[int, Any] = {}

    def add(self, entries: Sequence[Any]) -> None:
        """Add the next entries of the file."""
        self._add(entries, self._count)
        self._count += len(entries)

    def _add(self, entries: Sequence[Any], start: int) -> None:
        if not entries:
            return
        regular = _regular(entries)
        if regular is None:
            if len(entries) == 1:
                self._others[start] = entries[0]
                return
            middle = len(entries) // 2
            self._add(entries[:middle], start)
            self._add(entries[middle:], start + middle)
            return
        columns, points, regions = regular
        columns["first"] += self._num_points
        self._num_points += len(points)
        self._places.append(np.arange(start, start + len(entries)))
        self._columns.append(columns)
        self._points.append(points)
        self._regions |= {start + row: region for row, region in regions.items()}

    def rows(self) -> Rows:
        """All entries so far."""
        columns = self._columns or [_empty()]
        joined: Columns = {}
        for name in list(columns[0]):
            joined[name] = np.concatenate([column.pop(name) for column in columns])
        points = np.concatenate(self._points) if self._points else np.empty(0)
        self._points.clear()
        places = np.concatenate(self._places) if self._places else np.empty(0, np.int64)
        return Rows(places, joined, points, self._regions, self._others)


def _empty() -> Columns:
    integers = dict.fromkeys((*_IDS, "num_keypoints", "first", "length"), np.int64)
    kinds = {**integers, "is_crowd": np.bool_, "area_is_whole": np.bool_, "area": np.float64}
    return {name: np.empty(0, kind) for name, kind in kinds.items()} | {"bbox": np.empty((0, 4))}


def whole_numbers(values: Sequence[Any]) -> Integers | None:
    """Values that all stand for whole numbers as an array; None if one does not."""
    if set(map(type, values)) != {int}:
        values = [whole_number(value) for value in values]
        if None in values:
            return None
    try:
        return np.array(values, np.int64)
    except OverflowError:
        return None


def _numbers(values: Sequence[Any]) -> Floats | None:
    """Values that are all numbers as an array; None if one is not, or too large for a float."""
    if not set(map(type, values)) <= {int, float}:
        return None
    try:
        return np.array(values, np.float64)
    except OverflowError:
        return None


def _regular(entries: Sequence[Any]) -> tuple[Columns, npt.NDArray[np.floating], dict[int, bytes]] | None:
    """Columns, values of the keypoints, and segmentations by row, if all entries have the expected types."""
    try:
        columns = {name: whole_numbers([entry[name] for entry in entries]) for name in _IDS}
        boxes = [entry["bbox"] for entry in entries]
        crowds = whole_numbers([entry.get("iscrowd", 0) for entry in entries])
        counts = whole_numbers([entry.get("num_keypoints", -1) for entry in entries])
        areas = [entry.get("area", _ABSENT) for entry in entries]
        lists = [entry.get("keypoints", _ABSENT) for entry in entries]
    except (KeyError, TypeError, IndexError, AttributeError):
        return None
    if not all(type(box) is list and len(box) == 4 for box in boxes):
        return None
    if not all(type(points) is list or points is _ABSENT for points in lists):
        return None
    lengths = np.array([-1 if points is _ABSENT else len(points) for points in lists])
    values = _numbers(list(chain.from_iterable(points for points in lists if points is not _ABSENT)))
    box_values = _numbers(list(chain.from_iterable(boxes)))
    area_values = _numbers([np.nan if area is _ABSENT else area for area in areas])
    if crowds is None or counts is None or values is None or box_values is None or area_values is None:
        return None
    has_area = np.array([area is not _ABSENT for area in areas])
    has_count = np.array(["num_keypoints" in entry for entry in entries])
    if not set(crowds.tolist()) <= {0, 1} or (counts[has_count] < 0).any() or np.isnan(area_values[has_area]).any():
        return None
    arrays: Columns = {name: array for name, array in columns.items() if array is not None}
    if len(arrays) < len(columns):
        return None
    starts = np.concatenate([[0], np.maximum(lengths, 0).cumsum()[:-1]])
    arrays |= {"num_keypoints": counts, "first": starts, "length": lengths, "is_crowd": crowds == 1}
    arrays |= {"area_is_whole": np.array([type(area) is int for area in areas]), "area": area_values}
    arrays["bbox"] = box_values.reshape(-1, 4)
    regions = _regions(entries, arrays["is_crowd"] | ~_labelled(values, lengths, starts))
    if regions is None:
        return None
    with np.errstate(over="ignore"):
        small = values.astype(np.float32)
    return arrays, small if np.array_equal(small, values, equal_nan=True) else values, regions


def _labelled(values: Floats, lengths: Integers, starts: Integers) -> npt.NDArray[np.bool_]:
    """Which entries (N,) have a keypoint of a visibility above 0."""
    owner = np.repeat(np.arange(len(lengths)), np.maximum(lengths, 0))
    is_visible = ((np.arange(len(values)) - starts[owner]) % 3 == 2) & (values > 0)
    return np.bincount(owner[is_visible], minlength=len(lengths)) > 0


def _regions(entries: Sequence[Mapping[str, Any]], wanted: npt.NDArray[np.bool_]) -> dict[int, bytes] | None:
    """The segmentations of the wanted entries as JSON, by row; None if one is nested too deeply."""
    regions = {}
    for row in np.flatnonzero(wanted).tolist():
        region = entries[row].get("segmentation")
        if any(region) if isinstance(region, list) else region:  # converters write [] and [[]] for none
            try:
                if not _are_polygons(region):
                    check_limits(region, _MOST_IN_REGION)
            except ValueError:
                return None
            regions[row] = json.dumps(region).encode()
    return regions


def _are_polygons(region: Any) -> bool:
    """Whether a value is a list of lists of numbers."""
    if type(region) is not list or set(map(type, region)) != {list}:
        return False
    return set(map(type, chain.from_iterable(region))) <= {int, float}
