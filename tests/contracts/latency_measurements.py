"""A file of measurements as a kit brings back, with latencies that are a formula."""

import json
from dataclasses import asdict

from search.lut.workloads import NO_OP, MeasurementPlan, fitting_networks, network_key
from supernet.costs.latency_blocks import blocks_of, blocks_of_space, key_of
from supernet.space import SearchSpace
from tests.helpers.latency_tables import OVERHEAD, SETTINGS, block_ms


def fake_measurements(space: SearchSpace, num_keypoints: int, num_networks: int, rounds: int = 2) -> str:
    """Return the lines of a file in which networks take what their blocks take, and a fixed part."""
    plan = MeasurementPlan(space, num_keypoints, fitting_networks(space, num_networks, seed=0))
    latencies = {NO_OP: OVERHEAD.call_ms} | {
        key_of(block): block_ms(block) for block in blocks_of_space(space, num_keypoints)
    }
    for arch in plan.networks:
        blocks = blocks_of(arch, num_keypoints)
        latencies[network_key(arch)] = OVERHEAD.fixed_ms + sum(block_ms(block) - OVERHEAD.call_ms for block in blocks)
    visits = [
        {"round": number, "subject": name, "ms": [value]}
        for number in range(rounds)
        for name, value in latencies.items()
    ]
    return "".join(json.dumps(line) + "\n" for line in [plan.header(asdict(SETTINGS)), *visits])
