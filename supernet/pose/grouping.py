"""Groups heatmaps and tags of one image into people: detections, matching by tag, adjustment and refinement.

Source: Associative Embedding (arXiv 1611.05424, section 3.3), as HigherHRNet (arXiv 1908.10357) and LitePose evaluate
with it; ``matching="reference"`` reproduces them: the largest number of pairs at the least total distance, of which
those beyond the tag threshold are separated afterwards. ``"thresholded"`` forbids such pairs before it solves the
assignment, and lets a detection start a new person instead, so that no right match is given up for one that will be
separated. Equal pixels beside each other are one detection either way; see ``peaks``.
"""

from collections.abc import Sequence
from typing import Any, Literal, TypedDict

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from supernet.errors import UserError
from supernet.io.schema import check_number
from supernet.pose.peaks import peaks_of_maps
from supernet.pose.refinement import complete
from supernet.pose.subpixel import Decoding, fitted_tops, quarter_pixels

Matching = Literal["thresholded", "reference"]
Maps = npt.NDArray[np.floating[Any]] | Tensor
Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]


class GroupingOptions(TypedDict):
    """The options of :func:`group`, which documents them."""

    max_people: int
    detection_threshold: float
    tag_threshold: float
    nms_kernel: int
    adjust: bool
    refine: bool
    matching: Matching
    decoding: Decoding


# Order in which keypoints are matched, in COCO's numbering, for every keypoint set: the uncertain ends come last.
KEYPOINT_ORDER = (0, 1, 2, 3, 4, 5, 6, 11, 12, 7, 8, 9, 10, 13, 14, 15, 16)
FORBIDDEN = 1e6
MAX_PEOPLE = 1000
"""In one image. It is also the limit of ``nms_kernel``. Both cost time and memory."""


def group(
    heatmaps: Maps,
    tags: Maps,
    *,
    max_people: int = 30,
    detection_threshold: float = 0.1,
    tag_threshold: float = 1.0,
    nms_kernel: int = 5,
    adjust: bool = True,
    refine: bool = True,
    matching: Matching = "thresholded",
    decoding: Decoding = "published",
) -> tuple[Floats, Floats]:
    """Find the people of one image.

    Args:
        heatmaps: (K, H, W).
        tags: (K, H, W, T), or (K, H, W) for T = 1.
        max_people: Detections kept per keypoint, and people that a detection may join. As published, a detection that
            joins no person becomes a new one even beyond this number.
        detection_threshold: Heatmap value that a detection must exceed.
        tag_threshold: Distance of a detection's tag to a person's mean tag from which they do not match.
        nms_kernel: Side, in pixels, of the square in which only the highest pixel is a detection; odd.
        adjust: Move positions from the centres of their pixels, as ``decoding`` says.
        refine: Add the keypoints that a person lacks, where heatmap and mean tag agree best.
        matching: "thresholded" or "reference"; see the module's docstring.
        decoding: "published", a quarter pixel towards the higher neighbour in x and in y, or "unbiased", to the top of
            a fitted Gaussian; see ``subpixel``.

    Returns:
        Poses (P, K, 3) float32 as x, y in map pixels and the heatmap's value, all 0 for a keypoint not found; a peak in
        pixel i lies at i + 0.5 before adjustment. Scores (P,) float32, the mean value over all K keypoints before
        refinement. People are in order of creation.

    Raises:
        UserError: A map is not finite, the shapes disagree, or an option is out of range.
    """
    check_options(max_people, detection_threshold, tag_threshold, nms_kernel, matching, decoding)
    heat, tag = _checked(heatmaps, tags)

    detections = peaks_of_maps(heat, max_people, detection_threshold, nms_kernel)
    places, means = match_by_tag(heat, tag, detections, max_people, tag_threshold, matching == "thresholded")
    visible = places >= 0
    num_keypoints, _, width = heat.shape
    values = np.where(visible, heat.reshape(num_keypoints, -1)[np.arange(num_keypoints), places], np.float32(0))
    scores = values.mean(axis=1)
    if refine:
        places, values = complete(heat, tag, places, values, means)
        visible = places >= 0

    poses = np.zeros((*places.shape, 3), np.float32)
    people, keypoints = np.nonzero(visible)
    y, x = np.divmod(places[people, keypoints], width)
    poses[people, keypoints, 0] = x + 0.5
    poses[people, keypoints, 1] = y + 0.5
    poses[people, keypoints, 2] = values[people, keypoints]
    if adjust:
        steps = quarter_pixels if decoding == "published" else fitted_tops
        poses[people, keypoints, :2] += steps(heat, keypoints, x, y)
    return poses, scores


def check_options(
    max_people: int, detection_threshold: float, tag_threshold: float, nms_kernel: int, matching: str, decoding: str
) -> None:
    """Raise UserError if an option of :func:`group` is out of range."""
    check_number("nms_kernel", nms_kernel, least=1, most=MAX_PEOPLE)
    if nms_kernel % 2 == 0:
        raise UserError(f"nms_kernel must be odd, such as 5, got {nms_kernel}")
    check_number("detection_threshold", detection_threshold, least=0)
    check_number("tag_threshold", tag_threshold, above=0)
    check_number("max_people", max_people, least=1, most=MAX_PEOPLE)
    if matching not in ("thresholded", "reference"):
        raise UserError(f"matching must be 'thresholded' or 'reference', got {matching!r}")
    if decoding not in ("published", "unbiased"):
        raise UserError(f"decoding must be 'published' or 'unbiased', got {decoding!r}")


