"""Measure training steps of single subnets and of a sandwich, and the overhead of weight sharing. Prints JSON.

Run as ``python -m scripts.benchmarks.train [--sizes 256 512] [--batch 8] [--device auto] [--output FILE]``.

Every workload runs the training loop in a separate process, which has its own peak memory, on images cached in memory.
``sharing`` alternates forward and backward passes of a subnet inside the supernet and of the same subnet extracted, and
gives the ratio of their times; on a CPU this is processor time, which hardly depends on other programs. ``shares`` come
from a second pass that synchronises with the device after each part; images per second do not.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any
from unittest import mock

import cv2
import numpy as np
import torch

from scripts.benchmarks.timing import print_report, spread
from supernet.arch import Arch, Stage
from supernet.cli.arguments import whole_number
from supernet.cli.console import STDERR, run_command
from supernet.compute.cpu_tuning import prefer_throughput
from supernet.compute.device import pick_device
from supernet.compute.precision import forward_precision, tf32
from supernet.pose.data.cached import CachedDataset
from supernet.pose.geometry import normalise
from supernet.pose.keypoints import COCO
from supernet.pose.synthetic.dataset import SyntheticPeople
from supernet.pose.training.augmentation import Augmentation
from supernet.pose.training.objective import PoseObjective
from supernet.space import DIMENSIONS, SearchSpace
from supernet.training import trainer
from supernet.training.phases import Phase, schedule
from supernet.training.settings import StepSettings
from supernet.training.trainer import Trainer
from supernet.weight_sharing import SuperNet

WORKLOADS = ("largest", "half_width", "random", "smallest", "sandwich")
NUM_IMAGES = 32


def archs_of(workload: str, space: SearchSpace, size: int) -> list[Arch]:
    """The subnets that each step of a workload trains at ``size`` pixels."""
    largest, rng = space.largest(), np.random.default_rng(0)
    drawn = [space.sample(rng), space.sample(rng)]
    half_stages = tuple(
        Stage(choices.widths[len(choices.widths) // 2 - 1], stage.stride, stage.expand_ratios, stage.kernel_sizes)
        for stage, choices in zip(largest.stages, space.stages, strict=True)
    )
    half_deconv = tuple(widths[len(widths) // 2 - 1] for widths in space.deconv_widths)
    half = Arch(size, space.stem_widths[len(space.stem_widths) // 2], half_stages, half_deconv)
    archs = {
        "largest": [largest],
        "half_width": [half],
        "random": drawn[:1],
        "smallest": [space.smallest()],
        "sandwich": [largest, *drawn, space.smallest()],
    }
    return [replace(arch, resolution=size) for arch in archs[workload]]


def build_trainer(options: argparse.Namespace, device: torch.device, workload: str, size: int) -> Trainer:
    """A trainer of the whole space at one resolution."""
    torch.manual_seed(0)
    space = replace(SearchSpace.load(options.space), resolutions=(size,))
    # One role per subnet of ``archs_of``, which gives every subnet its weight in the loss.
    roles = ("largest", "random", "random", "smallest") if workload == "sandwich" else ("largest",)
    phase = Phase("bench", 1, DIMENSIONS, roles, 1e-4)
    settings = StepSettings(
        batch_size=options.batch,
        seed=0,
        clip_norm=1.0,
        average_decay=0.999,
        distillation_weight=1.0,
        num_workers=options.workers,
        augmentation=Augmentation(),
        precision=options.precision,
        cuda_graphs=options.cuda_graphs,
    )
    images = CachedDataset(SyntheticPeople(COCO, NUM_IMAGES, 1, 640, 480))
    for index in range(NUM_IMAGES):
        images[index]
    steps = schedule([phase], space, options.warm_up + 2 * options.steps)
    return Trainer(SuperNet(space, COCO.num).to(device), PoseObjective(COCO.num), images, steps, settings)


class Stopwatch:
    """Measures the seconds of each part of a step."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.seconds = device, defaultdict[str, float](float)

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap ``function`` so that its time, including the device's work, is added to ``part``."""

        def call(*arguments: Any, **named: Any) -> Any:
            synchronise(self.device)
            start = time.perf_counter()
            result = function(*arguments, **named)
            synchronise(self.device)
            self.seconds[part] += time.perf_counter() - start
            return result

        return call


def mark(device: torch.device) -> torch.cuda.Event | float:
    """A point in time in the device's queue of work; does not synchronise."""
    if device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record()
    return event


def seconds_between(start: torch.cuda.Event | float, end: torch.cuda.Event | float) -> float:
    """Seconds between two marks."""
    if isinstance(start, float) or isinstance(end, float):
        assert isinstance(start, float)
        assert isinstance(end, float)
        return end - start
    return float(start.elapsed_time(end)) / 1e3


