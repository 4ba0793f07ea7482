"""Estimates the time that the rest of a training takes, from the cost of the steps that are left."""

import time
from collections import deque
from collections.abc import Sequence
from itertools import pairwise

from supernet.training.phases import ScheduledPhase

_WINDOW = 100
"""Latest steps whose speed counts: enough for the mean of differently large subnets."""


class RemainingTime:
    """Follows a training by the clock, in which validations and checkpoints count, too.

    Args:
        scheduled: The phases with their steps.
        costs: Cost of a mean step of each phase (:func:`supernet.training.planning.step_costs.step_macs`), in any unit.
    """

    def __init__(self, scheduled: Sequence[ScheduledPhase], costs: Sequence[float]) -> None:
        self._phases = [(phase.start, phase.stop, cost) for phase, cost in zip(scheduled, costs, strict=True)]
        self._times: deque[tuple[int, float, float]] = deque(maxlen=_WINDOW + 1)

    def follow(self, step: int, wait: float) -> float | None:
        """Note that so many steps are done now; return the seconds that the others will take, None if unknown.

        Args:
            step: Number of steps that are done.
            wait: Seconds that the last of them waited for its images, which does not depend on its cost.
        """
        if self._times and step <= self._times[-1][0]:
            self._times.clear()  # a rollback
        self._times.append((step, time.perf_counter(), wait))
        if len(self._times) < 3:
            return None
        # The first steps take longer than others: kernels are compiled, and files are read for the first time.
        skipped = max(1, len(self._times) // 3) if len(self._times) <= _WINDOW else 0
        times = list(self._times)[skipped:]
        waits = sum(wait for _, _, wait in times[1:])
        compute = max(0.0, times[-1][1] - times[0][1] - waits)
        cost = sum(self._cost(before[0], after[0]) for before, after in pairwise(times))
        last = self._phases[-1][1]
        return waits * (last - step) / (step - times[0][0]) + compute * self._cost(step, last) / cost

    def _cost(self, start: int, stop: int) -> float:
        """Return the cost of the steps from ``start`` to before ``stop``."""
        return sum(cost * max(0, min(stop, last) - max(start, first)) for first, last, cost in self._phases)
