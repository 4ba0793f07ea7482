"""The options of a training run, checked one by one; what they say together is checked by ``training_plan``."""

import math
from dataclasses import dataclass
from typing import Any

import torch

from supernet.compute.distributed import Processes
from supernet.compute.precision import Precision
from supernet.errors import UserError
from supernet.io.schema import check_least
from supernet.pose.data.cached import CachedDataset
from supernet.pose.datasets import build, resolved
from supernet.pose.geometry import check_scales
from supernet.pose.inference import InferenceSettings
from supernet.pose.keypoints import KeypointSet
from supernet.pose.training.augmentation import Augmentation
from supernet.space import SearchSpace
from supernet.training.phases import Phase, ScheduledPhase, schedule
from supernet.training.warm_start import WarmStart, read_warm_start


@dataclass(frozen=True)
class TrainSettings:
    """The options of ``conf/train.yaml``, which documents them."""

    space: dict[str, Any]
    dataset: dict[str, Any]
    phases: tuple[Phase, ...]
    evaluation: InferenceSettings
    augmentation: Augmentation
    steps: int
    batch_size: int
    seed: int
    clip_norm: float
    average_decay: float
    distillation_weight: float
    push_weight: float
    pull_weight: float
    sigma: float
    num_workers: int
    image_memory_mib: int
    threads: int | None
    device: str
    num_calibration_images: int
    report_random: int
    log_every: int
    checkpoint_every: int
    runs: str
    name: str | None
    resume: str | None
    plots: bool = False
    explosion_factor: float = 10.0
    rollback_factor: float = 0.5
    evaluate_every: int = 0
    num_evaluate_images: int = 64
    precision: Precision = "auto"
    sync_batch_norm: bool = False
    rank_timeout_seconds: float = 300.0
    init: str | None = None
    init_arch: str | None = None

    def __post_init__(self) -> None:
        """Raise UserError for numbers outside of what makes sense."""
        if self.threads is not None and self.threads < 1:
            raise UserError(f"threads is {self.threads}; it must be at least 1, or null for all cores")
        if self.init_arch is not None and self.init is None:
            raise UserError(
                f"init_arch={self.init_arch} says nothing without init; add init=CHECKPOINT or leave it out"
            )
        if not 0 <= self.average_decay < 1:
            raise UserError(f"average_decay is {self.average_decay}; it must be from 0 to below 1")
        for name in ("clip_norm", "sigma", "rank_timeout_seconds"):
            if not 0 < getattr(self, name) < math.inf:
                raise UserError(f"{name} is {getattr(self, name)}; it must be above 0")
        if self.explosion_factor and not 1 < self.explosion_factor < math.inf:
            raise UserError(
                f"explosion_factor is {self.explosion_factor}; it must be above 1, or 0 to look for NaN alone"
            )
        if not 0 <= self.rollback_factor < 1:
            raise UserError(f"rollback_factor is {self.rollback_factor}; it must be below 1, or 0 to stop at once")
        counts = ("steps", "batch_size", "log_every", "checkpoint_every")
        check_least(self, dict.fromkeys((*counts, "num_calibration_images", "num_evaluate_images"), 1))
        for name in (
            "seed",
            "num_workers",
            "image_memory_mib",
            "report_random",
            "evaluate_every",
            "distillation_weight",
            "push_weight",
            "pull_weight",
        ):
            if getattr(self, name) < 0:
                raise UserError(f"{name} is {getattr(self, name)}; it must not be negative")


@dataclass(frozen=True)
class TrainingSetup:
    """A run's settings, checked and turned into what they stand for."""

    settings: TrainSettings
    device: torch.device
    space: SearchSpace
    scheduled: list[ScheduledPhase]
    keypoints: KeypointSet
    dataset: dict[str, Any]
    train_set: CachedDataset
    test_set: CachedDataset
    val_set: CachedDataset | None
    start: WarmStart | None


def build_setup(settings: TrainSettings, ranks: Processes) -> TrainingSetup:
    """Check ``settings`` against space, phases, data set, device and number of processes; nothing is written."""
    ranks.check_batch_size(settings.batch_size)
    space = SearchSpace.from_dict(settings.space)
    scheduled = schedule(settings.phases, space, settings.steps)
    for resolution in space.resolutions:
        check_scales(settings.evaluation.scales, settings.evaluation.size_divisor, resolution)
    train_set = CachedDataset(build(settings.dataset, "train"), memory_bytes=settings.image_memory_mib * 2**20)
    if not len(train_set):
        raise UserError("the training split has no images; check dataset.train")
    keypoints = train_set.keypoints
    dataset = resolved(settings.dataset, keypoints)
    test_set = CachedDataset(build(dataset, "test"))
    val_set = CachedDataset(build(dataset, "val"), settings.num_evaluate_images) if settings.evaluate_every else None
    device = ranks.device(settings.device)
    start = None if settings.init is None else read_warm_start(settings.init, settings.init_arch, space)
    return TrainingSetup(settings, device, space, scheduled, keypoints, dataset, train_set, test_set, val_set, start)
