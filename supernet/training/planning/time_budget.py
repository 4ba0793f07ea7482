"""Chooses the number of steps with which a run ends in a given time (option ``minutes``), by a short measurement."""

import gc
import itertools
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import mean

import torch

from supernet.arch import Arch, layers
from supernet.cli.console import progress_bar
from supernet.compute.device import synchronise
from supernet.compute.distributed import Processes
from supernet.compute.precision import tf32
from supernet.costs.analytic import macs
from supernet.errors import UserError
from supernet.random_streams import Stream
from supernet.training.assembly import configure_process, new_supernet, new_trainer
from supernet.training.phases import ScheduledPhase, schedule
from supernet.training.planning.step_costs import macs_of_step, step_costs
from supernet.training.setup import TrainingSetup
from supernet.training.trainer import Trainer

_MEASURED_STEPS = 3
"""Steps of each phase that are measured, if it has as many that prepare nothing."""
_EVALUATED_IMAGES = 8
_GROUPING_SECONDS = 0.01
"""Time from the maps of an image to its people, on one core."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Speeds:
    """What a short measurement found.

    Attributes:
        step_seconds: Of a mean step of each phase, without the time to load images.
        image_seconds: To load an image in one process.
        wait_seconds: That a process waits for each of its images of a step, unless they are cached.
        seconds_per_mac: Of the evaluation of an image, per multiply-add of the network.
        step_images: Images of a step that each process loads, while the others load theirs.
        validation_seconds: Of the validations during training, divided among all steps.
    """

    step_seconds: tuple[float, ...]
    image_seconds: float
    wait_seconds: float
    seconds_per_mac: float
    step_images: int
    validation_seconds: float = 0.0


def with_steps_for_minutes(setup: TrainingSetup, processes: Processes, started: float) -> TrainingSetup:
    """Return ``setup`` with the number of steps with which the whole run takes ``minutes``.

    Args:
        setup: The setup, with any number of steps.
        processes: The processes that train together; all measure, and the main one decides.
        started: ``time.perf_counter()`` when the run started.

    Raises:
        UserError: The time is too short for a step of each phase and the report.
    """
    began = time.perf_counter()
    speeds = measure(setup, processes)
    setup = with_steps(setup, processes, started, speeds)
    if processes.is_main:
        shown = ", ".join(
            f"{scheduled.phase.name} {value:.2f} s"
            for scheduled, value in zip(setup.scheduled, speeds.step_seconds, strict=True)
        )
        logger.info(
            f"minutes={setup.settings.minutes:g}: {setup.settings.steps} steps; a step takes: {shown}; measured in "
            f"{time.perf_counter() - began:.0f} s, threads: {torch.get_num_threads()}"
        )
    return setup


def with_steps(setup: TrainingSetup, processes: Processes, started: float, speeds: Speeds) -> TrainingSetup:
    """Return ``setup`` with the number of steps with which the whole run takes ``minutes``, as measured.

    Raises:
        UserError: The time is too short for a step of each phase and the report.
    """
    settings = setup.settings
    assert settings.minutes is not None
    report = report_seconds(setup, speeds) / processes.count
    seconds = 60 * settings.minutes - (time.perf_counter() - started) - report
    steps = int(processes.on_main(lambda: str(steps_within(seconds, setup, speeds))))
    settings = replace(settings, steps=steps)
    scheduled = schedule(settings.phases, setup.space, steps)
    return replace(setup, settings=settings, scheduled=scheduled, step_seconds=speeds.step_seconds)


def measure(setup: TrainingSetup, processes: Processes) -> Speeds:
    """Take a few steps of each phase with weights that are thrown away, under a progress bar."""
    configure_process(setup)
    trainer = new_trainer(setup, new_supernet(setup, processes, is_resumed=True), processes)
    costs, step_seconds_per_mac, waits = step_costs(setup), list[float](), list[list[float]]()
    most = [_most_steps(setup, scheduled) for scheduled in setup.scheduled]
    with progress_bar(disable=not processes.is_main) as progress, tf32(allowed=True):
        task = progress.add_task("measuring steps", total=sum(most), note="")
        for i, scheduled in enumerate(setup.scheduled):
            progress.update(task, note=scheduled.phase.name)
            value, own_waits = _measured(setup, trainer, scheduled, lambda: progress.advance(task))
            step_seconds_per_mac.append(value)
            waits.append(own_waits)
            progress.update(task, completed=sum(most[: i + 1]))
    step_seconds = tuple(cost * value for cost, value in zip(costs, step_seconds_per_mac, strict=True))
    step_images, num_workers = setup.settings.batch_size // processes.count, setup.settings.num_workers
    if num_workers:
        # Every worker begins with a batch, so only the first wait of a phase shows how long one takes to load.
        batch_seconds = max(0.0, mean(first for first, *_ in waits))
        wait = max(0.0, batch_seconds / num_workers - mean(step_seconds))
    else:
        batch_seconds = wait = max(0.0, mean(itertools.chain(*waits)))
    with tf32(allowed=False):  # as an evaluation runs
        seconds_per_mac = _evaluation_seconds(setup, trainer)
    del trainer
    gc.collect()  # a trainer that records refers to itself, and its recordings keep memory of the device
    return Speeds(
        step_seconds,
        image_seconds=batch_seconds / step_images,
        wait_seconds=wait / step_images,
        seconds_per_mac=seconds_per_mac,
        step_images=step_images,
        validation_seconds=_validation_seconds(setup, seconds_per_mac) / processes.count,
    )


def _most_steps(setup: TrainingSetup, scheduled: ScheduledPhase) -> int:
    """Return how many steps of a phase are taken at most to measure some that prepare nothing."""
    num_first = len(scheduled.resolutions) if setup.settings.has_fixed_shapes(setup.device) else 1
    return min(num_first + _MEASURED_STEPS, scheduled.stop - scheduled.start)


def _measured(
    setup: TrainingSetup, trainer: Trainer, scheduled: ScheduledPhase, on_step: Callable[[], object]
) -> tuple[float, list[float]]:
    """Take steps of a phase; return their time per multiply-add of an image, and the waits for the images of each.

    The first step of a phase is not measured, because it compiles kernels. With fixed shapes, the shapes are new in the
    first step of every resolution, for which a GPU's library, or a recording, may take seconds; without, in every step.
    """
    largest, fixed_shapes = setup.space.largest(), setup.settings.has_fixed_shapes(setup.device)
    prepared: set[int] = set()
    steps: list[tuple[bool, float, int]] = []
    waits: list[float] = []
    trainer.step = scheduled.start
    trainer.start_phase(scheduled)
    before = _now(trainer)
    for batch, data_seconds in trainer.batches(scheduled):
        waits.append(data_seconds)
        before += data_seconds
        report = trainer.train_step(scheduled, batch, data_seconds)
        seconds = _now(trainer) - before
        archs = [largest] * len(report.archs) if fixed_shapes else report.archs
        work = macs_of_step(scheduled, report.resolution, archs, largest, setup.keypoints.num)
        shapes = report.resolution if fixed_shapes else 0
        steps.append((shapes in prepared, seconds, work))
        prepared.add(shapes)
        on_step()
        before = _now(trainer)
        if sum(is_prepared for is_prepared, _, _ in steps) == _MEASURED_STEPS:
            break
    measured = [step for step in steps if step[0]] or steps[-1:]
    return sum(seconds for _, seconds, _ in measured) / sum(work for _, _, work in measured), waits


@torch.no_grad()
def _evaluation_seconds(setup: TrainingSetup, trainer: Trainer) -> float:
    """Return the time of a forward pass of the largest subnet in evaluation, per image and multiply-add."""
    largest = setup.space.largest()
    network = trainer.supernet.extract(largest)
    images = torch.zeros(_EVALUATED_IMAGES, 3, largest.resolution, largest.resolution, device=trainer.device)
    network(images)
    before = _now(trainer)
    network(images)
    seconds = _now(trainer) - before
    return seconds / _EVALUATED_IMAGES / macs(layers(largest, setup.keypoints.num))


def steps_within(seconds: float, setup: TrainingSetup, speeds: Speeds) -> int:
    """Return the number of steps that fit into a time.

    Raises:
        UserError: A phase would get no step.
    """
    settings, total = setup.settings, sum(phase.share for phase in setup.settings.phases)
    compute = sum(
        phase.share / total * value for phase, value in zip(settings.phases, speeds.step_seconds, strict=True)
    )
    compute += speeds.validation_seconds
    loading = speeds.step_images * speeds.wait_seconds
    num_loaded = len(setup.train_set) if _is_cached(setup) else math.inf
    # A process loads each image once, and then finds it in its cache, if all fit.
    steps = seconds / (compute + loading)
    if steps * speeds.step_images > num_loaded:
        steps = max(0.0, seconds - num_loaded * speeds.wait_seconds) / compute
    least = math.ceil(max(total / phase.share for phase in settings.phases))
    if steps < least:
        missing = (least * (compute + loading) - seconds) / 60
        raise UserError(
            f"minutes must be long enough for a step of each phase and the report, got {settings.minutes}; "
            f"give at least {missing + (settings.minutes or 0):.2f}"
        )
    return int(steps)


def loading_seconds(setup: TrainingSetup, speeds: Speeds, num_steps: int) -> float:
    """Return the time that steps wait for images: for each image once, if all are then in the cache."""
    num_images = num_steps * speeds.step_images
    return speeds.wait_seconds * (min(num_images, len(setup.train_set)) if _is_cached(setup) else num_images)


def report_seconds(setup: TrainingSetup, speeds: Speeds) -> float:
    """Return the time of the report at the end: the calibration and evaluation of some subnets."""
    settings, rng = setup.settings, Stream.REPORT_ARCHS.generator(setup.settings.seed)
    archs = [setup.space.largest(), setup.space.smallest()]
    archs += [setup.space.sample(rng) for _ in range(settings.report_random)]
    loading = len(setup.test_set) * speeds.image_seconds
    scoring = _scoring_seconds(
        setup, archs, settings.num_calibration_images, len(setup.test_set), speeds.seconds_per_mac
    )
    return loading + scoring


def _validation_seconds(setup: TrainingSetup, seconds_per_mac: float) -> float:
    """Return the time of the validations (option ``evaluate_every``) per step; their images stay in memory."""
    if setup.val_set is None:
        return 0.0
    seconds, settings = 0.0, setup.settings
    for scheduled in setup.scheduled:
        archs = [setup.space.largest(), scheduled.space.smallest()]
        one = _scoring_seconds(setup, archs, settings.num_evaluate_images, len(setup.val_set), seconds_per_mac)
        seconds += scheduled.phase.share * one / settings.evaluate_every
    return seconds / sum(phase.share for phase in settings.phases)


def _scoring_seconds(
    setup: TrainingSetup, archs: Sequence[Arch], num_calibration: int, num_images: int, seconds_per_mac: float
) -> float:
    """Return the time in which ``archs`` are calibrated and evaluated, without the time to load images."""
    num_passes = num_calibration + num_images * (1 + setup.settings.evaluation.flip_test)
    num_macs = num_passes * sum(macs(layers(arch, setup.keypoints.num)) for arch in archs)
    return num_macs * seconds_per_mac + num_images * len(archs) * _GROUPING_SECONDS


def _is_cached(setup: TrainingSetup) -> bool:
    """Whether all training images fit into the cache of the process that trains."""
    sample = setup.train_set[0]
    size = (sample.image.nbytes + sample.mask.nbytes) * len(setup.train_set)
    return setup.settings.num_workers == 0 and size <= setup.settings.image_memory_mib * 2**20


def _now(trainer: Trainer) -> float:
    """Return the time once the device has done its work."""
    synchronise(trainer.device)
    return time.perf_counter()
