"""The fit recovers the overhead of the fake latencies, and one bad measurement does not mislead it."""

import numpy as np
import pytest

from search.lut.measurements import entries_of, fit
from search.lut.workloads import NO_OP, NoOp, draw_networks, fitting_networks
from supernet.costs.latency_file import Entry, check_latency
from supernet.costs.latency_table import MeasuredNetwork
from supernet.space import SearchSpace
from tests.helpers.latency_tables import NUM_KEYPOINTS, OVERHEAD, fake_table, network_ms

SPACE = SearchSpace.load("litepose")
TABLE = fake_table(SPACE)


def measured(num: int, noise: float, disturbed: int = 0) -> list[MeasuredNetwork]:
    """Networks of known latencies with relative noise, the last of them measured at three times their latency."""
    rng, networks = np.random.default_rng(0), []
    for i, arch in enumerate(fitting_networks(SPACE, num, seed=0)):
        time = network_ms(arch) * (1 + noise * rng.standard_normal()) * (3.0 if i >= num - disturbed else 1.0)
        networks.append(MeasuredNetwork(arch, Entry(time, time, 10)))
    return networks


def mean_error(networks: list[MeasuredNetwork]) -> float:
    """Mean relative error of predictions for other networks, with the overhead fitted on ``networks``."""
    table = fake_table(SPACE, overhead=fit(TABLE.entries, OVERHEAD.call_ms, networks, NUM_KEYPOINTS))
    archs = draw_networks(SPACE, 100, seed=1)
    return float(np.mean([abs(table.predict_ms(arch) / network_ms(arch) - 1) for arch in archs]))


def test_the_overhead_is_found() -> None:
    overhead = fit(TABLE.entries, OVERHEAD.call_ms, measured(40, 0.0), NUM_KEYPOINTS)
    assert overhead.backbone_factor == pytest.approx(OVERHEAD.backbone_factor, abs=0.03)
    assert overhead.head_factor == pytest.approx(OVERHEAD.head_factor, abs=0.1)
    assert mean_error(measured(40, 0.0)) < 0.002


def test_noise_and_disturbed_networks_hardly_matter() -> None:
    assert mean_error(measured(40, 0.03)) < 0.015
    assert mean_error(measured(40, 0.0, disturbed=3)) < 0.015


def test_without_networks_the_sum_stands_alone() -> None:
    overhead = fit(TABLE.entries, OVERHEAD.call_ms, [], NUM_KEYPOINTS)
    assert (overhead.fixed_ms, overhead.backbone_factor, overhead.head_factor, overhead.border_ms) == pytest.approx(
        (0, 1, 1, 0), abs=1e-6
    )


def test_a_latency_too_short_for_the_file_stays_above_0() -> None:
    entry = entries_of([{"round": 0, "subject": NO_OP, "ms": [1e-6, 2e-6]}], {NO_OP: NoOp()})[NO_OP]
    check_latency("p50_ms", entry.p50_ms)
    check_latency("p90_ms", entry.p90_ms)
