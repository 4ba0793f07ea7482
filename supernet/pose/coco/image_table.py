"""The images of an annotation file as a table of arrays."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from supernet.pose.coco.annotation_rules import KINDS, ImageRules, OnFault
from supernet.pose.coco.columns import Integers, whole_numbers
from supernet.pose.coco.identities import name_below, own_id, whole_number
from supernet.pose.coco.texts import Texts
from supernet.pose.data.shared_arrays import SharesArrays

_PLAIN_NAME = re.compile(r"\w[\w .,()+=@-]*(/\w[\w .,()+=@-]*)*")
"""File names that need no further check: relative, without dots at the start of a folder, slashes only."""


@dataclass(frozen=True)
class ImageInfo:
    """One image.

    Attributes:
        id: As a whole number.
        file_name: Below the image folder.
        width: In pixels.
        height: In pixels.
        crowd_index: CrowdPose's measure of crowding, 0 to 1; None elsewhere.
        own_id: The id as the file has it, which results refer to.
    """

    id: int
    file_name: str
    width: int
    height: int
    crowd_index: float | None
    own_id: int | str

    def to_coco(self) -> dict[str, Any]:
        """The entry in COCO's format."""
        entry = {"id": self.own_id, "file_name": self.file_name, "width": self.width, "height": self.height}
        return entry if self.crowd_index is None else entry | {"crowdIndex": self.crowd_index}


class Sizes(SharesArrays):
    """Width and height by id of each image that a file lists.

    Args:
        ids: (N,) ids, distinct.
        widths: (N,) pixels; 0 if unknown.
        heights: (N,) pixels; 0 if unknown.
    """

    def __init__(self, ids: Integers, widths: Integers, heights: Integers) -> None:
        self._order = np.argsort(ids)
        self._ids, self._sides = ids[self._order], np.stack([widths, heights], axis=1)

    def rows(self, ids: Integers) -> Integers:
        """The place of each image among those given, -1 if it is not listed."""
        if not len(self._ids):
            return np.full(len(ids), -1)
        at = np.minimum(np.searchsorted(self._ids, ids), len(self._ids) - 1)
        return np.where(self._ids[at] == ids, self._order[at], -1)

    def sides(self, rows: Integers) -> Integers:
        """(N, 2) width and height of the images at ``rows``; 0 where they are not listed or unknown."""
        if not len(self._sides):
            return np.zeros((len(rows), 2), np.int64)
        return np.where((rows >= 0)[:, None], self._sides[rows], 0)

    def get(self, image_id: int) -> tuple[int, int] | None:
        """Width and height of an image, None if unknown."""
        width, height = self.sides(self.rows(np.array([image_id])))[0].tolist()
        return (width, height) if width else None

    def __contains__(self, image_id: object) -> bool:
        return isinstance(image_id, int) and int(self.rows(np.array([image_id]))[0]) >= 0


@dataclass(frozen=True, eq=False)
class ImageTable(SharesArrays):
    """The images of a file.

    Attributes:
        ids: (N,) ids, in file order, without faulty entries and those that repeat a file.
        widths, heights: (N,) pixels.
        names: N file names below the image folder.
        crowd_indices: (N,) CrowdPose's measure of crowding; NaN for none.
        own_ids: N ids as the file has them, if all are text; else None.
        sizes: Of all images that the file lists.
        first_ids: By id of an entry that repeats a file, the id of the first entry of that file.
    """

    ids: Integers
    widths: Integers
    heights: Integers
    names: Texts
    crowd_indices: npt.NDArray[np.float64]
    own_ids: Texts | None
    sizes: Sizes
    first_ids: dict[int, int]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, row: int) -> ImageInfo:
        """The image at ``row``, from 0."""
        number, width, height = int(self.ids[row]), int(self.widths[row]), int(self.heights[row])
        crowd = float(self.crowd_indices[row])
        return ImageInfo(number, self.names[row], width, height, None if np.isnan(crowd) else crowd, self.own_id(row))

    def own_id(self, row: int) -> int | str:
        """The id of the image at ``row`` as the file has it."""
        return int(self.ids[row]) if self.own_ids is None else self.own_ids[row]


class ImageCollector:
    """Collects the images of a file, batch by batch: in columns as long as all are regular, else as they are.

    Attributes:
        entries: All images so far, if one is not regular.
    """

    def __init__(self) -> None:
        self.entries: list[Any] = []
        self._columns: list[dict[str, Any]] = []
        self._is_regular = True

    def add(self, entries: Sequence[Any]) -> None:
        """Add the next entries of the file."""
        columns = _columns(entries) if self._is_regular else None
        if columns is not None:
            self._columns.append(columns)
            return
        self._is_regular = False
        self.entries += [entry for earlier in self._columns for entry in _entries_of(earlier)]
        self._columns.clear()
        self.entries += entries

    def table(self, images: str | Path | None, on_fault: OnFault) -> ImageTable:
        """Return all images so far, those of the same file as one.

        Args:
            images: Image folder or archive, which absolute file names may lead into.
            on_fault: Called with every fault.
        """
        if self._is_regular:
            table = _regular_table(self._columns)
            if table is not None:
                return table
            self.entries = [entry for columns in self._columns for entry in _entries_of(columns)]
        return _checked_table(self.entries, images, on_fault)


