"""Checks ground truth and results before they are evaluated.

pycocotools accepts most bad input silently, and some of it raises the AP (one NaN coordinate per detection does), so
everything that it would misjudge is an error or a warning here.
"""

import logging
import math
import sys
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from supernet.errors import UserError
from supernet.pose.keypoints import KeypointSet

BOX_TO_AREA = 0.53
"""A person's area as a share of the person's box, as CrowdPose takes it."""

Record = dict[str, Any]

logger = logging.getLogger(__name__)


def checked_ground_truth(ground_truth: Any, keypoints: KeypointSet) -> tuple[list[Record], list[Record]]:
    """Check a COCO-format dictionary and return its images and annotations.

    Annotations are shallow copies, renumbered from 1 (to pycocotools the id 0 means "no match"), with an ``area`` from
    the box where the keypoint set asks for it; those of images not listed are left out with a warning.

    Raises:
        UserError: A part or a field is missing or of the wrong type, ids repeat, or no person is labelled.
    """
    if not isinstance(ground_truth, dict):
        raise UserError(f"the ground truth is a {type(ground_truth).__name__}; give a dictionary in COCO's format")
    for part in ("images", "annotations"):
        if not isinstance(ground_truth.get(part), list):
            raise UserError(f"the ground truth has no list {part!r}; give a dictionary in COCO's format")
    images, annotations = ground_truth["images"], ground_truth["annotations"]
    for index, image in enumerate(images):
        _require(image, ("id",), f"images[{index}]")
        for field in ("width", "crowdIndex"):
            _check_number(image, field, f"images[{index}]")
    _warn_of_repeats(images)
    _refuse_repeats(annotations)
    known = {image["id"]: image for image in images}
    _refuse_mixtures("images", "id", images)

    complete: list[Record] = []
    num_dangling = num_outside = 0
    for index, annotation in enumerate(annotations):
        where = f"annotations[{index}]"
        _require(annotation, ("image_id", "category_id", "keypoints", "num_keypoints", "iscrowd", "bbox"), where)
        for field in ("num_keypoints", "iscrowd"):
            _check_number(annotation, field, where)
        if annotation["image_id"] not in known:
            num_dangling += 1
            continue
        _numbers(annotation["keypoints"], 3 * keypoints.num, f"{where}.keypoints")
        x, _, width, height = _numbers(annotation["bbox"], 4, f"{where}.bbox").tolist()
        num_outside += x + width > known[annotation["image_id"]].get("width", math.inf) + 1
        area = BOX_TO_AREA * width * height if keypoints.area_from_box else annotation.get("area")
        if area is None:
            raise UserError(f"{where} has no 'area', which {keypoints.name} evaluation needs; restore the file")
        _numbers([area], 1, f"{where}.area")
        complete.append({**annotation, "id": len(complete) + 1, "area": area})
    _refuse_mixtures("annotations", "category_id", complete)
    if num_dangling:
        logger.warning(
            "%d annotations belong to images the ground truth does not list; they are left out", num_dangling
        )
    if num_outside > 0.2 * len(complete):
        logger.warning(
            "%d of %d boxes end beyond their image; bbox must be x, y, width, height", num_outside, len(complete)
        )
    if not any(person["num_keypoints"] and not person["iscrowd"] for person in complete):
        raise UserError(
            "the ground truth holds no labelled person (num_keypoints above 0), so AP has no meaning; "
            "give images with people"
        )
    return images, complete


def checked_results(results: Any, keypoints: KeypointSet, image_ids: Iterable[int]) -> list[Record]:
    """Check results in COCO's format and return them.

    Raises:
        UserError: A field is missing or of the wrong type, a number is not finite, or an image is unknown.
    """
    if not isinstance(results, list):
        raise UserError(f"the results are a {type(results).__name__}; give a list of detections in COCO's format")
    known = set(image_ids)
    for index, result in enumerate(results):
        _require(result, ("image_id", "category_id", "keypoints", "score"), f"results[{index}]")
        where = f"results[{index}] (image_id {result['image_id']})"
        _numbers(result["keypoints"], 3 * keypoints.num, f"{where} keypoints")
        _check_number(result, "score", where)
    unknown = list(dict.fromkeys(result["image_id"] for result in results if result["image_id"] not in known))
    if unknown:
        kinds = sorted({type(image_id).__name__ for image_id in unknown})
        raise UserError(
            f"results name {len(unknown)} images the ground truth does not list, such as {unknown[:5]} "
            f"({', '.join(kinds)}); evaluate against the annotations of the same images"
        )
    return results


def _require(record: Any, fields: tuple[str, ...], where: str) -> None:
    if not isinstance(record, dict):
        raise UserError(f"{where} is a {type(record).__name__}, not a dictionary; restore the file")
    for field in fields:
        if field not in record:
            raise UserError(f"{where} has no {field!r}, which COCO's format needs; add it")
    for field in ("id", "image_id", "category_id"):
        if field in fields and not isinstance(record[field], int | str):
            raise UserError(f"{where}: {field} must be a whole number, got {record[field]!r}")


def _check_number(record: Record, field: str, where: str) -> None:
    """Raise UserError unless ``field`` is missing or a finite number."""
    value = record.get(field, 0)
    is_number = isinstance(value, int | float | np.number) and (field == "iscrowd" or not isinstance(value, bool))
    if not is_number or not abs(value) <= sys.float_info.max:
        raise UserError(f"{where}: {field} must be a finite number, got {value!r}")


def _refuse_mixtures(part: str, field: str, records: list[Record]) -> None:
    if len({isinstance(record[field], str) for record in records}) > 1:
        raise UserError(f"{part} have numbers and text as {field}; give numbers")


def _numbers(values: Any, length: int, where: str) -> npt.NDArray[np.float64]:
    """Return ``values`` as an array of ``length`` finite numbers, or raise UserError."""
    if not isinstance(values, list | tuple | np.ndarray) or len(values) != length:
        count = len(values) if hasattr(values, "__len__") else "no"
        raise UserError(f"{where} has {count} numbers; it must have {length}")
    try:
        array = np.asarray(values)
    except ValueError:
        array = np.array(None)
    if array.dtype.kind not in "iuf" or array.shape != (length,):
        raise UserError(f"{where} holds a value that is not a number; it must have {length} numbers")
    if not np.isfinite(array).all():
        raise UserError(f"{where} holds a number that is not finite, which would make AP silently wrong; correct it")
    return array.astype(np.float64)


def _warn_of_repeats(images: list[Record]) -> None:
    repeats = sum(count - 1 for count in Counter(image["id"] for image in images).values())
    if repeats:
        logger.warning("%d images repeat the id of another and are counted once", repeats)


def _refuse_repeats(annotations: list[Record]) -> None:
    records = (record for record in annotations if isinstance(record, dict))
    counts = Counter(record["id"] for record in records if isinstance(record.get("id"), int | str))
    repeated = [number for number, count in counts.items() if count > 1]
    if repeated:
        raise UserError(
            f"{len(repeated)} annotation ids occur more than once, such as {repeated[:5]}; give each its own id"
        )
