"""Compares the maps of a runtime with those of the network, on images of several sizes and batches."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from subnet_export.deployment.runtimes import Runtime, TorchRuntime
from supernet.compute.precision import tf32
from supernet.errors import UserError
from supernet.litepose import LitePose
from supernet.pose.keypoints import COCO
from supernet.pose.synthetic.dataset import SyntheticPeople

MAPS_TOLERANCE = 1e-4
"""Largest root mean square difference of an output, in standard deviations of the network's own output. In float32,
libraries differ by up to 2e-5 in the deepest networks."""
VALUE_FACTOR = 10
"""Largest difference of a single value, over that of the root mean square; in float32, values differ by up to 2e-4."""
VALUE_TOLERANCE = VALUE_FACTOR * MAPS_TOLERANCE
"""Largest difference of a single value in float32."""


def comparison_images(resolution: int) -> list[Tensor]:
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
    """Difference of an output from the network's: root mean square and largest value, in its standard deviations."""

    rms: float
    largest: float


def differences(network: LitePose, runtime: Runtime, batches: Sequence[Tensor]) -> list[Difference]:
    """Return the difference of ``runtime`` from ``network`` on each batch, for the worse of the two outputs.

    It is infinite for an output that is not finite or has another shape.
    """
    reference = TorchRuntime(network)
    with tf32(allowed=False):  # TF32, PyTorch's default for convolutions on a GPU, differs by ten times the tolerance
        return [
            max(map(_difference, reference(images), runtime(images)), key=lambda difference: difference.rms)
            for images in batches
        ]


def _difference(expected: Tensor, output: Tensor) -> Difference:
    expected, output = expected.cpu(), output.cpu()
    if expected.shape != output.shape or not torch.isfinite(output).all():
        return Difference(float("inf"), float("inf"))
    difference = (expected - output) / expected.std()
    return Difference(float(difference.square().mean().sqrt()), float(difference.abs().max()))


def check_maps(
    name: str, network: LitePose, runtime: Runtime, batches: Sequence[Tensor], tolerance: float = MAPS_TOLERANCE
) -> float:
    """Return the largest root mean square difference of ``runtime``, which runs format ``name``, over all batches.

    Args:
        name: The format.
        network: The network.
        runtime: Runs a file of it.
        batches: Images (:func:`comparison_images`).
        tolerance: Largest root mean square difference; that of a single value may be ``VALUE_FACTOR`` times as large.

    Raises:
        UserError: A difference is larger.
    """
    results = differences(network, runtime, batches)
    for difference, images in zip(results, batches, strict=True):
        if difference.rms > tolerance or difference.largest > VALUE_FACTOR * tolerance:
            raise UserError(
                f"the maps of format {name} differ from the network's by {difference.rms:.2g} standard deviations "
                f"(root mean square; largest {difference.largest:.2g}) on images of shape {tuple(images.shape)}; "
                f"allowed are {tolerance:g} (largest {VALUE_FACTOR * tolerance:g}); nothing was kept, leave out the "
                "format"
            )
    return max(difference.rms for difference in results)
