"""People in whole pictures: resize, run the network, bring its two outputs together, group, return to the picture.

Source: the evaluation of HigherHRNet (arXiv 1908.10357) and LitePose at one scale: heatmaps of both outputs averaged at
the finer size, tags from the coarser, all resized to the input before grouping; optionally a mirrored copy, whose
heatmaps are averaged in and whose tags become a second tag dimension.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from supernet.errors import UserError
from supernet.pose.dataset import PoseDataset
from supernet.pose.geometry import Transform, normalise, resize_for_network
from supernet.pose.grouping import Matching, check_settings, group
from supernet.pose.keypoints import KeypointSet

Network = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Normalised pictures (B, 3, H, W) float32 -> low (B, 2K, H/4, W/4), heatmaps then tags, and high (B, K, H/2, W/2)."""


@dataclass(frozen=True)
class InferenceSettings:
    """How pictures become people; ``flip_test`` adds a mirrored copy, ``size_divisor`` is that of ``resized_size``.

    The other fields are those of ``grouping.group``.
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

    def __post_init__(self) -> None:
        """Raise UserError for a value out of range, so that it is told before hours of training, not after."""
        check_settings(self.max_people, self.detection_threshold, self.tag_threshold, self.nms_kernel, self.matching)
        if self.size_divisor < 16 or self.size_divisor % 16:
            raise UserError(f"size_divisor={self.size_divisor} must be a multiple of 16, the network's total stride")


@dataclass(frozen=True, eq=False)
class People:
    """The people of one picture.

    Attributes:
        poses: (P, K, 3) float32 as x, y in image pixels and the heatmap's value; all 0 for a keypoint not found.
        scores: (P,) float32.
    """

    poses: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]


def aggregate(low: Tensor, high: Tensor, num_keypoints: int, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Bring a network's two outputs together.

    Args:
        low: (B, 2K, h, w), heatmaps then tags.
        high: (B, K, h', w').
        num_keypoints: K.
        size: Height H and width W of the result.

    Returns:
        Heatmaps (B, K, H, W), averaged at the size of ``high`` and resized, and tags (B, K, H, W), resized by the same
        steps.

    Raises:
        UserError: The numbers of channels do not fit K keypoints.
    """
    if low.shape[1] != 2 * num_keypoints or high.shape[1] != num_keypoints:
        raise UserError(
            f"the network gives {low.shape[1]} and {high.shape[1]} channels but {num_keypoints} keypoints need "
            f"{2 * num_keypoints} and {num_keypoints}; use a network made for this keypoint set"
        )
    maps = _resize(low.float(), (high.shape[2], high.shape[3]))
    heatmaps, tags = maps[:, :num_keypoints], maps[:, num_keypoints:]
    return _resize((heatmaps + high.float()) / 2, size), _resize(tags, size)


