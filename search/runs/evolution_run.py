"""A search run: from a trained supernet to the best archs within a budget, in a run folder that can be resumed."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from search.candidate import Candidate, Result, Score
from search.evolution.engine import Evolution, Task, evolve
from search.evolution.offspring import OffspringGenerator
from search.evolution.settings import BreedingSettings, EvolutionSettings
from search.evolution.surrogate import PredictedProposals, PredictionSettings
from search.predictor import LEAST_HELD_OUT, ApPredictor, held_out
from search.runs.final_check import FRONT_FOLDER
from search.runs.problem import Problem, ProblemSettings, prepare
from search.runs.resume import SCORES_FILE, STATE_FILE, SearchLog, load_scored, run_to_resume
from search.runs.search_run import SearchRun
from supernet.cli.console import progress_bar
from supernet.cli.runs import create_run, point_latest
from supernet.cli.signals import stop_request
from supernet.compute.distributed import process_group
from supernet.errors import UserError
from supernet.io import files
from supernet.io.schema import check_least, from_mapping

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
    keep_share: float
    resume: str | None
    predictor: bool
    prediction: PredictionSettings = field(default_factory=PredictionSettings)

    def evolution(self, num_available: int) -> EvolutionSettings:
        """Return the part that concerns the evolution itself, for so many validation images."""
        check_least(self, {"generations": 1})
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

    Every candidate is scored, calibrated, on validation images; the best are scored again on all of them; the chosen
    one and random subnets within the same budget are then scored on test images, which took no part in the choice.

    Args:
        config: Plain configuration.
        overrides: What the command line changed, in Hydra's ``key=value`` form.

    Raises:
        UserError: A wrong option, no such supernet, a budget that no subnet fits, or a run that cannot be resumed; all
            before any evaluation. Also where the run is stopped by a signal.
    """
    with process_group(WAIT_SECONDS) as ranks:
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
            folder = Path(ranks.of_main(lambda: str(create_run(settings.runs, "evolve", settings.name))))
        log = SearchLog(folder, {**config, "supernet": str(problem.trained.path.resolve())}, problem.identity)
        if kept is not None:
            log.check_identity(kept)
            if ranks.is_main:
                for place in (folder, folder / FRONT_FOLDER):
                    files.sweep(place)
            scored = load_scored(folder)
            try:
                search.restore(kept["search"], scored)
            except ValueError as error:
                raise UserError(
                    f"{folder / SCORES_FILE} and {STATE_FILE} beside it do not belong together: {error}; "
                    "restore them or start a new search"
                ) from error
        if ranks.is_main:
            log.save_state(search.state())
            point_latest(folder)  # it can be resumed from here on
        with stop_request() as stop_requested:
            run = _Run(problem, folder, ranks, lambda: ranks.any(stop_requested()), f"resume={folder}", settings, log)
            run.say(
                f"searching space {problem.space.name} of {problem.trained.path}: "
                f"{problem.budget.describe()}; writing to {folder}"
            )
            result = run.search(search)
            best = result.front if len(settings.objectives) > 1 else search.ranked()[: settings.top_k]
            run.finish(best, search.archive, baseline_rng, start, lambda: run.prediction_figures(search))
        return folder


def _engine(problem: Problem, settings: EvolveSettings, rng: np.random.Generator) -> Evolution:
    evolution = settings.evolution(len(problem.validation.images))
    surrogate = None
    if settings.predictor:
        breeder = OffspringGenerator(problem.space, problem.model, problem.budget, evolution.breeding)
        make = partial(ApPredictor, problem.space)
        surrogate = PredictedProposals(make, breeder, settings.prediction, evolution.objectives)
    return Evolution(problem.space, problem.model, problem.budget, evolution, rng, surrogate)


@dataclass(frozen=True)
class _Run(SearchRun):
    """One run of the evolution, with all that it needs to go on later."""

    settings: EvolveSettings
    log: SearchLog

    def search(self, search: Evolution) -> Result:
        """Evolve under a progress bar; all scores are kept as they come."""
        most = search.settings.num_images[-1]
        with progress_bar(self.console) as progress:
            task = progress.add_task("searching", total=search.settings.num_evaluations, note="")

            def show() -> None:
                scored = [one for one in search.archive if one.scores]
                best = [one.ap for one in scored if one.scores[-1].num_images == most]
                note = f"generation {scored[-1].generation}" if scored else ""
                if best:
                    note += f": best AP {max(best):.3f} on {most} images"
                progress.update(task, completed=len(scored), note=note)

            def on_proposed() -> None:
                if self.ranks.is_main:
                    self.log.save_state(search.state())

            def on_scored(candidate: Candidate) -> None:
                if self.ranks.is_main:
                    self.log.add(candidate)
                show()

            def on_batch() -> None:
                self.check_stop(search.archive)

            show()
            # Several for each process at a time, as they take unequally long.
            batch_size = 1 if self.ranks.count == 1 else 4 * self.ranks.count
            result = evolve(search, self._score, batch_size, on_proposed, on_scored, on_batch)
            progress.update(task, total=len(result.archive))
        self.write_candidates(search.archive)
        return result

    def _score(self, tasks: Sequence[Task]) -> list[Score]:
        return self.problem.validation([task.candidate.arch for task in tasks], tasks[0].num_images)

    def prediction_figures(self, search: Evolution) -> dict[str, Any]:
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
