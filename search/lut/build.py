"""Measures the workloads of a latency table on this machine and writes the table."""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from search.lut.libraries import LibraryError
from search.lut.measure import Journal, JournalError, measure
from search.lut.measurements import read_measurements, table_from
from search.lut.runtimes import Runtime
from search.lut.workloads import MeasurementPlan, Workload
from supernet.costs.latency_table import LatencyTable
from supernet.errors import UserError
from supernet.io.new_folder import check_new

Progress = Callable[[int, int, str], None]
"""Called with the number of visits so far, the total, and a note, before the first visit and after each."""


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Attributes:
        rounds: Visits of each workload.
        minutes: Time after which only the first round is completed.
        clock: Returns seconds.
    """

    rounds: int
    minutes: float = 60.0
    clock: Callable[[], float] = time.perf_counter


def build(runtime: Runtime, plan: MeasurementPlan, output: Path, effort: Effort, progress: Progress) -> LatencyTable:
    """Measure and write the table to ``output``.

    Every visit is saved at once in ``<output>.partial``, so an interrupted build continues when it is started again.

    Args:
        runtime: Runs the workloads.
        plan: What to measure.
        output: New file.
        effort: How long to measure.
        progress: Shows progress.

    Raises:
        UserError: ``output`` exists, its partial file belongs to another build or is in use, or the build was
            interrupted.
    """
    check_new(output)
    partial = output.with_name(f"{output.name}.partial")
    workloads = plan.workloads()
    with opened(partial, plan.header(asdict(runtime.settings))) as journal:
        try:
            run_rounds(runtime, workloads, journal, effort, progress)
        except KeyboardInterrupt:
            raise UserError(
                f"stopped after {len(journal.visits)} of {effort.rounds * len(workloads)} visits; the same command "
                f"continues from there ({partial})"
            ) from None
    table = table_from(*read_measurements(partial))
    table.save(output)
    partial.unlink()
    return table


@contextmanager
def opened(path: Path, header: dict[str, Any]) -> Iterator[Journal]:
    """Open a journal, continued if it exists, and close it in the end.

    Raises:
        UserError: The file belongs to other measurements, is in use, or cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(Journal(path, json.loads(json.dumps(header)))) as journal:
            yield journal
    except JournalError as error:
        raise UserError(str(error)) from error
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror}; free space or choose another place, and run the command again"
        ) from error


def run_rounds(
    runtime: Runtime, workloads: Mapping[str, Workload], journal: Journal, effort: Effort, progress: Progress
) -> None:
    """Visit the workloads in rounds and write every visit to a journal.

    Args:
        runtime: Runs the workloads.
        workloads: By name.
        journal: Its visits are not repeated.
        effort: How long to measure.
        progress: Shows progress.

    Raises:
        UserError: The library cannot run a workload.
    """
    total, num_visits = effort.rounds * len(workloads), len(journal.visits)
    visits = measure(
        journal,
        list(workloads),
        lambda name: runtime.open(workloads[name]),
        effort.rounds,
        effort.minutes,
        effort.clock,
    )
    progress(num_visits, total, f"{math.floor(num_visits / len(workloads))} rounds done before" * bool(num_visits))
    try:
        for number in visits:
            progress(len(journal.visits), total, f"round {number + 1} of {effort.rounds}")
    except LibraryError as error:
        raise UserError(str(error)) from error
