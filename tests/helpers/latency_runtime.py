"""A fake runtime whose workloads take the latencies of the fake table on a fake clock."""

from collections.abc import Callable

import numpy as np

from search.lut.workloads import NoOp, Workload
from supernet.arch import Arch
from supernet.costs.latency_table import MeasurementSettings
from tests.helpers.latency_tables import OVERHEAD, SETTINGS, block_ms, network_ms


def workload_ms(workload: Workload) -> float:
    """The fake latency of a workload."""
    if isinstance(workload, NoOp):
        return OVERHEAD.call_ms
    return network_ms(workload) if isinstance(workload, Arch) else block_ms(workload)


class FakeRuntime:
    """Runs nothing, but advances the clock.

    Args:
        disturbed: Returns the slowdown factor of the visit of a given number.
        stop_at: Visit at which Ctrl-C is pressed.
    """

    settings: MeasurementSettings = SETTINGS

    def __init__(self, disturbed: Callable[[int], float] = lambda _: 1.0, stop_at: int | None = None) -> None:
        self.seconds, self.num_opened = 0.0, 0
        self._disturbed, self._stop_at = disturbed, stop_at

    def clock(self) -> float:
        return self.seconds

    def open(self, workload: Workload) -> Callable[[], None]:
        if self.num_opened == self._stop_at:
            raise KeyboardInterrupt
        self.num_opened += 1
        milliseconds = workload_ms(workload) * self._disturbed(self.num_opened)

        def run() -> None:
            self.seconds += milliseconds / 1e3

        return run


def spikes(share: float, factor: float) -> Callable[[int], float]:
    """Disturbances that slow down a share of all visits by a factor."""
    rng = np.random.default_rng(0)
    return lambda _: factor if rng.random() < share else 1.0
