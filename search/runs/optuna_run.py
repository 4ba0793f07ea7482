"""A search run with Optuna: from a trained supernet to the best archs within a budget, by one worker of a study."""

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
from search.optuna_backend.storage import describe, open_storage, open_study
from search.runs.problem import Problem, ProblemSettings, prepare
from search.runs.search_run import SearchRun
from supernet.arch import Arch
from supernet.cli.console import progress_bar
from supernet.cli.runs import create_run, point_latest
from supernet.cli.signals import stop_request
from supernet.compute.distributed import process_group
from supernet.errors import UserError
from supernet.io.schema import from_mapping

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
        """Raise UserError for values that make no sense."""
        super().__post_init__()
        if isinstance(self.num_images, list | tuple):
            raise UserError(f"num_images is {list(self.num_images)}; give one number, or null for all images")
        if not 1 <= self.lost_after <= 1e6:
            raise UserError(f"lost_after is {self.lost_after}; give seconds from 1 to 1e6")
        if not self.study:
            raise UserError("study is empty; give the study a name")
        self.search()

    def search(self) -> OptunaSettings:
        """Return the part that concerns the search itself."""
        return OptunaSettings(self.evaluations, SamplerSettings(self.sampler, self.startup), self.objectives)


def run(config: Mapping[str, Any]) -> Path:
    """Work on a study as configured until all its evaluations are done, and return the run folder.

    What other workers of the study scored counts as this run's own: candidates, choice and report are the study's.

    Raises:
        UserError: A wrong option, no such supernet, a budget that no subnet fits, a storage that cannot be opened or a
            study of something else; all before any evaluation. Also where the run is stopped by a signal.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with process_group(WAIT_SECONDS) as ranks:
        if ranks.count > 1:
            raise UserError(
                "search.optuna_search works in one process; instead of torchrun start it several times with one storage"
            )
        start = time.perf_counter()
        settings = from_mapping(OptunaRunSettings, config, "")
        problem = prepare(settings, ranks)
        (num_images,) = settings.numbers_of_images(len(problem.validation.images))
        shared = None if settings.storage is None else _shared(settings.storage, settings, problem, num_images)
        folder = create_run(settings.runs, COMMAND, settings.name)
        place = settings.storage or str(folder / JOURNAL_FILE)
        shared = shared or _shared(place, settings, problem, num_images)
        point_latest(folder)
        search = OptunaSearch(problem.space, problem.model, problem.budget, settings.search(), settings.seed, shared)
        with stop_request() as stop_requested:
            run = SearchRun(problem, folder, ranks, stop_requested, _continued(settings, place), settings)
            run.say(
                f"searching space {problem.space.name} of {problem.trained.path}: "
                f"{problem.budget.describe()}; study {settings.study} in {describe(place)}, writing to {folder}"
            )
            result = _search(run, search, num_images)
            best = sorted(result.archive, key=lambda one: (-one.ap, one.order))[: settings.top_k]
            if len(settings.objectives) > 1:
                best = list(result.front)
            origins = {"study": settings.study, "storage": describe(place), "sampler": settings.sampler}
            run.finish(best, result.archive, np.random.default_rng([settings.seed, 1]), start, lambda: origins)
        return folder


def _continued(settings: OptunaRunSettings, place: str) -> str:
    name = "" if settings.study == "search" else f" study={settings.study}"
    return f"storage={describe(place)}{name}"


def _shared(place: str, settings: OptunaRunSettings, problem: Problem, num_images: int) -> SharedStudy:
    storage = open_storage(place)
    identity = problem.identity | {"the number of images for a score": str(num_images)}
    study = open_study(storage, settings.study, settings.objectives, identity, describe(place))
    return SharedStudy(study, storage, settings.lost_after)


def _search(run: SearchRun, search: OptunaSearch, num_images: int) -> Result:
    """Search under a progress bar."""

    def score(arch: Arch) -> Score:
        (found,) = run.problem.validation([arch], num_images)
        return found

    with progress_bar(run.console) as progress:
        task = progress.add_task("searching", total=search.settings.num_evaluations, note="")

        def on_round() -> None:
            archive = search.candidates()
            best = f"best AP {max(one.ap for one in archive):.3f} on {num_images} images" if archive else ""
            progress.update(task, completed=len(archive), note=best)
            run.check_stop(archive)

        try:
            result = search.run(score, on_round)
        except StorageInternalError as error:
            reason = " ".join(str(error.__cause__ or error).split("\n(Background")[0].split())
            raise UserError(f"the study's storage failed ({reason}); continue with {run.continued_with}") from error
        progress.update(task, total=len(result.archive))
    run.write_candidates(result.archive)
    return result
