"""Reads annotation files in COCO's format, including CrowdPose's, and checks them by ``annotation_rules``."""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from supernet.errors import UserError
from supernet.io.files import LARGE, read_json
from supernet.pose.coco.annotation_rules import KINDS, AnnotationRules, Fault, ImageRules, crowd_flag
from supernet.pose.coco.categories import AnnotatedCategory, CategoryFault, CategoryName, choose_category
from supernet.pose.coco.consistency import contradictions, warnings_of
from supernet.pose.coco.identities import name_below, own_id, whole_number
from supernet.pose.coco.mirror_images import on_one_side
from supernet.pose.custom_keypoints import CustomKeypoints
from supernet.pose.keypoints import KeypointSet
from supernet.pose.metrics.input_checks import BOX_TO_AREA

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageInfo:
    """One entry of ``images``.

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


@dataclass(frozen=True, eq=False)
class Annotation:
    """One entry of ``annotations``: a person, or a crowd annotated as one region.

    Attributes:
        keypoints: (K, 3) float64: x, y in image pixels and visibility; zeros for a crowd.
        box: x, y, width, height in image pixels.
        area: Square pixels of the segment; for sets without segments, ``BOX_TO_AREA`` times the box.
        num_keypoints: As in the file (CrowdPose counts differently), else the number with visibility above 0.
        region: Segmentation of a crowd or of a person without keypoints: polygons, run lengths, or None for the box.
    """

    id: int
    image_id: int
    category_id: int | str
    keypoints: npt.NDArray[np.float64]
    box: tuple[float, float, float, float]
    area: float
    is_crowd: bool
    num_keypoints: int
    region: Any

    @property
    def is_person(self) -> bool:
        """Whether this is a single person with at least one annotated keypoint."""
        return not self.is_crowd and bool((self.keypoints[:, 2] > 0).any())

    def to_coco(self, image_id: int | str) -> dict[str, Any]:
        """The entry in COCO's format with its image's own id; without the segmentation, which evaluation ignores."""
        return {
            "id": self.id,
            "image_id": image_id,
            "category_id": self.category_id,
            "keypoints": self.keypoints.ravel().tolist(),
            "num_keypoints": self.num_keypoints,
            "bbox": list(self.box),
            "area": self.area,
            "iscrowd": int(self.is_crowd),
        }


@dataclass(frozen=True, eq=False)
class AnnotationFile:
    """A checked file: images by id in file order, annotations by image id, the annotated category, its keypoints."""

    images: dict[int, ImageInfo]
    annotations: dict[int, list[Annotation]]
    category: dict[str, Any]
    keypoints: KeypointSet


@dataclass(frozen=True, eq=False)
class ListedImages:
    """The images of a file.

    Attributes:
        images: By id, in file order, without faulty entries and those that repeat a file.
        sizes: Width and height by id of all listed images; None if faulty.
        first_ids: By id of an entry that repeats a file, the id of the first entry of that file.
    """

    images: dict[int, ImageInfo]
    sizes: dict[int, tuple[int, int] | None]
    first_ids: dict[int, int]


@dataclass(frozen=True, eq=False)
class AnnotatedPeople:
    """The annotated category of a file, its keypoints, and its annotations in file order."""

    category: dict[str, Any]
    keypoints: KeypointSet
    annotations: list[Annotation]


OnFault = Callable[[Fault], None]
"""Called with every fault. It may raise to stop reading; else entries with faults of refused kinds are skipped."""


def read_annotations(
    path: str | Path,
    keypoints: KeypointSet | CustomKeypoints,
    category: CategoryName = None,
    images: str | Path | None = None,
) -> AnnotationFile:
    """Read an annotation file; annotations of other categories are skipped, and images of the same file merged.

    Args:
        path: The file.
        keypoints: The keypoint set of the annotations; a custom set is completed from the file's category.
        category: See ``CategoryName``.
        images: Image folder or archive, which absolute file names may lead into.

    Raises:
        UserError: The file is missing, is not JSON, or has a fault of a refused kind; the message names the place.
            Faults that probably make results meaningless are logged.
    """
    counts: Counter[str] = Counter()
    examples: dict[str, Fault] = {}

    def refuse(fault: Fault) -> None:
        if KINDS[fault.kind].refused:
            raise UserError(f"annotation file {path}: {fault.place} {fault.rule}; correct the file or use another one")
        counts[fault.kind] += 1
        examples.setdefault(fault.kind, fault)

    content = read_json(path, "annotation file", LARGE)
    listed = parse_images(content, images, refuse)
    people = parse_people(content, listed, keypoints, category, refuse)
    assert people is not None
    for warning in warnings_of(counts, examples, {kind: details.title for kind, details in KINDS.items()}):
        logger.warning("annotation file %s, %s; python -m supernet.pose.check lists all", path, warning)
    annotations: dict[int, list[Annotation]] = {image_id: [] for image_id in listed.images}
    for annotation in people.annotations:
        annotations[annotation.image_id].append(annotation)
    return AnnotationFile(listed.images, annotations, people.category, people.keypoints)


def parse_images(content: Any, images: str | Path | None, on_fault: OnFault) -> ListedImages:
    """Read the images of an annotation file's content; those of the same file become one.

    Args:
        content: Content of the file, as read from JSON.
        images: Image folder or archive, which absolute file names may lead into.
        on_fault: Called with every fault.
    """
    folder = None if images is None or not Path(images).is_dir() else Path(images)
    rules = ImageRules(folder)
    parsed: dict[int, ImageInfo] = {}
    for number, entry in enumerate(_entries(content, "images", on_fault)):
        if _passes(rules.faults(entry, f"images[{number}]"), on_fault):
            image_id = _whole(entry["id"])
            if image_id not in rules.first_ids:
                name = name_below(entry["file_name"], folder)
                assert name is not None
                size = _whole(entry["width"]), _whole(entry["height"])
                parsed[image_id] = ImageInfo(image_id, name, *size, entry.get("crowdIndex"), own_id(entry["id"]))
    if not all(isinstance(image.own_id, str) for image in parsed.values()):  # results need ids of one type
        parsed = {image_id: replace(image, own_id=image_id) for image_id, image in parsed.items()}
    return ListedImages(parsed, rules.sizes, rules.first_ids)


def parse_people(
    content: Any,
    listed: ListedImages,
    keypoints: KeypointSet | CustomKeypoints,
    category: CategoryName,
    on_fault: OnFault,
) -> AnnotatedPeople | None:
    """Read the annotations of an annotation file's content; None if the annotated category cannot be determined.

    Args:
        content: Content of the file, as read from JSON.
        listed: Its images, from ``parse_images``.
        keypoints: See ``read_annotations``.
        category: See ``read_annotations``.
        on_fault: Called with every fault.
    """
    categories, entries = _entries(content, "categories", on_fault), _entries(content, "annotations", on_fault)
    used_ids = (entry.get("category_id") for entry in entries if isinstance(entry, dict))
    try:
        annotated = choose_category(categories, used_ids, keypoints, category)
    except CategoryFault as error:
        on_fault(error.fault)
        return None
    rules = AnnotationRules(annotated.keypoints, listed.sizes)
    known_ids = {whole_number(entry.get("id")) for entry in categories if isinstance(entry, dict)}
    people = []
    for number, entry in enumerate(entries):
        place = f"annotations[{number}]"
        if not isinstance(entry, dict):
            on_fault(Fault("structure", place, "must be an object"))
            continue
        category_id = whole_number(entry.get("category_id"))
        if category_id is None:
            rule = "must be an integer, the id of a category" if "category_id" in entry else "is missing"
            on_fault(Fault("field", f"{place}.category_id", rule))
        elif category_id not in known_ids:
            rule = f"is {category_id}, but no category has this id"
            on_fault(Fault("unknown_category", f"{place}.category_id", rule))
        elif category_id in annotated.ids and _passes(rules.faults(entry, place), on_fault):
            people.append(_annotation(entry, listed, annotated))
    complete = annotated.keypoints
    if isinstance(keypoints, CustomKeypoints) and not keypoints.lists_pairs(annotated.entry):
        labelled = [person.keypoints for person in people if person.is_person]
        one_sided = on_one_side(np.array(labelled).reshape(-1, complete.num, 3), complete)
        complete = replace(complete, unpaired=complete.unpaired + one_sided)
    for fault in _contradictions(people, complete):
        on_fault(fault)
    return AnnotatedPeople(annotated.entry, complete, people)


def _contradictions(annotations: Sequence[Annotation], keypoints: KeypointSet) -> Iterator[Fault]:
    """The faults that show only in comparison with other values of the file."""
    people = [annotation for annotation in annotations if not annotation.is_crowd]
    return contradictions(
        np.array([person.keypoints for person in people]).reshape(-1, keypoints.num, 3),
        np.array([person.box for person in people]).reshape(-1, 4),
        np.array([person.area for person in people], np.float64),
        [person.image_id for person in people],
        [person.id for person in people],
        keypoints,
    )


def _passes(faults: list[Fault], on_fault: OnFault) -> bool:
    """Report ``faults``; whether none is of a refused kind."""
    for fault in faults:
        on_fault(fault)
    return not any(KINDS[fault.kind].refused for fault in faults)


def _entries(content: Any, key: str, on_fault: OnFault) -> list[Any]:
    """The list under ``key``; empty, with a fault reported, if there is none."""
    if not isinstance(content, dict):
        rule = "must be an object with images, annotations and categories"
        on_fault(Fault("structure", "the top level", rule))
        return []
    entries = content.get(key)
    if not isinstance(entries, list):
        on_fault(Fault("structure", key, "must be a list" if key in content else "is missing"))
        return []
    return entries


def _annotation(entry: dict[str, Any], listed: ListedImages, category: AnnotatedCategory) -> Annotation:
    """Build from an entry that passed the rules."""
    keypoints, is_crowd, image_id = category.keypoints, bool(crowd_flag(entry)), _whole(entry["image_id"])
    points = np.zeros((keypoints.num, 3))
    if not is_crowd:
        points = np.array(entry["keypoints"], np.float64).reshape(keypoints.num, 3)
    x, y, width, height = map(float, entry["bbox"])
    annotated, num_given = int((points[:, 2] > 0).sum()), whole_number(entry.get("num_keypoints"))
    return Annotation(
        id=_whole(entry["id"]),
        image_id=listed.first_ids.get(image_id, image_id),
        category_id=category.entry["id"],
        keypoints=points,
        box=(x, y, width, height),
        area=BOX_TO_AREA * width * height if keypoints.area_from_box else entry["area"],
        is_crowd=is_crowd,
        num_keypoints=annotated if num_given is None else num_given,
        region=None if annotated else entry.get("segmentation") or None,
    )


def _whole(value: Any) -> int:
    """The whole number of a value that passed the rules."""
    number = whole_number(value)
    assert number is not None
    return number
