"""A run of ``search.evolve``: from a trained supernet to the best archs within a budget, resumable at any time."""

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from search.candidate import Candidate
from search.evolution.engine import Evolution
from search.evolution.offspring import OffspringGenerator
from search.evolution.settings import EvolutionSettings, OffspringSettings
from search.evolution.surrogate import PredictedProposals, PredictionSettings
from search.predictor import LEAST_HELD_OUT, ApPredictor, held_out
from search.runs.finish import finish
from search.runs.problem import Problem, ProblemSettings, prepare
from search.runs.results import FRONT_FOLDER
from search.runs.resume import (
    SCORES_FILE,
    STATE_FILE,
    SavedSearch,
    SearchLog,
    load_matches,
    load_scored,
    run_to_resume,
    seconds_before,
)
from search.runs.search_run import SearchRun
from supernet.cli.console import progress_bar
from supernet.cli.runs import create_run, planned_run, point_latest
from supernet.cli.signals import stop_request
from supernet.compute.distributed import process_group
from supernet.errors import UserError
from supernet.io import files
from supernet.io.schema import check_numbers, from_mapping
from supernet.training.run_folder import locked_for, resume_option

COMMAND = "evolve"
WAIT_SECONDS = 1800.0
"""How long a process waits for another one that scores a subnet."""
BATCHES_PER_PROCESS = 4
"""Subnets that each of several processes scores between two exchanges, because they take unequally long."""


@dataclass(frozen=True, kw_only=True)
class EvolveSettings(ProblemSettings):
    """The options of ``conf/evolve.yaml``, which documents them."""

    population: int
    generations: int
    parent_share: float
    mutation_share: float
    mutation_rate: float
    keep_share: float
    resume: str | None
    predictor: bool
    prediction: PredictionSettings = field(default_factory=PredictionSettings)

    def evolution(self, num_available: int) -> EvolutionSettings:
        """Return the settings of the engine for so many validation images."""
        check_numbers(self, "generations", least=1)
        num_evaluations = self.population * self.generations
        if self.predictor and self.prediction.first >= num_evaluations:
            raise UserError(
                f"prediction.first must be below the {num_evaluations} subnets that are scored in all, "
                f"got {self.prediction.first}; lower it, or score more"
            )
        return EvolutionSettings(
            population=self.population,
            num_evaluations=num_evaluations,
            parent_share=self.parent_share,
            offspring=OffspringSettings(self.mutation_share, self.mutation_rate),
            num_images=self.numbers_of_images(num_available),
            keep_share=self.keep_share,
            objectives=self.objectives,
        )


def start_or_resume(config: Mapping[str, Any], overrides: Sequence[str] = ()) -> Path:
    """Search as configured, or continue the run that ``resume`` names; return the run folder.

    Every candidate is calibrated and scored on validation images; the best are scored again on all of them. The chosen
    subnet and random subnets within the budget are then scored on test images, which had no part in the choice.

    Args:
        config: Plain configuration.
        overrides: Options given on the command line, in the ``key=value`` form of Hydra.

    Raises:
        UserError: Before any evaluation: a wrong option, no such supernet, a budget that no subnet fits, or a run that
            cannot be resumed. Later: the run was stopped by a signal.
    """
    with process_group(WAIT_SECONDS) as processes, ExitStack() as exit_stack:
        started = time.perf_counter()
        settings, saved = from_mapping(EvolveSettings, config, ""), None
        if settings.resume is not None:
            saved = run_to_resume(config, overrides, COMMAND)
            config, settings = saved.config, from_mapping(EvolveSettings, saved.config, "")
        else:
            processes.on_main(lambda: str(planned_run(settings.runs, COMMAND, settings.name)))
        settings.evolution(1)  # checks the options before the supernet is loaded
        problem = prepare(settings, processes)
        search_rng, baseline_rng = np.random.default_rng(settings.seed).spawn(2)
        search = _evolution(problem, settings, search_rng)
        if saved is None:
            folder = Path(processes.on_main(lambda: str(create_run(settings.runs, COMMAND, settings.name))))
        else:
            folder = saved.folder
        exit_stack.enter_context(locked_for(processes, folder))
        log = SearchLog(folder, {**config, "supernet": str(problem.trained.path.resolve())}, problem.identity)
        if saved is not None:
            log.check_identity(saved)
            if processes.is_main:
                files.sweep(folder)
                files.sweep(folder / FRONT_FOLDER)
            _restore(search, saved)
            started -= seconds_before(folder)
            for candidate, matches in load_matches(folder):
                problem.validation.remember(candidate.arch, candidate.scores[-1], matches)
        if processes.is_main:
            log.save_state(search.state())
            point_latest(folder)  # from here on it can be resumed
        with stop_request() as stop_requested:
            run = SearchRun(
                problem=problem,
                settings=settings,
                folder=folder,
                processes=processes,
                stop_requested=stop_requested,
                continue_with=resume_option(folder),
                started=started,
            )
            run.console.print(
                f"searching space {problem.space.name} of {problem.trained.path}: "
                f"{problem.budget.describe()}; writing to {folder}",
                soft_wrap=True,
            )
            _search(run, search, log)
            result = search.result()
            best = result.front if len(settings.objectives) > 1 else search.ranked()[: settings.top_k]
            figures = _predictor_figures(run, search.archive) if settings.predictor else {}
            finish(run, best, search.archive, baseline_rng, figures)
        return folder


