"""A run of ``search.optuna_search``: one worker of a study, from a supernet to the best archs within a budget."""

import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.exceptions import StorageInternalError

from search.candidate import Result, Score
from search.optuna_backend.samplers import SamplerSettings
from search.optuna_backend.search import OptunaSearch, OptunaSettings
from search.optuna_backend.shared_study import SharedStudy
from search.optuna_backend.storage import describe, open_storage, open_study, reason_of
from search.runs.finish import finish
from search.runs.problem import Problem, ProblemSettings, prepare
from search.runs.search_run import SearchRun
from supernet.arch import Arch
from supernet.cli.console import progress_bar
from supernet.cli.runs import create_run, planned_run, point_latest
from supernet.cli.signals import stop_request
from supernet.compute.distributed import process_group
from supernet.errors import UserError
from supernet.io.schema import check_numbers, from_mapping

COMMAND = "optuna_search"
JOURNAL_FILE = "study.journal"
WAIT_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class OptunaRunSettings(ProblemSettings):
    """The options of ``conf/optuna_search.yaml``, which documents them."""

    sampler: str
    startup: int
    evaluations: int
    storage: str | None
    study: str
    lost_after: float

    def __post_init__(self) -> None:
        """Raise UserError for a value outside its range."""
        super().__post_init__()
        if isinstance(self.num_images, list | tuple):
            raise UserError(f"num_images must be one number, or null for all images, got {list(self.num_images)}")
        check_numbers(self, "lost_after", least=1, most=1_000_000)
        if not self.study:
            raise UserError("study is empty; give the study a name")
        self.search()

    def search(self) -> OptunaSettings:
        """Return the settings of the engine."""
        return OptunaSettings(self.evaluations, SamplerSettings(self.sampler, self.startup), self.objectives)


def run(config: Mapping[str, Any]) -> Path:
    """Work on a study as configured until all its evaluations are done; return the run folder.

    Candidates, choice and report cover the whole study, with the scores of other workers.

    Raises:
        UserError: Before any evaluation: a wrong option, no such supernet, a budget that no subnet fits, a storage that
            cannot be opened, or a study of something else. Later: the run was stopped by a signal.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with process_group(WAIT_SECONDS) as processes:
        if processes.count > 1:
            raise UserError(
                "python -m search.optuna_search runs in one process; instead of torchrun, start it several times with "
                "one storage"
            )
        started = time.perf_counter()
        settings = from_mapping(OptunaRunSettings, config, "")
        planned_run(settings.runs, COMMAND, settings.name)
        problem = prepare(settings, processes)
        shared = None if settings.storage is None else _shared_study(settings.storage, settings, problem)
        folder = create_run(settings.runs, COMMAND, settings.name)
        storage = settings.storage or str(folder / JOURNAL_FILE)
        shared = shared or _shared_study(storage, settings, problem)
        point_latest(folder)
        num_images = _num_images(settings, problem)

        def matches_of(arch: Arch) -> str | None:
            return problem.validation.matches(arch, num_images) if settings.cache is None else None

        search = OptunaSearch(problem.budget, settings.search(), settings.seed, shared, matches_of)
        chosen = [f"storage={describe(storage)}"] + [f"study={settings.study}"] * (settings.study != "search")
        with stop_request() as stop_requested:
            run = SearchRun(
                problem=problem,
                settings=settings,
                folder=folder,
                processes=processes,
                stop_requested=stop_requested,
                continue_with=shlex.join(chosen),
                started=started,
            )
            run.console.print(
                f"searching space {problem.space.name} of {problem.trained.path}: {problem.budget.describe()}; "
                f"study {settings.study} in {describe(storage)}, writing to {folder}",
                soft_wrap=True,
            )
            result = _search(run, search, num_images)
            by_ap = sorted(result.archive, key=lambda candidate: (-candidate.ap, candidate.order))
            best = result.front if len(settings.objectives) > 1 else by_ap[: settings.top_k]
            figures = {"study": settings.study, "storage": describe(storage), "sampler": settings.sampler}
            finish(run, best, result.archive, np.random.default_rng([settings.seed, 1]), figures)
        return folder


def _num_images(settings: OptunaRunSettings, problem: Problem) -> int:
    (num_images,) = settings.numbers_of_images(len(problem.validation.images))
    return num_images


def _shared_study(place: str, settings: OptunaRunSettings, problem: Problem) -> SharedStudy:
    storage = open_storage(place)
    identity = problem.identity | {"the number of images for a score": str(_num_images(settings, problem))}
    try:
        study = open_study(storage, settings.study, settings.objectives, identity, describe(place))
    except StorageInternalError as error:
        raise UserError(
            f"cannot open study {settings.study} in {describe(place)} ({reason_of(error)}); check that you may write "
            "there"
        ) from error
    return SharedStudy(study, storage, settings.lost_after)


def _search(run: SearchRun, search: OptunaSearch, num_images: int) -> Result:
    """Search to the end with a progress bar."""

    def score(arch: Arch) -> Score:
        (arch_score,) = run.problem.validation([arch], num_images)
        return arch_score

    with progress_bar(run.console) as progress:
        task_id = progress.add_task("searching", total=search.settings.num_evaluations, note="")
        try:
            is_over = False
            while not is_over:
                archive = search.candidates()
                best_ap = max((candidate.ap for candidate in archive), default=None)
                note = "" if best_ap is None else f"best AP {best_ap:.3f} on {num_images} images"
                progress.update(task_id, completed=len(archive), note=note)
                run.stop_search_if_requested(archive)
                is_over = not search.step(score)
            result = search.result()
            for candidate, matches in search.matches():
                run.problem.validation.remember(candidate.arch, candidate.scores[-1], matches)
        except StorageInternalError as error:
            raise UserError(
                f"the study's storage failed ({reason_of(error)}); continue with {run.continue_with}"
            ) from error
        progress.update(task_id, total=len(result.archive))
    run.write_candidates(result.archive)
    return result
