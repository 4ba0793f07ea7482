"""One benchmark run: measures subnets in each runtime, shows the figures and writes them to ``summary.json``."""

import argparse
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from subnet_export.benchmarking.latency import measure_latencies, num_rounds
from subnet_export.benchmarking.latency_comparison import LatencyComparison, LatencyPrediction
from subnet_export.benchmarking.targets import BenchmarkTarget, available_runtimes, load_targets, open_runtimes
from subnet_export.benchmarking.throughput import STEPS, Throughput, draw_frames, measure_throughput
from subnet_export.deployment.environments import require_converter
from subnet_export.deployment.formats import RUNTIMES
from subnet_export.deployment.runtimes import Runtime
from subnet_export.exported_model import Latency
from subnet_export.model import describe_in
from subnet_export.runs import prepare
from supernet.checkpoints.pretrained import is_pretrained
from supernet.cli.console import CONSOLE, progress_bar
from supernet.cli.runs import point_latest, write_summary
from supernet.compute.device import device_name
from supernet.compute.machine import processor
from supernet.costs.analytic import params_and_macs
from supernet.errors import UserError

_QUIET_LOAD = 0.3
"""Load average in cores up to which a machine counts as quiet."""


@dataclass(frozen=True)
class BenchmarkResult:
    """Figures of one network, by name of the runtime.

    Attributes:
        target: The network.
        latencies: Of every runtime.
        throughputs: Of every runtime; empty if not measured.
        predictions: Of the runtime that the latency table is for; empty without a table.
    """

    target: BenchmarkTarget
    latencies: Mapping[str, Latency]
    throughputs: Mapping[str, Throughput]
    predictions: Mapping[str, LatencyPrediction]


def run(options: argparse.Namespace) -> None:
    """Measure as the command line asks.

    Raises:
        UserError: An option is wrong, a file cannot be read, or a package is not installed.
    """
    began = time.perf_counter()
    if options.record and options.model and is_pretrained(options.model):
        raise UserError(f"--record cannot change {options.model}, which is part of the package; leave out --record")
    device = prepare(options)
    names = options.runtimes or available_runtimes()
    for name in names:
        require_converter(RUNTIMES[name][0], f"runtime {name}")
    threads = torch.get_num_threads()
    table = options.latency_table
    comparison = None if table is None else LatencyComparison(table, names, threads, device)
    load = os.getloadavg()[0]
    figures = []
    targets = list(load_targets(options, device))
    if comparison is not None:
        for target in targets:
            comparison.predict_ms(target.network)  # a table that does not fit is refused before the measurements
    for target in targets:
        with tempfile.TemporaryDirectory() as folder:
            runtimes = open_runtimes(names, target, Path(folder))
            if comparison is not None:
                comparison.check_version(runtimes)
            latencies = _measure_latencies(runtimes, target, options.repeats, threads)
            throughputs = _measure_throughputs(runtimes, target, options.images)
        predictions = {} if comparison is None else comparison(target.network, latencies)
        result = BenchmarkResult(target, latencies, throughputs, predictions)
        figures.append(_figures(result))
        # Not the table's title, which would wrap inside a long path.
        CONSOLE.print(_heading(result), style="italic", highlight=False, soft_wrap=True)
        CONSOLE.print(_table(result))
        if throughputs and target.num_passes > 1:
            passes = f"the model's settings take {target.num_passes} (flip test or scales), and so more time"
            CONSOLE.print(f"images/s are with one pass of the network per image; {passes}", soft_wrap=True)
        if options.record and target.model is not None:
            model, model_folder = target.model
            describe_in(model_folder, replace(model, latencies=tuple(latencies.values())))
    summary = {
        "processor": processor(),
        "threads": threads,
        "load_before": round(load, 2),
        "subnets": figures,
        "seconds": round(time.perf_counter() - began, 1),
    }
    write_summary(options.folder, summary)
    if options.is_default_folder:
        point_latest(options.folder)
    busy = f"; other programs used {load:.1f} cores before, so the times are too long" if load > _QUIET_LOAD else ""
    torch_device = "" if device.type == "cpu" else f", PyTorch on {device_name(device)}"
    cores = f"{threads} thread{'s' * (threads > 1)}"
    line = f"{processor()}, {cores}{torch_device}{busy}; {options.folder / 'summary.json'}"
    CONSOLE.print(line, markup=False, highlight=False, soft_wrap=True)


def _measure_latencies(
    runtimes: dict[str, Runtime], target: BenchmarkTarget, num_runs: int, threads: int
) -> dict[str, Latency]:
    resolution = target.network.arch.resolution
    with progress_bar() as progress:
        task = progress.add_task("latency, rounds", total=num_rounds(num_runs) * len(runtimes), note=target.name)
        return measure_latencies(runtimes, resolution, num_runs, threads, lambda: progress.advance(task))


def _measure_throughputs(
    runtimes: dict[str, Runtime], target: BenchmarkTarget, num_images: int
) -> dict[str, Throughput]:
    if not num_images:
        return {}
    throughputs = {}
    frames, resolution = draw_frames(target.keypoints, num_images), target.network.arch.resolution
    with progress_bar() as progress:
        task = progress.add_task("whole pipeline", total=len(runtimes), note=target.name)
        for name, runtime in runtimes.items():
            throughputs[name] = measure_throughput(
                runtime, resolution, target.keypoints, target.settings, frames, target.has_random_weights
            )
            progress.advance(task)
    return throughputs


def _figures(result: BenchmarkResult) -> dict[str, Any]:
    """Return the entry of ``summary.json``."""
    target, network = result.target, result.target.network
    return {
        "name": target.name,
        "weights": "random" if target.has_random_weights else "of the model",
        "resolution": network.arch.resolution,
        "arch": network.arch.to_dict(),
        "costs": params_and_macs(network.arch, network.num_keypoints),
        "latency": {name: asdict(latency) for name, latency in result.latencies.items()},
        "predicted": {name: asdict(prediction) for name, prediction in result.predictions.items()},
        "pipeline": {
            "grouped_maps": "true" if target.has_random_weights else "of the network",
            "passes_timed": 1,
            "passes_of_the_settings": target.num_passes,
            "runtimes": {name: asdict(throughput) for name, throughput in result.throughputs.items()},
        },
    }


def _heading(result: BenchmarkResult) -> str:
    network = result.target.network
    macs = params_and_macs(network.arch, network.num_keypoints)["macs"] / 1e6
    return f"{result.target.name}: {network.arch.resolution} px, {macs:,.0f} M multiply-adds"


def _table(result: BenchmarkResult) -> Table:
    """Return the figures as a table, one row per runtime."""
    table = Table("runtime", "precision", "p50 ms", "p90 ms", "least", box=None)
    if result.predictions:
        table.add_column("predicted ms")
    if result.throughputs:
        table.add_column("images/s")
        table.add_column(f"{' / '.join(STEPS)} ms")
    for name, latency in result.latencies.items():
        row = [name, latency.precision, *(f"{ms:.2f}" for ms in (latency.p50_ms, latency.p90_ms, latency.least_ms))]
        if result.predictions:
            prediction = result.predictions.get(name)
            row.append(f"{prediction.predicted_ms:.2f} ({prediction.error:+.1f} %)" if prediction else "")
        if result.throughputs:
            throughput = result.throughputs[name]
            steps = " / ".join(f"{value:.1f}" for value in throughput.median_ms.values())
            row += [f"{throughput.frames_per_second:.1f}", steps]
        table.add_row(*row)
    return table
