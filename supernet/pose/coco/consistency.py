"""Finds values that are valid each for itself but do not fit together, and that training would learn in silence."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from supernet.pose.coco.annotation_rules import Fault
from supernet.pose.keypoints import KeypointSet

LEAST_AREA, MOST_AREA = 0.01, 2.0
"""Bounds of a person's area as a share of the box; on COCO it is from about 0.1 to 1."""
WARNED = (
    "keypoint_corner",
    "normalised",
    "area",
    "zero_area",
    "repeated_person",
    "repeated_file",
    "unlabelled_keypoint",
    "num_keypoints",
    "unknown_category",
    "keypoint_outside",
)
"""Kinds of faults of which training and evaluation warn, because results are likely to be meaningless."""
MOST_OUTSIDE = 0.05
"""Share of the labelled keypoints outside their images up to which there is no warning: some annotators follow a limb
beyond the border. More are outside where images were scaled and annotations were not."""

_BLOCK = 16_384
"""People who are looked at together."""

Floats = npt.NDArray[np.floating]


def contradictions(
    people: Floats,
    boxes: Floats,
    areas: Floats,
    images: Sequence[int],
    ids: Sequence[int],
    keypoints: KeypointSet,
) -> Iterator[Fault]:
    """Yield the faults of all people of an annotation file, who passed the rules for single entries.

    Args:
        people: (P, K, 3) x, y in image pixels, visibility.
        boxes: (P, 4) x, y, width, height.
        areas: (P,) square pixels.
        images: (P,) the id of each person's image.
        ids: (P,) the id of each person's annotation.
        keypoints: The K keypoints.
    """
    for start in range(0, len(people), _BLOCK):
        yield from _odd_points(people[start : start + _BLOCK], ids[start : start + _BLOCK], keypoints)
    if not keypoints.area_from_box:
        box_areas = boxes[:, 2] * boxes[:, 3]
        wrong = (areas > 0) & (box_areas > 0) & ((areas < LEAST_AREA * box_areas) | (areas > MOST_AREA * box_areas))
        for person in np.flatnonzero(wrong).tolist():
            rule = f"has the area {areas[person]:g} in a box of {boxes[person, 2]:g} x {boxes[person, 3]:g}"
            yield Fault("area", f"annotation {ids[person]}", rule)
    yield from _repeats(people, images, ids)
    is_labelled = (people[..., 2] > 0).any(axis=0)
    if is_labelled.any():
        for k in np.flatnonzero(~is_labelled).tolist():
            yield Fault("unlabelled_keypoint", f"keypoint {keypoints.names[k]}", "is labelled on nobody")


def _odd_points(people: Floats, ids: Sequence[int], keypoints: KeypointSet) -> Iterator[Fault]:
    """Keypoints labelled at a corner, and people whose coordinates are shares of the image."""
    labelled, points = people[..., 2] > 0, people[..., :2]
    at_corner = labelled & ((points == 0).all(axis=2) | (points == -1).all(axis=2))
    for person, k in np.argwhere(at_corner).tolist():
        x, y = points[person, k]
        rule = f"labels {keypoints.names[k]} at {x:g}, {y:g}; keypoints that are not annotated need the visibility 0"
        yield Fault("keypoint_corner", f"annotation {ids[person]}", rule)
    for person in np.flatnonzero(_normalised(points, labelled)).tolist():
        rule = "has all coordinates from 0 to 1, as if they were shares of the image; give pixels"
        yield Fault("normalised", f"annotation {ids[person]}", rule)


def _normalised(points: Floats, labelled: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Which people (P,) have all labelled keypoints in 0..1, not all of them on whole numbers."""
    inside = ((points >= 0) & (points <= 1)).all(axis=2)
    is_fraction = (points != np.floor(points)).any(axis=2)
    several = labelled.sum(axis=1) > min(1, points.shape[1] - 1)
    chosen: npt.NDArray[np.bool_] = several & (inside | ~labelled).all(axis=1) & (is_fraction & labelled).any(axis=1)
    return chosen


def _repeats(people: Floats, images: Sequence[int], ids: Sequence[int]) -> Iterator[Fault]:
    """People with exactly the keypoints of an earlier person of the same image."""
    first: dict[tuple[int, int], int] = {}
    labelled = people[..., 2] > 0
    for person in np.flatnonzero(labelled.any(axis=1)).tolist():
        key = images[person], hash(_points_as_bytes(people[person], labelled[person]))
        earlier = first.setdefault(key, person)
        if earlier != person and _points_as_bytes(people[earlier], labelled[earlier]) == _points_as_bytes(
            people[person], labelled[person]
        ):
            rule = f"has the keypoints of annotation {ids[earlier]} of the same image; keep one of the two"
            yield Fault("repeated_person", f"annotation {ids[person]}", rule)


def _points_as_bytes(person: Floats, labelled: npt.NDArray[np.bool_]) -> bytes:
    """Which keypoints of a person (K, 3) are labelled, and where."""
    return labelled.tobytes() + person[labelled, :2].tobytes()


def warnings_of(
    counts: Mapping[str, int], examples: Mapping[str, Fault], titles: Mapping[str, str], num_labelled: int
) -> Iterator[str]:
    """Yield a message for each kind of ``WARNED`` that a file with ``num_labelled`` keypoints has."""
    for kind in WARNED:
        least = MOST_OUTSIDE * num_labelled if kind == "keypoint_outside" else 0
        if (count := counts.get(kind, 0)) > least:
            example = examples[kind]
            yield f"{titles[kind]}: {count}, such as {example.place}, which {example.rule}"
