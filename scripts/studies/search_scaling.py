"""Study: how the time of a search falls with the number of processes, and what stops it from falling.

    python -m scripts.studies.search_scaling record --supernet runs/train/latest --count 24 --out times.json
    python -m scripts.studies.search_scaling simulate --times times.json --out scaling.json

``record`` scores random subnets one after the other, and times these, the proposals of ``search.evolve`` and of
``search.optuna_search``, and what a score takes to be saved. Times are processor time, which depends little on other
programs; saving waits for the disk and is elapsed time. ``simulate`` schedules searches of these times on 1 to 32
processes, as the two commands do, and prints where the time goes.
"""

import argparse
import heapq
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from search.runs.evolution_run import BATCHES_PER_PROCESS
from supernet.cli.arguments import CommandLine
from supernet.cli.console import STDERR, run_command
from supernet.compute.machine import machine
from supernet.io import files
from supernet.io.schema import from_mapping

WORKERS = (1, 2, 4, 8, 16, 32)
FINAL_SUBNETS = 11
"""Subnets of the final check: the chosen one and ten random ones."""
TOP_K = 3
"""Candidates that are scored again on all validation images."""
WORTHWHILE = 0.5
"""Least share of the processes' time that goes into scores for a search to count as scaling."""


@dataclass(frozen=True)
class Times:
    """What was recorded, in seconds.

    Attributes:
        scores: Of each candidate.
        start: To load supernet and images, in every process.
        propose: A generation of ``search.evolve``, per candidate; all processes do the same at the same time.
        save: A score, which the other processes wait for at their next exchange.
        optuna_propose, optuna_per_trial: A candidate of ``search.optuna_search``, and what each earlier trial adds.
        final_ratio: A score of the final check over that of a candidate, by their numbers of images.
        others: Where and how it was recorded.
    """

    scores: list[float]
    start: float
    propose: float
    save: float
    optuna_propose: float
    optuna_per_trial: float
    final_ratio: float
    others: dict[str, Any]


@dataclass(frozen=True)
class Simulated:
    """Where the time of a search goes, in seconds, as one of its processes sees it on average.

    Attributes:
        scores: It scores candidates.
        waits: It waits for others that score, in the search.
        proposals: Candidates are proposed and scores saved.
        final: It waits in the last scores, of which there are few.
        start: It loads what a search needs.
    """

    scores: float
    waits: float
    proposals: float
    final: float
    start: float

    @property
    def seconds(self) -> float:
        """The whole search."""
        return float(sum(vars(self).values()))

    def bottleneck(self) -> str:
        """Return what costs most, besides the scores."""
        return max(("waits", "proposals", "final", "start"), key=lambda name: float(getattr(self, name)))


def rounds(times: Sequence[float], workers: int) -> tuple[float, float]:
    """Return time and idle time of a process if process r of n scores r, r + n, ... and all wait for the last."""
    loads = [sum(times[worker::workers]) for worker in range(workers)]
    return max(loads), max(loads) - sum(loads) / workers


def evolve(times: Times, durations: Sequence[float], population: int, workers: int) -> Simulated:
    """Simulate ``search.evolve`` under ``torchrun``: generations in batches, after which all exchange their scores.

    Args:
        times: What was recorded.
        durations: Of the candidates, in order.
        population: Candidates of a generation.
        workers: Processes.
    """
    idle = 0.0
    batch_size = 1 if workers == 1 else BATCHES_PER_PROCESS * workers
    for start in range(0, len(durations), population):
        generation = durations[start : start + population]
        for first in range(0, len(generation), batch_size):
            idle += rounds(generation[first : first + batch_size], workers)[1]
    final, wait = _final(times, durations, workers)
    serial = len(durations) * (times.propose + times.save)
    return Simulated(sum(durations) / workers + final, idle, serial, wait, times.start)


def optuna(times: Times, durations: Sequence[float], workers: int) -> Simulated:
    """Simulate workers of ``search.optuna_search``: each takes the next candidate as soon as it is free.

    When nothing is left to claim, every worker does the whole final check, of which one would be enough.
    """
    free = [0.0] * workers
    heapq.heapify(free)
    proposals = 0.0
    for number, duration in enumerate(durations):
        overhead = times.optuna_propose + number * times.optuna_per_trial + times.save
        proposals += overhead
        heapq.heappush(free, heapq.heappop(free) + overhead + duration)
    end, busy = max(free), (sum(durations) + proposals) / workers
    last = (TOP_K + FINAL_SUBNETS) * times.final_ratio * statistics.mean(durations)
    scores = (sum(durations) + last) / workers
    return Simulated(scores, end - busy, proposals / workers, last - last / workers, times.start)


def _final(times: Times, durations: Sequence[float], workers: int) -> tuple[float, float]:
    """Return time and idle time of a process in the last scores, of mean candidates."""
    score = times.final_ratio * statistics.mean(durations)
    parts = [rounds([score] * count, workers) for count in (TOP_K, FINAL_SUBNETS)]
    total, idle = sum(part[0] for part in parts), sum(part[1] for part in parts)
    return total - idle, idle


