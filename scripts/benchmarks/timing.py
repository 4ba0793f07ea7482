"""Timing of functions, the spread of repeated figures, and the report that every benchmark prints."""

import json
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from supernet.compute.machine import machine, versions
from supernet.io import files


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


def load_averages() -> list[float]:
    """Load of this machine over the last minute, 5 and 15 minutes."""
    return [round(load, 2) for load in os.getloadavg()]


def print_report(
    workload: Mapping[str, Any], results: Mapping[str, Any], output: str | Path | None = None
) -> dict[str, Any]:
    """Print a benchmark's report as JSON: machine, software versions, workload and results.

    Args:
        workload: What was measured, as the command line says.
        results: The figures.
        output: Also write the report to this file.

    Returns:
        The report.
    """
    report = {"machine": machine(), "versions": versions(), "workload": dict(workload), **results}
    print(json.dumps(report, indent=2))
    if output is not None:
        files.write_json(output, report)
    return report