def _checked(heatmaps: Maps, tags: Maps) -> tuple[Floats, Floats]:
    """Contiguous heatmaps (K, H, W), and tags (K, H, W, T) of which each of the T maps is contiguous; both float32."""
    heat, tag = (
        np.asarray(maps.detach().float().cpu().numpy() if isinstance(maps, Tensor) else maps, np.float32)
        for maps in (heatmaps, tags)
    )
    if heat.ndim != 3 or tag.ndim not in (3, 4) or tag.shape[:3] != heat.shape or 0 in tag.shape:
        raise UserError(
            f"heatmaps {heat.shape} and tags {tag.shape} do not fit together; give (K, H, W) and (K, H, W, T)"
        )
    tag = np.moveaxis(tag.reshape(*heat.shape, -1), 3, 0)
    heat, tag = np.ascontiguousarray(heat), np.ascontiguousarray(tag)
    for name, maps in (("heatmaps", heat), ("tags", tag)):
        # A finite sum of squares proves finite terms in one quick pass; an infinite one may be only overflow.
        flat = maps.ravel()
        with np.errstate(over="ignore", invalid="ignore"):
            doubtful = not np.isfinite(np.dot(flat, flat))
        if doubtful and not np.isfinite(maps).all():
            raise UserError(f"the {name} hold values that are not finite; check the network's weights and calibration")
    return heat, np.moveaxis(tag, 0, 3)


def match_by_tag(
    heat: Floats, tag: Floats, detections: list[Integers], max_people: int, tag_threshold: float, thresholded: bool
) -> tuple[Integers, Floats]:
    """Assign the detections to people, keypoint by keypoint.

    Args:
        heat: (K, H, W).
        tag: (K, H, W, T).
        detections: K arrays of flat places.
        max_people: People that detections may join.
        tag_threshold: Distance from which a detection joins no person.
        thresholded: Apply the threshold before solving the assignment rather than after.

    Returns:
        Flat places (P, K), -1 where a person lacks the keypoint, and mean tags (P, T).
    """
    candidates = [
        (heat[keypoint].ravel()[spots], tag[keypoint][np.divmod(spots, tag.shape[2])])
        for keypoint, spots in enumerate(detections)
    ]
    numbers, means = match(candidates, max_people, tag_threshold, thresholded)
    places = np.full(numbers.shape, -1, np.int64)
    for keypoint, spots in enumerate(detections):
        has_it = numbers[:, keypoint] >= 0
        places[has_it, keypoint] = spots[numbers[has_it, keypoint]]
    return places, means


def match(
    candidates: Sequence[tuple[Floats, Floats]], max_people: int, tag_threshold: float, thresholded: bool
) -> tuple[Integers, Floats]:
    """Assign the detections of each keypoint to people; see :func:`match_by_tag`.

    Args:
        candidates: For each of the K keypoints, the values (N,) and tags (N, T) of its detections.
        max_people: People that detections may join.
        tag_threshold: Distance from which a detection joins no person.
        thresholded: Apply the threshold before solving the assignment rather than after.

    Returns:
        Numbers of the detections (P, K), -1 where a person lacks the keypoint, and mean tags (P, T).
    """
    num_keypoints, num_tags = len(candidates), candidates[0][1].shape[1]
    most = sum(len(values) for values, _ in candidates)
    numbers = np.full((most, num_keypoints), -1, np.int64)
    sums = np.zeros((most, num_tags))
    counts = np.zeros((most, 1))
    num_people = 0
    for keypoint in matching_order(num_keypoints):
        values, tags = candidates[keypoint]
        if values.size == 0:
            continue
        own_tags = tags.astype(np.float64)
        joined = np.full(values.size, -1)
        joinable = min(num_people, max_people)
        if joinable > 0:
            means = sums[:joinable] / counts[:joinable]
            distances = np.sqrt(np.square(own_tags[:, None] - means).sum(axis=2))
            pairs = np.rint(distances) * 100 - values[:, None]
            if thresholded:
                # A new person costs as much as the farthest match, so no pair is made only to have one more.
                pairs[distances >= tag_threshold] = FORBIDDEN
                alone = np.full((values.size, values.size), np.rint(tag_threshold) * 100)
            else:
                # As many pairs as possible, whatever they cost.
                alone = np.full((values.size, max(0, values.size - joinable)), FORBIDDEN)
            cost = np.hstack([pairs, alone])
            rows, columns = linear_sum_assignment(cost)
            rows, columns = rows[columns < joinable], columns[columns < joinable]
            near = distances[rows, columns] < tag_threshold
            joined[rows[near]] = columns[near]
        new = joined < 0
        num_new = int(new.sum())
        joined[new] = np.arange(num_people, num_people + num_new)
        num_people += num_new
        numbers[joined, keypoint] = np.arange(values.size)
        sums[joined] += own_tags
        counts[joined] += 1
    return numbers[:num_people], (sums[:num_people] / counts[:num_people]).astype(np.float32)


def matching_order(num_keypoints: int) -> tuple[int, ...]:
    """Return the order in which the K keypoints are matched."""
    return (*(k for k in KEYPOINT_ORDER if k < num_keypoints), *range(len(KEYPOINT_ORDER), num_keypoints))
