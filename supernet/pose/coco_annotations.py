"""Reading annotation files in COCO's format, CrowdPose's included, with every fault named by file and place.

pycocotools accepts broken annotations and silently returns a wrong AP, so everything that is used is checked here.
"""

import math
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import numpy.typing as npt

from supernet.errors import UserError
from supernet.files import read_json
from supernet.pose.evaluation_input import BOX_TO_AREA
from supernet.pose.keypoints import KeypointSet


@dataclass(frozen=True)
class Picture:
    """One entry of ``images``; ``crowd_index`` (CrowdPose only) tells how crowded it is, 0 to 1."""

    id: int
    file_name: str
    width: int
    height: int
    crowd_index: float | None

    def to_coco(self) -> dict[str, Any]:
        """The entry in COCO's format."""
        entry = {"id": self.id, "file_name": self.file_name, "width": self.width, "height": self.height}
        return entry if self.crowd_index is None else entry | {"crowdIndex": self.crowd_index}


@dataclass(frozen=True, eq=False)
class Annotation:
    """One entry of ``annotations``: a person, or a crowd as one region.

    Attributes:
        keypoints: (K, 3) float64: x, y in image pixels and visibility; zeros for a crowd.
        box: x, y, width, height in image pixels.
        area: In square pixels, of the segment or, where the set annotates none, ``BOX_TO_AREA`` of the box.
        num_keypoints: As the file has it (CrowdPose counts differently), else the number with visibility above 0.
        region: Segmentation of a crowd or of a person without keypoints: polygons, run lengths, or None for the box.
    """

    id: int
    image_id: int
    category_id: int
    keypoints: npt.NDArray[np.float64]
    box: tuple[float, float, float, float]
    area: float
    is_crowd: bool
    num_keypoints: int
    region: Any

    @property
    def is_person(self) -> bool:
        """Whether it is one person with at least one annotated keypoint."""
        return not self.is_crowd and bool((self.keypoints[:, 2] > 0).any())

    def to_coco(self) -> dict[str, Any]:
        """The entry in COCO's format, without the segmentation, which the evaluation of keypoints does not read."""
        return {
            "id": self.id,
            "image_id": self.image_id,
            "category_id": self.category_id,
            "keypoints": self.keypoints.ravel().tolist(),
            "num_keypoints": self.num_keypoints,
            "bbox": list(self.box),
            "area": self.area,
            "iscrowd": int(self.is_crowd),
        }


@dataclass(frozen=True, eq=False)
class AnnotationFile:
    """A checked file: pictures by id in the file's order, the annotations of each, and the person category."""

    pictures: dict[int, Picture]
    annotations: dict[int, list[Annotation]]
    category: dict[str, Any]


