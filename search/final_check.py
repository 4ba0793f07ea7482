"""The end of a search: the finalists on all validation pictures, the chosen one and random ones on test pictures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from search.breeding import draw_fitting
from search.candidate import Candidate, Score
from search.domination import fronts
from search.evaluator import Evaluator
from search.problem import Problem
from supernet import files
from supernet.arch import Arch

ARCH_FILE = "arch.json"
FRONT_FILE = "front.json"
FRONT_FOLDER = "front"
BASELINE_TRIES = 20_000

Progress = Callable[[str, int, int], None]
"""Called with what is done, how much of it is, and of how much."""


@dataclass(frozen=True)
class Conclusion:
    """What a search came to.

    Attributes:
        chosen: The best finalist; its last score is that on all validation pictures.
        finalists: All of them, the best first; with several objectives the front of them alone.
        test: The chosen one's score on test pictures.
        baseline: Random archs within the budget with their scores on test pictures.
        num_uniform: How many of these, the first ones, are uniform draws.
    """

    chosen: Candidate
    finalists: tuple[Candidate, ...]
    test: Score
    baseline: tuple[tuple[Arch, Score], ...]
    num_uniform: int


def choose(
    finalists: Sequence[Candidate], objectives: Sequence[str], evaluator: Evaluator, progress: Progress
) -> list[Candidate]:
    """Score the finalists on all validation pictures and return them by falling AP, the first of equals first.

    With several objectives, those that another one dominates on these figures are left out.
    """
    scores = _scored(evaluator, [one.arch for one in finalists], "best on all validation pictures", progress)
    found = [
        one if one.scores[-1].num_images == score.num_images else one.scored(score)
        for one, score in zip(finalists, scores, strict=True)
    ]
    if len(objectives) > 1:
        values = np.array([[-one.ap if name == "ap" else one.costs[name] for name in objectives] for one in found])
        found = [one for one, front in zip(found, fronts(values, np.zeros(len(found))), strict=True) if front == 0]
    return sorted(found, key=lambda one: (-one.ap, one.order))


def conclude(
    problem: Problem, finalists: Sequence[Candidate], num_baseline: int, rng: np.random.Generator, progress: Progress
) -> Conclusion:
    """Score the first of ``finalists`` and ``num_baseline`` random archs within the budget on test pictures."""
    drawn, num_uniform = draw_fitting(problem.space, problem.model, problem.budget, rng, num_baseline, BASELINE_TRIES)
    chosen = finalists[0]
    test, *scores = _scored(problem.test, [chosen.arch, *drawn], "final check on test pictures", progress)
    return Conclusion(chosen, tuple(finalists), test, tuple(zip(drawn, scores, strict=True)), num_uniform)


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
    """Add the AP on test pictures to the chosen arch's file."""
    value = files.read_json(folder / ARCH_FILE, "arch file")
    value["meta"]["ap"]["test"] = test.ap
    files.write_json(folder / ARCH_FILE, value)


def _figures(one: Candidate) -> dict[str, Any]:
    return {"digest": one.arch.digest(), "costs": one.costs, "ap": {"val": one.ap}}


def _scored(evaluator: Evaluator, archs: Sequence[Arch], what: str, progress: Progress) -> list[Score]:
    """Score archs on all pictures, as many at a time as there are processes."""
    found: list[Score] = []
    step = evaluator.num_processes
    for start in range(0, len(archs), step):
        progress(what, start, len(archs))
        found += evaluator(archs[start : start + step])
    progress(what, len(archs), len(archs))
    return found
