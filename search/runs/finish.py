"""The end of a search run: scores the finalists, chooses, checks the choice on test images, and writes the results."""

import json
import logging
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.progress import Progress
from rich.table import Table

from search.budget import LATENCY, Budget
from search.candidate import Candidate, Score
from search.evolution.offspring import draw_fitting
from search.quantities import readable
from search.report import image_results, page
from search.runs.final_check import MEASURED, FinalCheck, choose, is_within, with_latencies, with_scores
from search.runs.measured_latency import measured_ms
from search.runs.problem import Problem
from search.runs.results import (
    ARCH_FILE,
    FRONT_FILE,
    FRONT_FOLDER,
    baseline_figures,
    image_matches,
    save_archs,
    save_test_score,
    score_rows,
    summary,
)
from search.runs.search_run import CANDIDATES_FILE, SearchRun
from supernet.arch import Arch
from supernet.cli.console import progress_bar
from supernet.cli.runs import write_summary
from supernet.errors import UserError
from supernet.evaluation.subnet_report import LEAST_AP

BASELINE_TRIES = 20_000
"""Uniform draws to find random archs within the budget."""

logger = logging.getLogger(__name__)


def finish(
    run: SearchRun,
    best: Sequence[Candidate],
    archive: Sequence[Candidate],
    rng: np.random.Generator,
    figures: Mapping[str, Any],
) -> None:
    """Choose among the best candidates, check the choice on test images, write the results and print them.

    Args:
        run: The run.
        best: Candidates to choose from; they are scored on all validation images first.
        archive: All candidates.
        rng: Draws the random archs to compare the choice with.
        figures: Figures of the engine for the summary.

    Raises:
        UserError: The run was asked to stop.
    """
    problem, settings = run.problem, run.settings
    has_front = len(settings.objectives) > 1
    search_seconds = run.seconds
    with progress_bar(run.console) as progress:
        archs = [candidate.arch for candidate in best]
        scores = run.score_on_all_images(problem.validation, archs, progress, "best on all validation images")
        finalists = _with_measured_latencies(run, with_scores(best, scores), progress)
        finalists = choose(finalists, settings.objectives, problem.budget)
        if run.processes.is_main:  # before the final check, which may be interrupted
            if not is_within(finalists[0], problem.budget):
                logger.warning(
                    "none of the best subnets keeps to %s where it was measured, and the chosen one takes %.2f ms; "
                    "%s, or build the latency table again on a quiet machine",
                    *(problem.budget.describe(), finalists[0].costs[MEASURED], _remedy(finalists[0], problem.budget)),
                )
            save_archs(run.folder, finalists, _origin(run), has_front)
        check = _final_check(run, finalists, rng, progress)
    if not run.processes.is_main:
        return
    save_test_score(run.folder, check.test)
    value = _origin(run) | summary(check, problem, archive) | dict(figures)
    value |= {"search_seconds": search_seconds, "seconds": run.seconds}
    matches = image_matches(check, problem, archive)
    image_results.save(run.folder, matches)
    report = page.write(run.folder, value, score_rows(archive), problem.budget, matches)
    write_summary(run.folder, value)  # last, because it marks the run as finished
    if problem.test_is_validation:
        logger.warning("the data set has the same images for val and test, so AP of the chosen subnet is optimistic")
    lines = [f"arch: {run.folder / ARCH_FILE}   all candidates: {run.folder / CANDIDATES_FILE}"]
    if has_front:
        num_archs = f"{len(finalists)} arch{'s' * (len(finalists) != 1)}"
        lines.insert(0, f"front: {run.folder / FRONT_FILE}   its {num_archs}: {run.folder / FRONT_FOLDER}")
    lines.append(f"report: {report}   figures: {run.folder / 'summary.json'}")
    run.console.print(_table(check, problem))
    if all(0 <= ap < LEAST_AP for ap in (check.test.ap, *(candidate.ap for candidate in archive))):
        logger.warning("AP is about 0, so the choice means nothing: train the supernet longer")
    run.console.print("\n".join(lines), soft_wrap=True)


