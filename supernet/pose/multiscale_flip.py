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


def predict_maps(
    network: Network, images: Mapping[float, Tensor], keypoints: KeypointSet, flip_test: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """Run a batch and yield each image's maps at the size of its input at scale 1.

    Images are combined one at a time, so that the full-size maps of a batch never exist together.

    Args:
        network: See ``Network``.
        images: By scale, the same images normalised, (B, 3, H * scale, W * scale); scale 1 is among them.
        keypoints: The K keypoints of the network.
        flip_test: Also run the mirrored images.

    Yields:
        Heatmaps (K, H, W) and tags (K, H, W, T), T = 2 with ``flip_test`` and 1 without.

    Raises:
        UserError: The numbers of channels do not match K keypoints.
    """
    size = (images[1.0].shape[2], images[1.0].shape[3])
    outputs = {
        scale: [network(batch), *([network(batch.flip(3))] if flip_test else [])] for scale, batch in images.items()
    }
    for index in range(len(images[1.0])):
        image = slice(index, index + 1)
        averages, tags = [], []
        for scale in sorted(outputs, reverse=True):
            copies = []
            for is_mirrored, (low, high) in enumerate(outputs[scale]):
                _check_channels(low, high, keypoints.num)
                heat = heatmaps(low[image, : keypoints.num], high[image], size)[0]
                copies.append(_unmirrored(heat, keypoints) if is_mirrored else heat)
                if scale == 1:
                    tag = resize(low[image, keypoints.num :], (high.shape[2], high.shape[3]), size)[0]
                    tags.append(_unmirrored(tag, keypoints) if is_mirrored else tag)
            averages.append((copies[0] + copies[1]) / 2 if flip_test else copies[0])
        yield averages[0] if len(averages) == 1 else torch.stack(averages).mean(dim=0), torch.stack(tags, dim=-1)


def heatmaps(low: Tensor, high: Tensor, size: tuple[int, int]) -> Tensor:
    """Average heatmaps (B, K, h, w) and (B, K, h', w') at the size of ``high``, then resize to (B, K, H, W)."""
    return resize((resize(low, (high.shape[2], high.shape[3])) + high.float()) / 2, size)


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
    """Return maps (K, H, W) of a mirrored image as those of the image."""
    return maps.flip(2)[list(keypoints.flip_index)]


def _check_channels(low: Tensor, high: Tensor, num_keypoints: int) -> None:
    if low.shape[1] != 2 * num_keypoints or high.shape[1] != num_keypoints:
        raise UserError(
            f"the network has {low.shape[1]} and {high.shape[1]} output channels but {num_keypoints} keypoints need "
            f"{2 * num_keypoints} and {num_keypoints}; use a network made for this keypoint set"
        )
