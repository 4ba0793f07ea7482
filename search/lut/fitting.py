"""The overhead of a table: what makes sums over blocks the latencies of the whole networks measured with them."""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.optimize import least_squares

from supernet.latency_blocks import Block, Bottleneck, Stem, blocks_of, num_border_elements
from supernet.latency_rows import Entry
from supernet.latency_table import MeasuredNetwork, Overhead

PULL = 0.05
"""Relative error of one network that weighs as much as a factor that is off 1 by 1: few networks cannot mislead."""
TYPICAL_ERROR = 0.03
"""Relative errors well above this count less than by their square, so that one disturbed network does no harm."""


def fit(
    entries: Mapping[Block, Entry],
    call_ms: float,
    networks: Sequence[MeasuredNetwork],
    num_keypoints: int,
    batch: int = 1,
) -> Overhead:
    """Fit fixed part and factors by the relative errors of ``networks``; without any, the bare sum is taken.

    Args:
        entries: Of all their blocks.
        call_ms: What the graph that does nothing takes.
        networks: Whole networks, measured.
        num_keypoints: Of these.
        batch: Pictures a run.
    """
    sums = np.array([_sums(entries, call_ms, each, num_keypoints) for each in networks]).reshape(-1, 3)
    sums[:, 2] *= batch
    measured = np.array([each.entry.p50_ms for each in networks])

    def errors(values: np.ndarray) -> np.ndarray:
        fixed, *factors = values
        relative = (fixed + sums @ factors - measured) / measured
        return np.array([*relative, *(PULL * (np.array(factors) - (1, 1, 0)))])

    bounds = ([-np.inf, 0.05, 0.05, -np.inf], [np.inf, 20, 20, np.inf])
    found = least_squares(
        errors, [0.0, 1.0, 1.0, 0.0], bounds=bounds, loss="soft_l1", f_scale=TYPICAL_ERROR, x_scale=np.ones(4)
    )
    fixed, backbone, head, border = (round(float(value), 6) for value in found.x)
    return Overhead(call_ms, fixed, backbone, head, border)


def _sums(
    entries: Mapping[Block, Entry], call_ms: float, network: MeasuredNetwork, num_keypoints: int
) -> tuple[float, float, float]:
    """Return the sums over the blocks of backbone and head, ms, without calls; and millions of border elements."""
    totals = [0.0, 0.0, 0.0]
    for block in blocks_of(network.arch, num_keypoints):
        is_head = not isinstance(block, Stem | Bottleneck)
        totals[is_head] += max(0.0, entries[block].p50_ms - call_ms)
        totals[2] += num_border_elements(block) / 1e6
    return totals[0], totals[1], totals[2]