def _resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps (B, C, h, w) float32 resized bilinearly between pixel centres to (B, C, H, W), ``size`` being (H, W)."""
    if tuple(maps.shape[2:]) == size:
        return maps
    if maps.device.type != "cpu":
        return interpolate(maps.contiguous(), size=size, mode="bilinear", align_corners=False)
    # The same function map by map in OpenCV takes a quarter of the time on a CPU, where it would rule an evaluation.
    source = maps.detach().contiguous().numpy()
    resized = np.empty((*source.shape[:2], *size), np.float32)
    for place in np.ndindex(*source.shape[:2]):
        cv2.resize(source[place], size[::-1], dst=resized[place], interpolation=cv2.INTER_LINEAR)
    return torch.from_numpy(resized)


def predict_maps(
    network: Network, images: Tensor, keypoints: KeypointSet, flip_test: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """Run a batch and yield each picture's maps at the size of the input.

    Pictures are aggregated one at a time, so that full-size maps of a batch never exist together.

    Args:
        network: See ``Network``.
        images: (B, 3, H, W) normalised.
        keypoints: The K keypoints of the network.
        flip_test: Also run the mirrored pictures.

    Yields:
        Heatmaps (K, H, W) and tags (K, H, W, T), T = 2 with ``flip_test`` and 1 without.
    """
    size = (images.shape[2], images.shape[3])
    low, high = network(images)
    mirrored = network(images.flip(3)) if flip_test else None
    for index in range(len(images)):
        one = slice(index, index + 1)
        heatmaps, tags = aggregate(low[one], high[one], keypoints.num, size)
        if mirrored is None:
            yield heatmaps[0], tags[0, ..., None]
            continue
        swap = list(keypoints.flip_index)
        flipped, flipped_tags = (
            maps.flip(3)[:, swap] for maps in aggregate(mirrored[0][one], mirrored[1][one], keypoints.num, size)
        )
        yield (heatmaps[0] + flipped[0]) / 2, torch.stack([tags[0], flipped_tags[0]], dim=-1)


def estimate_stream(
    network: Network,
    images: Iterable[npt.NDArray[np.uint8]],
    resolution: int,
    keypoints: KeypointSet,
    settings: InferenceSettings,
    batch_size: int = 32,
    device: torch.device | str = "cpu",
) -> Iterator[tuple[int, People]]:
    """Yield (index, people) for each picture as soon as its batch is full, so not in order.

    Pictures are taken one by one and wait, resized, until ``batch_size`` of one size have come; which pictures share a
    batch has no influence on the people found beyond the network's own rounding.

    Args:
        network: See ``Network``; on ``device`` and in evaluation mode.
        images: Pictures (H, W, 3) uint8 RGB of any sizes.
        resolution: Short side of the input.
        keypoints: The K keypoints of the network.
        settings: How pictures become people.
        batch_size: Pictures run together at most.
        device: Where the network is.

    Raises:
        UserError: The network is in training mode, or something is refused by a step.
    """
    if isinstance(network, torch.nn.Module) and network.training:
        raise UserError("the network is in training mode, so its batch norm would mix pictures; call its eval() first")
    if batch_size < 1:
        raise UserError(f"batch_size={batch_size} runs no picture; give at least 1")
    waiting: dict[tuple[int, ...], list[tuple[int, npt.NDArray[np.uint8], Transform]]] = {}
    for index, image in enumerate(images):
        resized, transform = resize_for_network(image, resolution, settings.size_divisor)
        batch = waiting.setdefault(resized.shape, [])
        batch.append((index, resized, transform))
        if len(batch) == batch_size:
            yield from _run_batch(network, waiting.pop(resized.shape), keypoints, settings, device)
    for batch in waiting.values():
        yield from _run_batch(network, batch, keypoints, settings, device)


def _run_batch(
    network: Network,
    batch: list[tuple[int, npt.NDArray[np.uint8], Transform]],
    keypoints: KeypointSet,
    settings: InferenceSettings,
    device: torch.device | str,
) -> Iterator[tuple[int, People]]:
    # A list, not a generator: inference mode must not stay on while a generator waits in its caller.
    results = []
    with torch.inference_mode():
        # Pictures lie in memory as (B, H, W, 3), which is channels_last already.
        pictures = torch.from_numpy(np.stack([resized for _, resized, _ in batch])).to(device).permute(0, 3, 1, 2)
        maps = predict_maps(network, normalise(pictures), keypoints, settings.flip_test)
        for (index, _, transform), (heatmaps, tags) in zip(batch, maps, strict=True):
            poses, scores = group(
                heatmaps,
                tags,
                max_people=settings.max_people,
                detection_threshold=settings.detection_threshold,
                tag_threshold=settings.tag_threshold,
                nms_kernel=settings.nms_kernel,
                adjust=settings.adjust,
                refine=settings.refine,
                matching=settings.matching,
            )
            found = poses[..., 2] > 0
            poses[found, :2] = transform.to_image(poses[found, :2])
            results.append((index, People(poses, scores)))
    yield from results


def estimate(
    network: Network,
    images: list[npt.NDArray[np.uint8]],
    resolution: int,
    keypoints: KeypointSet,
    settings: InferenceSettings,
    batch_size: int = 32,
    device: torch.device | str = "cpu",
) -> list[People]:
    """The people of each picture, in the order of ``images``; arguments as in ``estimate_stream``."""
    found = dict(estimate_stream(network, images, resolution, keypoints, settings, batch_size, device))
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
) -> list[dict[str, Any]]:
    """People of a data set as COCO results, in the order of its pictures, which are loaded as they are needed.

    Args:
        network: See ``Network``; on ``device`` and in evaluation mode.
        dataset: Where the pictures come from.
        resolution: Short side of the input.
        settings: How pictures become people.
        batch_size: Pictures run together at most.
        num_images: Only this many pictures from the start; all by default.
        device: Where the network is.
        progress: Called with (pictures done, pictures in all) after each picture.

    Returns:
        One dictionary per person: ``image_id``, ``category_id``, ``keypoints`` (3K numbers: x, y in image pixels, 1.0)
        and ``score``.
    """
    total = len(dataset) if num_images is None else min(num_images, len(dataset))
    images = (dataset[index].image for index in range(total))
    found: dict[int, People] = {}
    stream = estimate_stream(network, images, resolution, dataset.keypoints, settings, batch_size, device)
    for index, people in stream:
        found[index] = people
        if progress is not None:
            progress(len(found), total)
    return [result for index in range(total) for result in as_results(found[index], dataset.image_ids[index])]


def as_results(people: People, image_id: int) -> list[dict[str, Any]]:
    """COCO results of one picture's people; the third number of each keypoint is 1.0, as some evaluators skip 0."""
    results = []
    for pose, score in zip(people.poses, people.scores, strict=True):
        flat = np.concatenate([pose[:, :2], np.ones((len(pose), 1), np.float32)], axis=1).ravel().astype(float)
        results.append({"image_id": image_id, "category_id": 1, "keypoints": flat.tolist(), "score": float(score)})
    return results
