"""A library whose blocks and networks take made-up times of a pretended clock."""

from collections.abc import Callable

import numpy as np

from search.lut.workloads import NoOp, Workload
from supernet.arch import Arch
from supernet.costs.latency_table import MeasurementSettings
from tests.helpers.latency_tables import OVERHEAD, SETTINGS, block_ms, network_ms


def subject_ms(subject: Workload) -> float:
    """The made-up time of anything that is measured."""
    if isinstance(subject, NoOp):
        return OVERHEAD.call_ms
    return network_ms(subject) if isinstance(subject, Arch) else block_ms(subject)


class MadeUpEngine:
    """Runs nothing, but lets the clock go on.

    Args:
        disturbed: Called with the number of the visit, returns the factor by which its runs are slower.
        stop_at: Visit at which Ctrl-C is pressed.
    """

    settings: MeasurementSettings = SETTINGS

    def __init__(self, disturbed: Callable[[int], float] = lambda _: 1.0, stop_at: int | None = None) -> None:
        self.seconds, self.num_opened = 0.0, 0
        self._disturbed, self._stop_at = disturbed, stop_at

    def clock(self) -> float:
        return self.seconds

    def open(self, subject: Workload) -> Callable[[], None]:
        if self.num_opened == self._stop_at:
            raise KeyboardInterrupt
        self.num_opened += 1
        milliseconds = subject_ms(subject) * self._disturbed(self.num_opened)

        def run() -> None:
            self.seconds += milliseconds / 1e3

        return run


def spikes(share: float, factor: float) -> Callable[[int], float]:
    """Disturbances that make a share of all visits slower by a factor."""
    rng = np.random.default_rng(0)
    return lambda _: factor if rng.random() < share else 1.0
