"""A search run: from a trained supernet to the best archs within a budget, in a run folder that can be resumed."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from search import report
from search.breeding import Breeder, BreedingSettings
from search.candidate import Candidate, Score
from search.evolution import Evolution, EvolutionSettings, Result, Task, evolve
from search.final_check import (
    ARCH_FILE,
    Progress,
    choose,
    conclude,
    save_archs,
    save_tested,
    score_finalists,
    with_latencies,
)
from search.measured_latency import measured_ms
from search.predicted import PredictedProposals, PredictionSettings
from search.predictor import LEAST_HELD_OUT, Predictor, held_out
from search.problem import Problem, ProblemSettings, prepare
from search.resuming import run_to_resume
from search.search_log import SearchLog, load_scored
from supernet import cli, files
from supernet.distributed import Ranks, launched
from supernet.errors import UserError
from supernet.settings import from_mapping

CANDIDATES_FILE = "candidates.json"
PICTURE_FILE = "pareto.png"
WAIT_SECONDS = 1800.0
"""How long a process waits for another that scores a subnet."""


@dataclass(frozen=True, kw_only=True)
class EvolveSettings(ProblemSettings):
    """The options of ``conf/evolve.yaml``, which documents them."""

    population: int
    generations: int
    parent_share: float
    mutation_share: float
    mutation_rate: float
    predictor: bool
    prediction: PredictionSettings = field(default_factory=PredictionSettings)

    def evolution(self, num_available: int) -> EvolutionSettings:
        """Return the part that concerns the evolution itself, for so many validation pictures."""
        if self.generations < 1:
            raise UserError(f"generations is {self.generations}; it must be at least 1")
        if self.predictor and self.prediction.first >= self.population * self.generations:
            raise UserError(
                f"prediction.first is {self.prediction.first} but {self.population * self.generations} subnets are "
                "scored in all; lower it, or score more"
            )
        return EvolutionSettings(
            self.population,
            self.population * self.generations,
            self.parent_share,
            BreedingSettings(self.mutation_share, self.mutation_rate),
            self.numbers_of_images(num_available),
            self.keep_share,
            self.objectives,
        )


def start_or_resume(config: Mapping[str, Any], overrides: Sequence[str] = ()) -> Path:
    """Search as configured, or continue the run that ``resume`` names, and return the run folder.

    Every candidate is scored, calibrated, on validation pictures; the best are scored again on all of them; the chosen
    one and random subnets within the same budget are then scored on test pictures, which took no part in the choice.

    Args:
        config: Plain configuration.
        overrides: What the command line changed, in Hydra's ``key=value`` form.

    Raises:
        UserError: A wrong option, no such supernet, a budget that no subnet fits, or a run that cannot be resumed; all
            before any evaluation. Also where the run is stopped by a signal.
    """
    with launched(WAIT_SECONDS) as ranks:
        start = time.perf_counter()
        settings, folder, kept = from_mapping(EvolveSettings, config, ""), None, None
        if settings.resume is not None:
            folder, kept, config = run_to_resume(config, overrides, "evolve")
            settings = from_mapping(EvolveSettings, config, "")
        settings.evolution(1)
        problem = prepare(settings, ranks)
        search_rng, baseline_rng = np.random.default_rng(settings.seed).spawn(2)
        search = _engine(problem, settings, search_rng)
        if folder is None:
            folder = Path(ranks.of_main(lambda: str(cli.create_run(settings.runs, "evolve", settings.name))))
        log = SearchLog(folder, {**config, "supernet": str(problem.trained.path.resolve())}, problem.identity)
        if kept is not None:
            log.check_identity(kept)
            search.restore(kept["search"], load_scored(folder))
        with cli.stop_request() as stop_requested:
            run = _Run(problem, settings, folder, log, ranks, lambda: ranks.any(stop_requested()))
            run.say(
                f"searching space [bold]{problem.space.name}[/] of {problem.trained.path}: "
                f"{problem.budget.describe()}; writing to {folder}"
            )
            result = run.search(search)
            run.finish(search, result, baseline_rng, start)
        if ranks.is_main and kept is not None:
            cli.point_latest(folder)
        return folder


def _engine(problem: Problem, settings: EvolveSettings, rng: np.random.Generator) -> Evolution:
    evolution = settings.evolution(len(problem.validation.pictures))
    surrogate = None
    if settings.predictor:
        breeder = Breeder(problem.space, problem.model, problem.budget, evolution.breeding)
        make = partial(Predictor, problem.space)
        surrogate = PredictedProposals(make, breeder, settings.prediction, evolution.objectives)
    return Evolution(problem.space, problem.model, problem.budget, evolution, rng, surrogate)


@dataclass(frozen=True)
class _Run:
    """One run: what it works on, where it writes, and how it stops."""

    problem: Problem
    settings: EvolveSettings
    folder: Path
    log: SearchLog
    ranks: Ranks
    stops: Callable[[], bool]

    @property
    def console(self) -> Console:
        """Where the user reads, from one of the processes only."""
        return cli.CONSOLE if self.ranks.is_main else Console(quiet=True)

    def say(self, what: str | Table) -> None:
        """Tell the user."""
        self.console.print(what, soft_wrap=isinstance(what, str))

    def search(self, search: Evolution) -> Result:
        """Evolve under a progress bar; all scores are kept as they come."""
        most = search.settings.num_images[-1]
        with cli.progress_bar(self.console) as progress:
            task = progress.add_task("searching", total=search.settings.num_evaluations, note="")

            def show() -> None:
                scored = [one for one in search.archive if one.scores]
                best = [one.ap for one in scored if one.scores[-1].num_images == most]
                note = f"generation {scored[-1].generation}" if scored else ""
                if best:
                    note += f": best AP {max(best):.3f} on {most} pictures"
                progress.update(task, completed=len(scored), note=note)

            def on_proposed() -> None:
                if self.ranks.is_main:
                    self.log.save_state(search.state())

            def on_scored(candidate: Candidate) -> None:
                if self.ranks.is_main:
                    self.log.add(candidate)
                show()

            def on_batch() -> None:
                if self.stops():
                    self._write_candidates(search)
                    num = sum(bool(one.scores) for one in search.archive)
                    raise UserError(f"stopped after {num} evaluations; continue with resume={self.folder}")

            show()
            # Several for each process at a time, as they take unequally long.
            batch_size = 1 if self.ranks.count == 1 else 4 * self.ranks.count
            result = evolve(search, self._score, batch_size, on_proposed, on_scored, on_batch)
            progress.update(task, total=len(result.archive))
        self._write_candidates(search)
        return result

    def _score(self, tasks: Sequence[Task]) -> list[Score]:
        return self.problem.validation([task.candidate.arch for task in tasks], tasks[0].num_images)

    def _write_candidates(self, search: Evolution) -> None:
        if self.ranks.is_main:
            files.write_json(self.folder / CANDIDATES_FILE, [one.row() for one in search.archive if one.scores])

    def _with_latencies(self, finalists: list[Candidate], progress: Progress) -> list[Candidate]:
        """Return the finalists with latencies measured on this device, where it is the table's."""
        table = self.problem.latency_table
        if table is None:
            return finalists
        archs = [one.arch for one in finalists]

        def measure() -> str:
            try:
                show = partial(progress, "latency of the best, rounds")
                return json.dumps(measured_ms(table, archs, show))
            except UserError as error:
                self.say(f"latencies are predicted and not measured: {error}")
                return json.dumps(None)

        found = json.loads(self.ranks.of_main(measure))
        return finalists if found is None else with_latencies(finalists, found)

    def _prediction_figures(self, search: Evolution) -> dict[str, Any]:
        """How well scores can be predicted from those of this search, on archs held out; None for too few."""
        if not self.settings.predictor:
            return {}
        scored = [one for one in search.archive if one.scores]
        genes = self.problem.space.encode([one.arch for one in scored])
        scores = np.array([one.scores[0].ap for one in scored])
        if len(scored) < LEAST_HELD_OUT:
            return {"prediction": None}
        quality = held_out(self.problem.space, genes, scores, np.random.default_rng(self.settings.seed))
        self.say(
            f"predictor, on {quality.num_held_out} subnets held out, {quality.num_train} known: Kendall tau "
            f"{quality.kendall_tau:.2f}, {quality.top_k_recall:.0%} of the best {quality.k} recalled"
        )
        return {"prediction": asdict(quality)}

    def finish(self, search: Evolution, result: Result, rng: np.random.Generator, start: float) -> None:
        """Measure the best again on all validation pictures, choose, check on test pictures, and report."""
        problem, settings = self.problem, self.settings
        several = len(settings.objectives) > 1
        best = result.front if several else search.ranked()[: settings.top_k]
        search_seconds = time.perf_counter() - start
        with cli.progress_bar(self.console) as progress:
            tasks: dict[str, Any] = {}

            def show(what: str, done: int, total: int) -> None:
                if what not in tasks:
                    tasks[what] = progress.add_task(what, total=total, note="")
                progress.update(tasks[what], completed=done)
                if self.stops():
                    raise UserError(f"stopped in the final check; continue with resume={self.folder}")

            finalists = score_finalists(best, problem.validation, show)
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
            if self.ranks.is_main:
                save_archs(self.folder, finalists, origin, several)  # at once: the final check may be interrupted
            conclusion = conclude(problem, finalists, settings.baseline, rng, show)
        if not self.ranks.is_main:
            return
        save_tested(self.folder, conclusion.test)
        figures = report.summary(conclusion, problem, search.archive) | self._prediction_figures(search)
        cli.write_summary(
            self.folder,
            origin
            | figures
            | {"search_seconds": round(search_seconds, 1), "seconds": round(time.perf_counter() - start, 1)},
        )
        report.draw(self.folder / PICTURE_FILE, problem, search.archive, conclusion)
        self.say(report.table(conclusion, problem))
        if problem.test_is_validation:
            self.say("this data set has the same pictures for val and test, so the chosen subnet is favoured")
        self.say(f"arch: {self.folder / ARCH_FILE}   all candidates: {self.folder / CANDIDATES_FILE}")
        self.say(f"picture: {self.folder / PICTURE_FILE}   report: {self.folder / 'summary.json'}")
