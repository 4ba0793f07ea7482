"""What a search run reports: all scores, chosen subnet and random baseline as plain values, and a table (no torch)."""

import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rich.table import Table

from search.budget import readable
from search.candidate import Candidate, Score
from search.runs.final_check import FinalCheck
from search.runs.problem import Problem
from supernet.arch import Arch


def summary(conclusion: FinalCheck, problem: Problem, archive: Sequence[Candidate]) -> dict[str, Any]:
    """Return the figures of a search as plain values."""
    chosen = conclusion.chosen.row()
    return {
        "num_evaluations": sum(bool(one.scores) for one in archive),
        "num_scores": {"measured": problem.validation.num_measured, "reused": problem.validation.num_reused},
        "num_validation_images": len(problem.validation.images),
        "num_test_images": len(problem.test.images),
        "test_is_validation": problem.test_is_validation,
        "chosen": chosen | {"metrics": {"val": chosen["metrics"], "test": conclusion.test.metrics}},
        "finalists": [one.row() for one in conclusion.finalists],
        "baseline": baseline_figures(conclusion, problem),
    }


def baseline_figures(conclusion: FinalCheck, problem: Problem) -> dict[str, Any]:
    """Return the random subnets and the mean, standard deviation and best of their AP, None where there are too few."""
    aps = [score.ap for _, score in conclusion.baseline]
    return {
        "num": len(aps),
        "num_uniform": conclusion.num_uniform,
        "ap_mean": statistics.mean(aps) if aps else None,
        "ap_sd": statistics.stdev(aps) if len(aps) > 1 else None,
        "ap_best": max(aps, default=None),
        "subnets": [
            {"metrics": score.metrics, "costs": problem.model.of(arch), "arch": arch.to_dict()}
            for arch, score in conclusion.baseline
        ],
    }


def score_rows(archive: Sequence[Candidate]) -> list[dict[str, Any]]:
    """Return a row for each score of each candidate, as one may have been scored on several numbers of images."""
    return [replace(one, scores=(score,)).row() for one in archive for score in one.scores]


def table(conclusion: FinalCheck, problem: Problem) -> Table:
    """Return the final check for the console: the chosen subnet, the best of the random ones, and their mean."""
    title = f"final check on {len(problem.test.images)} test images"
    found = Table("subnet", "AP", "MACs", "parameters", "arch", title=title)

    def add(label: str, arch: Arch, score: Score) -> None:
        costs = problem.model.of(arch)
        found.add_row(label, f"{score.ap:.3f}", readable(costs["macs"]), readable(costs["params"]), arch.describe())

    add("chosen", conclusion.chosen.arch, conclusion.test)
    if conclusion.baseline:
        add("best random", *max(conclusion.baseline, key=lambda one: one[1].ap))
        figures = baseline_figures(conclusion, problem)
        spread = "" if figures["ap_sd"] is None else f" ± {figures['ap_sd']:.3f}"
        macs, params = (
            readable(round(statistics.mean(subnet["costs"][name] for subnet in figures["subnets"])))
            for name in ("macs", "params")
        )
        found.add_row("mean random", f"{figures['ap_mean']:.3f}{spread}", macs, params, f"{figures['num']} subnets")
    return found
