"""The end of a search: the finalists on all validation images, the chosen one and random ones on test images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from search.budget import LATENCY, Budget
from search.candidate import Candidate, Score
from search.evolution.offspring import draw_fitting
from search.pareto import AP, fronts
from search.runs.evaluator import Evaluator
from search.runs.problem import Problem
from supernet.arch import Arch
from supernet.io import files

ARCH_FILE = "arch.json"
FRONT_FILE = "front.json"
FRONT_FOLDER = "front"
MEASURED = "measured_latency_ms"
"""Among the costs of a finalist, where its latency was measured; ``latency_ms`` is what the table predicts."""
BASELINE_TRIES = 20_000

Progress = Callable[[str, int, int], None]
"""Called with what is done, how much of it is, and of how much."""


@dataclass(frozen=True)
class FinalCheck:
    """What a search came to.

    Attributes:
        chosen: The best finalist; its last score is that on all validation images.
        finalists: All of them, the best first; with several objectives the front of them alone.
        test: The chosen one's score on test images.
        baseline: Random archs within the budget with their scores on test images.
        num_uniform: How many of these, the first ones, are uniform draws.
    """

    chosen: Candidate
    finalists: tuple[Candidate, ...]
    test: Score
    baseline: tuple[tuple[Arch, Score], ...]
    num_uniform: int


def score_finalists(finalists: Sequence[Candidate], evaluator: Evaluator, progress: Progress) -> list[Candidate]:
    """Return the finalists with their scores on all validation images."""
    scores = _scored(evaluator, [one.arch for one in finalists], "best on all validation images", progress)
    return [
        one if one.scores[-1].num_images == score.num_images else one.scored(score)
        for one, score in zip(finalists, scores, strict=True)
    ]


def with_latencies(finalists: Sequence[Candidate], latencies_ms: Sequence[float]) -> list[Candidate]:
    """Return the finalists with their measured latencies among the costs, beside the predicted ones."""
    return [
        replace(one, costs={**one.costs, MEASURED: latency_ms})
        for one, latency_ms in zip(finalists, latencies_ms, strict=True)
    ]


def choose(finalists: Sequence[Candidate], objectives: Sequence[str], budget: Budget) -> list[Candidate]:
    """Return the finalists best first: those within the budget by falling AP, then those that miss it least.

    Costs are known exactly, except for latencies, which may miss the budget when they are measured. With several
    objectives, finalists that another one dominates are left out.

    Source: constrained domination of NSGA-II (Deb et al. 2002), section VI.
    """

    def cost(one: Candidate, name: str) -> float:
        return one.costs.get(MEASURED, one.costs[name]) if name == LATENCY else one.costs[name]

    costs = {name: np.array([cost(one, name) for one in finalists]) for name in finalists[0].costs if name != MEASURED}
    violation = budget.violation(costs)
    values = np.stack([np.array([-one.ap for one in finalists]) if n == AP else costs[n] for n in objectives], 1)
    kept = np.flatnonzero(fronts(values, violation) == 0) if len(objectives) > 1 else np.arange(len(finalists))
    order = sorted(kept.tolist(), key=lambda i: (violation[i], -finalists[i].ap, finalists[i].order))
    return [finalists[i] for i in order]


def run_final_check(
    problem: Problem, finalists: Sequence[Candidate], num_baseline: int, rng: np.random.Generator, progress: Progress
) -> FinalCheck:
    """Score the first of ``finalists`` and ``num_baseline`` random archs within the budget on test images."""
    drawn, num_uniform = draw_fitting(problem.space, problem.model, problem.budget, rng, num_baseline, BASELINE_TRIES)
    chosen = finalists[0]
    test, *scores = _scored(problem.test, [chosen.arch, *drawn], "final check on test images", progress)
    return FinalCheck(chosen, tuple(finalists), test, tuple(zip(drawn, scores, strict=True)), num_uniform)


def save_archs(folder: Path, finalists: Sequence[Candidate], origin: dict[str, Any], several: bool) -> None:
    """Write the chosen arch, and where there are ``several`` objectives every arch of the front beside it.

    The front is ``front.json``, a list of rows by rising cost, and ``front/<digest>.json``, each an arch file.
    """
    chosen = finalists[0]
    chosen.arch.save(folder / ARCH_FILE, origin | _figures(chosen))
    if several:
        for one in finalists:
            one.arch.save(folder / FRONT_FOLDER / f"{one.arch.digest()}.json", origin | _figures(one))
        by_cost = sorted(finalists, key=lambda one: one.costs["macs"])
        files.write_json(folder / FRONT_FILE, [one.row() for one in by_cost])


def save_tested(folder: Path, test: Score) -> None:
    """Add the AP on test images to the chosen arch's file."""
    value = files.read_json(folder / ARCH_FILE, "arch file")
    value["meta"]["ap"]["test"] = test.ap
    files.write_json(folder / ARCH_FILE, value)


def _figures(one: Candidate) -> dict[str, Any]:
    return {"digest": one.arch.digest(), "costs": one.costs, "ap": {"val": one.ap}}


def _scored(evaluator: Evaluator, archs: Sequence[Arch], what: str, progress: Progress) -> list[Score]:
    """Score archs on all images, as many at a time as there are processes."""
    found: list[Score] = []
    step = evaluator.num_processes
    for start in range(0, len(archs), step):
        progress(what, start, len(archs))
        found += evaluator(archs[start : start + step])
    progress(what, len(archs), len(archs))
    return found
