"""The annotations of one category as a table of arrays, checked in passes over whole columns.

Rows that a pass finds suspicious, and entries that are no rows, are left to the rules for single entries, which name
what is wrong; a clean file of any size takes a few passes.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from supernet.pose.coco.annotation_rules import (
    KINDS,
    LARGEST_COORDINATE,
    AnnotationRules,
    Fault,
    OnFault,
    crowd_flag,
)
from supernet.pose.coco.categories import AnnotatedCategory
from supernet.pose.coco.columns import Columns, Floats, Integers, RowCollector, Rows
from supernet.pose.coco.consistency import contradictions
from supernet.pose.coco.identities import whole_number
from supernet.pose.coco.image_table import ImageTable, Sizes
from supernet.pose.coco.texts import Texts
from supernet.pose.data.shared_arrays import SharesArrays
from supernet.pose.keypoints import CROWDPOSE, KeypointSet
from supernet.pose.metrics.input_checks import BOX_TO_AREA

Mask = npt.NDArray[np.bool_]
_BLOCK = 16_384
"""Rows of keypoints that are gathered at a time."""


@dataclass(frozen=True, eq=False)
class PeopleTable(SharesArrays):
    """People and crowds of the annotated category, those of each image together.

    Attributes:
        ids: (N,) ids of the annotations.
        image_rows: (N,) row of each one's image in the table of images.
        keypoints: (N, K, 3) x, y in image pixels and visibility; zeros for a crowd. float32 if that is exact.
        boxes: (N, 4) x, y, width, height in image pixels.
        areas: (N,) square pixels of the segment; for sets without segments, ``BOX_TO_AREA`` times the box.
        area_is_whole: (N,) whether the file has the area as an integer.
        is_crowd: (N,)
        is_person: (N,) whether it is a single person with at least one annotated keypoint.
        num_keypoints: (N,) as in the file (CrowdPose counts differently), else the number with visibility above 0.
        starts: (number of images + 1,) the first row of each image, and N.
        regions: Segmentations as JSON of crowds and of people without keypoints.
        region_rows: Ascending rows that have a region.
    """

    ids: Integers
    image_rows: Integers
    keypoints: npt.NDArray[np.floating]
    boxes: Floats
    areas: Floats
    area_is_whole: Mask
    is_crowd: Mask
    is_person: Mask
    num_keypoints: Integers
    starts: Integers
    regions: Texts
    region_rows: Integers

    def of_image(self, image_row: int) -> range:
        """The rows of an image."""
        return range(int(self.starts[image_row]), int(self.starts[image_row + 1]))

    def region(self, row: int) -> Any:
        """Segmentation of a crowd or of a person without keypoints: polygons, run lengths, or None for the box."""
        at = int(np.searchsorted(self.region_rows, row))
        if at == len(self.region_rows) or self.region_rows[at] != row:
            return None
        return json.loads(self.regions[at])

    def box(self, row: int) -> tuple[float, float, float, float]:
        """The box of a row: x, y, width, height."""
        x, y, width, height = self.boxes[row].tolist()
        return x, y, width, height

    def to_coco(self, row: int, image_id: int | str, category_id: int | str) -> dict[str, Any]:
        """A row as an entry in COCO's format, without the segmentation, which evaluation ignores."""
        area = float(self.areas[row])
        return {
            "id": int(self.ids[row]),
            "image_id": image_id,
            "category_id": category_id,
            "keypoints": self.keypoints[row].ravel().astype(np.float64).tolist(),
            "num_keypoints": int(self.num_keypoints[row]),
            "bbox": self.boxes[row].tolist(),
            "area": int(area) if self.area_is_whole[row] else area,
            "iscrowd": int(self.is_crowd[row]),
        }


