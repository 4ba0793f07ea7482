"""What the runs of all engines share: what they work on, how they stop, and how they end."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from search.candidate import Candidate
from search.report import page as report_page
from search.runs import summary as runs_summary
from search.runs.final_check import (
    ARCH_FILE,
    FRONT_FILE,
    FRONT_FOLDER,
    Progress,
    choose,
    run_final_check,
    save_archs,
    save_tested,
    score_finalists,
    with_latencies,
)
from search.runs.measured_latency import measured_ms
from search.runs.problem import Problem, ProblemSettings
from supernet.cli.console import CONSOLE, progress_bar
from supernet.cli.runs import write_summary
from supernet.compute.distributed import Processes
from supernet.errors import UserError
from supernet.io import files

CANDIDATES_FILE = "candidates.json"


@dataclass(frozen=True)
class SearchRun:
    """One run of a search.

    Attributes:
        problem: What it works on.
        folder: Where it writes.
        ranks: Processes that score together.
        stops: Whether the run is to stop; all processes are told the same.
        continued_with: The option with which a stopped run goes on.
        settings: The run's options.
    """

    problem: Problem
    folder: Path
    ranks: Processes
    stops: Callable[[], bool]
    continued_with: str
    settings: ProblemSettings

    @property
    def console(self) -> Console:
        """Where the user reads, from one of the processes only."""
        return CONSOLE if self.ranks.is_main else Console(quiet=True)

    def say(self, what: str | Table) -> None:
        """Tell the user."""
        self.console.print(what, soft_wrap=isinstance(what, str))

    def check_stop(self, archive: Sequence[Candidate]) -> None:
        """Raise UserError if the run is to stop; what was scored so far is written."""
        if self.stops():
            self.write_candidates(archive)
            num = sum(bool(one.scores) for one in archive)
            raise UserError(f"stopped after {num} evaluations; continue with {self.continued_with}")

    def write_candidates(self, archive: Sequence[Candidate]) -> None:
        """Write the rows of all scored candidates."""
        if self.ranks.is_main:
            files.write_json(self.folder / CANDIDATES_FILE, [one.row() for one in archive if one.scores])

    def finish(
        self,
        best: Sequence[Candidate],
        archive: Sequence[Candidate],
        rng: np.random.Generator,
        start: float,
        more_figures: Callable[[], dict[str, Any]] = dict,
    ) -> None:
        """Measure the best again on all validation images, choose, check on test images, and report.

        Args:
            best: Candidates of which one is chosen.
            archive: All candidates.
            rng: Draws the random archs beside it.
            start: When the run began, by ``time.perf_counter``.
            more_figures: Of the engine, for the summary.
        """
        problem, settings = self.problem, self.settings
        search_seconds = time.perf_counter() - start
        with progress_bar(self.console) as progress:
            tasks: dict[str, Any] = {}

            def show(what: str, done: int, total: int) -> None:
                if what not in tasks:
                    tasks[what] = progress.add_task(what, total=total, note="")
                progress.update(tasks[what], completed=done)

            def show_or_stop(what: str, done: int, total: int) -> None:
                show(what, done, total)
                if self.stops():
                    raise UserError(f"stopped in the final check; continue with {self.continued_with}")

            finalists = score_finalists(best, problem.validation, show_or_stop)
            finalists = choose(self._with_latencies(finalists, show), settings.objectives, problem.budget)
            origin = {
                "supernet": str(problem.trained.path.resolve()),
                "space": problem.space.name,
                "space_digest": problem.space.digest(),
                "keypoints": problem.trained.keypoints.name,
                "constraint": problem.budget.to_dict(),
                "objectives": list(settings.objectives),
                "seed": settings.seed,
            }
            if self.ranks.is_main:  # at once: the final check may be interrupted
                save_archs(self.folder, finalists, origin, len(settings.objectives) > 1)
            conclusion = run_final_check(problem, finalists, settings.baseline, rng, show_or_stop)
        if not self.ranks.is_main:
            return
        save_tested(self.folder, conclusion.test)
        figures = runs_summary.summary(conclusion, problem, archive) | more_figures()
        seconds = {"search_seconds": round(search_seconds, 1), "seconds": round(time.perf_counter() - start, 1)}
        summary = origin | figures | seconds
        rows = runs_summary.score_rows(archive)
        page = report_page.write(self.folder, summary, rows, problem.budget, problem.dataset_kind)
        write_summary(self.folder, summary)  # last: it marks a finished run
        self.say(runs_summary.table(conclusion, problem))
        if problem.test_is_validation:
            self.say("this data set has the same images for val and test, so the chosen subnet is favoured")
        if len(settings.objectives) > 1:
            self.say(f"front: {self.folder / FRONT_FILE}   its {len(finalists)} archs: {self.folder / FRONT_FOLDER}")
        self.say(f"arch: {self.folder / ARCH_FILE}   all candidates: {self.folder / CANDIDATES_FILE}")
        self.say(f"report: {page}   figures: {self.folder / 'summary.json'}")

    def _with_latencies(self, finalists: list[Candidate], progress: Progress) -> list[Candidate]:
        """Return the finalists with latencies measured on this device, where it is the table's."""
        table = self.problem.latency_table
        if table is None:
            return finalists
        archs = [one.arch for one in finalists]

        def measure() -> str:
            try:
                return json.dumps(measured_ms(table, archs, partial(progress, "latency of the best, rounds")))
            except UserError as error:
                self.say(f"latencies are predicted and not measured: {error}")
                return json.dumps(None)

        found = json.loads(self.ranks.of_main(measure))
        return finalists if found is None else with_latencies(finalists, found)
