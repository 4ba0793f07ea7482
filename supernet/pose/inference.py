"""People in whole images: resize, run the network, group its maps, return to the image."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from supernet.errors import UserError
from supernet.pose.data.pose_dataset import PoseDataset
from supernet.pose.geometry import TOTAL_STRIDE, Transform, check_scales, normalise, resize_at_scales
from supernet.pose.grouping import GroupingOptions, Matching, check_settings, group
from supernet.pose.keypoints import KeypointSet
from supernet.pose.multiscale_flip import Network, predict_maps

Preprocess = Callable[[Tensor], Tensor]
"""Images (B, 3, H, W) uint8 RGB -> what a network takes: ``normalise``, unless the network does that itself."""

_MOST_PADDED = 1024
"""Pixels; an image is filled up to a multiple of ``size_divisor``."""


@dataclass(frozen=True)
class InferenceSettings:
    """How images become people.

    ``flip_test`` adds a mirrored copy and ``scales`` other sizes (``maps.predict_maps``); ``size_divisor`` is that of
    ``geometry.resized_size``; the other fields are those of ``grouping.group``.
    """

    flip_test: bool = False
    adjust: bool = True
    refine: bool = True
    max_people: int = 30
    detection_threshold: float = 0.1
    tag_threshold: float = 1.0
    nms_kernel: int = 5
    matching: Matching = "thresholded"
    size_divisor: int = 64
    scales: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        """Raise UserError for a value out of range, so that it is told before hours of training, not after."""
        check_settings(self.max_people, self.detection_threshold, self.tag_threshold, self.nms_kernel, self.matching)
        if not TOTAL_STRIDE <= self.size_divisor <= _MOST_PADDED or self.size_divisor % TOTAL_STRIDE:
            raise UserError(
                f"size_divisor={self.size_divisor} must be a multiple of {TOTAL_STRIDE}, the network's total stride, "
                f"and at most {_MOST_PADDED}"
            )
        check_scales(self.scales, self.size_divisor)

    @property
    def grouping(self) -> GroupingOptions:
        """What ``grouping.group`` takes of it."""
        return GroupingOptions(
            max_people=self.max_people,
            detection_threshold=self.detection_threshold,
            tag_threshold=self.tag_threshold,
            nms_kernel=self.nms_kernel,
            adjust=self.adjust,
            refine=self.refine,
            matching=self.matching,
        )


@dataclass(frozen=True, eq=False)
class PosePredictions:
    """The people of one image.

    Attributes:
        poses: (P, K, 3) float32 as x, y in image pixels and the heatmap's value; all 0 for a keypoint not found.
        scores: (P,) float32.
    """

    poses: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]


def estimate_stream(
    network: Network,
    images: Iterable[npt.NDArray[np.uint8]],
    resolution: int,
    keypoints: KeypointSet,
    settings: InferenceSettings,
    batch_size: int = 32,
    device: torch.device | str = "cpu",
    prepare: Preprocess = normalise,
) -> Iterator[tuple[int, PosePredictions]]:
    """Yield (index, people) for each image as soon as its batch is full, so not in order.

    Images are taken one by one and wait, resized, until ``batch_size`` of one size have come; which images share a
    batch has no influence on the people found beyond the network's own rounding.

    Args:
        network: See ``Network``; on ``device`` and in evaluation mode.
        images: Images (H, W, 3) uint8 RGB of any sizes.
        resolution: Short side of the input.
        keypoints: The K keypoints of the network.
        settings: How images become people.
        batch_size: Images of scale 1 run together at most; of larger scales, as many fewer as they are larger.
        device: Where the network is.
        prepare: See ``Preprocess``.

    Raises:
        UserError: The network is in training mode or not calibrated, or something is refused by a step.
    """
    _check_network(network)
    check_scales(settings.scales, settings.size_divisor, resolution)
    if batch_size < 1:
        raise UserError(f"batch_size={batch_size} runs no image; give at least 1")
    most = max(1, int(batch_size / max(settings.scales) ** 2))
    waiting: dict[tuple[int, ...], list[_Waiting]] = {}
    for index, image in enumerate(images):
        resized, transform = resize_at_scales(image, resolution, settings.size_divisor, settings.scales)
        batch = waiting.setdefault(resized[0].shape, [])
        batch.append(_Waiting(index, resized, transform))
        if len(batch) == most:
            yield from _run_batch(network, waiting.pop(resized[0].shape), keypoints, settings, device, prepare)
    for batch in waiting.values():
        yield from _run_batch(network, batch, keypoints, settings, device, prepare)


def _check_network(network: Network) -> None:
    """Raise UserError for a network whose batch norm is not that of a finished, calibrated one."""
    if not isinstance(network, torch.nn.Module):
        return
    if network.training:
        raise UserError("the network is in training mode, so its batch norm would mix images; call its eval() first")
    for name, layer in network.named_modules():
        if isinstance(layer, torch.nn.BatchNorm2d) and layer.num_batches_tracked == 0:
            raise UserError(f"the statistics of batch norm {name} were never computed; calibrate the network first")


@dataclass(frozen=True, eq=False)
class _Waiting:
    """An image by its index, resized to each scale and waiting for others of its size."""

    index: int
    resized: tuple[npt.NDArray[np.uint8], ...]
    transform: Transform


def _run_batch(
    network: Network,
    batch: list[_Waiting],
    keypoints: KeypointSet,
    settings: InferenceSettings,
    device: torch.device | str,
    prepare: Preprocess,
) -> Iterator[tuple[int, PosePredictions]]:
    # A list, not a generator: inference mode must not stay on while a generator waits in its caller.
    results = []
    with torch.inference_mode():
        # Images lie in memory as (B, H, W, 3), which is channels_last already.
        inputs = {
            scale: prepare(torch.from_numpy(np.stack([one.resized[i] for one in batch])).to(device).permute(0, 3, 1, 2))
            for i, scale in enumerate(settings.scales)
        }
        maps = predict_maps(network, inputs, keypoints, settings.flip_test)
        for one, (heatmaps, tags) in zip(batch, maps, strict=True):
            poses, scores = group(heatmaps, tags, **settings.grouping)
            found = poses[..., 2] > 0
            poses[found, :2] = one.transform.to_image(poses[found, :2])
            results.append((one.index, PosePredictions(poses, scores)))
    yield from results


def estimate(
    network: Network,
    images: list[npt.NDArray[np.uint8]],
    resolution: int,
    keypoints: KeypointSet,
    settings: InferenceSettings,
    batch_size: int = 32,
    device: torch.device | str = "cpu",
    prepare: Preprocess = normalise,
) -> list[PosePredictions]:
    """The people of each image, in the order of ``images``; arguments as in ``estimate_stream``."""
    found = dict(estimate_stream(network, images, resolution, keypoints, settings, batch_size, device, prepare))
    return [found[index] for index in range(len(images))]


def estimate_dataset(
    network: Network,
    dataset: PoseDataset,
    resolution: int,
    settings: InferenceSettings,
    batch_size: int = 32,
    *,
    num_images: int | None = None,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] | None = None,
    prepare: Preprocess = normalise,
) -> list[PosePredictions]:
    """The people of each image of a data set, in its order; images are loaded as they are needed.

    Args:
        network: See ``Network``; on ``device`` and in evaluation mode.
        dataset: Where the images come from.
        resolution: Short side of the input.
        settings: How images become people.
        batch_size: Images run together at most.
        num_images: Only this many images from the start; all by default.
        device: Where the network is.
        progress: Called with (images done, images in all) after each image.
        prepare: See ``Preprocess``.
    """
    total = len(dataset) if num_images is None else min(num_images, len(dataset))
    images = (dataset[index].image for index in range(total))
    found: dict[int, PosePredictions] = {}
    stream = estimate_stream(network, images, resolution, dataset.keypoints, settings, batch_size, device, prepare)
    for index, people in stream:
        found[index] = people
        if progress is not None:
            progress(len(found), total)
    return [found[index] for index in range(total)]


def as_results(people: PosePredictions, image_id: int, category_id: int = 1) -> list[dict[str, Any]]:
    """COCO results of one image's people.

    Returns:
        One dictionary per person: ``image_id``, ``category_id``, ``keypoints`` (3K numbers: x, y in image pixels, and
        1.0, as some evaluators skip 0) and ``score``.
    """
    results = []
    for pose, score in zip(people.poses, people.scores, strict=True):
        flat = np.concatenate([pose[:, :2], np.ones((len(pose), 1), np.float32)], axis=1).ravel().astype(float)
        place = {"image_id": image_id, "category_id": category_id}
        results.append({**place, "keypoints": flat.tolist(), "score": float(score)})
    return results