def synchronise(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measured_steps(options: argparse.Namespace, device: torch.device, workload: str, size: int) -> dict[str, Any]:
    """Speed, peak memory and shares of the parts of a step for one workload."""
    run = build_trainer(options, device, workload, size)
    archs = archs_of(workload, run.supernet.space, size)
    marks: list[torch.cuda.Event | float] = []
    processor: list[float] = []
    watch, shared = Stopwatch(device), defaultdict[str, float](float)
    half = options.warm_up + options.steps
    parts = mock.patch.object(torch.Tensor, "backward", watch.timed("backward", torch.Tensor.backward))

    if device.type == "cpu":
        prefer_throughput(is_training=True)
    (scheduled,) = run.scheduled
    began = time.perf_counter()
    with mock.patch.object(trainer, "step_archs", return_value=archs), tf32(allowed=True):
        for batch, data_seconds in run.batches(scheduled):
            run.train_step(scheduled, batch, data_seconds)
            if options.warm_up <= run.step <= half:
                marks.append(mark(device))
                processor.append(time.process_time())
            if run.step > half:
                synchronise(device)
                shared["data"] += data_seconds
                shared["all"] += time.perf_counter() - began
            if run.step == half:  # from here on, measure the parts
                synchronise(device)
                parts.start()
                run.supernet.forward = watch.timed("forward", run.supernet.forward)  # type: ignore[method-assign]
                run.adam.step = watch.timed("optimizer", run.adam.step)  # type: ignore[method-assign]
                run.average.update = watch.timed("optimizer", run.average.update)  # type: ignore[method-assign]
            began = time.perf_counter()
    parts.stop()
    shared |= watch.seconds
    times = [seconds_between(*pair) for pair in pairwise(marks)]
    total_seconds = shared.pop("all")
    results = {
        "step_ms": spread([1e3 * seconds for seconds in times]),
        "processor_ms": spread([1e3 * (end - start) for start, end in pairwise(processor)]),
        "images_per_second": round(options.batch / statistics.median(times), 2),
        "shares": {part: round(seconds / total_seconds, 3) for part, seconds in sorted(shared.items())},
    }
    if device.type == "cuda":
        return results | {"peak_memory_mib": round(torch.cuda.max_memory_allocated(device) / 2**20)}
    return results | {"peak_memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)}


def measured_sharing(options: argparse.Namespace, device: torch.device, workload: str, size: int) -> dict[str, Any]:
    """Forward and backward times of a subnet in the supernet and extracted, in turns, and the ratio of the medians."""
    torch.manual_seed(0)
    space = replace(SearchSpace.load(options.space), resolutions=(size,))
    shared = SuperNet(space, COCO.num).to(device).train()
    (arch,) = archs_of(workload, space, size)
    alone = shared.extract(arch).train()
    for module in alone.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # as in the supernet
            module.track_running_stats = False
            module.running_mean = module.running_var = module.num_batches_tracked = None
    raw_images = torch.randint(0, 256, (options.batch, 3, size, size), dtype=torch.uint8, device=device)
    images = normalise(raw_images.contiguous(memory_format=torch.channels_last))
    precision = forward_precision(device, options.precision)
    times: dict[str, list[float]] = {"shared": [], "alone": []}
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    calls: dict[str, Callable[[], tuple[torch.Tensor, torch.Tensor]]] = {
        "shared": lambda: shared(images, arch),
        "alone": lambda: alone(images),
    }
    for repeat in range(options.warm_up + options.steps):
        for name in sorted(calls, reverse=bool(repeat % 2)):
            synchronise(device)
            start = clock()
            with precision:
                low, high = calls[name]()
            (low.float().square().mean() + high.float().square().mean()).backward()  # type: ignore[no-untyped-call]
            synchronise(device)
            if repeat >= options.warm_up:
                times[name].append(clock() - start)
            for network in (shared, alone):
                for parameter in network.parameters():
                    parameter.grad = None
    ratio = statistics.median(times["shared"]) / statistics.median(times["alone"])
    by_name = {f"{name}_ms": spread([1e3 * seconds for seconds in values]) for name, values in times.items()}
    return by_name | {"overhead": round(ratio - 1, 4)}


def main() -> None:
    """Run each workload in a separate process, and print the results."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--space", default="litepose", help="search space, by name or file")
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512], help="input resolutions in pixels")
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS), help="what a step trains")
    parser.add_argument("--batch", type=whole_number(1), default=8, help="images per step")
    parser.add_argument("--steps", type=whole_number(1), default=7, help="measured steps; the median is reported")
    parser.add_argument("--warm-up", type=whole_number(1), default=2, help="steps before measuring")
    parser.add_argument("--workers", type=int, default=0, help="worker processes that load images")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument(
        "--precision", default="auto", choices=("auto", "float32", "bfloat16"), help="precision of forward passes"
    )
    parser.add_argument("--cuda-graphs", action="store_true", help="record passes and launch them as a whole, on a GPU")
    parser.add_argument("--threads", type=whole_number(1), help="threads of the network on a CPU (default: all cores)")
    parser.add_argument("--output", help="also write the JSON to this file")
    parser.add_argument("--in-process", nargs=3, metavar=("KIND", "WORKLOAD", "SIZE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    cv2.setNumThreads(0)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    device = pick_device(options.device)
    if options.in_process is not None:
        kind, workload, size = options.in_process
        measure = measured_steps if kind == "steps" else measured_sharing
        print(json.dumps(measure(options, device, workload, int(size))))
        return

    results = []
    for size in options.sizes:
        for kind, workload in [
            *(("steps", name) for name in options.workloads),
            *(("sharing", name) for name in options.workloads if name != "sandwich"),
        ]:
            program = [sys.executable, "-m", "scripts.benchmarks.train", *sys.argv[1:]]
            command = [*program, "--in-process", kind, workload, str(size)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
            if done.returncode != 0:
                raise SystemExit(done.returncode)  # the process has said why
            results.append({"kind": kind, "workload": workload, "size": size, **json.loads(done.stdout)})
            print(json.dumps(results[-1]), file=sys.stderr, flush=True)
    device_name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    options_used = {name: value for name, value in vars(options).items() if name not in ("in_process", "output")}
    workload = options_used | {"device": device_name, "threads": torch.get_num_threads()}
    print_report(workload, {"results": results}, options.output)


if __name__ == "__main__":
    run_command(main, STDERR)
