"""Shapes of the inputs of workloads, and random weights for their graphs."""

from collections.abc import Sequence

import numpy as np

from search.lut.workloads import NoOp, Workload
from subnet_export.deployment.deployed_network import Input
from subnet_export.deployment.graphs.layers import Array, Weights
from supernet.arch import Arch
from supernet.costs.latency_blocks import Bottleneck, Stem


def input_shapes(workload: Workload, batch: int, takes: Input = "uint8") -> list[tuple[int, ...]]:
    """Return the shapes of a workload's inputs: maps are (B, C, H, W) float32, images as a network ``takes`` them."""
    if isinstance(workload, NoOp):
        return [(batch, 8, 1, 1)]
    if isinstance(workload, Arch | Stem):
        size = workload.resolution if isinstance(workload, Arch) else workload.input_size
        return [(batch, size, size, 3) if takes == "uint8" else (batch, 3, size, size)]
    size = workload.input_size
    if isinstance(workload, Bottleneck):
        return [(batch, workload.in_width, size, size)]
    return [(batch, workload.in_width, size, size), (batch, workload.skip_width, size, size)]


def is_image(shape: Sequence[int]) -> bool:
    """Return whether a shape is that of square images (B, H, W, 3), not of square maps (B, C, H, W)."""
    return shape[2] != shape[3]


def channels_last(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of images, or of maps (B, C, H, W) with their channels last."""
    return shape if is_image(shape) else (shape[0], *shape[2:], shape[1])


def random_weights(num: int = 1 << 18) -> Weights:
    """Return small random weights, ``num`` numbers that repeat; their values do not affect the latency."""
    pool = weight_pool(num)

    def weights(name: str, shape: tuple[int, ...]) -> Array:
        return np.resize(pool, shape)

    return weights


def weight_pool(num: int) -> Array:
    """Return the random numbers (num,) that all weights are made of."""
    return np.random.default_rng(0).normal(0, 0.05, num).astype(np.float32)
