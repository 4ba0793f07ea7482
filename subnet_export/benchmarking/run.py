"""Measures subnets in every library at hand, shows the figures and writes them down."""

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from subnet_export.benchmarking.latency import measure_latencies, num_rounds
from subnet_export.benchmarking.latency_comparison import LatencyComparison, LatencyPrediction
from subnet_export.benchmarking.throughput import STEPS, Throughput, draw_frames, measure_throughput
from subnet_export.deployment.deployed_network import DeploymentNetwork
from subnet_export.deployment.equivalence import made_up_images
from subnet_export.deployment.formats import (
    LITEPOSE,
    ONNX,
    OPENVINO_INT8,
    RUNTIMES,
    TORCH_EXPORT,
    Format,
    missing,
    require,
)
from subnet_export.deployment.onnx_graph import onnx_graph
from subnet_export.deployment.quantization import quantised
from subnet_export.deployment.runtimes import Runtime, TorchRuntime, bf16_is_native, open_runtime
from subnet_export.exported_model import ExportedModel, Latency, costs
from subnet_export.format_writer import openvino_model, write_openvino
from subnet_export.model import describe_in, load_model
from subnet_export.run_summary import prepare
from supernet.arch import Arch
from supernet.cli.console import CONSOLE, progress_bar
from supernet.cli.runs import point_latest, write_summary
from supernet.compute.machine import processor
from supernet.evaluation.calibration import calibrate
from supernet.litepose import LitePose, in_channels_last
from supernet.pose.geometry import normalise
from supernet.pose.inference import InferenceSettings
from supernet.pose.keypoints import KeypointSet, keypoint_set


@dataclass(frozen=True)
class BenchmarkTarget:
    """What is measured.

    Attributes:
        name: Where it came from.
        network: Calibrated, in evaluation mode.
        settings: How its maps become people.
        model: The exported model, with its folder; None for random weights.
    """

    name: str
    network: LitePose
    keypoints: KeypointSet
    settings: InferenceSettings
    model: tuple[ExportedModel, Path] | None = None


def run(options: argparse.Namespace) -> None:
    """Measure as the command line asks."""
    began = time.perf_counter()
    device = prepare(options)
    names = options.runtimes or tuple(name for name in RUNTIMES if _is_at_hand(name))
    for name in names:
        chosen, _ = RUNTIMES[name]
        require(chosen.packages, chosen.extra, f"runtime {name}")
    threads = torch.get_num_threads()
    predictor = None if options.latency_table is None else LatencyComparison(options.latency_table, names, threads)
    load = os.getloadavg()[0]
    rows = []
    for subject in _subjects(options, device):
        with tempfile.TemporaryDirectory() as place:
            runtimes = {name: _open(name, subject, Path(place)) for name in names}
            latencies = _latencies(runtimes, subject, options.repeats, threads)
            throughputs = _throughputs(runtimes, subject, options.images)
        predictions = {} if predictor is None else predictor(subject.network, latencies)
        rows.append(_figures(subject, latencies, throughputs, predictions))
        _show(subject, latencies, throughputs, predictions)
        if options.record and subject.model is not None:
            model, folder = subject.model
            describe_in(folder, replace(model, latencies=tuple(latencies.values())))
    summary = {
        "processor": processor(),
        "threads": threads,
        "load_before": round(load, 2),
        "subnets": rows,
        "seconds": round(time.perf_counter() - began, 1),
    }
    write_summary(options.folder, summary)
    if options.is_default_folder:
        point_latest(options.folder)
    busy = f"; other work took {load:.1f} cores before, so the figures are high" if load > 0.3 else ""
    told = f"{processor()}, {threads} threads{busy}; {options.folder / 'summary.json'}"
    CONSOLE.print(told, markup=False, highlight=False, soft_wrap=True)


def _is_at_hand(name: str) -> bool:
    """Whether everything for a runtime is installed, and the processor computes in its precision."""
    chosen, precision = RUNTIMES[name]
    return not missing(chosen.packages) and (precision != "bf16" or bf16_is_native())


def _subjects(options: argparse.Namespace, device: torch.device) -> Iterator[BenchmarkTarget]:
    if not options.arch:
        folder = Path(options.model or Path(options.runs) / "export" / "latest")
        model = load_model(folder, device)
        folder = folder.parent if folder.is_file() else folder
        yield BenchmarkTarget(str(folder), model.network, model.keypoints, model.settings, (model, folder))
    for path in options.arch or ():
        keypoints = keypoint_set(options.keypoints)
        arch = Arch.load(path)
        yield BenchmarkTarget(path, random_network(arch, keypoints.num).to(device), keypoints, InferenceSettings())


