"""Whether what another library computes is the network: its maps, on images of several sizes and batches."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from subnet_export.deployment.runtimes import Runtime, TorchRuntime
from supernet.errors import UserError
from supernet.litepose import LitePose
from supernet.pose.keypoints import COCO
from supernet.pose.synthetic.dataset import SyntheticPeople

MAPS_TOLERANCE = 1e-4
"""Largest difference of an output, root mean square, in standard deviations of the network's own. Float32 leaves up to
2e-5 in the deepest networks, whoever computes."""
VALUE_TOLERANCE = 10 * MAPS_TOLERANCE
"""Largest difference of a single value; float32 leaves up to 2e-4."""


def made_up_images(resolution: int) -> list[Tensor]:
    """Return batches (B, 3, H, W) uint8 of built-in people: one image at ``resolution``, two wide ones, three tall.

    The last size is a multiple of 16 and not of 64.
    """
    half = max(64, resolution // 2 // 16 * 16)
    sizes = [(resolution, resolution, 1), (resolution + 64, resolution, 2), (half, half + 48, 3)]
    batches = []
    for width, height, num_images in sizes:
        people = SyntheticPeople(COCO, num_images, 0, width, height)
        images = [torch.from_numpy(people[index].image) for index in range(num_images)]
        batches.append(torch.stack(images).permute(0, 3, 1, 2))
    return batches


@dataclass(frozen=True)
class Difference:
    """How far an output is from the network's: root mean square and largest value, in its standard deviations."""

    rms: float
    largest: float


def differences(network: LitePose, runtime: Runtime, batches: Sequence[Tensor]) -> list[Difference]:
    """Return, per batch, how far ``runtime`` is from ``network`` in the worse of the outputs.

    Infinitely far is what is not finite or of another shape.
    """
    reference = TorchRuntime(network)
    return [
        max(map(_difference, reference(images), runtime(images)), key=lambda difference: difference.rms)
        for images in batches
    ]


def _difference(own: Tensor, found: Tensor) -> Difference:
    own, found = own.cpu(), found.cpu()
    if own.shape != found.shape or not torch.isfinite(found).all():
        return Difference(float("inf"), float("inf"))
    difference = (own - found) / own.std()
    return Difference(float(difference.square().mean().sqrt()), float(difference.abs().max()))


def check_maps(name: str, network: LitePose, runtime: Runtime, batches: Sequence[Tensor]) -> float:
    """Return the largest root mean square difference of ``runtime`` over all batches.

    Raises:
        UserError: It is beyond ``MAPS_TOLERANCE``, or a single value is beyond ``VALUE_TOLERANCE``.
    """
    found = differences(network, runtime, batches)
    for difference, images in zip(found, batches, strict=True):
        if difference.rms > MAPS_TOLERANCE or difference.largest > VALUE_TOLERANCE:
            raise UserError(
                f"the maps of format {name} differ from the network's by {difference.rms:.2g} (root mean square; "
                f"somewhere by {difference.largest:.2g}) standard deviations on images of shape "
                f"{tuple(images.shape)}, the most is {MAPS_TOLERANCE:g} ({VALUE_TOLERANCE:g}); nothing was kept, "
                "leave the format out"
            )
    return max(difference.rms for difference in found)
