"""The settings of a training run, checked together and turned into what they stand for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from supernet.arch import BACKBONE_STRIDES
from supernet.compute.distributed import Processes
from supernet.errors import UserError
from supernet.evaluation.readiness import check_ready
from supernet.pose.data.cached import CachedDataset
from supernet.pose.datasets import build, resolved
from supernet.pose.geometry import check_scales
from supernet.pose.inference import check_mirroring
from supernet.pose.keypoints import KeypointSet
from supernet.space import SearchSpace
from supernet.training.phases import ScheduledPhase, schedule
from supernet.training.settings import TrainSettings
from supernet.training.warm_start import WarmStart, read_warm_start


@dataclass(frozen=True)
class TrainingSetup:
    """What a training run works with.

    Attributes:
        settings: The options.
        device: Where this process computes.
        space: The search space.
        scheduled: The phases with their steps.
        keypoints: The keypoints that the data set is annotated with.
        dataset: Description of the data set, with its keypoints.
        train_set, test_set: Images to train on, and to report AP on.
        val_set: Images of the validation during training; None without it.
        warm_start: Trained weights to start from, if any.
        step_seconds: Time of a mean step of each phase, if it was measured.
    """

    settings: TrainSettings
    device: torch.device
    space: SearchSpace
    scheduled: list[ScheduledPhase]
    keypoints: KeypointSet
    dataset: dict[str, Any]
    train_set: CachedDataset
    test_set: CachedDataset
    val_set: CachedDataset | None
    warm_start: WarmStart | None
    step_seconds: tuple[float, ...] | None = None


def build_setup(settings: TrainSettings, processes: Processes) -> TrainingSetup:
    """Check ``settings`` against space, phases, data set, device and number of processes; nothing is written.

    Raises:
        UserError: Two options do not fit together, or a file or device that they name is missing.
    """
    processes.check_batch_size(settings.batch_size, settings.accumulate)
    device = processes.device(settings.device)
    check_recording(settings, device, processes)
    space = SearchSpace.from_dict(settings.space)
    scheduled = schedule(settings.phases, space, settings.steps)
    _check_batch_norm(settings, scheduled, processes)
    for resolution in space.resolutions:
        check_scales(settings.evaluation.scales, settings.evaluation.size_divisor, resolution)
    warm_start = None if settings.init is None else read_warm_start(settings.init, settings.init_arch, space)
    train_set = CachedDataset(build(settings.dataset, "train"), memory_bytes=settings.image_memory_mib * 2**20)
    if not len(train_set):
        raise UserError("the training split has no images; check dataset.train")
    keypoints = train_set.keypoints
    check_mirroring(settings.evaluation, keypoints)
    dataset = resolved(settings.dataset, keypoints, train_set)
    test_set = CachedDataset(build(dataset, "test"))
    val_set = None
    if settings.evaluate_every > 0:
        val_set = CachedDataset(build(dataset, "val"), settings.num_evaluate_images)
    evaluated = {"test": test_set} if val_set is None else {"val": val_set, "test": test_set}
    num_calibration = max(settings.num_calibration_images, settings.num_evaluate_images * (val_set is not None))
    check_ready(evaluated, train_set, num_calibration, processes)
    return TrainingSetup(
        settings=settings,
        device=device,
        space=space,
        scheduled=scheduled,
        keypoints=keypoints,
        dataset=dataset,
        train_set=train_set,
        test_set=test_set,
        val_set=val_set,
        warm_start=warm_start,
    )


def _check_batch_norm(settings: TrainSettings, scheduled: Sequence[ScheduledPhase], processes: Processes) -> None:
    """Raise UserError if maps of a single pixel of a single image would be normalised by their own statistics."""
    images = settings.batch_size // (1 if settings.sync_batch_norm else processes.count) // settings.accumulate
    smallest = min(min(phase.resolutions) for phase in scheduled)
    if images == 1 and smallest == BACKBONE_STRIDES[-1]:
        raise UserError(
            f"a single image of {smallest} px is one pixel in the last stage, and batch norm needs two; raise "
            "batch_size, lower accumulate, or train on larger images (resolutions, resolution_scale)"
        )


def check_recording(settings: TrainSettings, device: torch.device, processes: Processes) -> None:
    """Raise UserError if ``cuda_graphs`` is set but passes cannot be recorded."""
    if settings.cuda_graphs and device.type != "cuda":
        raise UserError(
            f"cuda_graphs=true needs an NVIDIA GPU, got device {device.type}; choose one or train without it"
        )
    if settings.cuda_graphs and settings.sync_batch_norm and processes.count > 1:
        raise UserError("cuda_graphs=true cannot record sync_batch_norm=true of several processes; remove one of them")