def people_table(
    rows: Rows, images: ImageTable, annotated: AnnotatedCategory, known_ids: Sequence[int], on_fault: OnFault
) -> PeopleTable:
    """Check the annotations of the annotated category and return those without faults of refused kinds.

    Args:
        rows: All annotations of the file.
        images: Its images.
        annotated: The category, whose keypoints are complete.
        known_ids: The ids of all categories.
        on_fault: Called with every fault, in file order.
    """
    keypoints, category = annotated.keypoints, rows.columns["category_id"]
    chosen = np.isin(category, list(annotated.ids))
    points = _gathered(rows, keypoints.num)
    sides = images.sizes.sides(images.sizes.rows(rows.columns["image_id"]))
    suspicious = chosen & _suspicious(rows, points, sides, images.sizes, keypoints)
    repeated = _repeated_ids(rows, chosen)
    unknown = ~np.isin(category, list(known_ids))
    to_check = np.flatnonzero(suspicious | repeated | unknown)
    kept = chosen & ~suspicious & ~repeated
    rules, others = AnnotationRules(keypoints, images.sizes), RowCollector()
    other_places = []
    row_of = dict(zip(rows.place[to_check].tolist(), to_check.tolist(), strict=True))
    for place in sorted({*rows.others, *row_of}):
        row = row_of.get(place)
        given = rows.others[place] if row is None else rows.entry(row)
        entry = _with_zeros(given, keypoints.num)
        if not _is_kept(entry, f"annotations[{place}]", rules, annotated, known_ids, on_fault):
            continue
        if row is not None:
            kept[row] = True
            if entry is not given:
                points[row] = np.reshape(entry["keypoints"], (-1, 3))
        else:
            others.add([_normal(entry)])
            other_places.append(place)
    selected = np.flatnonzero(kept)
    parts = [_part(rows, selected, points, rows.place[selected], keypoints)]
    if other_places:
        more = others.rows()
        assert not more.others
        all_more = np.arange(len(other_places))
        parts.append(_part(more, all_more, _gathered(more, keypoints.num), np.array(other_places), keypoints))
    rows.release_points()
    del points
    return _joined(parts, images)


def faults_of_people(table: PeopleTable, image_ids: Integers, keypoints: KeypointSet) -> Iterator[Fault]:
    """The faults that show only in comparison with other values of the file."""
    # Crowds have no keypoints; an area of 0 is not compared with a box.
    areas = np.where(table.is_crowd, 0, table.areas)
    images = image_ids[table.image_rows].tolist()
    return contradictions(table.keypoints, table.boxes, areas, images, table.ids.tolist(), keypoints)


def _is_kept(
    entry: Any,
    place: str,
    rules: AnnotationRules,
    annotated: AnnotatedCategory,
    known_ids: Sequence[int],
    on_fault: OnFault,
) -> bool:
    """Report the faults of an entry; whether it is of the annotated category and has none of a refused kind."""
    if not isinstance(entry, dict):
        on_fault(Fault("structure", place, "must be an object"))
        return False
    category_id = whole_number(entry.get("category_id"))
    if category_id is None:
        rule = "must be an integer, the id of a category" if "category_id" in entry else "is missing"
        on_fault(Fault("field", f"{place}.category_id", rule))
        return False
    if category_id not in known_ids:
        rule = f"is {category_id}, but no category has this id"
        on_fault(Fault("unknown_category", f"{place}.category_id", rule))
        return False
    if category_id not in annotated.ids:
        return False
    faults = rules.faults(entry, place)
    for fault in faults:
        on_fault(fault)
    return not any(KINDS[fault.kind].refused for fault in faults)


