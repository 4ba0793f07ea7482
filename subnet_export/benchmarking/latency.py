"""Measures the latency of a network in each runtime."""

import time
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from subnet_export.deployment.runtimes import Runtime
from subnet_export.exported_model import Latency
from supernet.compute.device import device_name, synchronise

ROUND = 10
"""Consecutive runs of one runtime. They take turns after each round, so that a disturbance affects all of them."""
WARM_UP = 3
"""Runs before each round, not timed."""


def num_rounds(num_runs: int) -> int:
    """Return how many rounds hold at least ``num_runs`` runs."""
    return -(-num_runs // ROUND)


def measure_latencies(
    runtimes: Mapping[str, Runtime], resolution: int, num_runs: int, threads: int, advance: Callable[[], None]
) -> dict[str, Latency]:
    """Time one square image in each of ``runtimes``, in turns.

    A run starts with the image as uint8 and ends with the maps, so it includes normalisation.

    Args:
        runtimes: By name.
        resolution: Side of the image, px.
        num_runs: Timed runs of each runtime, rounded up to whole rounds.
        threads: Number of threads that the runtimes use, for the record.
        advance: Called after each round of each runtime.
    """
    image = _image(resolution)
    seconds: dict[str, list[float]] = {name: [] for name in runtimes}
    devices: dict[str, str] = {}
    for _ in range(num_rounds(num_runs)):
        for name, runtime in runtimes.items():
            for _ in range(WARM_UP):
                runtime(image)
            for _ in range(ROUND):
                start = time.perf_counter()
                low, _ = runtime(image)
                synchronise(low.device)
                seconds[name].append(time.perf_counter() - start)
            devices[name] = device_name(low.device)
            advance()
    return {name: _latency(runtimes[name], devices[name], times, threads) for name, times in seconds.items()}


def _latency(runtime: Runtime, device: str, seconds: list[float], threads: int) -> Latency:
    p50, p90, least = (round(1e3 * float(value), 3) for value in np.percentile(seconds, (50, 90, 0)))
    return Latency(runtime.library, runtime.precision, threads, device, p50, p90, least, len(seconds))


def _image(side: int) -> Tensor:
    """Return an image of noise (1, 3, side, side), uint8, in channels-last order."""
    noise = np.random.default_rng(0).integers(0, 256, (1, side, side, 3), np.uint8)
    return torch.from_numpy(noise).permute(0, 3, 1, 2)
