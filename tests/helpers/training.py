"""A training run of a few steps on a tiny space, quick enough for tests that run it many times."""

from collections.abc import Iterator
from typing import Any

import torch

from supernet.checkpoints import safe_torch
from supernet.compute.distributed import SINGLE_PROCESS, Processes
from supernet.pose.keypoints import COCO
from supernet.pose.synthetic.dataset import SyntheticPeople
from supernet.pose.training.augmentation import Augmentation
from supernet.pose.training.objective import PoseObjective
from supernet.space import SearchSpace
from supernet.training.monitoring.monitor import TrainingMonitor
from supernet.training.phases import Phase, schedule
from supernet.training.settings import StepSettings
from supernet.training.trainer import StepReport, Trainer
from supernet.weight_sharing import SuperNet

SPACE = SearchSpace.from_dict(
    {
        "name": "tiny",
        "resolutions": [32, 48],
        "stem_widths": [8],
        "stages": [
            {"widths": [8], "depths": [1], "stride": 2, "expand_ratios": [1], "kernel_sizes": [3, 5]},
            {"widths": [8, 16], "depths": [1], "stride": 2, "expand_ratios": [1], "kernel_sizes": [3]},
            {"widths": [8], "depths": [1, 2], "stride": 2, "expand_ratios": [1], "kernel_sizes": [3]},
            {"widths": [8], "depths": [1], "stride": 1, "expand_ratios": [1, 2], "kernel_sizes": [3]},
        ],
        "deconv_widths": [[8], [8], [8]],
    }
)
EVERY = ("resolution", "kernel_size", "depth", "expand_ratio", "width")
PHASES = (
    Phase("largest", 4, ("resolution",), ("largest",), 1e-2),
    Phase("kernel", 4, ("resolution", "kernel_size"), ("random",), 3e-3, "frozen"),
    Phase("width", 6, EVERY, ("largest", "random", "smallest"), 1e-2, "inplace"),
)
NUM_STEPS = 14
STARTS = (0, 4, 8)


def step_settings(**changes: Any) -> StepSettings:
    """Return settings of a trainer for 2 images a step, changed by name."""
    options: dict[str, Any] = {
        "batch_size": 2,
        "seed": 0,
        "clip_norm": 1.0,
        "average_decay": 0.9,
        "distillation_weight": 1.0,
        "num_workers": 0,
        "augmentation": Augmentation.none(),
    }
    return StepSettings(**{**options, **changes})


def tiny_trainer(
    phases: tuple[Phase, ...] = PHASES,
    num_steps: int = NUM_STEPS,
    processes: Processes = SINGLE_PROCESS,
    space: SearchSpace = SPACE,
    **changes: Any,
) -> Trainer:
    """Return a trainer that has not taken a step; the same one at every call. ``changes`` are settings."""
    torch.manual_seed(0)
    return Trainer(
        SuperNet(space, COCO.num),
        PoseObjective(COCO.num),
        SyntheticPeople(COCO, 5, 1, 64, 64),
        schedule(phases, space, num_steps),
        step_settings(**changes),
        processes,
    )


def steps(trainer: Trainer) -> Iterator[StepReport]:
    """Take all steps that are left, and yield the report of each after it."""
    while (scheduled := trainer.current_phase()) is not None:
        trainer.start_phase(scheduled)
        for batch, data_seconds in trainer.batches(scheduled):
            yield trainer.train_step(scheduled, batch, data_seconds)


def train(trainer: Trainer) -> list[StepReport]:
    """Take all steps that are left, and return their reports."""
    return list(steps(trainer))


def monitor_of(trainer: Trainer, rollback_factor: float = 0.5) -> TrainingMonitor:
    """Return a monitor of ``trainer`` without validation."""
    return TrainingMonitor(trainer, 10.0, rollback_factor, None)


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    """Return ``state`` as it is read back from the bytes of a checkpoint."""
    value: dict[str, Any] = safe_torch.deserialize(safe_torch.serialize(state))
    return value


def is_equal(a: Any, b: Any) -> bool:
    """Whether two values of tensors and plain values are equal to the last bit."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(is_equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(is_equal, a, b))
    return bool(a == b)
