"""Measure what ``supernet.compute.cpu_tuning`` (caching of kernels and memory) saves in training. Prints JSON.

Processes with and without it take turns. Each runs forward and backward passes of the largest, a random and the
smallest subnet of the nano space on random batches. Run as ``python -m scripts.benchmarks.cpu_tuning``.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time

import numpy as np
import torch

from scripts.benchmarks.timing import print_report, spread
from supernet.cli.console import STDERR, run_command
from supernet.compute.cpu_tuning import prefer_throughput
from supernet.space import SearchSpace
from supernet.weight_sharing import SuperNet

NUM_WARM_UP_STEPS = 10


def steps(options: argparse.Namespace) -> dict[str, list[float]]:
    """Milliseconds of forward and backward of each step after the warm-up, by role of the subnet."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    space = SearchSpace.load("nano")
    supernet = SuperNet(space, 17).train()
    milliseconds: dict[str, list[float]] = {}
    for step in range(NUM_WARM_UP_STEPS + options.steps):
        rng = np.random.default_rng(step)
        size = int(rng.choice(space.resolutions))
        images = torch.randn(options.batch, 3, size, size).contiguous(memory_format=torch.channels_last)
        archs = {"largest": space.largest(), "random": space.sample(rng), "smallest": space.smallest()}
        for role, arch in archs.items():
            start = time.perf_counter()
            low, high = supernet(images, arch)
            (low.square().mean() + high.square().mean()).backward()
            if step >= NUM_WARM_UP_STEPS:
                milliseconds.setdefault(role, []).append(1e3 * (time.perf_counter() - start))
        supernet.zero_grad()
    return milliseconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=8, help="images per step")
    parser.add_argument("--steps", type=int, default=60, help="measured steps per process")
    parser.add_argument("--repeats", type=int, default=5, help="processes with and without tuning")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--in-process", choices=("plain", "tuned"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.in_process is not None:
        if options.in_process == "tuned":
            prefer_throughput()
        print(json.dumps(steps(options)))
        return

    medians: dict[str, list[dict[str, float]]] = {"plain": [], "tuned": []}
    for _ in range(options.repeats):
        for kind, runs in medians.items():
            command = [sys.executable, "-m", "scripts.benchmarks.cpu_tuning", *sys.argv[1:], "--in-process", kind]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            runs.append({role: statistics.median(times) for role, times in json.loads(done.stdout).items()})
    results = {}
    for role in medians["plain"][0]:
        plain, tuned = ([run[role] for run in medians[kind]] for kind in ("plain", "tuned"))
        ratio = statistics.median(plain) / statistics.median(tuned)
        results[role] = {"plain_ms": spread(plain), "tuned_ms": spread(tuned), "plain_over_tuned": round(ratio, 2)}
    workload = {name: value for name, value in vars(options).items() if name != "in_process"}
    print_report(workload, {"forward_and_backward": results})


if __name__ == "__main__":
    run_command(main, STDERR)