def _with_zeros(entry: Any, num_keypoints: int) -> Any:
    """Return an entry with zeros where it has no position for what it says is not labelled.

    Annotation tools leave out the keypoints of people who have none, or write an empty list, and write the coordinates
    of a keypoint of visibility 0 as null or NaN. Whatever else is wrong stays as it is, for the rules to report.
    """
    if not isinstance(entry, dict) or crowd_flag(entry):
        return entry
    points, count = entry.get("keypoints"), entry.get("num_keypoints", 0)
    if points is None or points == []:
        return {**entry, "keypoints": [0] * (3 * num_keypoints)} if whole_number(count) == 0 else entry
    if type(points) is not list or len(points) != 3 * num_keypoints:
        return entry
    filled = list(points)
    for start in range(0, len(points), 3):
        *position, visibility = points[start : start + 3]
        if type(visibility) in (int, float) and visibility == 0 and any(map(_is_absent, position)):
            filled[start : start + 2] = [0, 0]
    return entry if filled == points else {**entry, "keypoints": filled}


def _is_absent(coordinate: Any) -> bool:
    return coordinate is None or (type(coordinate) is float and not math.isfinite(coordinate))


def _normal(entry: dict[str, Any]) -> dict[str, Any]:
    """An entry that passed the rules with the types of regular rows."""
    is_crowd = bool(crowd_flag(entry))
    normal: dict[str, Any] = {name: whole_number(entry[name]) for name in ("id", "image_id", "category_id")}
    normal |= {"iscrowd": int(is_crowd), "bbox": entry["bbox"], "segmentation": entry.get("segmentation")}
    normal["keypoints"] = [] if is_crowd else entry["keypoints"]
    count = whole_number(entry.get("num_keypoints"))
    if count is not None and count >= 0:
        normal["num_keypoints"] = count
    area = entry.get("area")
    # An area that the rules do not need may be anything.
    if isinstance(area, int | float) and not isinstance(area, bool) and 0 <= area <= LARGEST_COORDINATE**2:
        normal["area"] = area
    return normal


def _gathered(rows: Rows, num_keypoints: int) -> npt.NDArray[np.floating]:
    """(N, K, 3) the keypoints of all rows; zeros for crowds and where their number is wrong."""
    size = 3 * num_keypoints
    points = np.zeros((len(rows.place), size), rows.points.dtype)
    complete = np.flatnonzero((rows.columns["length"] == size) & ~rows.columns["is_crowd"])
    for start in range(0, len(complete), _BLOCK):
        block = complete[start : start + _BLOCK]
        points[block] = rows.points[rows.columns["first"][block][:, None] + np.arange(size)]
    return points.reshape(-1, num_keypoints, 3)


def _repeated_ids(rows: Rows, chosen: Mask) -> Mask:
    """Which chosen rows share their id with another one, or with an entry that is no row."""
    ids = rows.columns["id"]
    values, counts = np.unique(ids[chosen], return_counts=True)
    others = [whole_number(entry.get("id")) for entry in rows.others.values() if isinstance(entry, dict)]
    shared = {*values[counts > 1].tolist(), *others}
    return chosen & np.isin(ids, [value for value in shared if value is not None and abs(value) < 2**63])


def _suspicious(
    rows: Rows, points: npt.NDArray[np.floating], sides: Integers, sizes: Sizes, keypoints: KeypointSet
) -> Mask:
    """Which rows may break a rule for single entries; (N,)."""
    columns = rows.columns
    is_person, has_size = ~columns["is_crowd"], sides[:, 0] > 0
    width, height = np.where(has_size, sides[:, 0], np.inf), np.where(has_size, sides[:, 1], np.inf)
    bad: Mask = (columns["id"] < 0) | (columns["image_id"] < 0) | (sizes.rows(columns["image_id"]) < 0)
    with np.errstate(invalid="ignore", over="ignore"):
        x, y, box_width, box_height = columns["bbox"].T
        bad |= ~(np.abs(columns["bbox"]).max(axis=1, initial=0) <= LARGEST_COORDINATE)
        bad |= (box_width < 0) | (box_height < 0) | (np.minimum(x, y) < -1)
        bad |= (x + box_width > width + 1) | (y + box_height > height + 1)
        is_empty = box_width * box_height == 0
        if not keypoints.area_from_box:
            area = columns["area"]
            bad |= ~((area >= 0) & (area <= LARGEST_COORDINATE**2))
            is_empty |= area == 0
        bad |= is_person & is_empty
        bad |= is_person & (columns["length"] != 3 * keypoints.num)
        bad |= is_person & _bad_points(points, width, height)
    labelled = (points[..., 2] > 0).sum(axis=1)
    given = columns["num_keypoints"]
    differs = given > labelled if keypoints == CROWDPOSE else given != labelled
    bad |= is_person & (given >= 0) & differs
    return bad


