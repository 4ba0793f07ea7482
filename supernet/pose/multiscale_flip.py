"""Combines a network's outputs on whole images, mirrored and at several scales, into the maps that grouping reads.

Source: the evaluation of HigherHRNet (arXiv 1908.10357) and LitePose: heatmaps of both outputs averaged at the finer
size, tags from the coarser, all resized to the input; optionally a mirrored copy, whose heatmaps are averaged in and
whose tags become a second tag dimension; optionally several scales, whose heatmaps are averaged at the input size of
scale 1, the only one whose tags are used.
"""

from collections.abc import Callable, Iterator, Mapping

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from supernet.errors import UserError
from supernet.pose.keypoints import KeypointSet

Network = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Normalised images (B, 3, H, W) float32 -> low (B, 2K, H/4, W/4), heatmaps then tags, and high (B, K, H/2, W/2)."""

Outputs = dict[float, list[tuple[Tensor, Tensor]]]
"""By scale, the two outputs for a batch, and those for the mirrored batch after them."""


def predict_maps(
    network: Network, images: Mapping[float, Tensor], keypoints: KeypointSet, flip_test: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """Run a batch and yield each image's maps at the size of its input at scale 1; see ``run`` and ``combined``."""
    size = (images[1.0].shape[2], images[1.0].shape[3])
    yield from combined(run(network, images, flip_test), size, keypoints)


def run(network: Network, images: Mapping[float, Tensor], flip_test: bool) -> Outputs:
    """Return by scale the network's outputs for a batch, and for the mirrored batch with ``flip_test``.

    Args:
        network: See ``Network``.
        images: By scale, the same images normalised, (B, 3, H * scale, W * scale); scale 1 is among them.
        flip_test: Also run the mirrored images.
    """
    return {
        scale: [network(batch), *([network(batch.flip(3))] if flip_test else [])] for scale, batch in images.items()
    }


def combined(outputs: Outputs, size: tuple[int, int], keypoints: KeypointSet) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield each image's maps at ``size`` (H, W), that of its input at scale 1.

    Images are combined one at a time, so that the full-size maps of a batch never exist together. Copies are averaged
    before they are resized to ``size``, which is the same function at half the cost: resizing is linear.

    Args:
        outputs: See ``run``.
        size: Height and width.
        keypoints: The K keypoints of the network.

    Yields:
        Heatmaps (K, H, W) and tags (K, H, W, T), T = 2 with mirrored images and 1 without; each of the T maps of a
        keypoint is contiguous.

    Raises:
        UserError: The numbers of channels do not match K keypoints.
    """
    for index in range(len(outputs[1.0][0][0])):
        image = slice(index, index + 1)
        averages, tags = [], []
        for scale in sorted(outputs, reverse=True):
            copies = []
            for is_mirrored, (low, high) in enumerate(outputs[scale]):
                _check_channels(low, high, keypoints.num)
                coarse, tag, fine = low[image, : keypoints.num], low[image, keypoints.num :], high[image]
                if is_mirrored:
                    coarse, tag, fine = (_unmirrored(maps, keypoints) for maps in (coarse, tag, fine))
                copies.append(_average(coarse, fine))
                if scale == 1:
                    tags.append(resize(tag, (high.shape[2], high.shape[3]), size))
            mean = (copies[0] + copies[1]) / 2 if len(copies) == 2 else copies[0]
            averages.append(resize(mean, size)[0])
        stacked = tags[0] if len(tags) == 1 else torch.cat(tags)  # one map alone is not copied
        yield averages[0] if len(averages) == 1 else torch.stack(averages).mean(dim=0), stacked.permute(1, 2, 3, 0)


def heatmaps(low: Tensor, high: Tensor, size: tuple[int, int]) -> Tensor:
    """Average heatmaps (B, K, h, w) and (B, K, h', w') at the size of ``high``, then resize to (B, K, H, W)."""
    return resize(_average(low, high), size)


def _average(low: Tensor, high: Tensor) -> Tensor:
    return (resize(low, (high.shape[2], high.shape[3])) + high.float()) / 2


def resize(maps: Tensor, *sizes: tuple[int, int]) -> Tensor:
    """Resize maps (B, C, h, w) as float32, bilinearly between pixel centres, to each size (H, W) in turn."""
    maps = maps.float()
    for size in sizes:
        if tuple(maps.shape[2:]) == size:
            continue
        if maps.device.type != "cpu":
            maps = interpolate(maps.contiguous(), size=size, mode="bilinear", align_corners=False)
            continue
        # On a CPU OpenCV computes the same function, map by map, in a quarter of the time; torch would dominate an
        # evaluation.
        source = maps.detach().contiguous().numpy()
        resized = np.empty((*source.shape[:2], *size), np.float32)
        for place in np.ndindex(*source.shape[:2]):
            cv2.resize(source[place], size[::-1], dst=resized[place], interpolation=cv2.INTER_LINEAR)
        maps = torch.from_numpy(resized)
    return maps


def _unmirrored(maps: Tensor, keypoints: KeypointSet) -> Tensor:
    """Return maps (B, K, h, w) of mirrored images as those of the images."""
    return maps[:, list(keypoints.flip_index)].flip(3)


def _check_channels(low: Tensor, high: Tensor, num_keypoints: int) -> None:
    if low.shape[1] != 2 * num_keypoints or high.shape[1] != num_keypoints:
        raise UserError(
            f"the network has {low.shape[1]} and {high.shape[1]} output channels but {num_keypoints} keypoints need "
            f"{2 * num_keypoints} and {num_keypoints}; use a network made for this keypoint set"
        )
