"""The options of a training run, each checked alone; :mod:`supernet.training.setup` checks how they fit together."""

from dataclasses import dataclass
from typing import Any

import torch

from supernet.compute.precision import Precision
from supernet.errors import UserError
from supernet.io.schema import check_numbers
from supernet.pose.inference import InferenceSettings
from supernet.pose.training.augmentation import Augmentation
from supernet.pose.training.targets import Placement
from supernet.training.monitoring.trackers import TrackerName, check_installed
from supernet.training.phases import Phase


@dataclass(frozen=True, kw_only=True)
class StepSettings:
    """The options that a :class:`supernet.training.trainer.Trainer` reads, besides its phases.

    Attributes:
        batch_size: Images per step over all processes; every subnet of a step sees all of them.
        seed: Seed of image order, augmentation, resolutions and sampled subnets.
        clip_norm: Largest gradient norm.
        average_decay: Decay of the averaged weights, which are the ones evaluated and exported.
        backbone_rate: Learning rate of the backbone as a multiple of the head's, which is that of the phase.
        distillation_weight: Weight of the distance to the teacher's heatmaps beside the subnet's own loss.
        num_workers: Worker processes that load images; 0 loads them in the training process.
        augmentation: How images are varied.
        precision: Number format of forward passes.
        fixed_shapes: Whether all subnets are computed with the shapes of the largest; None: on GPUs.
        accumulate: Parts of each process's images that are computed one after the other, to save memory.
        cuda_graphs: Whether passes are recorded once and then launched as a whole; GPUs only, and with fixed shapes.
    """

    batch_size: int
    seed: int
    clip_norm: float
    average_decay: float
    backbone_rate: float = 1.0
    distillation_weight: float
    num_workers: int
    augmentation: Augmentation
    precision: Precision = "auto"
    fixed_shapes: bool | None = None
    accumulate: int = 1
    cuda_graphs: bool = False

    def has_fixed_shapes(self, device: torch.device) -> bool:
        """Whether all subnets are computed with the shapes of the largest on ``device``."""
        return device.type == "cuda" or self.cuda_graphs if self.fixed_shapes is None else self.fixed_shapes

    def __post_init__(self) -> None:
        """Raise UserError for a number out of range."""
        check_numbers(self, "batch_size", "accumulate", least=1)
        check_numbers(self, "seed", "num_workers", "distillation_weight", least=0)
        check_numbers(self, "clip_norm", "backbone_rate", above=0)
        check_numbers(self, "average_decay", least=0, below=1)
        if self.cuda_graphs and self.fixed_shapes is False:
            raise UserError("cuda_graphs=true needs fixed shapes, got fixed_shapes=false; remove one of the two")


@dataclass(frozen=True, kw_only=True)
class TrainSettings(StepSettings):
    """The options of ``conf/train.yaml``, which documents them."""

    space: dict[str, Any]
    dataset: dict[str, Any]
    phases: tuple[Phase, ...]
    evaluation: InferenceSettings
    steps: int
    push_weight: float
    pull_weight: float
    sigma: float
    foreground_weight: float = 0.0
    sigma_per_size: float = 0.0
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
    sync_batch_norm: bool = False
    rank_timeout_seconds: float = 300.0
    init: str | None = None
    init_arch: str | None = None
    targets: Placement = "published"
    minutes: float | None = None
    tracker: TrackerName = "tensorboard"
    dry_run: bool = False

    def __post_init__(self) -> None:
        """Raise UserError for a number out of range, or ``init_arch`` without ``init``."""
        super().__post_init__()
        check_installed(self.tracker)
        if self.dry_run and self.resume is not None:
            raise UserError(f"dry_run=true measures a new run, but resume={self.resume} is set; remove one of the two")
        if self.init_arch is not None and self.init is None:
            raise UserError(f"init_arch={self.init_arch} has no effect without init; add init=CHECKPOINT or remove it")
        check_numbers(self, "threads", least=1, remedy="null uses all cores")
        check_numbers(self, "sigma", "rank_timeout_seconds", "minutes", above=0)
        if self.explosion_factor != 0:
            check_numbers(self, "explosion_factor", above=1, remedy="0 detects NaN only")
        check_numbers(self, "rollback_factor", least=0, below=1, remedy="0 stops at once")
        check_numbers(self, "steps", "log_every", "checkpoint_every", least=1)
        check_numbers(self, "num_calibration_images", "num_evaluate_images", least=1)
        check_numbers(self, "image_memory_mib", "report_random", "evaluate_every", least=0)
        check_numbers(self, "push_weight", "pull_weight", "foreground_weight", "sigma_per_size", least=0)