def _evolution(problem: Problem, settings: EvolveSettings, rng: np.random.Generator) -> Evolution:
    evolution = settings.evolution(len(problem.validation.images))
    surrogate = None
    if settings.predictor:
        generator = OffspringGenerator(problem.budget, evolution.offspring)
        make_predictor = partial(ApPredictor, problem.space)
        surrogate = PredictedProposals(make_predictor, generator, settings.prediction, evolution.objectives)
    return Evolution(problem.budget, evolution, rng, surrogate)


def _restore(search: Evolution, saved: SavedSearch) -> None:
    scored = load_scored(saved.folder)
    try:
        search.restore(saved.state, scored)
    except ValueError as error:
        raise UserError(
            f"{saved.folder / SCORES_FILE} and {STATE_FILE} beside it do not belong together: {error}; "
            "restore them or start a new search"
        ) from error


def _search(run: SearchRun, search: Evolution, log: SearchLog) -> None:
    """Search to the end with a progress bar, saving every score."""
    with progress_bar(run.console) as progress:
        task_id = progress.add_task("searching", total=search.settings.num_evaluations, note="")
        while tasks := search.ask():
            if run.processes.is_main:
                log.save_state(search.state())
            archs, num_images = [task.candidate.arch for task in tasks], tasks[0].num_images
            coming = run.scores_as_they_come(run.problem.validation, archs, num_images, BATCHES_PER_PROCESS)
            with closing(coming) as scores:
                progress.update(task_id, completed=_num_scored(search), note=_best_so_far(search))
                for number, score in scores:
                    candidate = search.tell(tasks[number].candidate.order, score)
                    if run.processes.is_main:
                        log.add(candidate, run.seconds, None if run.settings.cache else _matches(run, candidate))
                    progress.update(task_id, completed=_num_scored(search), note=_best_so_far(search))
                    run.stop_search_if_requested(search.archive)
        num_scored = _num_scored(search)
        progress.update(task_id, completed=num_scored, total=num_scored, note=_best_so_far(search))
    run.write_candidates(search.archive)


def _matches(run: SearchRun, candidate: Candidate) -> str | None:
    return run.problem.validation.matches(candidate.arch, candidate.scores[-1].num_images)


def _num_scored(search: Evolution) -> int:
    return sum(bool(candidate.scores) for candidate in search.archive)


def _best_so_far(search: Evolution) -> str:
    """Return the note of the progress bar: the generation, and the best AP on the most images."""
    scored = [candidate for candidate in search.archive if candidate.scores]
    most = search.settings.num_images[-1]
    aps = [candidate.ap for candidate in scored if candidate.scores[-1].num_images == most]
    note = f"generation {scored[-1].generation}" if scored else ""
    return f"{note}: best AP {max(aps):.3f} on {most} images" if aps else note


def _predictor_figures(run: SearchRun, archive: Sequence[Candidate]) -> dict[str, Any]:
    """Print and return how well a predictor orders held-out archs of this search; None if there are too few."""
    if len(archive) < LEAST_HELD_OUT:
        return {"prediction": None}
    space = run.problem.space
    genes = space.encode([candidate.arch for candidate in archive])
    scores = np.array([candidate.scores[0].ap for candidate in archive])
    quality = held_out(space, genes, scores, np.random.default_rng(run.settings.seed))
    run.console.print(
        f"predictor, trained on {quality.num_train} subnets and tested on {quality.num_held_out} held-out ones: "
        f"Kendall tau {quality.kendall_tau:.2f}, {quality.top_k_recall:.0%} of the best {quality.k} recalled",
        soft_wrap=True,
    )
    return {"prediction": asdict(quality)}