def _bad_points(points: npt.NDArray[np.floating], width: Floats, height: Floats) -> Mask:
    """Which people (N,) have a keypoint that is huge, not finite, outside, or of a wrong visibility."""
    bad = np.zeros(len(points), np.bool_)
    for start in range(0, len(points), _BLOCK):
        block = slice(start, start + _BLOCK)
        part = points[block].astype(np.float64)
        x, y, visibility = np.moveaxis(part, 2, 0)
        outside = (x < 0) | (y < 0) | (x > width[block, None]) | (y > height[block, None])
        wrong = (visibility != 0) & (visibility != 1) & (visibility != 2)
        bad[block] = (wrong | ((visibility > 0) & outside)).any(axis=1)
        bad[block] |= ~(np.abs(part) <= LARGEST_COORDINATE).all(axis=(1, 2))
    return bad


def _part(
    rows: Rows, selected: Integers, points: npt.NDArray[np.floating], places: Integers, keypoints: KeypointSet
) -> Columns:
    """The columns of a table for the selected rows, whose places in the file are given."""
    columns = {name: values[selected] for name, values in rows.columns.items()}
    own = points if len(selected) == len(points) else points[selected]
    labelled = (own[..., 2] > 0).sum(axis=1)
    boxes = columns["bbox"]
    derived, given = BOX_TO_AREA * boxes[:, 2] * boxes[:, 3], columns["num_keypoints"]
    regions = np.empty(len(selected), object)
    for number in np.flatnonzero(columns["is_crowd"] | (labelled == 0)).tolist():
        regions[number] = rows.regions.get(int(rows.place[selected[number]]))
    return {
        "places": places,
        "ids": columns["id"],
        "image_ids": columns["image_id"],
        "keypoints": own,
        "boxes": boxes,
        "areas": derived if keypoints.area_from_box else columns["area"],
        "area_is_whole": columns["area_is_whole"] & (not keypoints.area_from_box),
        "is_crowd": columns["is_crowd"],
        "is_person": ~columns["is_crowd"] & (labelled > 0),
        "num_keypoints": np.where(given >= 0, given, labelled),
        "regions": regions,
    }


def _joined(parts: Sequence[Columns], images: ImageTable) -> PeopleTable:
    """The table of all parts, sorted by image and then as in the file."""
    columns = parts[0]
    if len(parts) > 1:
        columns = {name: np.concatenate([part[name] for part in parts]) for name in columns}
    image_ids = columns.pop("image_ids")
    for repeated, first in images.first_ids.items():
        image_ids = np.where(image_ids == repeated, first, image_ids)
    image_rows = Sizes(images.ids, images.widths, images.heights).rows(image_ids)
    # Images with faulty entries are left out, with their people.
    order = np.lexsort((columns.pop("places"), image_rows))
    order = order[image_rows[order] >= 0]
    is_sorted = len(order) == len(image_rows) and bool((np.diff(order) == 1).all())
    # One column after the other, so that only one is in memory twice.
    sorted_columns = columns if is_sorted else {name: columns.pop(name)[order] for name in list(columns)}
    regions = sorted_columns.pop("regions")
    region_rows = np.array([row for row, region in enumerate(regions) if region is not None], np.int64)
    starts = np.searchsorted(image_rows[order], np.arange(len(images) + 1))
    texts = Texts(regions[row].decode() for row in region_rows.tolist())
    return PeopleTable(
        image_rows=image_rows[order], starts=starts, regions=texts, region_rows=region_rows, **sorted_columns
    )