def _remedy(chosen: Candidate, budget: Budget) -> str:
    """Return how to change the budget so that a subnet like the chosen one keeps to it where it is measured."""
    least = [bound.value for bound in budget.bounds if bound.cost == LATENCY and bound.is_least]
    return "raise constraint.min_latency" if least and chosen.costs[MEASURED] < least[0] else "lower constraint.latency"


def _origin(run: SearchRun) -> dict[str, Any]:
    """Return what the run searched, for arch files and the summary."""
    problem, settings = run.problem, run.settings
    return {
        "supernet": str(problem.trained.path.resolve()),
        "space": problem.space.name,
        "space_digest": problem.space.digest(),
        "keypoints": problem.trained.keypoints.name,
        "dataset_kind": problem.dataset_kind,
        "constraint": problem.budget.to_dict(),
        "objectives": list(settings.objectives),
        "seed": settings.seed,
    }


def _with_measured_latencies(run: SearchRun, finalists: list[Candidate], progress: Progress) -> list[Candidate]:
    """Return the finalists with latencies measured on this device, unchanged if it is not the device of the table."""
    table = run.problem.latency_table
    if table is None:
        return finalists
    task = progress.add_task("latency of the best, rounds", total=None, note="")

    def measure() -> str:
        try:
            archs = [finalist.arch for finalist in finalists]
            return json.dumps(
                measured_ms(table, archs, lambda done, total: progress.update(task, completed=done, total=total))
            )
        except UserError as error:
            progress.remove_task(task)
            logger.warning("latencies are predicted, not measured: %s", error)
            return json.dumps(None)

    latencies_ms = json.loads(run.processes.on_main(measure))
    return finalists if latencies_ms is None else with_latencies(finalists, latencies_ms)


def _final_check(
    run: SearchRun, finalists: Sequence[Candidate], rng: np.random.Generator, progress: Progress
) -> FinalCheck:
    """Score the chosen arch and random archs within the budget on test images, which had no part in the choice."""
    problem = run.problem
    archs, num_uniform = draw_fitting(problem.budget, rng, run.settings.baseline, BASELINE_TRIES)
    test, *scores = run.score_on_all_images(
        problem.test, [finalists[0].arch, *archs], progress, "final check on test images"
    )
    return FinalCheck(tuple(finalists), test, tuple(zip(archs, scores, strict=True)), num_uniform)


def _table(check: FinalCheck, problem: Problem) -> Table:
    """Return the final check for the terminal: the chosen subnet, the best random one, and the mean of these."""
    title = f"final check on {len(problem.test.images)} test images"
    shown = {"macs": ("MACs", readable), "params": ("parameters", readable)}
    if LATENCY in problem.model.names:
        shown[LATENCY] = ("predicted ms", "{:.2f}".format)
    table = Table("subnet", "AP", *(label for label, _ in shown.values()), "arch", title=title)

    def add(label: str, arch: Arch, score: Score) -> None:
        costs = problem.model.of(arch)
        cells = [write(costs[name]) for name, (_, write) in shown.items()]
        table.add_row(label, f"{score.ap:.3f}", *cells, arch.describe())

    add("chosen", check.chosen.arch, check.test)
    if check.baseline:
        add("best random", *max(check.baseline, key=lambda arch_and_score: arch_and_score[1].ap))
        figures = baseline_figures(check, problem)
        spread = "" if figures["ap_sd"] is None else f" ± {figures['ap_sd']:.3f}"
        means = {name: statistics.mean(subnet["costs"][name] for subnet in figures["subnets"]) for name in shown}
        cells = [write(means[name]) for name, (_, write) in shown.items()]
        num = f"{figures['num']} subnet{'s' * (figures['num'] != 1)}"
        table.add_row("mean random", f"{figures['ap_mean']:.3f}{spread}", *cells, num)
    return table
