"""What keeping compiled kernels and freed memory saves in training on a CPU (``supernet.compute.cpu_tuning``).

Processes with and without these settings take turns; each trains the largest, a random and the smallest subnet of the
nano space on one batch after the other, forward and backward. Prints one JSON object; run as
``python -m scripts.benchmarks.cpu_tuning``.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time

import numpy as np
import torch

# decides how threads wait, as in training
from scripts.benchmarks.timing import spread
from supernet.compute.cpu_tuning import prefer_throughput
from supernet.compute.machine import machine, versions
from supernet.space import SearchSpace
from supernet.weight_sharing import SuperNet

WARM_UP = 10


def steps(options: argparse.Namespace) -> dict[str, list[float]]:
    """Milliseconds of forward and backward by role, one for each step after the first ones."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    space = SearchSpace.load("nano")
    supernet = SuperNet(space, 17).train()
    found: dict[str, list[float]] = {}
    for step in range(WARM_UP + options.steps):
        rng = np.random.default_rng(step)
        size = int(rng.choice(space.resolutions))
        images = torch.randn(options.batch, 3, size, size).contiguous(memory_format=torch.channels_last)
        archs = {"largest": space.largest(), "random": space.sample(rng), "smallest": space.smallest()}
        for role, arch in archs.items():
            start = time.perf_counter()
            low, high = supernet(images, arch)
            (low.square().mean() + high.square().mean()).backward()
            if step >= WARM_UP:
                found.setdefault(role, []).append(1e3 * (time.perf_counter() - start))
        supernet.zero_grad()
    return found


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=5, help="processes of each kind")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--one", choices=("plain", "kept"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one is not None:
        if options.one == "kept":
            prefer_throughput()
        print(json.dumps(steps(options)))
        return

    medians: dict[str, list[dict[str, float]]] = {"plain": [], "kept": []}
    for _ in range(options.repeats):
        for kind, runs in medians.items():
            command = [sys.executable, "-m", "scripts.benchmarks.cpu_tuning", *sys.argv[1:], "--one", kind]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            runs.append({role: statistics.median(times) for role, times in json.loads(done.stdout).items()})
    found = {}
    for role in medians["plain"][0]:
        plain, kept = ([run[role] for run in medians[kind]] for kind in ("plain", "kept"))
        ratio = statistics.median(plain) / statistics.median(kept)
        found[role] = {"plain_ms": spread(plain), "kept_ms": spread(kept), "plain_over_kept": round(ratio, 2)}
    workload = {name: value for name, value in vars(options).items() if name != "one"}
    report = {"machine": machine(), "versions": versions(), "workload": workload, "forward_and_backward": found}
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
