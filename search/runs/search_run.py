"""One run of a search with any engine: what it searches, where it writes, and how it stops."""

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from search.candidate import Candidate, Score
from search.runs.evaluator import Evaluator
from search.runs.problem import Problem, ProblemSettings
from supernet.arch import Arch
from supernet.cli.console import CONSOLE
from supernet.compute.distributed import Processes
from supernet.errors import UserError
from supernet.io import files
from supernet.io.metric_values import with_null

CANDIDATES_FILE = "candidates.json"


@dataclass(frozen=True, kw_only=True)
class SearchRun:
    """One run of a search.

    Attributes:
        problem: Supernet, costs, budget and images.
        settings: Options of the run.
        folder: Run folder.
        processes: Processes that score together; all of them call the same methods in the same order.
        stop_requested: Whether the user asked this process to stop.
        continue_with: Option with which a stopped run is continued.
        started: ``time.perf_counter()`` when the run started; of a resumed one earlier, by what it had taken before.
    """

    problem: Problem
    settings: ProblemSettings
    folder: Path
    processes: Processes
    stop_requested: Callable[[], bool]
    continue_with: str
    started: float

    @property
    def console(self) -> Console:
        """The terminal in the main process, a silent console in the others."""
        return CONSOLE if self.processes.is_main else Console(quiet=True)

    @property
    def seconds(self) -> float:
        """Seconds since the run started, rounded to tenths."""
        return round(time.perf_counter() - self.started, 1)

    def write_candidates(self, archive: Sequence[Candidate]) -> None:
        """Write the rows of all scored candidates."""
        if self.processes.is_main:
            rows = [candidate.full_row() for candidate in archive if candidate.scores]
            files.write_json(self.folder / CANDIDATES_FILE, with_null(rows))

    def stop_search_if_requested(self, archive: Sequence[Candidate]) -> None:
        """Raise UserError if any process was asked to stop, after writing the candidates scored so far."""
        if self.processes.any(self.stop_requested()):
            self.write_candidates(archive)
            num = sum(bool(candidate.scores) for candidate in archive)
            raise UserError(f"stopped after {num} evaluations; continue with {self.continue_with}")

    def scores_as_they_come(
        self, evaluator: Evaluator, archs: Sequence[Arch], num_images: int | None, per_process: int
    ) -> Generator[tuple[int, Score], None, None]:
        """Yield the number and the score of each arch; several processes exchange them every ``per_process`` archs."""
        size = len(archs) if self.processes.count == 1 else per_process * self.processes.count
        for start in range(0, len(archs), size):
            with closing(evaluator.as_they_come(archs[start : start + size], num_images)) as scores:
                for number, score in scores:
                    yield start + number, score

    def score_on_all_images(
        self, evaluator: Evaluator, archs: Sequence[Arch], progress: Progress, description: str
    ) -> list[Score]:
        """Score the archs that a search has found on all images of ``evaluator``.

        Raises:
            UserError: Any process was asked to stop.
        """
        scores: dict[int, Score] = {}
        task = progress.add_task(description, total=len(archs), note=f"{len(evaluator.images):,} images each")
        with closing(self.scores_as_they_come(evaluator, archs, None, 1)) as coming:
            while True:
                progress.update(task, completed=len(scores))
                if self.processes.any(self.stop_requested()):
                    raise UserError(f"stopped in the final check; continue with {self.continue_with}")
                if len(scores) == len(archs):
                    return [scores[number] for number in range(len(archs))]
                number, score = next(coming)
                scores[number] = score