class _Reader:
    """Picks values out of one file, and turns each fault into a sentence with the file and the place in it."""

    def __init__(self, path: Path, keypoints: KeypointSet) -> None:
        self.path = path
        self.keypoints = keypoints

    def fault(self, place: str, rule: str) -> UserError:
        return UserError(f"annotation file {self.path}: {place} {rule}; correct the file or give another")

    def entries(self, content: Any, key: str) -> list[dict[str, Any]]:
        if not isinstance(content, dict):
            raise self.fault("the top level", "must be an object with images, annotations and categories")
        entries = content.get(key)
        if not isinstance(entries, list):
            raise self.fault(key, "must be a list" if key in content else "is missing")
        for number, entry in enumerate(entries):
            if not isinstance(entry, dict):
                raise self.fault(f"{key}[{number}]", "must be an object")
        return entries

    def value(self, entry: dict[str, Any], place: str, key: str) -> Any:
        if key not in entry:
            raise self.fault(f"{place}.{key}", "is missing")
        return entry[key]

    def integer(self, entry: dict[str, Any], place: str, key: str, least: int) -> int:
        value = self.value(entry, place, key)
        if type(value) is not int or value < least:
            raise self.fault(f"{place}.{key}", f"is {value!r}, but must be an integer of at least {least}")
        return value

    def numbers(self, entry: dict[str, Any], place: str, key: str, count: int, why: str) -> npt.NDArray[np.float64]:
        value = self.value(entry, place, key)
        try:
            array = np.asarray(value)
        except ValueError:  # lists of unequal length
            array = np.empty(0)
        if array.dtype.kind not in "iuf" or array.shape != (count,):
            found = f"{len(value)} entries" if isinstance(value, list) else repr(value)
            raise self.fault(f"{place}.{key}", f"must be {count} numbers ({why}), not {found}")
        if not np.isfinite(array).all():
            raise self.fault(f"{place}.{key}", "holds a number that is not finite")
        return array.astype(np.float64)

    def category(self, content: Any) -> dict[str, Any]:
        entries = self.entries(content, "categories")
        named = [entry for entry in entries if entry.get("name") == "person"] or entries
        if len(named) != 1:
            raise self.fault("categories", f"must hold one category named person, not {len(named)} candidates")
        place = f"categories[{entries.index(named[0])}]"
        self.integer(named[0], place, "id", least=0)
        names = named[0].get("keypoints", self.keypoints.names)
        if not isinstance(names, list | tuple) or len(names) != self.keypoints.num:
            count = len(names) if isinstance(names, list) else repr(names)
            rule = f"lists {count} keypoints, but the keypoint set {self.keypoints.name} has {self.keypoints.num}"
            raise self.fault(f"{place}.keypoints", rule)
        return named[0]

    def picture(self, entry: dict[str, Any], place: str) -> Picture:
        name = self.value(entry, place, "file_name")
        if not isinstance(name, str) or not name or "\0" in name:
            raise self.fault(f"{place}.file_name", f"is {name!r}, but must be the name of a file")
        for pure in (PurePosixPath(name), PureWindowsPath(name)):
            if pure.anchor or ".." in pure.parts:
                raise self.fault(f"{place}.file_name", f"is {name!r}, which leads out of the picture folder")
        crowd_index = entry.get("crowdIndex")
        if crowd_index is not None and (type(crowd_index) not in (int, float) or not 0 <= crowd_index <= 1):
            raise self.fault(f"{place}.crowdIndex", f"is {crowd_index!r}, but must lie between 0 and 1")
        return Picture(
            id=self.integer(entry, place, "id", least=0),
            file_name=name,
            width=self.integer(entry, place, "width", least=1),
            height=self.integer(entry, place, "height", least=1),
            crowd_index=crowd_index,
        )

    def annotation(self, entry: dict[str, Any], place: str) -> Annotation:
        is_crowd = entry.get("iscrowd", 0)
        if is_crowd not in (0, 1):
            raise self.fault(f"{place}.iscrowd", f"is {is_crowd!r}, but must be 0 or 1")
        num = self.keypoints.num
        if is_crowd:
            keypoints = np.zeros((num, 3))
        else:
            why = f"x, y and visibility of the {num} keypoints of {self.keypoints.name}"
            keypoints = self.numbers(entry, place, "keypoints", num * 3, why).reshape(num, 3)
        if not np.isin(keypoints[:, 2], (0, 1, 2)).all():
            raise self.fault(f"{place}.keypoints", "holds a visibility other than 0, 1 and 2")
        x, y, width, height = self.numbers(entry, place, "bbox", 4, "x, y, width, height").tolist()
        if width < 0 or height < 0:
            raise self.fault(f"{place}.bbox", f"has a negative size of {width} x {height}")
        area = BOX_TO_AREA * width * height
        if not self.keypoints.area_from_box:
            area = self.value(entry, place, "area")
            if type(area) not in (int, float) or not 0 <= area < math.inf:
                raise self.fault(f"{place}.area", f"is {area!r}, but must be a number of at least 0")
        annotated = int((keypoints[:, 2] > 0).sum())
        return Annotation(
            # Evaluation takes a match with id 0 for no match.
            id=self.integer(entry, place, "id", least=1),
            image_id=self.integer(entry, place, "image_id", least=0),
            category_id=self.integer(entry, place, "category_id", least=0),
            keypoints=keypoints,
            box=(x, y, width, height),
            area=area,
            is_crowd=bool(is_crowd),
            num_keypoints=self.integer({"num_keypoints": annotated} | entry, place, "num_keypoints", least=0),
            region=None if annotated else entry.get("segmentation") or None,
        )


def read_annotations(path: str | Path, keypoints: KeypointSet) -> AnnotationFile:
    """Read and check an annotation file; annotations of categories other than the person are left out.

    Raises:
        UserError: The file is missing, not JSON, or breaks the format; the message names the place.
    """
    content = read_json(path, "annotation file")
    reader = _Reader(Path(path), keypoints)
    pictures: dict[int, Picture] = {}
    for number, entry in enumerate(reader.entries(content, "images")):
        picture = reader.picture(entry, f"images[{number}]")
        if picture.id in pictures:
            raise reader.fault(f"images[{number}].id", f"is {picture.id}, which an earlier picture has")
        pictures[picture.id] = picture
    category = reader.category(content)
    annotations: dict[int, list[Annotation]] = {image_id: [] for image_id in pictures}
    known: set[int] = set()
    for number, entry in enumerate(reader.entries(content, "annotations")):
        place = f"annotations[{number}]"
        if reader.integer(entry, place, "category_id", least=0) != category["id"]:
            continue
        annotation = reader.annotation(entry, place)
        if annotation.id in known:
            raise reader.fault(f"{place}.id", f"is {annotation.id}, which an earlier annotation has")
        if annotation.image_id not in pictures:
            raise reader.fault(f"{place}.image_id", f"is {annotation.image_id}, which no picture has")
        known.add(annotation.id)
        annotations[annotation.image_id].append(annotation)
    return AnnotationFile(pictures, annotations, category)
