"""Measure what ``supernet.compute.cpu_tuning`` (caching of kernels and memory) saves in training. Prints JSON.

Processes of three kinds take turns: without it, with its settings for evaluation, and with those for training. Each
runs forward and backward passes of the largest, a random and the smallest subnet of a space on random batches. Run as
``python -m scripts.benchmarks.cpu_tuning [--space photos --batch 16 --most-pixels 256]``.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from scripts.benchmarks.timing import load_averages, print_report, spread
from supernet.cli.console import STDERR, run_command
from supernet.compute.cpu_tuning import prefer_throughput
from supernet.pose.keypoints import COCO
from supernet.space import SearchSpace
from supernet.weight_sharing import SuperNet

KINDS = ("plain", "evaluation", "training")
Figures = dict[str, Any]


def steps(options: argparse.Namespace) -> Figures:
    """Milliseconds of forward and backward of each step after the warm-up, by role of the subnet, and peak memory."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    space = SearchSpace.load(options.space)
    sizes = [size for size in space.resolutions if options.most_pixels is None or size <= options.most_pixels]
    supernet = SuperNet(space, COCO.num).train()
    milliseconds: dict[str, list[float]] = {}
    for step in range(options.warm_up + options.steps):
        rng = np.random.default_rng(step)
        size = int(rng.choice(sizes))
        images = torch.randn(options.batch, 3, size, size).contiguous(memory_format=torch.channels_last)
        archs = {"largest": space.largest(), "random": space.sample(rng), "smallest": space.smallest()}
        for role, arch in archs.items():
            start = time.process_time()
            low, high = supernet(images, replace(arch, resolution=size))
            (low.square().mean() + high.square().mean()).backward()
            if step >= options.warm_up:
                milliseconds.setdefault(role, []).append(1e3 * (time.process_time() - start))
        supernet.zero_grad()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {"processor_ms": milliseconds, "peak_memory_mib": usage.ru_maxrss // 1024}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--space", default="nano", help="search space, by name or file")
    parser.add_argument("--most-pixels", type=int, help="largest input size, if not all of the space")
    parser.add_argument("--batch", type=int, default=8, help="images per step")
    parser.add_argument("--warm-up", type=int, default=10, help="steps before measuring")
    parser.add_argument("--steps", type=int, default=60, help="measured steps per process")
    parser.add_argument("--repeats", type=int, default=5, help="processes of each kind")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of the network")
    parser.add_argument("--in-process", choices=KINDS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.in_process is not None:
        if options.in_process != "plain":
            prefer_throughput(is_training=options.in_process == "training")
        print(json.dumps(steps(options)))
        return

    runs: dict[str, list[Figures]] = {kind: [] for kind in KINDS}
    for _ in range(options.repeats):
        for kind in KINDS:
            command = [sys.executable, "-m", "scripts.benchmarks.cpu_tuning", *sys.argv[1:], "--in-process", kind]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            runs[kind].append(json.loads(done.stdout))
    results: Figures = {}
    for role in runs["plain"][0]["processor_ms"]:
        times = {kind: [statistics.median(run["processor_ms"][role]) for run in runs[kind]] for kind in KINDS}
        plain = statistics.median(times["plain"])
        results[role] = {
            kind: spread(times[kind]) | {"plain_over_this": round(plain / statistics.median(times[kind]), 2)}
            for kind in KINDS
        }
    memory = {kind: max(run["peak_memory_mib"] for run in runs[kind]) for kind in KINDS}
    workload = {name: value for name, value in vars(options).items() if name != "in_process"}
    workload |= {"load": load_averages()}
    print_report(workload, {"processor_ms": results, "peak_memory_mib": memory})


if __name__ == "__main__":
    run_command(main, STDERR)
