"""Reading annotation files in COCO's format, CrowdPose's included, under the rules of ``annotation_rules``."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from supernet.errors import UserError
from supernet.io.files import LARGE, read_json
from supernet.pose.coco.annotation_rules import KINDS, AnnotationRules, Fault, ImageRules
from supernet.pose.custom_keypoints import CustomKeypoints, check_names
from supernet.pose.keypoints import KeypointSet
from supernet.pose.metrics.input_checks import BOX_TO_AREA


@dataclass(frozen=True)
class ImageInfo:
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
    """A checked file: images by id in the file's order, the annotations of each, and the annotated category."""

    images: dict[int, ImageInfo]
    annotations: dict[int, list[Annotation]]
    category: dict[str, Any]
    keypoints: KeypointSet


@dataclass(frozen=True, eq=False)
class AnnotatedPeople:
    """The annotated category of a file, its keypoints, and its annotations in the file's order."""

    category: dict[str, Any]
    keypoints: KeypointSet
    annotations: list[Annotation]


OnFault = Callable[[Fault], None]
"""Told every fault; what it raises stops the reading, else the entry is left out if the fault is of a refused kind."""


def read_annotations(
    path: str | Path, keypoints: KeypointSet | CustomKeypoints, category: str | None = None
) -> AnnotationFile:
    """Read an annotation file; annotations of categories other than the annotated one are left out.

    Args:
        path: The file.
        keypoints: The set that people are annotated with, completed from the file's category if it is a custom one.
        category: Name of the annotated category; None: "person", or the only one with keypoints.

    Raises:
        UserError: The file is missing, not JSON, or breaks a rule in a way that would do harm; the message names the
            place.
    """

    def refuse(fault: Fault) -> None:
        if KINDS[fault.kind].refused:
            raise UserError(f"annotation file {path}: {fault.place} {fault.rule}; correct the file or give another")

    content = read_json(path, "annotation file", LARGE)
    images, sizes = parse_images(content, refuse)
    people = parse_people(content, sizes, keypoints, category, refuse)
    assert people is not None
    annotations: dict[int, list[Annotation]] = {image_id: [] for image_id in images}
    for each in people.annotations:
        annotations[each.image_id].append(each)
    return AnnotationFile(images, annotations, people.category, people.keypoints)


def parse_images(content: Any, on_fault: OnFault) -> tuple[dict[int, ImageInfo], dict[int, tuple[int, int] | None]]:
    """Read the images of an annotation file's content.

    Returns:
        Images by id, and the width and height of each id listed, None where it is faulty.
    """
    rules = ImageRules()
    images: dict[int, ImageInfo] = {}
    for number, entry in enumerate(_entries(content, "images", on_fault)):
        if _passes(rules.faults(entry, f"images[{number}]"), on_fault):
            images[entry["id"]] = ImageInfo(
                entry["id"], entry["file_name"], entry["width"], entry["height"], entry.get("crowdIndex")
            )
    return images, rules.sizes


def parse_people(
    content: Any,
    sizes: Mapping[int, tuple[int, int] | None],
    keypoints: KeypointSet | CustomKeypoints,
    category: str | None,
    on_fault: OnFault,
) -> AnnotatedPeople | None:
    """Read the annotations of an annotation file's content; None if the annotated category cannot be told.

    Args:
        content: As read from JSON.
        sizes: As of ``parse_images``.
        keypoints: As of ``read_annotations``.
        category: As of ``read_annotations``.
        on_fault: Told every fault.
    """
    listed = _category(content, keypoints, category, on_fault)
    if listed is None:
        return None
    annotated, complete = listed
    rules = AnnotationRules(complete, sizes)
    known = [entry.get("id") for entry in content["categories"] if isinstance(entry, dict)]
    people = []
    for number, entry in enumerate(_entries(content, "annotations", on_fault)):
        place = f"annotations[{number}]"
        if not isinstance(entry, dict):
            on_fault(Fault("structure", place, "must be an object"))
            continue
        own = entry.get("category_id")
        if type(own) is not int:
            rule = "must be an integer, the id of a category" if "category_id" in entry else "is missing"
            on_fault(Fault("field", f"{place}.category_id", rule))
        elif own not in known:
            on_fault(Fault("unknown_category", f"{place}.category_id", f"is {own}, which no category has"))
        elif own == annotated["id"] and _passes(rules.faults(entry, place), on_fault):
            people.append(_annotation(entry, complete))
    return AnnotatedPeople(annotated, complete, people)


def _passes(faults: list[Fault], on_fault: OnFault) -> bool:
    for fault in faults:
        on_fault(fault)
    return not any(KINDS[fault.kind].refused for fault in faults)


def _entries(content: Any, key: str, on_fault: OnFault) -> list[Any]:
    """A list of the file, empty if there is none."""
    if not isinstance(content, dict):
        rule = "must be an object with images, annotations and categories"
        on_fault(Fault("structure", "the top level", rule))
        return []
    entries = content.get(key)
    if not isinstance(entries, list):
        on_fault(Fault("structure", key, "must be a list" if key in content else "is missing"))
        return []
    return entries


def _category(
    content: Any, keypoints: KeypointSet | CustomKeypoints, name: str | None, on_fault: OnFault
) -> tuple[dict[str, Any], KeypointSet] | None:
    """The annotated category and its keypoints."""
    entries = [entry for entry in _entries(content, "categories", on_fault) if isinstance(entry, dict)]
    named = [entry for entry in entries if entry.get("name") == (name or "person")]
    if name is None:
        named = named or [entry for entry in entries if "keypoints" in entry] or entries
    if len(named) != 1:
        rule = f"must hold one category named {name or 'person'} (or what dataset.category says), not {len(named)}"
        on_fault(Fault("category", "categories", rule))
        return None
    place = f"categories[{content['categories'].index(named[0])}]"
    if type(named[0].get("id")) is not int:
        on_fault(Fault("category", f"{place}.id", "must be an integer"))
        return None
    try:
        if isinstance(keypoints, CustomKeypoints):
            return named[0], keypoints.complete(named[0])
        told = CustomKeypoints.from_category({"keypoints": named[0].get("keypoints")})
        check_names(told.names, keypoints.names, keypoints.name)
    except UserError as error:
        on_fault(Fault("category", f"{place}.keypoints", str(error)))
        return None
    return named[0], keypoints


def _annotation(entry: dict[str, Any], keypoints: KeypointSet) -> Annotation:
    """An entry that keeps the rules."""
    is_crowd = bool(entry.get("iscrowd", 0))
    points = np.zeros((keypoints.num, 3))
    if not is_crowd:
        points = np.array(entry["keypoints"], np.float64).reshape(keypoints.num, 3)
    x, y, width, height = map(float, entry["bbox"])
    annotated = int((points[:, 2] > 0).sum())
    return Annotation(
        id=entry["id"],
        image_id=entry["image_id"],
        category_id=entry["category_id"],
        keypoints=points,
        box=(x, y, width, height),
        area=BOX_TO_AREA * width * height if keypoints.area_from_box else entry["area"],
        is_crowd=is_crowd,
        num_keypoints=entry.get("num_keypoints", annotated),
        region=None if annotated else entry.get("segmentation") or None,
    )
