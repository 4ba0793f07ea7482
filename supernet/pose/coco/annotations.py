"""Reads annotation files in COCO's format, including CrowdPose's, and checks them by ``annotation_rules``."""

import logging
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from supernet.errors import UserError
from supernet.io.files import LARGE, read_json
from supernet.io.json_lists import Unusual, read_lists
from supernet.io.limits import check_limits
from supernet.pose.coco.annotation_rules import KINDS, Fault, OnFault
from supernet.pose.coco.categories import CategoryFault, CategoryName, choose_category
from supernet.pose.coco.columns import RowCollector, Rows
from supernet.pose.coco.consistency import warnings_of
from supernet.pose.coco.identities import whole_number
from supernet.pose.coco.image_table import ImageCollector, ImageTable
from supernet.pose.coco.mirror_images import on_one_side
from supernet.pose.coco.people_table import PeopleTable, faults_of_people, people_table
from supernet.pose.custom_keypoints import CustomKeypoints
from supernet.pose.keypoints import KeypointSet

_LISTS = ("images", "annotations", "categories")
_BATCH_SIZE = 4096

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class AnnotationFile:
    """A checked file: its images, the annotations of the annotated category, the category, and its keypoints."""

    images: ImageTable
    people: PeopleTable
    category: dict[str, Any]
    keypoints: KeypointSet


@dataclass(frozen=True, eq=False)
class FileContent:
    """The lists of a file, unchecked.

    Attributes:
        images: Collected images.
        annotations: Annotations in columns.
        categories: The entries of ``categories``.
        faults: Lists that are missing or no lists, by name.
    """

    images: ImageCollector
    annotations: Rows
    categories: list[Any]
    faults: dict[str, Fault]


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

    checked, _ = check_content(read_content(path), keypoints, category, images, refuse)
    assert checked is not None
    num_labelled = int((checked.people.keypoints[..., 2] > 0).sum())
    titles = {kind: details.title for kind, details in KINDS.items()}
    for warning in warnings_of(counts, examples, titles, num_labelled):
        logger.warning("annotation file %s, %s; python -m supernet.pose.check lists all", path, warning)
    return checked


def read_content(path: str | Path) -> FileContent:
    """Read the lists of an annotation file, a large one in batches.

    Raises:
        UserError: The file is missing, is not JSON, or too large.
    """
    images, rows = ImageCollector(), RowCollector()
    categories: list[Any] = []
    collectors = {"images": images.add, "annotations": rows.add, "categories": categories.extend}
    seen = set()
    try:
        for name, batch in read_lists(path, _LISTS, LARGE):
            seen.add(name)
            collectors[name](batch)
        collected = rows.rows()
        # Regular entries are not nested; code that prints the others may recurse once per level.
        check_limits([categories, images.entries, *collected.others.values()], sys.maxsize)
    except (Unusual, ValueError):
        return _content_of(read_json(path, "annotation file", LARGE))
    faults = {name: Fault("structure", name, "is missing") for name in _LISTS if name not in seen}
    return FileContent(images, collected, categories, faults)


def _content_of(content: Any) -> FileContent:
    """The lists of a file that was read as a whole."""
    images, rows = ImageCollector(), RowCollector()
    lists, faults = {}, {}
    for name in _LISTS:
        entries = content.get(name) if isinstance(content, dict) else None
        if not isinstance(content, dict):
            rule = "must be an object with images, annotations and categories"
            faults[name] = Fault("structure", "the top level", rule)
        elif not isinstance(entries, list):
            faults[name] = Fault("structure", name, "must be a list" if name in content else "is missing")
        lists[name] = entries if isinstance(entries, list) else []
    for collector, name in ((images.add, "images"), (rows.add, "annotations")):
        for start in range(0, len(lists[name]), _BATCH_SIZE):
            collector(lists[name][start : start + _BATCH_SIZE])
    return FileContent(images, rows.rows(), lists["categories"], faults)


def check_content(
    content: FileContent,
    keypoints: KeypointSet | CustomKeypoints,
    category: CategoryName,
    images: str | Path | None,
    on_fault: OnFault,
) -> tuple[AnnotationFile | None, ImageTable]:
    """Check the content of a file.

    Args:
        content: From ``read_content``.
        keypoints: See ``read_annotations``.
        category: See ``read_annotations``.
        images: See ``read_annotations``.
        on_fault: Called with every fault. It may raise to stop; else entries with faults of refused kinds are skipped.

    Returns:
        The checked file, None if the annotated category cannot be determined; and its images.

    Raises:
        UserError: The configuration of the keypoints is wrong; what ``on_fault`` raises.
    """
    for name in ("images", "categories", "annotations"):
        if name in content.faults:
            on_fault(content.faults[name])
    table = content.images.table(images, on_fault)
    rows, others = content.annotations, content.annotations.others.values()
    used_ids = [*np.unique(rows.columns["category_id"]).tolist()]
    used_ids += [entry.get("category_id") for entry in others if isinstance(entry, dict)]
    try:
        annotated = choose_category(content.categories, used_ids, keypoints, category)
    except CategoryFault as error:
        on_fault(error.fault)
        return None, table
    known_ids = _known_ids(content.categories)
    people = people_table(rows, table, annotated, known_ids, on_fault)
    complete = annotated.keypoints
    if isinstance(keypoints, CustomKeypoints) and not keypoints.lists_pairs(annotated.entry):
        one_sided = on_one_side(people.keypoints[people.is_person].astype(np.float64), complete)
        complete = replace(complete, unpaired=complete.unpaired + one_sided)
    for fault in faults_of_people(people, table.ids, complete):
        on_fault(fault)
    return AnnotationFile(table, people, annotated.entry, complete), table


def _known_ids(categories: Sequence[Any]) -> list[int]:
    """The ids of all categories that have one."""
    ids = [whole_number(entry.get("id")) for entry in categories if isinstance(entry, dict)]
    return [number for number in ids if number is not None and abs(number) < 2**63]
