"""Latency of whole networks, measured where a table's device and runtime are here."""

import statistics
import time
from collections.abc import Callable, Sequence

import torch

from search.lut.runtimes import open_engine
from supernet.arch import Arch
from supernet.costs.latency_table import LatencyTable, check_settings

WARM_UP = 5
ROUNDS = 30


def measured_ms(table: LatencyTable, archs: Sequence[Arch], progress: Callable[[int, int], None]) -> list[float]:
    """Return the median latency of each arch, with random weights, measured as ``table`` was; all archs in turns.

    Args:
        table: Says how to measure.
        archs: Whole networks.
        progress: Called with rounds done and rounds in all.

    Raises:
        UserError: The table's runtime, version, device or another of its settings is not here.
    """
    told = table.settings
    is_gpu = torch.cuda.is_available() and told.device == torch.cuda.get_device_name()
    device = torch.device("cuda" if is_gpu else "cpu")
    threads = torch.get_num_threads()
    try:
        engine = open_engine(told.runtime, told.precision, told.threads, told.batch, table.num_keypoints, device)
        check_settings(told, engine.settings)
        runs = [engine.open(arch) for arch in archs]
        for run in runs:
            for _ in range(WARM_UP):
                run()
        taken: list[list[float]] = [[] for _ in runs]
        for done in range(ROUNDS):
            progress(done, ROUNDS)
            for run, times in zip(runs, taken, strict=True):
                start = time.perf_counter()
                run()
                times.append(1e3 * (time.perf_counter() - start))
        progress(ROUNDS, ROUNDS)
    finally:
        torch.set_num_threads(threads)
    return [statistics.median(times) for times in taken]
