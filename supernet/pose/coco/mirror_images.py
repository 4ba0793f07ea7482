"""Finds keypoints whose names have no side although people's annotations show that they lie on one."""

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from supernet.pose.keypoint_names import is_midline, words_of
from supernet.pose.keypoints import KeypointSet

MOST_PEOPLE = 5000
"""People who are looked at, evenly spread over a file."""
LEAST_OFFSET = 0.15
"""Mean distance from the plane of symmetry, in distances between the two keypoints of a pair, that counts as a side."""
LEAST_DEVIATIONS = 4.0
"""How many standard deviations of its mean an offset must differ from 0."""


def on_one_side(people: npt.NDArray[np.float64], keypoints: KeypointSet) -> tuple[str, ...]:
    """Return the keypoints outside all pairs that lie on one side of people, with those numbered like them.

    For a pair with the points L and R of one person, a point p has the offset (p - (L + R) / 2) . (L - R), which is 0
    on the plane of symmetry, 1/2 |L - R|^2 at L and -1/2 |L - R|^2 at R. Over many people, who turn to both sides, the
    offset of a keypoint that is its own mirror image averages to 0; that of a keypoint on one side does not. Names of
    parts on the plane of symmetry (nose, neck) are trusted. If face-3 lies on one side, face-0 to face-67 are returned.

    Args:
        people: (P, K, 3) x, y in image pixels, visibility.
        keypoints: The K keypoints.
    """
    paired = {end for pair in keypoints.flip_pairs for end in pair}
    candidates = [k for k, name in enumerate(keypoints.names) if k not in paired and not is_midline(name)]
    if not candidates or not len(people) or not paired:
        return ()
    people = people[np.linspace(0, len(people) - 1, min(MOST_PEOPLE, len(people))).round().astype(int)]
    sided = {_family(keypoints.names[k]) for k in candidates if _is_sided(people, k, keypoints.flip_pairs)}
    return tuple(keypoints.names[k] for k in candidates if _family(keypoints.names[k]) in sided)


def _is_sided(people: npt.NDArray[np.float64], keypoint: int, pairs: Sequence[tuple[int, int]]) -> bool:
    """Whether a keypoint lies on one side of any pair."""
    labelled = people[..., 2] > 0
    for left, right in pairs:
        chosen = people[labelled[:, keypoint] & labelled[:, left] & labelled[:, right]][..., :2]
        across = chosen[:, left] - chosen[:, right]
        from_middle = chosen[:, keypoint] - (chosen[:, left] + chosen[:, right]) / 2
        offsets = (from_middle * across).sum(axis=1)
        width, spread = np.square(across).sum(), np.sqrt(np.square(offsets).sum())
        if abs(offsets.sum()) > max(LEAST_OFFSET * width, LEAST_DEVIATIONS * spread):
            return True
    return False


def _family(name: str) -> str:
    """The name without its numbers."""
    return re.sub(r"\d+", "#", " ".join(words_of(name)))
