"""Runs exported networks whose graphs decode, and compares their detections with those in the network's own maps."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from subnet_export.decoding.detections import Floats, list_detections
from subnet_export.deployment.equivalence import MAPS_TOLERANCE, VALUE_TOLERANCE
from subnet_export.deployment.formats import Format
from subnet_export.deployment.library_runtimes import DECODING_RUNTIMES
from subnet_export.deployment.runtimes import Precision, TorchRuntime
from supernet.compute.precision import tf32
from supernet.errors import UserError
from supernet.litepose import LitePose
from supernet.pose.inference import InferenceSettings
from supernet.pose.multiscale_flip import heatmaps, resize

PLACE_TOLERANCE = 0.01
"""Largest distance in x and in y, px, of a detection from the same one in the network's maps."""
MOVED = 0.02
"""Share of the detections that may have no such partner: where two pixels, or two neighbours of a peak, are equal but
for rounding, libraries choose differently."""


class DetectorRuntime:
    """A graph that decodes, run by one library.

    Args:
        folder: Holds the files of the format.
        chosen: A format whose graph can decode.
        num_keypoints: Number of its keypoints, K.
        settings: M is the largest number of people.
        precision: Of the layers in floating point.

    Raises:
        UserError: The library is not installed, or the file is not such a graph.
    """

    def __init__(
        self,
        folder: Path,
        chosen: Format,
        num_keypoints: int,
        settings: InferenceSettings,
        precision: Precision = "f32",
    ) -> None:
        self._path = folder / chosen.files[0]
        self._runtime = DECODING_RUNTIMES[chosen.name](self._path, precision)
        self._shape = (num_keypoints, settings.max_people, 4)
        self.library, self.precision = self._runtime.library, self._runtime.precision
        self(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))

    def __call__(self, images: Tensor) -> Tensor:
        """Return the detections (B, K, M, 4) float32 in images (B, 3, H, W) uint8, RGB.

        Raises:
            UserError: The graph gives something else.
        """
        outputs = self._runtime.outputs(images)
        if len(outputs) != 1 or outputs[0].shape != (len(images), *self._shape) or outputs[0].dtype != torch.float32:
            raise UserError(
                f"{self._path} does not give detections {self._shape} of an image; restore the file or export again"
            )
        return outputs[0]


def check_detections(
    name: str, network: LitePose, detector: DetectorRuntime, batches: Sequence[Tensor], settings: InferenceSettings
) -> float:
    """Return the root mean square difference of the values of the detections, in standard deviations of the heatmaps.

    Args:
        name: Of the format that ``detector`` runs.
        network: With whose maps the detections are compared.
        detector: See :class:`DetectorRuntime`.
        batches: Images (B, 3, H, W) uint8.
        settings: How maps become detections.

    Raises:
        UserError: The values differ by more than is allowed of maps, or too many detections are not in the maps.
    """
    reference = TorchRuntime(network)
    errors, num_moved, num = [0.0], 0, 0
    for images in batches:
        with tf32(allowed=False):
            low, high = (maps.cpu() for maps in reference(images))
        size, half = (images.shape[2], images.shape[3]), (high.shape[2], high.shape[3])
        heat = heatmaps(low[:, : high.shape[1]], high, size).numpy()
        tags = resize(low[:, high.shape[1] :], half, size).numpy()
        expected = np.stack([list_detections(*maps, settings) for maps in zip(heat, tags, strict=True)])
        actual = detector(images).numpy()
        deviations = (actual[..., 2] - expected[..., 2]) / heat.std()
        errors.append(float(np.sqrt(np.square(deviations).mean())))
        if not np.isfinite(actual).all() or errors[-1] > MAPS_TOLERANCE or np.abs(deviations).max() > VALUE_TOLERANCE:
            raise UserError(
                f"the detections of format {name} differ from those of the network by {errors[-1]:.2g} standard "
                f"deviations of the heatmaps (root mean square) on images of shape {tuple(images.shape)}; allowed are "
                f"{MAPS_TOLERANCE:g}; nothing was kept, leave out --decode"
            )
        num += int((expected[..., 2] > 0).sum())
        num_moved += _num_moved(expected, actual, float(tags.std()) * VALUE_TOLERANCE)
    if num_moved > MOVED * num:
        raise UserError(
            f"{num_moved} of {num} detections of format {name} are not where the network's maps have them; allowed are "
            f"{MOVED:.0%}; nothing was kept, leave out --decode"
        )
    return max(errors)


def _num_moved(expected: Floats, actual: Floats, tag_tolerance: float) -> int:
    """Number of the expected detections (B, K, M, 4) without a partner among the actual ones, in any order."""
    places = np.abs(expected[..., None, :2] - actual[..., None, :, :2]).max(axis=-1) <= PLACE_TOLERANCE
    tags = np.abs(expected[..., None, 3] - actual[..., None, :, 3]) <= tag_tolerance
    has_partner = (places & tags & (actual[..., None, :, 2] > 0)).any(axis=-1)
    return int(((expected[..., 2] > 0) & ~has_partner).sum())
