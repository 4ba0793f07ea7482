"""People from lists of detections, which a graph that decodes gives in place of maps.

The lists are those of :mod:`subnet_export.decoding.graph`. People are matched as from maps, to the bit. Keypoints that
a person lacks are filled in from the lists, which hold the maxima of the maps only: from maps, any pixel would do.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from torch import Tensor

from supernet.errors import UserError
from supernet.pose.grouping import match
from supernet.pose.inference import InferenceSettings, People, PoseEstimator
from supernet.pose.multiscale_flip import predict_maps
from supernet.pose.peaks import peaks
from supernet.pose.subpixel import fitted_tops, quarter_pixels

Floats = npt.NDArray[np.float32]
Detector = Callable[[Tensor], Tensor]
"""Images, preprocessed -> detections (B, K, M, 4)."""


def group_detections(detections: npt.NDArray[np.floating[Any]], settings: InferenceSettings) -> People:
    """Find the people of one image.

    Args:
        detections: (K, M, 4) as x, y, value, tag; per keypoint by falling value, all 0 where there is none.
        settings: How detections become people.

    Returns:
        Poses (P, K, 3) float32 as x, y in the pixels of the detections, and value, all 0 for a keypoint not found;
        scores (P,) as of :func:`supernet.pose.grouping.group`.

    Raises:
        UserError: The detections have another shape or are not finite.
    """
    entries = np.asarray(detections, np.float32)
    if entries.ndim != 3 or entries.shape[2] != 4 or not np.isfinite(entries).all():
        raise UserError(
            f"detections must be (K, M, 4) finite numbers, got {entries.shape}; check the network's weights and "
            "calibration"
        )
    values, tags = entries[..., 2], entries[..., 3:]
    is_detection = (values > settings.detection_threshold) & (np.arange(values.shape[1]) < settings.max_people)
    candidates = [(value[chosen], tag[chosen]) for value, tag, chosen in zip(values, tags, is_detection, strict=True)]
    is_thresholded = settings.matching == "thresholded"
    numbers, means = match(candidates, settings.max_people, settings.tag_threshold, is_thresholded)
    keypoints = np.arange(len(entries))
    scores = np.where(numbers >= 0, values[keypoints, numbers], np.float32(0)).mean(axis=1)
    if settings.refine:
        numbers = _filled_in(values, tags[..., 0], numbers, means[:, 0])
    return np.where(numbers[..., None] >= 0, entries[keypoints, numbers, :3], np.float32(0)), scores


def _filled_in(values: Floats, tags: Floats, numbers: npt.NDArray[np.int64], means: Floats) -> npt.NDArray[np.int64]:
    """Add to the numbers (P, K) of detections, -1 where there is none, those where value and mean tag agree best."""
    agreement = values - np.rint(np.abs(tags - means[:, None, None]))  # (P, K, M)
    agreement[:, values <= 0] = -np.inf
    best = agreement.argmax(axis=2)
    return np.where((numbers < 0) & (values[:, 0] > 0), best, numbers)


def list_detections(heatmaps: Floats, tags: Floats, settings: InferenceSettings) -> Floats:
    """Return the detections (K, M, 4) in maps of the input's size, as a graph that decodes lists them.

    Args:
        heatmaps: (K, H, W).
        tags: (K, H, W).
        settings: M is the largest number of people.
    """
    num_keypoints, _, width = heatmaps.shape
    result = np.zeros((num_keypoints, settings.max_people, 4), np.float32)
    for keypoint in range(num_keypoints):
        places = peaks(heatmaps[keypoint], settings.max_people, 0.0, settings.nms_kernel)
        y, x = np.divmod(places, width)
        entries = result[keypoint, : len(places)]
        entries[:, 0], entries[:, 1] = x + 0.5, y + 0.5
        if settings.adjust:
            steps = quarter_pixels if settings.decoding == "published" else fitted_tops
            entries[:, :2] += steps(heatmaps, np.full(len(places), keypoint), x, y)
        entries[:, 2], entries[:, 3] = heatmaps[keypoint, y, x], tags[keypoint, y, x]
    return result


@dataclass(frozen=True)
class DetectionEstimator(PoseEstimator):
    """An estimator whose ``network`` is a :data:`Detector`, cast to the type of one that gives maps."""

    def _people(self, inputs: Mapping[float, Tensor]) -> Iterator[People]:
        for detections in cast(Detector, self.network)(inputs[1.0]):
            yield group_detections(detections.numpy(), self.settings)


@dataclass(frozen=True)
class ListingEstimator(PoseEstimator):
    """An estimator with a network that gives maps, whose people come from lists of detections nevertheless.

    It is what a graph that decodes is compared with.
    """

    def _people(self, inputs: Mapping[float, Tensor]) -> Iterator[People]:
        for heatmaps, tags in predict_maps(self.network, inputs, self.keypoints, flip_test=False):
            listed = list_detections(heatmaps.cpu().numpy(), tags[..., 0].cpu().numpy(), self.settings)
            yield group_detections(listed, self.settings)
