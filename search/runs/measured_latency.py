"""Measures the latency of whole networks on the device and runtime of a latency table."""

import statistics
import time
from collections.abc import Callable, Sequence

import torch

from search.lut.libraries import LibraryError
from search.lut.runtimes import runtime_of
from supernet.arch import Arch
from supernet.costs.latency_table import LatencyTable, check_settings
from supernet.errors import UserError

WARM_UP_RUNS = 5
ROUNDS = 30


def measured_ms(table: LatencyTable, archs: Sequence[Arch], progress: Callable[[int, int], None]) -> list[float]:
    """Return the median latency of each arch, with random weights, measured with the settings of ``table``.

    Each round runs every arch once, so that slow phases of the machine affect all archs.

    Args:
        table: Latency table whose settings to use.
        archs: Networks to measure.
        progress: Called with the number of rounds done and the total.

    Raises:
        UserError: The runtime, its version, the device or another setting differs from the table, or the runtime cannot
            run an arch.
    """
    threads = torch.get_num_threads()
    try:
        runtime = runtime_of(table)
        check_settings(table.settings, runtime.settings)
        runs = [runtime.open(arch) for arch in archs]
        for run in runs:
            for _ in range(WARM_UP_RUNS):
                run()
        times_ms: list[list[float]] = [[] for _ in runs]
        for num_done in range(ROUNDS):
            progress(num_done, ROUNDS)
            for run, arch_times_ms in zip(runs, times_ms, strict=True):
                start = time.perf_counter()
                run()
                arch_times_ms.append(1e3 * (time.perf_counter() - start))
        progress(ROUNDS, ROUNDS)
    except LibraryError as error:
        raise UserError(str(error)) from error
    finally:
        torch.set_num_threads(threads)
    return [statistics.median(arch_times_ms) for arch_times_ms in times_ms]
