"""The options of a training run, checked one by one; what they say together is checked by ``training_plan``."""

import math
from dataclasses import dataclass
from typing import Any

from supernet.errors import UserError
from supernet.phases import Phase
from supernet.pose.augment import Augmentation
from supernet.pose.inference import InferenceSettings
from supernet.precision import Precision
from supernet.settings import check_least


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
    picture_memory_mib: int
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
            "picture_memory_mib",
            "report_random",
            "evaluate_every",
            "distillation_weight",
            "push_weight",
            "pull_weight",
        ):
            if getattr(self, name) < 0:
                raise UserError(f"{name} is {getattr(self, name)}; it must not be negative")
