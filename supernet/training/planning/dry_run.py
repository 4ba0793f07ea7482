"""What a training will take, printed before it starts (option ``dry_run``); nothing is written."""

import logging
from dataclasses import dataclass

import torch

from supernet.compute.device import device_memory
from supernet.compute.distributed import Processes
from supernet.errors import UserError
from supernet.training.planning.memory import gib, kinds, phase_bytes, too_large
from supernet.training.planning.time_budget import Speeds, loading_seconds, measure, report_seconds, with_steps
from supernet.training.setup import TrainingSetup

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PlannedPhase:
    """What the steps of a phase take.

    Attributes:
        name: Of the phase.
        steps: Their number.
        resolution: Largest side of the inputs, in pixels.
        memory: Bytes of all tensors in each process.
        step_seconds: Of a mean step, with the time to load its images; None if it was not measured.
    """

    name: str
    steps: int
    resolution: int
    memory: int
    step_seconds: float | None

    @property
    def seconds(self) -> float | None:
        """Of all steps."""
        return None if self.step_seconds is None else self.steps * self.step_seconds


def show_plan(setup: TrainingSetup, processes: Processes, started: float) -> None:
    """Print memory and time of every phase, from a step without data and a few measured ones.

    Args:
        setup: The training.
        processes: The processes that train together; the main one prints.
        started: ``time.perf_counter()`` when the run started.

    Raises:
        UserError: The training does not fit into the memory of the device, or not into ``minutes``.
    """
    sizes, memory = phase_bytes(setup, processes), device_memory(setup.device)
    largest = sizes.index(max(sizes))
    fits = memory is None or sizes[largest] <= memory.free
    speeds = measure(setup, processes) if fits else None
    if speeds is not None and setup.settings.minutes is not None:
        setup = with_steps(setup, processes, started, speeds)
    if processes.is_main:
        print("\n".join(plan_lines(setup, processes, planned(setup, sizes, speeds), speeds)), flush=True)
    if not fits:
        assert memory is not None
        name, kind = setup.scheduled[largest].phase.name, kinds(setup)[largest]
        raise UserError(too_large(setup, processes, name, kind, sizes[largest], memory.free))


def planned(setup: TrainingSetup, sizes: list[int], speeds: Speeds | None) -> list[PlannedPhase]:
    """Return what each phase takes.

    Args:
        setup: The training.
        sizes: Bytes of each phase.
        speeds: What was measured, if anything.
    """
    wait = 0.0 if speeds is None else loading_seconds(setup, speeds, setup.settings.steps) / setup.settings.steps
    return [
        PlannedPhase(
            scheduled.phase.name,
            scheduled.stop - scheduled.start,
            max(scheduled.resolutions),
            size,
            None if speeds is None else speeds.step_seconds[i] + wait,
        )
        for i, (scheduled, size) in enumerate(zip(setup.scheduled, sizes, strict=True))
    ]


def plan_lines(
    setup: TrainingSetup, processes: Processes, phases: list[PlannedPhase], speeds: Speeds | None
) -> list[str]:
    """Return the lines that are printed."""
    settings, memory = setup.settings, device_memory(setup.device)
    rows = [("phase", "steps", "at most", "memory", "a step", "time")]
    for phase in phases:
        step = "" if phase.step_seconds is None else f"{phase.step_seconds:.3g} s"
        took = "" if phase.seconds is None else duration(phase.seconds)
        rows.append((phase.name, f"{phase.steps:,}", f"{phase.resolution} px", gib(phase.memory), step, took))
    if speeds is not None:
        validation = settings.steps * speeds.validation_seconds
        report = report_seconds(setup, speeds) / processes.count
        total = validation + report + sum(phase.seconds or 0.0 for phase in phases)
        if setup.val_set is not None:
            rows.append(("validation", "", "", "", "", duration(validation)))
        rows.append(("report", "", "", "", "", duration(report)))
        rows.append(("all", f"{settings.steps:,}", "", gib(max(phase.memory for phase in phases)), "", duration(total)))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(text.rjust(width) for text, width in zip(row, widths, strict=True)) for row in rows]
    has = "" if memory is None else f", which has {gib(memory.free)} free of {gib(memory.total)}"
    shared = f" in each of {processes.count} processes" if processes.count > 1 else ""
    parts = f" in {settings.accumulate} parts" if settings.accumulate > 1 else ""
    own = settings.batch_size // processes.count
    threads = f", threads: {torch.get_num_threads()}" if setup.device.type == "cpu" else ""
    lines.append(f"steps of {own} images{parts}{shared} on {setup.device}{threads}{has}; nothing was written")
    return lines


def duration(seconds: float) -> str:
    """Return a time for people."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"
