"""A fake latency table whose latencies are a formula, of a space small enough to enumerate."""

from dataclasses import astuple, replace
from typing import Any

import numpy as np

from supernet.arch import Arch
from supernet.costs.latency_blocks import (
    Block,
    Bottleneck,
    Stem,
    blocks_of,
    blocks_of_space,
    kind_of,
    num_border_elements,
)
from supernet.costs.latency_file import Entry
from supernet.costs.latency_table import LatencyTable, MeasuredNetwork, MeasurementSettings, Overhead
from supernet.space import SearchSpace

STAGE = {"widths": [8], "depths": [1], "stride": 2, "expand_ratios": [3], "kernel_sizes": [3]}
SPACE = SearchSpace.from_dict(
    {
        "name": "tiny",
        "resolutions": [64, 96],
        "stem_widths": [8, 16],
        "stages": [
            {**STAGE, "widths": [8, 16], "kernel_sizes": [3, 5]},
            {**STAGE, "depths": [1, 2], "expand_ratios": [2, 3]},
            STAGE,
            {**STAGE, "widths": [8, 24], "stride": 1, "kernel_sizes": [3, 5]},
        ],
        "deconv_widths": [[8, 16], [8], [8, 16]],
    }
)
NUM_KEYPOINTS = 14
SETTINGS = MeasurementSettings("onnxruntime", "1.0", "a processor", "a system", 2, "f32", 1)
OVERHEAD = Overhead(call_ms=0.02, fixed_ms=0.5, backbone_factor=0.9, head_factor=1.2, border_ms=0.07)


def block_ms(block: Block) -> float:
    """The fake latency of a single block."""
    weights = np.array([1.0, 0.7, 0.3, 0.2, 0.11, 0.05])
    return 0.1 + 0.01 * len(kind_of(block)) + 0.003 * float(np.array(astuple(block)) @ weights[: len(astuple(block))])


def network_ms(arch: Arch) -> float:
    """The fake latency of a network: blocks without their calls, times a factor, and a fixed part."""
    total = OVERHEAD.fixed_ms
    for block in blocks_of(arch, NUM_KEYPOINTS):
        factor = OVERHEAD.backbone_factor if isinstance(block, Stem | Bottleneck) else OVERHEAD.head_factor
        total += factor * (block_ms(block) - OVERHEAD.call_ms) + OVERHEAD.border_ms * num_border_elements(block) / 1e6
    return total


def fake_table(space: SearchSpace = SPACE, **changes: Any) -> LatencyTable:
    """The fake table of a space."""
    entries = {
        block: Entry(block_ms(block), 1.1 * block_ms(block), 20) for block in blocks_of_space(space, NUM_KEYPOINTS)
    }
    networks = tuple(
        MeasuredNetwork(arch, Entry(network_ms(arch), 1.1 * network_ms(arch), 10))
        for arch in (space.smallest(), space.largest())
    )
    return replace(LatencyTable(SETTINGS, space, NUM_KEYPOINTS, OVERHEAD, networks, entries), **changes)
