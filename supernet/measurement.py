"""What figures were measured on, and how their spread is told."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path


def machine() -> dict[str, str | int]:
    """The processor's name, the number of cores this process may use, and the system."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    processor = names[0] if names else platform.processor() or platform.machine()
    return {"processor": processor, "cores": cores, "system": platform.platform()}


def versions() -> dict[str, str]:
    """The versions that decide what a run computes and how fast."""
    import cv2
    import numpy as np
    import torch

    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),  # of a class of its own, which no checkpoint may hold
        "numpy": np.__version__,
        "opencv": cv2.__version__,
    }


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
