"""Timing of functions and the spread of repeated figures."""

import statistics
import time
from collections.abc import Callable, Sequence


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and most of ``values``, rounded."""
    return {
        "median": round(statistics.median(values), 3),
        "least": round(min(values), 3),
        "most": round(max(values), 3),
    }


def timed(function: Callable[[], object], repeats: int) -> dict[str, dict[str, float]]:
    """Milliseconds that ``function`` takes, after one call to warm up, by the clock and of processor time.

    Processor time counts all threads; of one thread it hardly depends on what else the machine does.
    """
    function()
    wall, cpu = [], []
    for _ in range(repeats):
        wall_start, cpu_start = time.perf_counter(), time.process_time()
        function()
        wall.append(1e3 * (time.perf_counter() - wall_start))
        cpu.append(1e3 * (time.process_time() - cpu_start))
    return {"wall_ms": spread(wall), "cpu_ms": spread(cpu)}