def _columns(entries: Sequence[Any]) -> dict[str, Any] | None:
    """The fields of the entries by name, if all have the expected types and plain file names."""
    try:
        ids, names = [entry["id"] for entry in entries], [entry["file_name"] for entry in entries]
        sides = [whole_numbers([entry[name] for entry in entries]) for name in ("width", "height")]
        crowds = [entry.get("crowdIndex") for entry in entries]
    except (KeyError, TypeError, IndexError, AttributeError):
        return None
    numbers = whole_numbers(ids)
    if not all(type(name) is str and _PLAIN_NAME.fullmatch(name) for name in names):
        return None
    if (
        numbers is None
        or sides[0] is None
        or sides[1] is None
        or not set(map(type, crowds)) <= {int, float, type(None)}
    ):
        return None
    if not all(crowd is None or 0 <= crowd <= 1 for crowd in crowds):
        return None
    own = ids if all(type(value) is str for value in ids) else None
    return {"id": numbers, "own": own, "name": names, "width": sides[0], "height": sides[1], "crowd": crowds}


def _entries_of(columns: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Entries with the values of ``columns``."""
    own = columns["id"].tolist() if columns["own"] is None else columns["own"]
    sides = columns["width"].tolist(), columns["height"].tolist()
    entries = []
    for number, name, width, height, crowd in zip(own, columns["name"], *sides, columns["crowd"], strict=True):
        entry = {"id": number, "file_name": name, "width": width, "height": height}
        entries.append(entry if crowd is None else entry | {"crowdIndex": crowd})
    return entries


def _regular_table(parts: Sequence[Mapping[str, Any]]) -> ImageTable | None:
    """The table of regular images; None if their values are faulty, or repeat."""
    if not parts:
        return _table({}, Sizes(*(np.empty(0, np.int64),) * 3), {})
    ids, widths, heights = (np.concatenate([part[name] for part in parts]) for name in ("id", "width", "height"))
    names = [name for part in parts for name in part["name"]]
    if (ids < 0).any() or (widths < 1).any() or (heights < 1).any():
        return None
    if len(np.unique(ids)) < len(ids) or len(set(names)) < len(names):
        return None
    crowds = np.array([np.nan if crowd is None else crowd for part in parts for crowd in part["crowd"]], np.float64)
    own = [value for part in parts for value in part["own"]] if all(part["own"] for part in parts) else None
    own_ids = None if own is None else Texts(own)
    return ImageTable(ids, widths, heights, Texts(names), crowds, own_ids, Sizes(ids, widths, heights), {})


def _checked_table(entries: Sequence[Any], images: str | Path | None, on_fault: OnFault) -> ImageTable:
    """The table of images that pass the rules, which report the faults of the others."""
    folder = None if images is None or not Path(images).is_dir() else Path(images)
    rules = ImageRules(folder)
    parsed: dict[int, ImageInfo] = {}
    for number, entry in enumerate(entries):
        faults = rules.faults(entry, f"images[{number}]")
        for fault in faults:
            on_fault(fault)
        if any(KINDS[fault.kind].refused for fault in faults):
            continue
        image_id, name = whole_number(entry["id"]), name_below(entry["file_name"], folder)
        width, height = whole_number(entry["width"]), whole_number(entry["height"])
        assert image_id is not None
        assert name is not None
        assert width is not None
        assert height is not None
        if image_id not in rules.first_ids:
            crowd = entry.get("crowdIndex")
            parsed[image_id] = ImageInfo(image_id, name, width, height, crowd, own_id(entry["id"]))
    listed = np.array(list(rules.sizes), np.int64)
    sides = np.array([size or (0, 0) for size in rules.sizes.values()], np.int64).reshape(-1, 2)
    return _table(parsed, Sizes(listed, sides[:, 0], sides[:, 1]), rules.first_ids)


def _table(images: Mapping[int, ImageInfo], sizes: Sizes, first_ids: dict[int, int]) -> ImageTable:
    own = [image.own_id for image in images.values()]
    texts = [value for value in own if isinstance(value, str)]
    return ImageTable(
        np.array(list(images), np.int64),
        np.array([image.width for image in images.values()], np.int64),
        np.array([image.height for image in images.values()], np.int64),
        Texts(image.file_name for image in images.values()),
        np.array([np.nan if image.crowd_index is None else image.crowd_index for image in images.values()], np.float64),
        Texts(texts) if own and len(texts) == len(own) else None,  # results need ids of one type
        sizes,
        first_ids,
    )