def table(times: Times, population: int, generations: int, seed: int = 0) -> list[dict[str, Any]]:
    """Return a row for every engine and number of processes; candidates are drawn from those recorded."""
    rng = np.random.default_rng(seed)
    durations = [float(value) for value in rng.choice(times.scores, population * generations)]
    engines: dict[str, Callable[[int], Simulated]] = {
        "evolve": lambda workers: evolve(times, durations, population, workers),
        "optuna_search": lambda workers: optuna(times, durations, workers),
    }
    rows = []
    for name, simulate in engines.items():
        alone = simulate(1)
        for workers in WORKERS:
            found = simulate(workers)
            efficiency = found.scores / found.seconds
            rows.append(
                {
                    "engine": name,
                    "population": population,
                    "candidates": len(durations),
                    "workers": workers,
                    "seconds": round(found.seconds, 1),
                    "speedup": round(alone.seconds / found.seconds, 2),
                    "efficiency": round(efficiency, 3),
                    "scales": efficiency >= WORTHWHILE,
                    "bottleneck": found.bottleneck(),
                    **{part: round(value, 1) for part, value in asdict(found).items()},
                }
            )
    return rows


def record(options: argparse.Namespace) -> Times:
    """Score random subnets of a trained supernet, and time everything that a search does."""
    import torch

    from search.runs.evolution_run import EvolveSettings
    from search.runs.problem import prepare
    from search.runs.score_cache import ScoreCache
    from supernet.cli.hydra_app import compose_config
    from supernet.compute.distributed import SINGLE_PROCESS

    torch.set_num_threads(1)
    overrides = [f"supernet={options.supernet}", "cache=null", *options.override]
    settings = from_mapping(EvolveSettings, compose_config("evolve", overrides), "")
    began = time.process_time()
    problem = prepare(settings, SINGLE_PROCESS)
    start = time.process_time() - began
    rng = np.random.default_rng(0)
    archs = [problem.space.sample(rng) for _ in range(options.count + 1)]
    num_images = settings.numbers_of_images(len(problem.validation.images))[-1]
    scores: list[float] = []
    for arch in archs:  # the first one reads files and makes tables that the others find
        began = time.process_time()
        (score,) = problem.validation([arch], num_images)
        scores.append(time.process_time() - began)
    with tempfile.TemporaryDirectory() as folder:
        cache = ScoreCache(folder, "0" * 16, "0" * 16)
        began = time.perf_counter()
        for arch in archs:
            cache.put(arch, score.metrics)
        save = 2 * (time.perf_counter() - began) / len(archs)  # the score cache and the search's own log
    final_ratio = (len(problem.test.images) + settings.num_calibration_images) / (
        num_images + settings.num_calibration_images
    )
    propose = _evolve_proposals(problem, settings)
    optuna_propose, optuna_per_trial = _optuna_proposals(problem)
    others = {"supernet": str(options.supernet), "images": num_images, **machine()}
    return Times(scores[1:], start, propose, save, optuna_propose, optuna_per_trial, final_ratio, others)


def _evolve_proposals(problem: Any, settings: Any) -> float:
    """Return the processor time of ``search.evolve`` per candidate, without scores."""
    from search.candidate import Score
    from search.evolution.engine import Evolution

    evolution = settings.evolution(len(problem.validation.images))
    search = Evolution(problem.budget, evolution, np.random.default_rng(0))
    rng, began = np.random.default_rng(1), time.process_time()
    while tasks := search.ask():
        for task in tasks:
            search.tell(task.candidate.order, Score(task.num_images, {"AP": float(rng.random())}))
    return (time.process_time() - began) / len(search.archive)


def _optuna_proposals(problem: Any, num: int = 120) -> tuple[float, float]:
    """Return the processor time of a candidate of ``search.optuna_search`` in a new study, and what each trial adds."""
    from search.candidate import Score
    from search.optuna_backend.search import OptunaSearch, OptunaSettings
    from search.optuna_backend.shared_study import SharedStudy
    from search.optuna_backend.storage import open_storage, open_study

    with tempfile.TemporaryDirectory() as folder:
        storage = open_storage(str(Path(folder) / "study.jsonl"))
        study = open_study(storage, "search", ("ap",), {}, "here")
        search = OptunaSearch(problem.budget, OptunaSettings(num), 0, SharedStudy(study, storage, 60.0))
        rng, seconds = np.random.default_rng(1), list[float]()
        is_over = False
        while not is_over:
            began = time.process_time()
            is_over = not search.step(lambda _: Score(1, {"AP": float(rng.random())}))
            seconds.append(time.process_time() - began)
    slope, first = np.polyfit(np.arange(len(seconds)), seconds, 1)
    return max(0.0, float(first)), max(0.0, float(slope))


def main(arguments: list[str] | None = None) -> None:
    """Record times, or simulate searches of recorded ones."""
    parser = CommandLine("python -m scripts.studies.search_scaling", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=("record", "simulate"), help="record times, or simulate searches of them")
    parser.add_argument("--supernet", default="runs/train/latest", help="a trained supernet (default: %(default)s)")
    parser.add_argument("--count", type=int, default=24, help="subnets to score (default: %(default)d)")
    parser.add_argument("--times", type=Path, help="what `record` wrote")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("override", nargs="*", help="options of search.evolve, such as num_images=40")
    options = parser.parse_args(arguments)
    if options.what == "record":
        recorded = record(options)
        files.write_json(options.out, asdict(recorded))
        print(json.dumps({"scores": len(recorded.scores), "mean_seconds": statistics.mean(recorded.scores)}))
        return
    if options.times is None:
        parser.error("simulate needs --times, the file that record wrote")
    times = from_mapping(Times, files.read_json(options.times, "recorded times"), str(options.times))
    rows = [row for sizes in ((12, 5), (100, 10)) for row in table(times, *sizes)]
    files.write_json(options.out, {"times": asdict(times), "rows": rows})
    for row in rows:
        print(json.dumps(row))


if __name__ == "__main__":
    run_command(main, STDERR)
