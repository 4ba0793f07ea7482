"""Speed of cost computation on one core, archs per second.

Prints one JSON object; run as ``python -m scripts.benchmarks.costs``.
"""

import argparse
import json
import time
from typing import Any

import numpy as np

from scripts.benchmarks.timing import spread
from search.cost import arch_costs, costs
from supernet.cli.console import STDERR, run_command
from supernet.compute.machine import machine, versions
from supernet.costs.cost_tables import CostTables
from supernet.space import SearchSpace

NUM_KEYPOINTS = 17


def _measured(space: SearchSpace, num_archs: int, num_walked: int, repeats: int) -> dict[str, Any]:
    """Return archs per second from tables and from walking layers, by wall-clock and processor time."""
    genes = space.layout.sample(np.random.default_rng(0), num_archs)
    archs = space.decode(genes[:num_walked])
    start = time.process_time()
    CostTables(space, NUM_KEYPOINTS)
    build_seconds = time.process_time() - start
    costs(space, genes, NUM_KEYPOINTS)  # builds the cached tables
    samples: dict[str, list[float]] = {"tables_wall": [], "tables_cpu": [], "walk_cpu": []}
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        costs(space, genes, NUM_KEYPOINTS)
        samples["tables_wall"].append(num_archs / (time.perf_counter() - wall))
        samples["tables_cpu"].append(num_archs / (time.process_time() - cpu))
        cpu = time.process_time()
        for arch in archs:
            arch_costs(arch, NUM_KEYPOINTS)
        samples["walk_cpu"].append(len(archs) / (time.process_time() - cpu))
    rates = {f"{name}_archs_per_second": spread(values) for name, values in samples.items()}
    return {"build_seconds": round(build_seconds, 3)} | rates


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-archs", type=int, default=100_000, help="archs per repeat, from the tables")
    parser.add_argument("--num-walked", type=int, default=300, help="archs per repeat, by walking their layers")
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()

    names = ("litepose", "nano")
    report = {
        "machine": machine(),
        "versions": versions(),
        "workload": {**vars(options), "num_keypoints": NUM_KEYPOINTS, "threads": 1},
        "spaces": {
            name: _measured(SearchSpace.load(name), options.num_archs, options.num_walked, options.repeats)
            for name in names
        },
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    run_command(main, STDERR)