def random_network(arch: Arch, num_keypoints: int) -> LitePose:
    """Return a network of fixed random weights, with the statistics that they give."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = LitePose(arch, num_keypoints)
    calibrate(network, [normalise(images) for images in made_up_images(arch.resolution)])
    in_channels_last(network)
    return network


def _open(name: str, subject: BenchmarkTarget, place: Path) -> Runtime:
    """Open a runtime on the model's own file, or on one written to ``place``."""
    chosen, precision = RUNTIMES[name]
    if chosen == LITEPOSE:
        return TorchRuntime(subject.network)
    if chosen == TORCH_EXPORT:
        deployed = DeploymentNetwork(subject.network)
        in_channels_last(deployed)
        return TorchRuntime(deployed.to(next(subject.network.parameters()).device), "uint8")
    folder = place
    if subject.model is not None and chosen.name in subject.model[0].formats:
        folder = subject.model[1]
    elif not (place / chosen.files[0]).exists():
        _write(chosen, subject.network, place)
    # Layers that are not quantised run in what this processor is quickest in.
    in_bf16 = precision == "bf16" or (chosen == OPENVINO_INT8 and bf16_is_native())
    return open_runtime(folder, chosen, "bf16" if in_bf16 else "f32")


def _write(chosen: Format, network: LitePose, place: Path) -> None:
    path = place / ONNX.files[0]
    graph = onnx_graph(DeploymentNetwork(network))
    if chosen == ONNX:
        path.write_bytes(graph.SerializeToString())
        return
    model = openvino_model(graph)
    if chosen == OPENVINO_INT8:
        model = quantised(model, made_up_images(network.arch.resolution), "uint8")
    write_openvino(model, place, chosen)


def _latencies(
    runtimes: dict[str, Runtime], subject: BenchmarkTarget, num_runs: int, threads: int
) -> dict[str, Latency]:
    with progress_bar() as progress:
        task = progress.add_task("latency, rounds", total=num_rounds(num_runs) * len(runtimes), note=subject.name)
        return measure_latencies(
            runtimes, subject.network.arch.resolution, num_runs, threads, lambda: progress.advance(task)
        )


def _throughputs(runtimes: dict[str, Runtime], subject: BenchmarkTarget, num_images: int) -> dict[str, Throughput]:
    if not num_images:
        return {}
    found = {}
    frames = draw_frames(subject.keypoints, num_images)
    with progress_bar() as progress:
        task = progress.add_task("whole pipeline", total=len(runtimes), note=subject.name)
        for name, runtime in runtimes.items():
            resolution, untrained = subject.network.arch.resolution, subject.model is None
            found[name] = measure_throughput(
                runtime, resolution, subject.keypoints, subject.settings, frames, untrained
            )
            progress.advance(task)
    return found


def _figures(
    subject: BenchmarkTarget,
    latencies: dict[str, Latency],
    throughputs: dict[str, Throughput],
    predictions: dict[str, LatencyPrediction],
) -> dict[str, Any]:
    network = subject.network
    return {
        "name": subject.name,
        "weights": "random" if subject.model is None else "of the model",
        "resolution": network.arch.resolution,
        "arch": network.arch.to_dict(),
        "costs": costs(network.arch, network.num_keypoints),
        "latency": {name: asdict(latency) for name, latency in latencies.items()},
        "predicted": {name: asdict(prediction) for name, prediction in predictions.items()},
        "pipeline": {
            "grouped_maps": "true" if subject.model is None else "of the network",
            "runtimes": {name: asdict(throughput) for name, throughput in throughputs.items()},
        },
    }


def _show(
    subject: BenchmarkTarget,
    latencies: dict[str, Latency],
    throughputs: dict[str, Throughput],
    predictions: dict[str, LatencyPrediction],
) -> None:
    network = subject.network
    macs = costs(network.arch, network.num_keypoints)["macs"] / 1e6
    title = f"{subject.name}: {network.arch.resolution} px, {macs:,.0f} M multiply-adds"
    table = Table("runtime", "precision", "p50 ms", "p90 ms", "least", title=title, box=None)
    if predictions:
        table.add_column("predicted ms")
    if throughputs:
        table.add_column("images/s")
        table.add_column(f"{' / '.join(STEPS)} ms")
    for name, latency in latencies.items():
        row = [name, latency.precision, *(f"{ms:.2f}" for ms in (latency.p50_ms, latency.p90_ms, latency.least_ms))]
        if name in predictions:
            row.append(f"{predictions[name].predicted_ms:.2f} ({predictions[name].error:+.1f} %)")
        elif predictions:
            row.append("")
        if name in throughputs:
            steps = " / ".join(f"{value:.1f}" for value in throughputs[name].median_ms.values())
            row += [f"{throughputs[name].frames_per_second:.1f}", steps]
        table.add_row(*row)
    CONSOLE.print(table)
